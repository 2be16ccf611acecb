"""How a `Progressive` is trained: all of its iterations at once."""

from cnn_compression.models.progressive import Progressive
from cnn_compression.tensors.distortion import DISTORTIONS
from cnn_compression.training.objectives import ProgressiveObjective
from cnn_compression.training.recipes.latent import LatentRecipe


class ProgressiveRecipe(LatentRecipe):
    """The presets `progressive` and `toderici`."""

    family = Progressive

    @property
    def evaluated(self):
        return [number for number in (1, 2, 4, 8, 16) if number <= self.config.iterations]

    def arguments(self):
        names = "reconstruction", "iterations"
        return super().arguments() | {name: getattr(self.config, name) for name in names}

    def objectives(self, model, draws):
        config = self.config
        distortion = DISTORTIONS[config.distortion]
        objective = ProgressiveObjective(
            config.iterations, draws, distortion, config.iteration_power
        )
        return {"reconstruct": objective}
