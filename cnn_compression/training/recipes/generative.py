"""How a `Generative` is trained: by turns with its discriminator, or for a distortion alone."""

from cnn_compression.models.generative import Generative, PatchDiscriminator
from cnn_compression.tensors.distortion import DISTORTIONS
from cnn_compression.training.objectives import DiscriminateObjective, GenerateObjective
from cnn_compression.training.recipes.latent import LatentRecipe


class GenerativeRecipe(LatentRecipe):
    """The presets `generative` and `agustsson`."""

    family = Generative
    evaluated = (1,)

    def objectives(self, model, draws):
        config = self.config
        distortion, made_up = DISTORTIONS[config.distortion], config.made_up
        if not config.adversary_weight:
            return {"reconstruct": GenerateObjective(None, draws, distortion, 0.0, made_up)}
        self.discriminator = PatchDiscriminator(config.channels, precision=self.precision)
        return {
            "generate": GenerateObjective(
                self.discriminator, draws, distortion, config.adversary_weight, made_up
            ),
            "discriminate": DiscriminateObjective(self.discriminator, draws, made_up),
        }

    def companions(self):
        return {"discriminator": self.discriminator} if self.config.adversary_weight else {}
