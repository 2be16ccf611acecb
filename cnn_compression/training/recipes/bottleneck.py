"""How a `Bottleneck` is trained: by steps along the gradient, or at once."""

from cnn_compression.models.bottleneck import Bottleneck
from cnn_compression.tensors.distortion import DISTORTIONS
from cnn_compression.training.objectives import ReconstructObjective
from cnn_compression.training.recipes.latent import LatentRecipe


class BottleneckRecipe(LatentRecipe):
    """The preset `bottleneck`."""

    family = Bottleneck
    evaluated = (15, 40, 75)

    # Crops that the direct solution looks at.
    SOLVED = 2048

    def arguments(self):
        return {}

    @property
    def steps(self):
        return 0 if self.config.solution == "direct" else self.config.steps

    def objectives(self, model, draws):
        return {"reconstruct": ReconstructObjective(DISTORTIONS[self.config.distortion])}

    def complete(self, model, crops):
        if self.config.solution == "direct":
            model.solve(self.some(crops, self.SOLVED))
        else:
            model.even_out()
            super().complete(model, crops)
