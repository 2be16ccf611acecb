"""Neural image compression that stays a JPEG.

An `image` (uint8 `[H, W, 3]` or `[H, W, 1]`) becomes a smaller `compact` image by `ComCNN`, a
standard JPEG carries the compact image as the `payload` (bytes), and `RecCNN` rebuilds `image_hat`
from the decoded `compact_hat`:

    image -> ComCNN -> compact -> JPEG -> payload -> JPEG -> compact_hat -> RecCNN -> image_hat

`quality` is 1..100 as in JPEG; `bpp` counts every byte of the payload over the pixels of the image.
Images are uint8 [0, 255] at every edge and float32 [0, 1] inside.

    codec = cnn_compression.load()  # a Codec
    payload = codec.encode(image, quality=50)
    image_hat = codec.decode(payload)

Any other JPEG can be kept in fewer bytes, without loss and without a model:

    packed = cnn_compression.pack_jpeg(jpeg)
    jpeg = cnn_compression.unpack_jpeg(packed)
"""

import os
from typing import TYPE_CHECKING, Any

# First of all, since it has to know of processes that are forked later.
from cnn_compression import process as process

if TYPE_CHECKING:
    from cnn_compression.codec import Codec, LatentCodec

__version__ = "0.1.0"
__all__ = ["Codec", "load", "pack_jpeg", "unpack_jpeg"]


def load(name_or_path: str | os.PathLike[str] = "default") -> "Codec | LatentCodec":
    """Loads a codec.

    The first call imports TensorFlow, which takes seconds.

    Args:
        name_or_path: a name in `saved_models/`, of which the newest version is taken; the folder of
            an exported model, of one of its versions, or of a training run; or a `.keras` file.

    Returns:
        `Codec`, whose `encode`, `encode_to` and `decode` do the work, or of a latent model
        `codec.LatentCodec`, which has them too; the same one where the same file is asked for
        again, by any thread.

    Raises:
        ValueError: where no such model is found, or it cannot be read.
        RuntimeError: in a process that was forked from one in which TensorFlow runs.
    """
    process.start_tensorflow()
    from cnn_compression import codec

    return codec.load(name_or_path)


def pack_jpeg(jpeg: bytes) -> bytes:
    """Takes a quarter to a third off a JPEG: `unpack_jpeg` gives the same bytes back.

    The first call on a machine compiles for half a minute.

    Args:
        jpeg: all of the file: 8 bits, Huffman-coded, baseline or progressive, grey, 4:4:4, 4:2:2,
            4:2:0 or 4:1:1; a payload is packed as `Codec.pack` does.

    Returns:
        The packed bytes, which were unpacked again and compared.

    Raises:
        packing.layout.PackedError: a `ValueError`: it is no such JPEG, is damaged, or would not
            come back or get smaller; says which.
    """
    from cnn_compression.packing import jpegs  # its compiler takes a second to import

    return jpegs.pack(bytes(jpeg))


def unpack_jpeg(packed: bytes) -> bytes:
    """The JPEG that was packed, byte for byte, by `pack_jpeg` or `Codec.pack`.

    Raises:
        packing.layout.PackedError: a `ValueError`: for bytes that are not packed, are damaged, or
            take networks that are not installed.
    """
    from cnn_compression.packing import jpegs

    return jpegs.unpack(bytes(packed))


def __getattr__(name: str) -> Any:
    # `Codec` costs the import of TensorFlow, so only those who ask for it pay. It is not in
    # `dir()`: help() and tab completion ask for all that is there.
    if name == "Codec":
        process.start_tensorflow()
        from cnn_compression import codec

        return codec.Codec
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
