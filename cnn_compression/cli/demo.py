"""`cnn-compression demo`: one photograph, there and back, beside JPEG at the same bytes."""

import bisect
import importlib.util
import io
import itertools
from dataclasses import asdict
from pathlib import Path

import numpy as np
from absl import flags

from cnn_compression import files
from cnn_compression.cli import common, places
from cnn_compression.payload import layout

HELP = f"""
usage: cnn-compression demo [flags] [PHOTO]

Compresses a photograph, one that scikit-image ships by default, restores it, and compares it with
JPEG at the same bytes: a table, and in the folder of --output

  <stem>{layout.PAYLOAD_SUFFIX}         the payload
  <stem>.png             what it restores to
  <stem>.comparison.png  original, JPEG and restored side by side, with an enlarged detail

Files of those names are replaced. What is transparent in PHOTO becomes white.
"""

PHOTO = "astronaut"
WHITE = (255, 255, 255)
RUNS = 3
# What the table shows of `benchmark.MEASURES`.
MEASURES = ("bpp", "psnr", "ssim", "ms_ssim", "encode_seconds", "decode_seconds")

# The side-by-side picture, in pixels: its panels fit into a square of this side, and below each
# stands a detail of the photograph, enlarged to the same square.
PANEL = 480
DETAIL = 120
MARGIN = 12
LABEL = 30


def add_flags(values: flags.FlagValues) -> None:
    common.add_quality_flag(values)
    flags.DEFINE(common.PATH, "output", "out", "folder", flag_values=values, short_name="o")
    common.add_model_flag(values)


def run(values: flags.FlagValues, arguments: list[str]) -> int:
    if len(arguments) > 1:
        raise common.UsageError(f"expected one photograph at most. Received: {len(arguments)}")
    if family := common.latent_family(values.model):
        raise common.UsageError(
            f"demo shows JPEGs, which a model of the family {family} does not write: see encode"
        )
    common.start_tensorflow()
    stem, image = _photograph(*arguments)
    targets = [
        Path(values.output, stem + suffix)
        for suffix in (layout.PAYLOAD_SUFFIX, ".png", ".comparison.png")
    ]
    _prepare(targets, arguments)

    codec = common.load_codec(values.model)
    from cnn_compression import benchmark

    [ours] = benchmark.measure(benchmark.Model(codec), stem, image, [values.quality], RUNS)
    quality, fits = _jpeg_within(len(ours.payload), image)
    [jpeg] = benchmark.measure(benchmark.Jpeg(), stem, image, [quality], RUNS)
    codeds = {
        f"cnn-compression, quality {values.quality}": ours,
        f"JPEG, quality {quality}": jpeg,
    }
    print(_table(stem, image, codec, codeds, fits), end="\n\n")
    _write(targets, image, ours, codeds)
    return 0


def _need(module: str, package: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ValueError(f"the demo needs {package}: pip install 'cnn-compression[demo]'")


def _photograph(path: str | None = None) -> tuple[str, np.ndarray]:
    """The stem of its name, and the image: uint8 `[H, W, 1]` or `[H, W, 3]`."""
    if path is None:
        _need("skimage", "scikit-image")
        import skimage.data

        return PHOTO, getattr(skimage.data, PHOTO)()
    from cnn_compression import images

    try:
        image, notes = images.read(path, WHITE)
    except (OSError, ValueError) as error:
        raise ValueError(f"{common.shown(path)}: {common.reason(error, path)}") from error
    for note in notes:
        common.complain(f"note: {note}", path)
    return Path(path).stem, image


def _prepare(targets: list[Path], arguments: list[str]) -> None:
    """Makes the folder, and sees that nothing written there is the photograph itself."""
    places.make_folders(targets)
    for target in targets:
        if arguments and target.exists() and target.samefile(arguments[0]):
            raise ValueError(f"the output would be the input: {common.shown(target)}")


def _jpeg_within(num_bytes: int, image: np.ndarray) -> tuple[int, bool]:
    """The highest quality at which JPEG takes no more bytes, or 1; and whether that fits."""
    from cnn_compression import benchmark

    def size(quality):
        return len(benchmark.Jpeg().encode(image, quality))

    # Bytes grow with the quality, so a search by halves finds how many qualities fit.
    fitting = bisect.bisect_right(range(1, 101), num_bytes, key=size)
    return max(fitting, 1), fitting > 0


def _table(stem: str, image: np.ndarray, codec, codeds: dict, fits: bool) -> str:
    from cnn_compression import benchmark

    height, width, channels = image.shape
    head = ("", "bytes", "bpp", "PSNR", "SSIM", "MS-SSIM", "encode s", "decode s")
    body = [head]
    for name, coded in codeds.items():
        cells = benchmark.cells(asdict(coded.row), MEASURES, missing="-")
        body.append((name, str(coded.row.bytes), *cells))
    left = max(len(name) for name, *_ in body)
    limit = "the highest quality that takes no more bytes" if fits else "even this takes more bytes"
    return "\n".join(
        [
            f"{common.shown(stem)}: {width}x{height}, {channels} channel{'s'[: channels != 1]}; "
            f"model {codec.name} {codec.fingerprint}",
            "",
            *(f"{name:{left}}" + "".join(f"{cell:>10}" for cell in row) for name, *row in body),
            "",
            f"JPEG is 4:2:0, optimised, baseline or progressive by size; {limit}.",
            f"Seconds are the fastest of {RUNS} runs after a first one, which traces the graph.",
        ]
    )


def _write(targets: list[Path], image: np.ndarray, ours, codeds: dict) -> None:
    from cnn_compression import images

    payload, restored, comparison = targets
    files.write_atomically(payload, ours.payload)
    files.write_atomically(restored, images.encode_png(ours.image_hat).numpy())
    files.write_atomically(comparison, _comparison(image, codeds))
    for path, what in [
        (payload, "the payload: any viewer opens it and shows a preview"),
        (restored, "what it restores to"),
        (comparison, "original, JPEG and restored side by side"),
    ]:
        print(f"{common.shown(path)}: {what}")


def _comparison(image: np.ndarray, codeds: dict) -> bytes:
    """A PNG: the original and what the codecs made of it, and the same detail of each, enlarged.

    The last codec stands next to the original.
    """
    from PIL import Image, ImageDraw, ImageFont

    panels = [("original", image)] + [
        (f"{name}: {coded.row.bytes} bytes, {coded.row.psnr:.2f} dB", coded.image_hat)
        for name, coded in reversed(codeds.items())
    ]
    box = _busiest(image)
    size, scale = _fit(image.shape[1], image.shape[0])
    detail_size, _ = _fit(box[2] - box[0], box[3] - box[1])
    detail_top = LABEL + size[1] + MARGIN
    width = MARGIN + len(panels) * (PANEL + MARGIN)
    sheet = Image.new("RGB", (width, detail_top + detail_size[1] + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(18)
    for index, (label, pixels) in enumerate(panels):
        left = MARGIN + index * (PANEL + MARGIN)
        whole = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).convert("RGB")
        draw.text((left, LABEL // 2), label, "black", font, "lm")
        sheet.paste(whole.resize(size, Image.Resampling.LANCZOS), (left, LABEL))
        outline = [round(side * scale) for side in box]
        corners = [(left + x, LABEL + y) for x, y in (outline[:2], outline[2:])]
        draw.rectangle(corners, outline="yellow", width=2)
        detail = whole.crop(box).resize(detail_size, Image.Resampling.NEAREST)
        sheet.paste(detail, (left, detail_top))
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


def _fit(width: int, height: int) -> tuple[tuple[int, int], float]:
    """The size that fills a panel, and its scale."""
    scale = PANEL / max(width, height)
    return (max(1, round(width * scale)), max(1, round(height * scale))), scale


def _busiest(image: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the detail: where the original has most edges and texture."""
    grey = image.mean(axis=2)
    change = sum(np.abs(np.diff(grey, axis=axis, prepend=grey.take([0], axis))) for axis in (0, 1))
    height, width = (min(DETAIL, side) for side in grey.shape)
    corners = itertools.product(
        range(0, grey.shape[0] - height + 1, DETAIL // 4),
        range(0, grey.shape[1] - width + 1, DETAIL // 4),
    )
    top, left = max(corners, key=lambda at: change[at[0] :, at[1] :][:height, :width].sum())
    return left, top, left + width, top + height
