"""What people hand to a codec, paths and Pillow's images too; what mends what it cannot take."""

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from cnn_compression import images
from cnn_compression.packing.layout import is_packed
from cnn_compression.payload import latent_layout
from cnn_compression.payload.latent_layout import is_latent
from cnn_compression.payload.layout import OtherModelError


def as_pixels(image: Any) -> Any:
    """What `Codec.encode` takes -> pixels, of whatever shape and dtype.

    Args:
        image: the path, str or `Path`, of an image file; an image of Pillow's, whose pixels are
            taken as they are; or pixels already, of which `[H, W]` become `[H, W, 1]`.

    Returns:
        A tensor where `image` is one, else an array.

    Raises:
        images.ImageError, OSError: the file cannot be used; the text names it.
        ValueError: the image of Pillow's is of another mode than L and RGB.
    """
    if isinstance(image, (str, os.PathLike)):
        return _read(image)
    if isinstance(image, Image.Image) and image.mode not in ("L", "RGB"):
        raise ValueError(
            f"expected an image of mode L or RGB: pass {_converted(image.mode)}. "
            f"Received: mode {image.mode}"
        )
    if isinstance(image, tf.Tensor):
        return image[..., None] if image.shape.rank == 2 else image
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def as_images(image: Any, channels: int) -> tuple[Any, bool]:
    """An image or a batch of images that a model takes, and whether it is one image.

    Args:
        image: what `as_pixels` gave.
        channels: of the model.

    Raises:
        ValueError: for another shape or dtype; says what would do.
    """
    images = image if isinstance(image, tf.Tensor) else np.asarray(image)
    shape = tuple(images.shape) if images.shape is not None else ()
    known = (1, 3) if channels == 3 else (1,)
    fits = images.dtype.name == "uint8" and len(shape) in (3, 4) and 0 not in shape
    if not fits or shape[-1] not in (None, *known):
        cure = f": pass {cure}" if (cure := mended(images)) else ""
        raise ValueError(
            f"expected uint8 [H, W, C] or [N, H, W, C], not empty, with C in {known}{cure}. "
            f"Received: {images.dtype.name} {shape}"
        )
    return images, len(shape) == 3


def as_payload(payload: Any, max_pixels: int) -> Any:
    """What `Codec.decode` takes, with bytes in the place of paths, and nothing packed.

    Raises:
        packing.layout.PackedError: what is packed does not come back.
        payload.layout.OtherModelError: a latent codec's payload; says whose.
    """
    if isinstance(payload, (list, tuple)):
        return [as_payload(item, max_pixels) for item in payload]
    if not isinstance(payload, (str, os.PathLike, bytes, bytearray, memoryview)):
        return payload
    data = as_bytes(payload)
    if is_latent(data):
        header = latent_layout.read_header(data)
        whose = f"{header.fingerprint} of the family {header.family}"
        raise OtherModelError(f"made by model {whose}; payloads of this one are JPEGs")
    if is_packed(data):
        from cnn_compression.packing import payloads  # its compiler takes a second to import

        return payloads.unpack(data, max_pixels)
    return data


def as_bytes(data: Any) -> bytes:
    """A path -> what is in the file; bytes of any kind -> `bytes`; ValueError for others."""
    if isinstance(data, (str, os.PathLike)):
        return Path(data).read_bytes()
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise ValueError(f"expected bytes, or the path of a file. Received: {type(data).__name__}")
    return bytes(data)


def mended(pixels: Any) -> str:
    """The expression of `image` that gives pixels which a codec takes; "" where there is none."""
    dtype, shape = pixels.dtype.name, tuple(pixels.shape)
    if len(shape) not in (3, 4) or 0 in shape:
        return ""
    image = "image"
    if shape[-1] in (2, 4):  # transparency goes last
        image = f"image[..., :{shape[-1] - 1}]"
    elif shape[-3] in (1, 3) and shape[-1] not in (1, 3, None):
        image = "np.moveaxis(image, -3, -1)"
    if dtype == "uint8":
        return "" if image == "image" else image
    if isinstance(pixels, tf.Tensor):
        return f"tf.image.convert_image_dtype({image}, tf.uint8, saturate=True)"
    if "float" in dtype:
        scaled = f"(255 * {image}).round()" if pixels.max() <= 1 else f"{image}.round()"
        return f"{scaled}.clip(0, 255).astype('uint8')"
    by_dtype = {
        "uint16": f"({image} / 257).round().astype('uint8')",
        "bool": f"255 * {image}.astype('uint8')",
    }
    return by_dtype.get(dtype, f"{image}.astype('uint8')" if "int" in dtype else "")


def _converted(mode: str) -> str:
    """The expression that makes an image of Pillow's, of another mode, one that a codec takes."""
    if mode in ("1", "LA", "La"):
        return "image.convert('L')"
    if mode.startswith("I"):  # of 16 bits, or 16 in 32
        return "(np.asarray(image) / 257).round().astype('uint8')"
    return "np.asarray(image)" if mode == "F" else "image.convert('RGB')"


def _read(path: str | os.PathLike) -> np.ndarray:
    try:
        pixels, notes = images.read(path)
    except images.ImageError as error:
        flatten = "pass images.read(path, flatten=(255, 255, 255))[0], say"
        reason = str(error).replace("pass --flatten=COLOUR", flatten)
        raise images.ImageError(f"{os.fspath(path)}: {reason}") from None
    except OSError as error:
        raise type(error)(f"{os.fspath(path)}: {error}") from None
    for note in notes:
        warnings.warn(f"{os.fspath(path)}: {note}", stacklevel=4)  # the caller of `encode`
    return pixels
