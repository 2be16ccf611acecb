"""What a training run depends on; without TensorFlow, so that flags can be made of it quickly."""

import math
import re
from dataclasses import dataclass, field, fields


def _option(default, text, **kwargs):
    return field(default=default, metadata={"help": text, **kwargs})


def _at_least(default, text, least=1, **kwargs):
    return _option(default, text, range=(least, math.inf), **kwargs)


# Those of ComRec, and those of the families of latent codecs.
COM_REC = ("fast", "paper")
GENERATIVE = ("generative", "agustsson")
PRESETS = (*COM_REC, "bottleneck", "progressive", "toderici", *GENERATIVE)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a run depends on; saved as `config.json` beside its checkpoints."""

    data: tuple[str, ...] = _option((), "Folders (or files) of training images.")
    output: str = _option("", "Folder for checkpoints, logs and the trained model.")
    preset: str = _option("fast", "Networks.", choices=PRESETS)
    rec: str = _option("", "Of RecCNN, where it is not the preset's: ARGUMENT=INTEGER,...")
    scale: int = _option(
        2, "Image pixels per compact pixel along each side: 2, or 1 or 4 (fast).", choices=(1, 2, 4)
    )
    colour: str = _option(
        "srgb", "By the files' colour profiles, or their numbers.", choices=("srgb", "as_is")
    )
    chroma: str = _option("4:2:0", "Of the compact image.", choices=("4:2:0", "4:4:4"))
    channels: int = _option(
        3, "3 for colour (and grey) images, 1 for grey ones alone.", choices=(1, 3)
    )
    init: str = _option("", "Model to start from (a name, or an exported folder); else random.")
    schedule: str = _option("joint", "Joint, or as in the paper.", choices=("joint", "alternate"))
    steps: int = _at_least(60000, "Optimiser steps.")
    finish_steps: int = _at_least(
        3000, "joint: last steps, RecCNN alone on the real codec.", least=0
    )
    alternate_steps: int = _at_least(2000, "alternate: steps of each phase.")
    batch_size: int = _at_least(12, "Crops a step, over all replicas.")
    crop_size: int = _at_least(128, "Side of a crop, pixels.")
    crops_per_image: int = _at_least(4, "Crops taken each time an image is decoded.")
    grey_fraction: float = _option(0.05, "Share of crops that are turned grey.", range=(0, 1))
    min_quality: int = _option(5, "Lowest quality trained.")
    max_quality: int = _option(95, "Highest quality trained.")
    rate_weight: float = _at_least(
        8.0, "joint: lambda over the mean luma step, at JPEG quality 50.", least=0
    )
    rate_power: float = _option(1.0, "joint: power of the step that lambda follows.")
    loss_power: float = _option(0.5, "joint: power of the step that losses are divided by.")
    distortion: str = _option(
        "mse",
        "What is kept small: squared or absolute error, or what eyes see.",
        choices=("mse", "absolute", "eyes"),
    )
    preview_psnr: float = _at_least(
        25.0, "joint: dB that the compact image must keep to a plain downscale.", least=0
    )
    solution: str = _option(
        "gradient",
        "bottleneck: by steps, or direct: principal components and least squares, without any.",
        choices=("gradient", "direct"),
    )
    iterations: int = _option(16, "progressive, toderici: as many are trained.", range=(1, 16))
    iteration_power: float = _at_least(
        0.0,
        "progressive, toderici: power of an iteration's number that its loss is weighed by.",
        least=0,
    )
    reconstruction: str = _option(
        "one_shot",
        "progressive, toderici: how a picture is made of the one before.",
        choices=("one_shot", "additive", "scaled"),
    )
    adversary_weight: float = _at_least(
        1.0, "generative: of the discriminator's say; 0 trains for the distortion alone.", least=0
    )
    made_up: float = _option(
        0.0, "generative: share of crops of which a part is to be made up.", range=(0, 1)
    )
    optimizer: str = _option("adam", "Optimiser.", choices=("adam", "muon"))
    learning_rate: float = _at_least(5e-4, "Peak of the cosine schedule.", least=0)
    warmup_steps: int = _at_least(500, "Steps of linear warm-up.", least=0)
    clip_norm: float = _at_least(1.0, "Largest global norm of the gradient.", least=0)
    ema_decay: float = _option(
        0.999, "Decay of the weights' moving average, which is evaluated.", range=(0, 1)
    )
    precision: str = _option(
        "float32", "bfloat16 is mixed precision.", choices=("float32", "bfloat16")
    )
    strategy: str = _option(
        "mirrored",
        "Mirrored takes all visible GPUs.",
        choices=("mirrored", "one_device", "multi_worker"),
    )
    seed: int = _option(1, "Seed of the weights and of the data.")
    held_out: int = _at_least(16, "Images kept from training to evaluate on.", least=0)
    max_bad_files: int = _at_least(
        10, "Unreadable files that are skipped before the run stops.", least=0
    )
    log_steps: int = _at_least(100, "Steps between log lines.", free=True)
    eval_steps: int = _at_least(2000, "Steps between evaluations.", free=True)
    checkpoint_steps: int = _at_least(2000, "Steps between checkpoints.", free=True)
    checkpoint_minutes: float = _at_least(5.0, "Minutes between checkpoints.", least=0, free=True)

    def __post_init__(self) -> None:
        for setting in fields(self):
            value, name = getattr(self, setting.name), setting.name
            choices = setting.metadata.get("choices")
            if choices and value not in choices:
                raise ValueError(f"{name} must be one of {choices}. Received: {value!r}")
            least, most = setting.metadata.get("range", (None, None))
            if least is not None and not least <= value <= most:
                bounds = f"at least {least}" if most == math.inf else f"from {least} to {most}"
                raise ValueError(f"{name} must be {bounds}. Received: {value}")
        if not 1 <= self.min_quality <= self.max_quality <= 100:
            raise ValueError(
                "expected 1 <= min_quality <= max_quality <= 100. "
                f"Received: {self.min_quality}, {self.max_quality}"
            )
        if not re.fullmatch(r"(\w+=\d+(,(?=\w)|$))*", self.rec):
            raise ValueError(f"rec must be ARGUMENT=INTEGER,... Received: {self.rec!r}")
        if self.crop_size % 16:
            raise ValueError(f"crop_size must be a multiple of 16. Received: {self.crop_size}")
        if self.reconstruction == "scaled" and self.iterations == 1:
            raise ValueError(
                "expected iterations from 2 with the reconstruction scaled: the first has no gain. "
                "Received: 1"
            )
        if self.preset == "bottleneck" and self.precision != "float32":
            raise ValueError(
                f"precision of the preset bottleneck must be float32. Received: {self.precision!r}"
            )
        if not self.data or not self.output:
            raise ValueError("data and output must be given: folders of images, and a folder")

    def rec_arguments(self) -> dict[str, int]:
        """`rec` as a dict of int."""
        pairs = (item.split("=") for item in self.rec.split(",") if item)
        return {name: int(value) for name, value in pairs}

    def phase(self, step: int) -> str:
        """Which objective step number `step` trains.

        joint, restore or reduce of a ComRec; generate and discriminate by turns of a generative
        model that has an adversary; reconstruct of all others.
        """
        if self.preset in GENERATIVE and self.adversary_weight:
            return "discriminate" if step % 2 else "generate"
        if self.preset not in COM_REC:
            return "reconstruct"
        if self.schedule == "joint":
            return "joint" if step < self.steps - self.finish_steps else "restore"
        return "restore" if step // self.alternate_steps % 2 == 0 else "reduce"


@dataclass(frozen=True)
class PackingConfig:
    """How the predicting networks of packing are trained."""

    payloads: int = _at_least(4, "JPEGs of each photograph, at as many qualities.")
    luma_steps: int = _at_least(15000, "Steps of the network for luma.")
    chroma_steps: int = _at_least(6500, "Steps of the network for chroma.")
    batch_size: int = _at_least(1536, "Blocks of a step.")
    learning_rate: float = _option(2e-3, "Of Adam at its highest; it ends at 0.")
    seed: int = _option(0, "Of all that is random.")
    checkpoint_minutes: float = _option(5.0, "Between two checkpoints.")
