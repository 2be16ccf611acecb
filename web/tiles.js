// How a picture is taken apart; the same rules as cnn_compression/tensors/tiles.py.

const ALIGNMENT = 16; // cells: JPEG's units, and with them the blocks of its DCT, stay whole

const aligned = (cells) => Math.ceil(cells / ALIGNMENT) * ALIGNMENT;

// Along one side: cells from `start` to `end` are kept of those from `first` to `last`.
export function along(length, tile, reach) {
  const overlap = aligned(reach), step = aligned(Math.ceil(length / Math.ceil(length / tile)));
  return Array.from({ length: Math.ceil(length / step) }, (_, number) => {
    const start = number * step, end = Math.min(start + step, length);
    return { start, end, first: Math.max(start - overlap, 0), last: Math.min(end + overlap, length) };
  });
}

// Of a picture of `height` x `width` cells, row by row: { y, x }, each as of `along`.
export function tilesOf(height, width, tile, reach) {
  return along(height, tile, reach).flatMap((y) =>
    along(width, tile, reach).map((x) => ({ y, x })));
}
