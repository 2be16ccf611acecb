"""A contact sheet: what each codec makes of the same square at the same bytes."""

import bisect
import io
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cnn_compression.benchmark.rows import measure

SIDE = 192
ZOOM = 2
COLUMNS = 5
MARGIN = 12
LABEL = 60


def within(codec, rows, name, image, target):
    """What a codec makes of an image in no more than a target rate, at the best quality that fits.

    The measured rows say between which two qualities of the ladder it lies; where these are whole
    numbers, those between are tried too, by halves, so that the bytes of all codecs come close.

    Args:
        codec: `cnn_compression.benchmark.codecs.Codec`.
        rows: the codec's rows of this image.
        name, image: as for `measure`.
        target: bits a pixel.

    Returns:
        `Coded`, or None where even the smallest file takes more.
    """
    limit = target * image.shape[0] * image.shape[1] / 8
    fitting = [row.quality for row in rows if row.bytes <= limit]
    if not fitting:
        return None
    best = max(fitting)
    above = min((row.quality for row in rows if row.quality > best), default=best)
    if isinstance(best, int) and isinstance(above, int):
        between = range(best + 1, above)
        best += bisect.bisect_right(
            between, limit, key=lambda quality: len(codec.encode(image, quality))
        )
    [coded] = measure(codec, name, image, [best])
    return coded


def square(images, side=SIDE):
    """Where pictures of one scene differ most: (left, top, right, bottom), pixels.

    Args:
        images: uint8 `[H, W, C]` each; the original may be among them.
        side: of the square, or the picture's own where that is smaller.
    """
    stack = np.stack(images).astype(np.float32)
    change = stack.var(axis=0).sum(axis=2)
    height, width = (min(side, length) for length in change.shape)
    sums = np.pad(change.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    windows = (
        sums[height:, width:] - sums[:-height, width:]
        - sums[height:, :-width] + sums[:-height, :-width]
    )  # fmt: skip
    top, left = map(int, np.unravel_index(np.argmax(windows), windows.shape))
    return left, top, left + width, top + height


def sheet(scenes, target):
    """The contact sheet, a PNG.

    Args:
        scenes: list of (name, image, dict of codec name to `Coded` or None); uint8 `[H, W, C]`.
        target: bits a pixel, for the panels that are empty.

    Returns:
        bytes: a block of panels for each scene, the original first.
    """
    font = ImageFont.load_default(21)
    blocks = [_block(*scene, target, font) for scene in scenes]
    width = max(block.width for block in blocks)
    whole = Image.new("RGB", (width, sum(block.height for block in blocks)), "white")
    top = 0
    for block in blocks:
        whole.paste(block, (0, top))
        top += block.height
    file = io.BytesIO()
    whole.save(file, "PNG", optimize=True)
    return file.getvalue()


def _block(name, image, codeds, target, font):
    box = square([image, *(coded.image_hat for coded in codeds.values() if coded)])
    panels = [(f"{name}\noriginal", image)]
    for codec, coded in codeds.items():
        score = f"{coded.row.bpp:.3f} bpp, {coded.row.psnr:.2f} dB" if coded else ""
        label = f"{codec}\n{score or f'no file of {target:g} bpp or less'}"
        panels.append((label, coded.image_hat if coded else None))
    width, height = ZOOM * (box[2] - box[0]), ZOOM * (box[3] - box[1])
    columns = min(COLUMNS, len(panels))
    cell = (max(width, ZOOM * SIDE) + MARGIN, LABEL + height + MARGIN)
    lines = math.ceil(len(panels) / columns)
    block = Image.new("RGB", (MARGIN + columns * cell[0], MARGIN + lines * cell[1]), "white")
    draw = ImageDraw.Draw(block)
    for index, (label, pixels) in enumerate(panels):
        left, top = MARGIN + index % columns * cell[0], MARGIN + index // columns * cell[1]
        draw.multiline_text((left, top), label, "black", font, spacing=4)
        panel = Image.new("RGB", (width, height), "#DDDDDD")
        if pixels is not None:
            whole = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
            detail = whole.convert("RGB").crop(box)
            panel = detail.resize((width, height), Image.Resampling.NEAREST)
        block.paste(panel, (left, top + LABEL))
    return block
