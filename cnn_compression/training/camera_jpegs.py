"""JPEGs as cameras and programs write them, for packing to learn from."""

import io
import random

import numpy as np
from PIL import Image

from cnn_compression.jpeg.tables import CHROMA_TABLE, LUMA_TABLE

# Every second chroma is 4:2:0, as most cameras' and most programs' is.
_CHROMA = ("4:2:0", "4:2:0", "4:2:0", "4:2:0", "4:2:0", "4:2:2", "4:2:2", "4:4:4", "4:4:4", "L")
_FREQUENCY = np.add.outer(np.arange(8), np.arange(8))


def code(image: np.ndarray, quality: int, draw: random.Random) -> bytes:
    """Codes a picture: baseline, every second time with tables of its own.

    Args:
        image: uint8 `[H, W, 1 or 3]`; one in colour becomes grey every tenth time.
        quality: 1..100, of the libjpeg tables that steps are about as large as.
        draw: what decides.
    """
    chroma, own = draw.choice(_CHROMA), draw.random() < 0.5
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    if chroma == "L":
        picture = picture.convert("L")
    settings = {} if picture.mode == "L" else {"subsampling": chroma}
    settings |= {"qtables": tables(quality, draw)} if own else {"quality": quality}
    file = io.BytesIO()
    picture.save(file, "JPEG", **settings)
    return file.getvalue()


def tables(quality: int, draw: random.Random) -> list[list[int]]:
    """Quantisation tables for luma and chroma, 64 steps each in rows, other than libjpeg's.

    Makers' tables are flatter or steeper than T.81's examples, or grow with frequency alone; some
    take the same for luma and chroma.
    """
    percent = 5000 / quality if quality < 50 else 200 - 2 * quality
    kind, power = draw.choice(("power", "ramp")), draw.uniform(0.3, 1.4)
    of_chroma = draw.choice((0, 1, 1, 1)) * draw.uniform(0.5, 1.5)  # 0: luma's
    made = []
    for example in (LUMA_TABLE, CHROMA_TABLE):
        low = example[:4, :4].mean()  # where most that is not zero stands
        if kind == "power":
            table = low * (example / low) ** power
        else:
            table = 1 + power * _FREQUENCY
            table = low * table / table[:4, :4].mean()
        made.append(np.clip(np.rint(table * percent / 100), 1, 255).astype(int).ravel().tolist())
        percent *= of_chroma or 1
    return made if of_chroma else [made[0], made[0]]
