"""The networks that foresee any bytes: one that learns while it codes, one that is trained first.

Both give float32 probabilities, which come out the same only where the same build of TensorFlow
does the same operations on the same kind of processor. So what unpacks calls just what packed
called, on batches of the same shape.
"""

import functools

import keras
import numpy as np
import tensorflow as tf

from cnn_compression.packing.counts import CONTEXTS, FEATURES, HALF

WINDOW = 32  # symbols that `DeepZip` looks back at
_ONLINE_RATE = 3e-3
_BATCH, _FEWEST_STEPS, _MOST_STEPS = 256, 300, 3000  # of DeepZip's training
_PASSES = 3  # over the file, in between
_RATE = 5e-3
_WEIGHT_PRICE = 4.0  # nats that a weight of size 1 is worth: it takes room in the file
_SAMPLE = 8192  # symbols
_LAYER = {"dtype": "float32"}  # whatever the host's policy is


@functools.lru_cache(maxsize=2)
def online(streams):
    """An `Online` network to restart: its graphs, which take seconds to build, are built once."""
    return Online(streams)


@functools.lru_cache(maxsize=2)
def deepzip(symbols):
    """A `DeepZip` network to restart or to fill."""
    return DeepZip(symbols)


class _Restarted(keras.Model):
    """A network that can be as it was when it was built."""

    def finish_building(self, optimizer):
        """Makes the optimizer's variables, and keeps what all variables are now."""
        self.steps = optimizer
        optimizer.build(self.trainable_variables)
        self._starts = [variable.numpy() for variable in self._everything()]

    def restart(self):
        """Gives all variables, and the optimizer's, the values that they were built with."""
        for variable, start in zip(self._everything(), self._starts, strict=True):
            variable.assign(start)

    def _everything(self):
        return [*self.variables, *self.steps.variables]

    def descend(self, loss_of):
        """Takes a step of the optimizer: `loss_of()` gives the loss."""
        with tf.GradientTape() as tape:
            loss = loss_of()
        gradients = tape.gradient(loss, self.trainable_variables)
        self.steps.apply(gradients, self.trainable_variables)


class Online(_Restarted):
    """Learns from each symbol right after it was coded, as in NNCP (Bellard, 2019).

    Each of the 16 symbols is scored by itself: one small network for all of them sees what the
    contexts' counts say of that symbol, and mixes it. How it mixes depends on the last byte and on
    a GRU over all bytes so far, which scores the symbols too. Weights start from fixed seeds, and
    each step of Adam goes back no further in time than the last byte.

    Args:
        streams: B, pieces of the file that are coded side by side.
        units: of the hidden layer.
        recurrent: units of the GRU.
    """

    def __init__(self, streams: int, units: int = 32, recurrent: int = 64):
        super().__init__(**_LAYER)
        layers, zeros = keras.layers, "zeros"
        seeded = keras.initializers.GlorotUniform
        self.of_counts = layers.Dense(units, use_bias=False, kernel_initializer=seeded(1), **_LAYER)
        self.of_upper = layers.Embedding(HALF + 1, units, zeros, **_LAYER)
        self.of_last = layers.Embedding(256, units, zeros, **_LAYER)
        self.of_state = layers.Dense(units, use_bias=False, kernel_initializer=zeros, **_LAYER)
        self.score = layers.Dense(1, use_bias=False, kernel_initializer=zeros, **_LAYER)
        self.mix = layers.Dense(1, use_bias=False, kernel_initializer=_mean_of_contexts, **_LAYER)
        self.score_state = layers.Dense(
            (HALF + 1) * HALF, use_bias=False, kernel_initializer=zeros, **_LAYER
        )
        self.byte = layers.Embedding(
            256, recurrent, keras.initializers.RandomNormal(0, 0.1, seed=2), **_LAYER
        )
        self.cell = layers.GRUCell(
            recurrent,
            kernel_initializer=seeded(3),
            recurrent_initializer=keras.initializers.Orthogonal(seed=4),
            **_LAYER,
        )
        self.state = self.add_weight(
            shape=(streams, recurrent), initializer=zeros, trainable=False, **_LAYER
        )
        empty = tf.zeros([streams], tf.int32)
        self(tf.zeros([streams, HALF, FEATURES]), empty, empty)
        self.finish_building(keras.optimizers.Adam(_ONLINE_RATE))

    def call(self, features, upper, last):
        """Logits of the next symbol.

        Args:
            features: float32 [B, 16, FEATURES]: of `counts.look_up`.
            upper: int32 [B]: 0 before a byte's upper half, 1 + that half before its lower one.
            last: int32 [B], 0..255: the byte before.

        Returns:
            float32 [B, 16].
        """
        state = self._next_state(last)
        mood = self.of_upper(upper) + self.of_last(last) + self.of_state(state)
        hidden = tf.nn.relu(self.of_counts(features) + mood[:, None])
        scores = tf.squeeze(self.mix(features) + self.score(hidden), -1)
        of_state = tf.reshape(self.score_state(state), [-1, HALF + 1, HALF])
        return scores + tf.gather(of_state, upper, batch_dims=1)

    def _next_state(self, last):
        return self.cell(self.byte(last), [self.state])[0]

    @tf.function(jit_compile=True, autograph=False)
    def predict_symbols(self, features, upper, last):
        """Probabilities of the next symbol, float32 [B, 16]; arguments as of `call`."""
        return tf.nn.softmax(self(features, upper, last))

    @tf.function(jit_compile=True, autograph=False)
    def learn(self, features, upper, last, symbols):
        """Takes a step towards the symbols that came: int32 [B]; else as `call`."""
        self.descend(lambda: _cross_entropy(symbols, self(features, upper, last)))

    @tf.function(jit_compile=True, autograph=False)
    def remember(self, last):
        """Takes a byte, int32 [B], into the GRU's state."""
        self.state.assign(self._next_state(last))


def _mean_of_contexts(shape, dtype=None):
    """The kernel that adds up a third of what each context says, float32 [FEATURES, 1]."""
    rows = tf.concat([tf.fill([CONTEXTS], 0.3), tf.zeros([FEATURES - CONTEXTS])], 0)
    return tf.reshape(rows, shape)


class DeepZip(_Restarted):
    """Foresees a symbol from the `WINDOW` ones before it (Goyal et al., 1811.08162).

    An embedding, a GRU in both directions over the window, and two dense layers over all it says.
    It is small, the more so where there are few symbols, for it is stored with the file.

    Args:
        symbols: A, how many different ones the file has.
    """

    def __init__(self, symbols: int):
        super().__init__(**_LAYER)
        units, width = (4, 8) if symbols <= 16 else (16, 32)
        layers, seeded = keras.layers, keras.initializers.GlorotUniform
        self.symbol = layers.Embedding(
            symbols, units, keras.initializers.RandomUniform(-0.5, 0.5, seed=1), **_LAYER
        )

        def gru(seed, backwards):
            return layers.GRU(
                units,
                return_sequences=True,
                go_backwards=backwards,
                kernel_initializer=seeded(seed),
                recurrent_initializer=keras.initializers.Orthogonal(seed=seed + 1),
                **_LAYER,
            )

        self.ways = layers.Bidirectional(gru(2, False), backward_layer=gru(4, True), **_LAYER)
        self.flat = layers.Flatten(**_LAYER)
        self.hidden = layers.Dense(width, "relu", kernel_initializer=seeded(6), **_LAYER)
        self.logits = layers.Dense(symbols, kernel_initializer=seeded(7), **_LAYER)
        self(tf.zeros([1, WINDOW], tf.int32))
        self.finish_building(keras.optimizers.Adam(_RATE))

    def call(self, windows):
        """Logits float32 [B, A] of what follows int32 [B, WINDOW]."""
        ways = self.ways(self.symbol(windows))
        return self.logits(self.hidden(self.flat(ways)))

    @tf.function(jit_compile=True, autograph=False)
    def predict_symbols(self, windows):
        """Probabilities float32 [B, A] of what follows int32 [B, WINDOW]."""
        return tf.nn.softmax(self(windows))

    @tf.function(jit_compile=True, autograph=False)
    def learn(self, windows, following, price):
        """Takes a step towards what followed, int32 [B], at a price of weights in nats."""

        def loss():
            sizes = sum(tf.reduce_sum(tf.abs(w)) for w in self.trainable_variables)
            return _cross_entropy(following, self(windows)) + price * sizes

        self.descend(loss)

    def train(self, symbols, report):
        """Learns a file's symbols, uint8 [n] in 0..A-1; `report` as of `any_bytes`."""
        count = min(max(_PASSES * len(symbols) // _BATCH, _FEWEST_STEPS), _MOST_STEPS)
        price = tf.constant(_WEIGHT_PRICE / len(symbols))
        random, padded = np.random.default_rng(0), _padded(symbols)
        for done in range(count):
            self.steps.learning_rate = _RATE * (1 + np.cos(np.pi * done / count)) / 2
            self.learn(*_windows(padded, random.integers(0, len(symbols), _BATCH)), price)
            report("learning", done + 1, count)

    def nats(self, symbols):
        """What a symbol takes, about: of uint8 [n] in 0..A-1, from an even sample."""
        places = np.linspace(0, len(symbols) - 1, _SAMPLE).astype(int)
        windows, following = _windows(_padded(symbols), places)
        return float(_cross_entropy(following, self(windows)))


def _padded(symbols):
    return np.pad(symbols.astype(np.int32), (WINDOW, 0))


def _windows(padded, places):
    """What stands before places, int32 [B, WINDOW], and there, [B]: of int32 [WINDOW + n]."""
    return padded[places[:, None] + np.arange(WINDOW)], padded[places + WINDOW]


def _cross_entropy(symbols, logits):
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(symbols, logits)
    return tf.reduce_mean(losses)
