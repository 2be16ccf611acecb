"""What the networks are trained for: a model and a batch to one loss an image.

An objective is called as `objective(model, image, quality)` with image uint8 `[N, H, W, C]` and
quality int32 `[N]`, and returns a dict of float32 `[N]`: `loss`; `mse` in squared levels of
[0, 255]; where the objective knows the rate, `bpp` and, in squared levels, `preview_mse`.
"""

import numpy as np
from keras import ops

from cnn_compression.jpeg.twin import STEP_OF_QUALITY_50, jpeg_twin, mean_luma_step
from cnn_compression.tensors.levels import mean_squared_error, to_unit
from cnn_compression.tensors.resampling import downsample
from cnn_compression.tensors.shapes import pad_to_multiple


def quality_weight(quality, power=0.5):
    """What evens out the qualities: errors grow about as the square root of the step.

    Without it the coarsest qualities, with several times the error, would get most of the
    gradient. The constant brings losses to about 0.2.
    """
    return 0.001 * ops.power(mean_luma_step(quality) / STEP_OF_QUALITY_50, -power)


def is_grey(image):
    """uint8 `[N, H, W, C]` to bool `[N]`: all channels are equal, so the JPEG carries luma."""
    spread = ops.max(image, axis=-1) - ops.min(image, axis=-1)
    return ops.max(spread, axis=(1, 2)) == 0


class JointObjective:
    """Distortion + lambda(quality) x bits a pixel, end to end through JPEG's twin.

    lambda is the model's own `rate_slope`.

    The compact image is what a viewer shows. Left alone, ComCNN takes contrast out of it, which is
    no better than a coarser quality and looks faded; so its squared error to the plain downscale
    counts too, as far as it is more than `preview_psnr` allows.
    """

    def __init__(self, preview_psnr, loss_power=0.5):
        self.loss_power = loss_power
        self.preview_mse = 255.0**2 / 10.0 ** (preview_psnr / 10.0)

    def __call__(self, model, image, quality):
        grey, image = is_grey(image), to_unit(image)
        height, width = ops.shape(image)[1:3]
        compact = model.compact(image, quality, training=True)
        compact_hat, bits = jpeg_twin(compact, quality, grey, model.chroma)
        image_hat = model.restore(compact_hat, quality, height, width, training=True)
        mse, bpp = mean_squared_error(image, image_hat), bits / (height * width)
        plain = downsample(pad_to_multiple(image, model.scale), model.scale)
        preview = mean_squared_error(plain, compact)
        excess = ops.relu(preview - self.preview_mse)
        return {
            "loss": quality_weight(quality, self.loss_power)
            * (model.distortion(image, image_hat) + model.rate_slope(quality) * bpp + excess),
            "mse": mse,
            "bpp": bpp,
            "preview_mse": preview,
        }

    def variables(self, model):
        """The variables that this objective trains."""
        return model.trainable_variables


class RestoreObjective:
    """Distortion after the real codec, for RecCNN; ComCNN stays as it is (1708.00838, eq. 7).

    Args:
        codec: function of (compact float `[N, h, w, C]`, quality int `[N]`, grey bool `[N]`) to
            compact_hat float32 `[N, h, w, C]` in [0, 1]; no gradient is asked of it.
    """

    def __init__(self, codec):
        self.codec = codec

    def __call__(self, model, image, quality):
        grey, image = is_grey(image), to_unit(image)
        compact = ops.stop_gradient(model.compact(image, quality, training=False))
        compact_hat = ops.stop_gradient(self.codec(compact, quality, grey))
        image_hat = model.restore(compact_hat, quality, *ops.shape(image)[1:3], training=True)
        mse = mean_squared_error(image, image_hat)
        distortion = model.distortion(image, image_hat)
        return {"loss": quality_weight(quality) * distortion, "mse": mse}

    def variables(self, model):
        """The variables that this objective trains."""
        return model.rec.trainable_variables


class ReduceObjective:
    """Distortion through RecCNN with the codec skipped, for ComCNN (1708.00838, eq. 8)."""

    def __call__(self, model, image, quality):
        image = to_unit(image)
        height, width = ops.shape(image)[1:3]
        compact = model.compact(image, quality, training=True)
        image_hat = model.restore(compact, quality, height, width, training=False)
        mse = mean_squared_error(image, image_hat)
        distortion = model.distortion(image, image_hat)
        return {"loss": quality_weight(quality) * distortion, "mse": mse}

    def variables(self, model):
        """The variables that this objective trains."""
        return model.com.trainable_variables


class ReconstructObjective:
    """Distortion of what a model gives without codes between: `model(image)`.

    Args:
        distortion: function as in `tensors.distortion`.
    """

    def __init__(self, distortion):
        self.distortion = distortion

    def __call__(self, model, image, quality):
        image = to_unit(image)
        image_hat = model(image)
        loss = 0.001 * self.distortion(image, image_hat)
        return {"loss": loss, "mse": mean_squared_error(image, image_hat)}

    def variables(self, model):
        """The variables that this objective trains."""
        return model.trainable_variables


class ProgressiveObjective:
    """Mean distortion of the pictures after each iteration (1608.05148, eq. 9).

    Args:
        iterations: how many, int.
        draws: function of a shape to float32 uniform in [0, 1), which bits are drawn by.
        distortion: function as in `tensors.distortion`; the paper's is the absolute error.
        power: of an iteration's number, which it is weighed by. At 0, the paper's, the first
            iterations have most of the say, since their distortions are the largest.
    """

    def __init__(self, iterations, draws, distortion, power=0.0):
        self.iterations, self.draws, self.distortion = iterations, draws, distortion
        weights = np.arange(1, iterations + 1, dtype=np.float32) ** power
        self.weights = weights / weights.sum()

    def __call__(self, model, image, quality):
        image = to_unit(image)
        batch, height, width = image.shape[:3]
        cells = (batch, height // model.cell, width // model.cell)
        noise = self.draws((self.iterations, *cells, model.bits))
        image_hats = model.pictures(image, [noise[i] for i in range(self.iterations)])
        losses = [self.distortion(image, image_hat) for image_hat in image_hats]
        errors = [mean_squared_error(image, image_hat) for image_hat in image_hats]
        return {
            "loss": sum(w * loss for w, loss in zip(self.weights, losses, strict=True)),
            "mse": sum(errors) / self.iterations,
            "first_mse": errors[0],
            "last_mse": errors[-1],
        }

    def variables(self, model):
        """The variables that this objective trains."""
        return model.trainable_variables


# How much distortion and likeness of features count beside what the discriminator says.
DISTORTION_WEIGHT, FEATURES_WEIGHT = 0.002, 5.0


class GenerateObjective:
    """Distortion, and pictures that the discriminator takes for photographs (1804.02958, eq. 5).

    Least squares for its scores (Mao et al., 1611.04076), and its features of image_hat like those
    of the image (feature matching; 1711.11585, eq. 4). Where masks leave parts of a picture to be
    made up, these parts have no distortion and no features to match: only the scores count.

    Args:
        discriminator: `PatchDiscriminator`, which stays as it is.
        draws: function of a shape to float32 uniform in [0, 1), which masks are drawn by.
        distortion: function as in `tensors.distortion`.
        weight: of the discriminator's say; at 0 the distortion is all.
        made_up: share of the pictures of which parts are to be made up.
    """

    def __init__(self, discriminator, draws, distortion, weight=1.0, made_up=0.0):
        self.discriminator, self.draws, self.distortion = discriminator, draws, distortion
        self.weight, self.made_up = weight, made_up

    def __call__(self, model, image, quality):
        image = to_unit(image)
        mask = random_mask(model, image, self.draws, self.made_up)
        kept = ops.repeat(ops.repeat(mask, model.cell, axis=1), model.cell, axis=2)
        image_hat = model(image, mask)
        mse = mean_squared_error(image, image_hat)
        distortion = self.distortion(image, kept * image_hat + (1.0 - kept) * image)
        loss = DISTORTION_WEIGHT * distortion
        if not self.weight:
            return {"loss": loss, "mse": mse}
        seen, expected = self.discriminator(image_hat), self.discriminator(image)
        adversary = sum(_mean(ops.square(stack[-1] - 1.0)) for stack in seen) / len(seen)
        unlikeness = [
            _mean(_pooled(kept, a.shape[1]) * ops.abs(a - b))
            for stacks in zip(seen, expected, strict=True)
            for a, b in zip(*(stack[:-1] for stack in stacks), strict=True)
        ]
        features = sum(unlikeness) / len(unlikeness)
        return {
            "loss": loss + self.weight * (adversary + FEATURES_WEIGHT * features),
            "mse": mse,
            "adversary": adversary,
            "features": features,
        }

    def variables(self, model):
        """The variables that this objective trains."""
        return model.trainable_variables


class DiscriminateObjective:
    """Scores of 1 for photographs and 0 for what the decoder paints (1611.04076, eq. 9).

    Args:
        discriminator, draws, made_up: as of `GenerateObjective`.
    """

    def __init__(self, discriminator, draws, made_up=0.0):
        self.discriminator, self.draws, self.made_up = discriminator, draws, made_up

    def __call__(self, model, image, quality):
        image = to_unit(image)
        mask = random_mask(model, image, self.draws, self.made_up)
        painted = self.discriminator(ops.stop_gradient(model(image, mask)))
        photographs = self.discriminator(image)
        count = len(painted)
        errors = [
            0.5 * _mean(ops.square(photograph[-1] - 1.0) + ops.square(picture[-1]))
            for photograph, picture in zip(photographs, painted, strict=True)
        ]
        return {
            "loss": sum(errors) / count,
            "score_of_photographs": sum(_mean(stack[-1]) for stack in photographs) / count,
            "score_of_pictures": sum(_mean(stack[-1]) for stack in painted) / count,
        }

    def variables(self, model):
        """The variables that this objective trains."""
        return self.discriminator.trainable_variables


def random_mask(model, image, draws, made_up):
    """Which cells are kept: a rectangle of some pictures, all of the others.

    Args:
        model: `LatentModel`.
        image: float32 `[N, H, W, C]`.
        draws: as of `GenerateObjective`.
        made_up: share of the pictures that are not kept as a whole.

    Returns:
        float32 `[N, H / cell, W / cell, 1]`, 0 or 1.
    """
    batch, height, width = image.shape[:3]
    numbers = draws((batch, 5, 1))

    def inside(length, centre, half):
        places = (ops.arange(length, dtype="float32") + 0.5) / length
        return ops.abs(places - centre) < 0.15 + 0.35 * half

    rows = inside(height // model.cell, numbers[:, 0], numbers[:, 1])
    columns = inside(width // model.cell, numbers[:, 2], numbers[:, 3])
    kept = ops.logical_and(rows[:, :, None, None], columns[:, None, :, None])
    return ops.cast(ops.logical_or(kept, numbers[:, 4, :, None, None] >= made_up), "float32")


def _pooled(mask, height):
    """A mask of pixels at the size of features: `[N, H, W, 1]` to `[N, height, .., 1]`."""
    factor = mask.shape[1] // height
    return ops.average_pool(mask, factor, factor, data_format="channels_last")


def _mean(x):
    """float32 `[N, h, w, C]` to `[N]`."""
    return ops.mean(x, axis=(1, 2, 3))
