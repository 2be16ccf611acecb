"""The codecs that people would pick instead, one small class each.

All take an image to the bytes of a file as a program would write it, and back. Where a library
offers a choice they take what compresses well and is still pleasant to wait for, and say so in
`settings`; colours are 4:2:0 as those files mostly are. JPEG XL and HEIC need the extra `bench`,
and are imported when a codec is made.
"""

import importlib.metadata
import io
from typing import Protocol

import numpy as np
import PIL
import tensorflow as tf
from PIL import Image, features

from cnn_compression.jpeg import coding


class Codec(Protocol):
    """What is measured.

    Attributes:
        name: what rows and tables call it.
        library: what does the work, with its version.
        settings: all that its files depend on besides the image and the quality.
        qualities: the ladder to measure at, from the worst to the best: some 0.06 to 3 bits a
            pixel on photographs, as far as the codec goes.
    """

    name: str
    library: str
    settings: str
    qualities: tuple[float, ...]

    def encode(self, image: np.ndarray, quality: float) -> bytes:
        """uint8 `[H, W, 1]` or `[H, W, 3]` to a file, higher qualities to larger ones."""

    def decode(self, payload: bytes) -> np.ndarray:
        """A file to uint8 `[H, W, 1]` or `[H, W, 3]`; a grey image may come back as RGB."""


class MissingLibraryError(ValueError):
    """A codec's library is not installed."""

    def __init__(self, what, needs):
        super().__init__(f"{what} needs {needs}: pip install 'cnn-compression[bench]'")


class Jpeg:
    """libjpeg-turbo as TensorFlow carries it: the JPEG inside our own payloads."""

    name = "JPEG"
    library = f"libjpeg-turbo in TensorFlow {tf.__version__}"
    settings = "optimised, baseline or progressive by size, 4:2:0"
    qualities = (1, 3, 5, 8, 12, 20, 30, 40, 55, 70, 80, 88, 93, 96)

    def encode(self, image, quality):
        return coding.encode(image, quality).numpy()

    def decode(self, payload):
        return coding.decode(payload).numpy()


class _Pillow:
    """What Pillow writes and reads; a subclass says `feature`, `format` and `options`."""

    feature = ""  # of PIL.features

    def __init__(self):
        if self.feature and not features.check(self.feature):
            raise MissingLibraryError(self.name, f"a Pillow with {self.feature}")
        self.library = f"{self.find_library()}, Pillow {PIL.__version__}"

    def encode(self, image, quality):
        file = io.BytesIO()
        _to_pillow(image).save(file, self.format, **self.options(image, quality))
        return file.getvalue()

    def decode(self, payload):
        with Image.open(io.BytesIO(payload), formats=[self.format]) as opened:
            return _as_image(np.asarray(opened.convert("L" if opened.mode == "L" else "RGB")))


class WebP(_Pillow):
    """Lossy WebP, its slowest method. Grey images are coded as RGB: it has no grey."""

    name, feature, format = "WebP", "webp", "WEBP"
    settings = "method 6"
    qualities = (0, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 88, 93, 97)

    def find_library(self):
        return f"libwebp {features.version('webp')}"

    def options(self, image, quality):
        return {"quality": quality, "method": 6}


class Jpeg2000(_Pillow):
    """JPEG 2000 in a .jp2 file.

    OpenJPEG is asked for a rate and knows no quality. At one rate for all images the easy ones
    would be better and the hard ones worse than with the other codecs, and means over a set at
    each quality could not be compared. So `quality` is JPEG's, and the file takes `SHARE` of what
    that JPEG takes; to find that out is part of the seconds, some 10 ms a megapixel.
    """

    SHARE = 0.6

    name, feature, format = "JPEG 2000", "jpg_2000", "JPEG2000"
    settings = f"irreversible, colour transform, {SHARE:g} of JPEG's bytes at the quality"
    qualities = (1, 3, 5, 8, 12, 20, 30, 45, 60, 75, 85, 92, 96, 98, 100)

    def find_library(self):
        return f"OpenJPEG {features.version('jpg_2000')}"

    def options(self, image, quality):
        size = self.SHARE * len(coding.encode(image, quality).numpy())
        return {
            "irreversible": True,
            "mct": int(image.shape[2] == 3),
            "quality_mode": "rates",  # how many times smaller than the samples the file is
            "quality_layers": [max(1.0, image.size / size)],
        }


class Avif(_Pillow):
    """AVIF by libaom.

    `tune=iq`, since libavif 1.4 the default, gives 0.1 to 0.4 dB away for looks; `ssim`, the
    default before, is as good in PSNR as `psnr` and better in MS-SSIM.
    """

    name, feature, format = "AVIF", "avif", "AVIF"
    settings = "libaom, speed 6, 4:2:0, tune=ssim"
    qualities = (0, 5, 10, 18, 26, 34, 42, 50, 58, 66, 74, 82, 90, 95)

    def find_library(self):
        return f"libavif {features.version('avif')}"

    def options(self, image, quality):
        tune = {"tune": "ssim"}
        return {"quality": quality, "speed": 6, "codec": "aom", "advanced": tune}


class JpegXl(_Pillow):
    """JPEG XL, lossy. It aims at a constant error for the eye (Butteraugli), not at PSNR."""

    name, format = "JPEG XL", "JXL"
    settings = "effort 7"
    qualities = (0, 5, 10, 20, 30, 40, 50, 60, 68, 76, 84, 90, 94)

    def find_library(self):
        try:
            import pillow_jxl  # noqa: F401  its import teaches Pillow the format
        except ImportError as error:
            raise MissingLibraryError(self.name, "pillow-jxl-plugin") from error
        return f"pillow-jxl-plugin {importlib.metadata.version('pillow-jxl-plugin')}"

    def options(self, image, quality):
        return {"quality": quality, "effort": 7}


class Heic:
    """HEIC: an intra frame of HEVC by x265, which is also what BPG holds."""

    name = "HEIC"
    settings = "x265, preset slow, tune ssim, 4:2:0: libheif's defaults"
    qualities = (2, 6, 10, 15, 20, 25, 30, 36, 42, 48, 54, 60, 66, 72)

    def __init__(self):
        try:
            import pillow_heif
        except ImportError as error:
            raise MissingLibraryError(self.name, "pillow-heif") from error
        info = pillow_heif.libheif_info()
        if "x265" not in info["encoders"]:
            raise MissingLibraryError(self.name, "a pillow-heif with x265")
        x265 = info["encoders"]["x265"].replace(" HEVC encoder", "")
        self.library = f"{x265}, libheif {info['libheif']}, pillow-heif {pillow_heif.__version__}"

    def encode(self, image, quality):
        import pillow_heif

        file, mode = io.BytesIO(), "L" if image.shape[2] == 1 else "RGB"
        size = image.shape[1::-1]
        data = np.ascontiguousarray(image).tobytes()
        pillow_heif.encode(mode, size, data, file, quality=quality, chroma=420)
        return file.getvalue()

    def decode(self, payload):
        import pillow_heif

        return _as_image(np.array(pillow_heif.open_heif(payload)))


def _to_pillow(image):
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def _as_image(pixels):
    """uint8 `[H, W]` or `[H, W, 3]` to `[H, W, C]`."""
    return pixels[..., None] if pixels.ndim == 2 else pixels
