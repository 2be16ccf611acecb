"""The predicting network as it is trained: floats in Keras, and the integers that it becomes.

What it computes, and in which order coefficients come, is said in `predictor`.
"""

import keras
import numpy as np
import tensorflow as tf

from cnn_compression.packing import exact, predictor
from cnn_compression.packing.kernels import (
    BEYOND,
    BUCKETS,
    DECISIONS,
    MORE,
    ONE,
    PREDICTION_LIMIT,
    SHIFT,
    SIGN,
    UNARY,
)

# Which turn a coefficient has: AC from low to high frequencies, DC at the end.
_TURN = np.append(63, np.arange(63))
_COMES_BEFORE = (_TURN[:, None] < _TURN[None, :]).astype(np.float32)
_LN_2 = float(np.log(2))


@keras.saving.register_keras_serializable(package="cnn_compression")
class PredictorNetwork(keras.Model):
    """How many bits a block's coefficients take, given the blocks around.

    Args:
        contexts: blocks that are seen: 6 for luma, 9 for chroma, as in `kernels.code_plane`.
        predicting: how many of them take part in linear predictions.
        trunk1, trunk2: widths of the trunk.
        last: width of the layer that `last` is told from.
        features, hidden: widths of each coefficient's own layers.
    """

    def __init__(
        self,
        contexts=6,
        predicting=4,
        trunk1=256,
        trunk2=128,
        last=64,
        features=32,
        hidden=32,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "contexts": contexts,
            "predicting": predicting,
            "trunk1": trunk1,
            "trunk2": trunk2,
            "last": last,
            "features": features,
            "hidden": hidden,
        }
        self.contexts, self.predicting = contexts, predicting

        def normal(name, *shape, scale):
            initializer = keras.initializers.RandomNormal(stddev=scale)
            weight = self.add_weight(
                shape=shape, initializer=initializer, dtype="float32", name=name
            )
            setattr(self, name, weight)

        def zeros(name, *shape):
            normal(name, *shape, scale=0.0)

        normal("trunk1", 128 * contexts, trunk1, scale=0.5 * (2 / (19.2 * contexts)) ** 0.5)
        zeros("trunk1_bias", trunk1)
        normal("steps", 64, trunk1, scale=0.16)
        normal("kinds", predictor.KINDS, trunk1, scale=0.16)
        normal("trunk2", trunk1, trunk2, scale=(2 / trunk1) ** 0.5)
        zeros("trunk2_bias", trunk2)
        normal("last1", trunk2, last, scale=(2 / trunk2) ** 0.5)
        zeros("last1_bias", last)
        zeros("last2", last, 63)
        zeros("last2_bias", 63)
        normal("features", trunk2, 64 * features, scale=(2 / trunk2) ** 0.5)
        zeros("features_bias", 64 * features)
        normal("own", 128, 64 * features, scale=0.1)
        zeros("of_last", 64, 64 * features)
        normal("predicted", 64, 4, features, scale=0.3)
        normal("hidden", 64, features, hidden, scale=(2 / features) ** 0.5)
        zeros("hidden_bias", 64, 1, hidden)
        zeros("decisions", 64, hidden, DECISIONS)
        zeros("decisions_bias", 64, 1, DECISIONS)
        zeros("around", 64 * predicting, 64)
        zeros("itself", 64, 64)

    def get_config(self):
        return super().get_config() | self.settings

    def call(self, around, kinds, steps, block):
        """Bits of blocks.

        Args:
            around: int16 `[N, contexts, 64]`, zigzag coefficients of the blocks around.
            kinds: float32 `[N, KINDS]`, 1 for what is true of a block.
            steps: int32 `[N, 64]`, quantisation steps in zigzag order.
            block: int16 `[N, 64]`.

        Returns:
            float32 `[N, 65]`: bits of each coefficient, and of `last`.
        """
        around, block = tf.cast(around, tf.float32), tf.cast(block, tf.float32)
        steps = tf.cast(steps, tf.float32)
        count = tf.shape(block)[0]
        x = tf.reshape(_features(around), [count, 128 * self.contexts]) @ self.trunk1
        x += (_log2(steps) / 4 - 0.8) @ self.steps + kinds @ self.kinds + self.trunk1_bias
        trunk = tf.nn.relu(tf.nn.relu(x) @ self.trunk2 + self.trunk2_bias)
        last = tf.reduce_max(tf.where(block != 0, tf.range(64), 0), axis=-1)
        predicted = self._predict(around, steps, block)
        first = trunk @ self.features + self.features_bias + tf.gather(self.of_last, last)
        width = self.settings["features"]
        mask = np.repeat(np.tile(_COMES_BEFORE, (2, 1)), width, axis=1)
        first += _features(block) @ (self.own * mask)
        first = tf.transpose(tf.reshape(first, [count, 64, width]), [1, 0, 2])
        first += tf.transpose(_of_prediction(predicted), [1, 0, 2]) @ self.predicted
        hidden = tf.nn.relu(tf.nn.relu(first) @ self.hidden + self.hidden_bias)
        expected = tf.stop_gradient(tf.round(predicted[:, :1]))
        levels = tf.transpose(tf.concat([block[:, :1] - expected, block[:, 1:]], axis=-1))
        of_levels = _bits_of_levels(hidden @ self.decisions + self.decisions_bias, levels, last)
        of_last = self._bits_of_last(trunk, last)
        return tf.concat([tf.transpose(of_levels), of_last[:, None]], axis=-1) / _LN_2

    def _predict(self, around, steps, block):
        """Linear predictions of coefficients, in steps; float32 `[N, 64]`."""
        pixels = around[:, : self.predicting] * steps[:, None]
        pixels = tf.reshape(pixels, [-1, 64 * self.predicting])
        predicted = pixels @ self.around + (block * steps) @ (self.itself * _COMES_BEFORE)
        limit = PREDICTION_LIMIT / 16
        return tf.clip_by_value(predicted / steps, -limit, limit)

    def _bits_of_last(self, trunk, last):
        """As nats, float32 `[N]`: a binary tree's six decisions."""
        logits = tf.nn.relu(trunk @ self.last1 + self.last1_bias) @ self.last2 + self.last2_bias
        total = 0.0
        for depth in range(6):
            node = 2**depth - 1 + tf.bitwise.right_shift(last, 6 - depth)
            bit = tf.bitwise.right_shift(last, 5 - depth) % 2
            total += _cost(bit, tf.gather(logits, node, batch_dims=1))
        return total

    def start_predictions(self, around, steps, block):
        """Sets the linear predictions to least squares over blocks, as `call` takes them.

        Blocks count by the inverse of their steps.
        """
        scale = 1 / steps.mean(axis=1, keepdims=True)
        pixels = around[:, : self.predicting] * (steps * scale)[:, None]
        pixels = pixels.reshape(len(block), -1).astype(np.float32)
        own = np.float32(block * steps * scale)
        known = np.concatenate([pixels, own], axis=1)
        products = known.T @ known / len(known)
        products += 0.03 * np.trace(products) / len(products) * np.eye(len(products))
        before = len(products) - 64
        around_weights, own_weights = np.zeros((before, 64)), np.zeros((64, 64))
        for index in range(64):
            used = np.append(np.arange(before), before + np.flatnonzero(_COMES_BEFORE[:, index]))
            goal = known[:, used].T @ own[:, index] / len(known)
            solution = np.linalg.solve(products[np.ix_(used, used)], goal)
            around_weights[:, index] = solution[:before]
            own_weights[used[before:] - before, index] = solution[before:]
        self.around.assign(around_weights)
        self.itself.assign(own_weights)

    def integers(self):
        """The network as a `Predictor`.

        Raises:
            ValueError: a weight or a sum is too large for its integers.
        """
        weights = {
            name: np.float64(getattr(self, name).numpy())
            for name in predictor.Predictor._fields + ("own", "trunk1")
            if isinstance(getattr(self, name, None), keras.Variable)
        }
        return integers(weights)

    def start_from(self, net):
        """Sets the weights to those of a `Predictor`: `integers` gives it again.

        Raises:
            ValueError: it is of other widths.
        """
        try:
            for name, weight in floats(net).items():
                getattr(self, name).assign(weight)
        except ValueError as error:
            raise ValueError("expected a predictor of the network's widths") from error


def floats(net):
    """`Predictor` -> a dict of the network's float arrays by name: what `integers` undoes."""

    def real(name):
        array = getattr(net, name)
        # Sums are integers of 32 bits, and stand for activations.
        return array / ((ONE if array.dtype == np.int32 else 1) * 2.0**SHIFT)

    def of_signs(positive, negative, blocks):
        """The inverse of `integers`' `signs`."""
        positive, negative = real(positive), real(negative)
        both = np.stack([positive - negative, positive + negative]) / 2
        both = both.reshape(2, blocks, 64, -1).transpose(1, 0, 2, 3)
        return both.reshape(128 * blocks, -1)

    steps = 4 * real("steps")
    return {
        "trunk1": of_signs("trunk1_positive", "trunk1_negative", len(net.trunk1_positive) // 64),
        "trunk1_bias": real("trunk1_bias") + 0.8 * steps.sum(0),
        "steps": steps,
        "kinds": real("kinds"),
        "trunk2": real("trunk2")[0].T,
        "trunk2_bias": real("trunk2_bias")[0],
        "last1": real("last1")[0].T,
        "last1_bias": real("last1_bias")[0],
        "last2": real("last2")[0].T,
        "last2_bias": real("last2_bias")[0],
        "features": real("features").transpose(2, 0, 1).reshape(net.features.shape[2], -1),
        "features_bias": real("features_bias").reshape(-1),
        "own": of_signs("own_positive", "own_negative", 1),
        "of_last": real("of_last"),
        "predicted": real("predicted").transpose(0, 2, 1),
        "hidden": real("hidden").transpose(0, 2, 1),
        "hidden_bias": real("hidden_bias")[:, None],
        "decisions": real("decisions").transpose(0, 2, 1),
        "decisions_bias": real("decisions_bias")[:, None],
        "around": real("around"),
        "itself": real("itself"),
    }


def integers(weights):
    """A dict of the network's float arrays by name -> `Predictor`."""
    features = weights["predicted"].shape[2]

    def by_coefficient(array):
        """[M, 64 G] -> [64, G, M]."""
        return array.reshape(len(array), 64, features).transpose(1, 2, 0)

    def signs(array, blocks):
        """[blocks, 2 * 64, N] of sign * size and size -> of above and of below zero."""
        signed, size = array.reshape(blocks, 2, 64, -1).transpose(1, 0, 2, 3)
        return (
            (size + signed).reshape(64 * blocks, -1),
            (size - signed).reshape(64 * blocks, -1),
        )

    contexts = len(weights["trunk1"]) // 128
    positive, negative = signs(weights["trunk1"], contexts)
    mask = np.repeat(np.tile(_COMES_BEFORE, (2, 1)), features, axis=1)
    own_positive, own_negative = signs(weights["own"] * mask, 1)
    parts = {
        "trunk1_positive": positive,
        "trunk1_negative": negative,
        "trunk1_bias": weights["trunk1_bias"] - 0.8 * weights["steps"].sum(0),
        "steps": weights["steps"] / 4,
        "kinds": weights["kinds"],
        "trunk2": weights["trunk2"].T[None],
        "trunk2_bias": weights["trunk2_bias"][None],
        "last1": weights["last1"].T[None],
        "last1_bias": weights["last1_bias"][None],
        "last2": weights["last2"].T[None],
        "last2_bias": weights["last2_bias"][None],
        "features": by_coefficient(weights["features"]),
        "features_bias": weights["features_bias"].reshape(64, features),
        "own_positive": own_positive,
        "own_negative": own_negative,
        "of_last": weights["of_last"],
        "predicted": weights["predicted"].transpose(0, 2, 1),
        "hidden": weights["hidden"].transpose(0, 2, 1),
        "hidden_bias": weights["hidden_bias"][:, 0],
        "decisions": weights["decisions"].transpose(0, 2, 1),
        "decisions_bias": weights["decisions_bias"][:, 0],
        "around": weights["around"],
        "itself": weights["itself"] * _COMES_BEFORE,
    }
    sums = {"kinds", "of_last"} | {name for name in parts if name.endswith("_bias")}
    whole = {}
    for name, part in parts.items():
        kind = np.int32 if name in sums else np.int16
        scaled = np.rint(part * (ONE if name in sums else 1) * (1 << SHIFT))
        if np.abs(scaled).max() > np.iinfo(kind).max:
            raise ValueError(f"{name} has weights up to {np.abs(part).max():.3g}: too large")
        whole[name] = np.ascontiguousarray(scaled, kind)
    tables = {"log1p": exact.log1p_table(), "probabilities": exact.probability_table()}
    return predictor.checked(predictor.Predictor(**whole, **tables))


def _log2(x):
    return tf.math.log(x) / _LN_2


def _features(levels):
    """float32 `[..., 64]` -> `[..., 128]`: log2(1 + size) with the sign, and without."""
    size = _log2(1 + tf.abs(levels))
    return tf.concat([tf.sign(levels) * size, size], axis=-1)


def _of_prediction(predicted):
    """float32 `[N, 64]` -> `[N, 64, 4]`: what `kernels._prediction` tells of it."""
    size = _log2(1 + tf.abs(predicted))
    near = tf.clip_by_value(predicted, -1.5, 1.5)
    return tf.stack(
        [tf.sign(predicted) * size, size, near, predicted - tf.round(predicted)], axis=-1
    )


def _cost(bit, logit):
    """Nats of a binary decision."""
    return tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(bit, tf.float32), logit)


def _bits_of_levels(logits, levels, last):
    """As nats, float32 `[64, N]`: of logits `[64, N, DECISIONS]`, levels `[64, N]`, last `[N]`."""
    index = tf.range(64)[:, None]
    coded, known = index <= last, (index == last) & (index > 0)
    total = tf.where(coded & ~known, _cost(levels != 0, logits[..., 0]), 0.0)
    # The further decisions of those that are not zero, and of these, of those that are large.
    places = tf.where(coded & (levels != 0))
    logits, levels = tf.gather_nd(logits, places), tf.gather_nd(levels, places)
    size = tf.abs(levels)
    more = tf.range(1, UNARY, dtype=tf.float32)
    cost = _cost(levels > 0, logits[:, SIGN])
    steps = _cost(size[:, None] > more, logits[:, MORE:BEYOND])
    cost += tf.reduce_sum(tf.where(size[:, None] >= more, steps, 0.0), axis=-1)
    large = tf.where(size >= UNARY)
    logits, beyond = tf.gather_nd(logits, large), tf.gather_nd(size, large) - (UNARY - 1)
    bucket = tf.floor(_log2(beyond + 0.001))
    numbers = tf.range(BUCKETS, dtype=tf.float32)
    steps = _cost(bucket[:, None] > numbers, logits[:, BEYOND:])
    of_large = tf.reduce_sum(tf.where(bucket[:, None] >= numbers, steps, 0.0), axis=-1)
    cost += tf.scatter_nd(large, of_large + bucket * _LN_2, tf.shape(cost, tf.int64))
    return total + tf.scatter_nd(places, cost, tf.shape(total, tf.int64))
