"""What the training of all families of latent codecs has in common."""

import numpy as np

from cnn_compression.codec.latent import LatentCodec
from cnn_compression.codec.model_files import load_model
from cnn_compression.tensors.levels import to_unit
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

    # Crops whose codes are counted.
    COUNTED = 512

    def arguments(self):
        """What the config says of the model beside preset and channels: dict."""
        return {"precision": self.precision}

    def model(self):
        config = self.config
        new = self.family.from_preset(config.preset, config.channels, **self.arguments())
        if config.init:
            given = load_model(config.init)
            has, wanted = _what_it_is(given), _what_it_is(new)
            if has != wanted:
                raise ValueError(f"expected a model of {wanted}. Received: {config.init}, {has}")
            # Tables are no part of it: they are counted when all is trained.
            for variable, start in zip(
                new.trainable_variables, given.trainable_variables, strict=True
            ):
                variable.assign(start)
        return new

    def widened(self, model):
        config, wide = model.get_config(), {"precision": "float32"}
        return self.family.from_config({name: wide.get(name, config[name]) for name in config})

    def complete(self, model, crops):
        """Counts codes of training crops, for the tables of the range coder."""
        model.count_codes(self.some(crops, self.COUNTED))

    def some(self, crops, count):
        """List of batches, float32 in [0, 1], that hold as many crops or a few more."""
        batches, first = crops(), []
        while sum(map(len, first)) < count:
            first.append(to_unit(next(batches)).numpy())
        return first

    def evaluation(self, reader):
        return HeldOutEvaluation(
            reader,
            self.config.channels,
            codec=LatentCodec,
            qualities=self.evaluated,
            # No viewer shows their payloads.
            preview=lambda payload: np.zeros((1, 1, self.config.channels), np.uint8),
        )


def _what_it_is(model):
    """The class and arguments that must agree for weights to be shared."""
    config = model.get_config()
    names = config.keys() - {"name", "dtype", "precision", "iterations"}
    return type(model).__name__, {name: config[name] for name in sorted(names)}
