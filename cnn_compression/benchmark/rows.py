"""One image through one codec at one quality: measured, written down, read back.

Every byte of the file counts, and distortion is measured on what is decoded from it.
"""

import csv
import dataclasses
import hashlib
import io
import json
import math
import time
from dataclasses import asdict, dataclass

import numpy as np

from cnn_compression.tensors.metrics import bpp, luma, ms_ssim, psnr, ssim
from cnn_compression.tensors.ssimulacra2 import ssimulacra2

# Each with the digits that a table shows.
MEASURES = {
    "bpp": 3,
    "psnr": 2,
    "psnr_y": 2,
    "ssim": 4,
    "ms_ssim": 4,
    "ssimulacra2": 2,
    "encode_seconds": 3,
    "decode_seconds": 3,
}


@dataclass(frozen=True)
class Row:
    """One image through one codec at one quality.

    `image` is the file's name and `pixels` a hash of what was coded: the image scaled down
    `factor` times, `height` x `width`. PSNR is in dB, over all channels and of luma (JFIF), +inf
    for no error; SSIM, MS-SSIM and SSIMULACRA2 are NaN where the image is too small for them.
    """

    codec: str
    library: str
    settings: str
    image: str
    pixels: str
    factor: int
    height: int
    width: int
    quality: float
    bytes: int
    bpp: float
    psnr: float
    psnr_y: float
    ssim: float
    ms_ssim: float
    ssimulacra2: float
    encode_seconds: float
    decode_seconds: float

    @property
    def key(self):
        """What the row is about; two rows of one key differ in the seconds only."""
        return tuple(getattr(self, name) for name in _FIELDS[: _FIELDS.index("bytes")])


_FIELDS = [field.name for field in dataclasses.fields(Row)]


@dataclass(frozen=True)
class Coded:
    """What a codec made of an image: its `Row`, the payload, and what that restores to."""

    row: Row
    payload: bytes
    image_hat: np.ndarray


def subject(codec, name, image, factor=1):
    """What all rows of an image through a codec share: the first fields of `Row`, in order."""
    height, width = image.shape[:2]
    digest = hashlib.sha256(str(image.shape).encode() + np.ascontiguousarray(image).tobytes())
    return {
        "codec": codec.name,
        "library": codec.library,
        "settings": codec.settings,
        "image": name,
        "pixels": digest.hexdigest()[:8],
        "factor": factor,
        "height": height,
        "width": width,
    }


def measure(codec, name, image, qualities, runs=1, factor=1):
    """Takes an image through a codec at each quality.

    Args:
        codec: `cnn_compression.benchmark.codecs.Codec`.
        name: what the rows call the image.
        image: uint8 `[H, W, 1]` or `[H, W, 3]`.
        qualities: of the codec's scale.
        runs: how many calls are timed; the seconds are of the fastest.
        factor: how many times smaller than its file the image is.

    Yields:
        `Coded`. The codec first takes the image through once more, which is not timed, since the
        first call also traces the graph.
    """
    about = subject(codec, name, image, factor)
    codec.decode(codec.encode(image, qualities[0]))
    for quality in qualities:
        payload, encode_seconds = _timed(runs, codec.encode, image, quality)
        decoded, decode_seconds = _timed(runs, codec.decode, payload)
        image_hat = _with_channels(decoded, image.shape[2])
        row = Row(
            **about,
            quality=quality,
            bytes=len(payload),
            bpp=float(bpp(len(payload), *image.shape[:2])),
            psnr=float(psnr(image, image_hat)),
            psnr_y=float(psnr(luma(image), luma(image_hat))),
            ssim=float(ssim(image, image_hat)),
            ms_ssim=float(ms_ssim(image, image_hat)),
            ssimulacra2=ssimulacra2(image, image_hat),
            encode_seconds=encode_seconds,
            decode_seconds=decode_seconds,
        )
        yield Coded(row, payload, image_hat)


def _timed(runs, work, *arguments):
    """What `work` gives, and the seconds of its fastest run."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        result = work(*arguments)
        seconds.append(time.perf_counter() - start)
    return result, min(seconds)


def _with_channels(image, channels):
    """Some codecs have no grey, and what is grey in all its pixels may come back as such."""
    if image.shape[2] == channels:
        return image
    return luma(image).numpy() if channels == 1 else np.repeat(image, channels, axis=2)


def cells(values, measures=MEASURES, missing="–"):
    """Measures as a table shows them, from a dict of them; `missing` stands for NaN."""
    return [cell(values[name], MEASURES[name], missing) for name in measures]


def cell(value, digits, missing="–"):
    return missing if math.isnan(value) else f"{value:.{digits}f}"


def json_line(row):
    """A `Row` as a line of JSON, which knows neither NaN nor infinity: both become null."""
    return json.dumps(_plain(row), allow_nan=False) + "\n"


def from_json(line):
    """The `Row` of a line; None of a row from before SSIMULACRA2 was measured.

    Raises:
        ValueError: it is neither.
    """
    try:
        values = json.loads(line)
        if set(_FIELDS) - values.keys() == {"ssimulacra2"}:
            return None
        # Only PSNR can be infinite, and it is never NaN.
        missing = {"psnr": math.inf, "psnr_y": math.inf}
        missing |= dict.fromkeys(("ssim", "ms_ssim", "ssimulacra2"), math.nan)
        return Row(**{name: missing[name] if v is None else v for name, v in values.items()})
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"expected a row of the benchmark. Received: {line[:60]!r}") from error


def csv_text(rows):
    """Rows as CSV with a header; what JSON has as null is empty."""
    file = io.StringIO()
    writer = csv.DictWriter(file, _FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(_plain, rows))
    return file.getvalue()


def _plain(row):
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in asdict(row).items()
    }
