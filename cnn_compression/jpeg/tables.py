"""JPEG's quantisation tables: T.81's examples, and what libjpeg makes of them for a quality."""

import numpy as np

# ITU-T T.81, Annex K, tables K.1 (luma) and K.2 (chroma).
LUMA_TABLE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)
CHROMA_TABLE = np.array(
    [
        [17, 18, 24, 47, 99, 99, 99, 99],
        [18, 21, 26, 66, 99, 99, 99, 99],
        [24, 26, 56, 99, 99, 99, 99, 99],
        [47, 66, 99, 99, 99, 99, 99, 99],
        *[[99] * 8] * 4,
    ],
    np.float32,
)

# Index of each coefficient of the zigzag sequence in rows of (v, u) (T.81, figure A.6).
ZIGZAG = np.array(
    sorted(range(64), key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8))
)


def quantisation_tables(quality: int, channels: int) -> tuple[np.ndarray, ...]:
    """libjpeg's tables at a quality (`jpeg_set_quality`, baseline), one for each component.

    Args:
        quality: 1..100.
        channels: 1, or 3 for YCbCr.

    Returns:
        uint16 `[64]` each, 1..255, in zigzag order.
    """
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    tables = []
    for table in (LUMA_TABLE, CHROMA_TABLE, CHROMA_TABLE)[:channels]:
        steps = (table.reshape(64)[ZIGZAG].astype(np.int64) * percent + 50) // 100
        tables.append(np.clip(steps, 1, 255).astype(np.uint16))
    return tuple(tables)
