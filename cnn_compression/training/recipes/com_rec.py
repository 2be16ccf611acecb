"""How a `ComRec` is trained: jointly through JPEG's twin, or one network at a time."""

import functools

import tensorflow as tf

from cnn_compression.codec.model_files import load_model
from cnn_compression.jpeg import coding
from cnn_compression.models.com_rec import ComRec
from cnn_compression.models.multi_scale import as_multi_scale
from cnn_compression.tensors.colour import luma
from cnn_compression.tensors.levels import to_uint8, to_unit
from cnn_compression.training.evaluation import HeldOutEvaluation
from cnn_compression.training.objectives import JointObjective, ReduceObjective, RestoreObjective
from cnn_compression.training.recipes.recipe import Recipe


def real_codec(compact, quality, grey, chroma="4:2:0"):
    """The bytes codec as `RestoreObjective` wants it: float `[N, h, w, C]` in and out."""
    levels = to_uint8(compact)
    if compact.shape[-1] == 1:
        return to_unit(coding.round_trip(levels, quality))
    colour = coding.round_trip(levels, quality, chroma)
    grey_levels = coding.round_trip(to_uint8(luma(compact)), quality)
    return to_unit(tf.where(grey[:, None, None, None], grey_levels, colour))


class ComRecRecipe(Recipe):
    """The presets `fast` and `paper`."""

    def model(self):
        config = self.config
        goal = {name: getattr(config, name) for name in ("rate_weight", "rate_power", "distortion")}
        if not config.init:
            return ComRec.from_preset(
                config.preset,
                config.channels,
                config.scale,
                config.rec_arguments(),
                self.precision,
                chroma=config.chroma,
                **goal,
            )
        pairs = as_multi_scale(load_model(config.init)).pairs
        wanted = (config.channels, config.scale, config.chroma)
        known = {(pair.channels, pair.scale, pair.chroma): pair for pair in pairs}
        if wanted not in known:
            raise ValueError(
                f"channels, scale and chroma must be {' or '.join(map(str, known))}, as "
                f"{config.init} has them. Received: {wanted}"
            )
        pair = known[wanted]
        has = pair.rec.get_config()
        if any(has.get(name) != value for name, value in config.rec_arguments().items()):
            raise ValueError(f"{config.init} has a RecCNN of {has}. Received: rec {config.rec}")
        return pair.in_precision(self.precision, **goal)

    def objectives(self, model, draws):
        return {
            "joint": JointObjective(self.config.preview_psnr, self.config.loss_power),
            "restore": RestoreObjective(functools.partial(real_codec, chroma=model.chroma)),
            "reduce": ReduceObjective(),
        }

    def peak_rate(self, phase):
        if self.config.schedule == "joint" and phase == "restore":
            # The finish only adapts what the joint phase learned.
            return 0.2 * self.config.learning_rate
        return self.config.learning_rate

    def chapter(self, step):
        return self.config.phase(step)

    @property
    def adopts_average(self):
        """What is kept of ComCNN is what RecCNN then sees."""
        return self.config.schedule == "joint"

    def widened(self, model):
        return model.in_precision("float32")

    def evaluation(self, reader):
        return HeldOutEvaluation(reader, self.config.channels)
