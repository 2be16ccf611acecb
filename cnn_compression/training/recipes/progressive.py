"""How a `Progressive` is trained: all of its iterations at once."""

from cnn_compression.models.progressive import Progressive
from cnn_compression.tensors.distortion import DISTORTIONS
from cnn_compression.training.objectives import ProgressiveObjective
from cnn_compression.training.recipes.latent import LatentRecipe


class ProgressiveRecipe(LatentRecipe):
    """The presets `progressive` and `toderici`."""

    family = Progressive
    evaluated = (1, 2, 4, 8, 16)

    def arguments(self):
        return super().arguments() | {"reconstruction": self.config.reconstruction}

    def objectives(self, model, draws):
        distortion = DISTORTIONS[self.config.distortion]
        return {"reconstruct": ProgressiveObjective(self.config.iterations, draws, distortion)}
