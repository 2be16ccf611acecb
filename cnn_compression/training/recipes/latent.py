"""What the training of all families of latent codecs has in common."""

import numpy as np

from cnn_compression.codec.model_files import load_model
from cnn_compression.tensors.levels import to_uint8, to_unit
from cnn_compression.tensors.metrics import ms_ssim, psnr
from cnn_compression.tensors.shapes import crop, pad_to_multiple
from cnn_compression.training.evaluation import HeldOutEvaluation
from cnn_compression.training.recipes.recipe import Recipe


class LatentRecipe(Recipe):
    """A preset of one `LatentModel`.

    Attributes:
        family: the subclass of `LatentModel`, which has `from_preset`.
        evaluated: qualities that are tried on held-out images.
    """

    family = None
    evaluated = ()

    def arguments(self):
        """What the config says of the model beside preset, channels and precision: dict."""
        return {}

    def model(self):
        config = self.config
        new = self.family.from_preset(
            config.preset, config.channels, precision=self.precision, **self.arguments()
        )
        if config.init:
            given = load_model(config.init)
            has, wanted = _what_it_is(given), _what_it_is(new)
            if has != wanted:
                raise ValueError(f"expected a model of {wanted}. Received: {config.init}, {has}")
            new.set_weights(given.get_weights())
        return new

    def widened(self, model):
        return self.family.from_config(model.get_config() | {"precision": "float32"})

    def evaluation(self, reader):
        return LatentEvaluation(reader, self.config.channels, self.evaluated)


def _what_it_is(model):
    """The class and arguments that must agree for weights to be shared."""
    config = {name: value for name, value in model.get_config().items() if name != "precision"}
    return type(model).__name__, {name: config[name] for name in config.keys() - {"name", "dtype"}}


class LatentEvaluation(HeldOutEvaluation):
    """As `HeldOutEvaluation`, of a `LatentModel` at qualities of its own."""

    def __init__(self, reader, channels, qualities, size=512, strips=4):
        super().__init__(reader, channels, size, strips)
        self.qualities = qualities

    def __call__(self, model):
        scalars, strips = {}, []
        for quality in self.qualities:
            pictures = [_coded(model, image, quality) for image in self.images]
            for name, measure in {"psnr": psnr, "ms_ssim": ms_ssim}.items():
                pairs = zip(self.images, pictures, strict=True)
                if pictures:
                    scalars[f"{name}/q{quality}"] = np.mean([measure(a, b) for a, b in pairs])
        return scalars, strips


def _coded(model, image, quality):
    padded = pad_to_multiple(to_unit(image[None]), model.cell)
    picture = model.synthesise(model.analyse(padded, quality), quality)
    return to_uint8(crop(picture, *image.shape[:2])).numpy()[0]
