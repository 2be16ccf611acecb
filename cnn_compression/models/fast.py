"""The `fast` networks: the paper's roles at a fraction of the cost.

All heavy layers work at half size or below (space-to-depth in, depth-to-space out), both networks
add to a plain resampling, so that untrained weights already give a usable codec, and both know
the quality, so that one model serves 1..100.
"""

import keras
from keras import ops

from cnn_compression.models.layers import (
    Emphasis,
    QualityEmbedding,
    ResidualBlock,
    build_conv,
    conv,
)
from cnn_compression.models.network import Network
from cnn_compression.tensors.canvas import frame_at
from cnn_compression.tensors.resampling import bicubic_phases, downsample, upsample_bicubic
from cnn_compression.tensors.shapes import (
    crop,
    depth_to_space,
    pad_to_multiple,
    repeat_edges,
    space_to_depth,
)


class FastNetwork(Network):
    """What the two have in common."""

    scales = (1, 2, 4)

    def _blocks(self, name, count, filters):
        return [
            ResidualBlock(filters, dtype=self.precision, name=f"{name}{i}") for i in range(count)
        ]

    def _build_embedding(self):
        """Builds it; gives its output's shape."""
        self.embedding.build((None,))
        return None, self.embedding.units


@keras.saving.register_keras_serializable(package="cnn_compression")
class FastComCNN(FastNetwork):
    """Image to compact: its `scale` x `scale` mean plus what a residual network adds.

    Args:
        channels: of image and compact, 1 or 3.
        scale: 2 or 4, or 1 for a compact image of the image's own size.
        filters: width of the network.
        blocks: number of residual blocks, at half of the image's size or at the compact image's.
    """

    def __init__(self, channels=3, scale=2, filters=32, blocks=2, **kwargs):
        super().__init__(channels, scale, **kwargs)
        self.filters, self.blocks = filters, blocks
        self.embedding = QualityEmbedding(dtype=self.precision, name="embedding")
        self.head = conv(filters, dtype=self.precision, name="head")
        self.body = self._blocks("block", blocks, filters)
        self.tail = conv(
            channels * (4 if scale == 1 else 1),
            kernel_initializer="zeros",
            dtype="float32",
            name="tail",
        )
        self.reach = max(2, scale) * (2 + 2 * blocks)

    def build(self):
        embedding = self._build_embedding()
        build_conv(self.head, self.channels * max(2, self.scale) ** 2)
        for block in self.body:
            block.build((None, None, None, self.filters), embedding)
        build_conv(self.tail, self.filters)

    def call(self, image, quality, size=None):
        """float32 `[N, H, W, C]` in [0, 1], and int `[N]`, to `[N, H/scale, W/scale, C]`.

        H and W divide by the scale; `size` as of `Network`.
        """
        height, width = ops.shape(image)[1:3]
        factor = max(2, self.scale)
        image = image if size else pad_to_multiple(image, factor)
        embedding = self.embedding(quality)
        x = space_to_depth(image - 0.5, factor)
        frame = frame_at(size, ops.shape(x)[1:3], down=factor)
        x = self.head(frame(x))
        for block in self.body:
            x = block(x, embedding, frame=frame)
        x = self.tail(frame(x))
        if self.scale > 1:
            return downsample(image, self.scale) + x
        return crop(image + depth_to_space(x, 2), height, width)

    def get_config(self):
        return super().get_config() | {"filters": self.filters, "blocks": self.blocks}


@keras.saving.register_keras_serializable(package="cnn_compression")
class FastRecCNN(FastNetwork):
    """compact_hat to image_hat: plain upsampling plus the residual of a two-level network.

    Residual blocks at half of the image's size stand around wider ones at a quarter: the inner ones
    see twice as far for the same multiply-adds a pixel. From a compact image of a quarter the inner
    ones come first.

    Args:
        channels: of compact and image, 1 or 3.
        scale: 2 or 4 (bicubic upsampling), or 1 for a compact image of the image's own size.
        filters: width at half size.
        blocks: residual blocks before and again after the inner level.
        inner_filters: width of the inner level.
        inner_blocks: residual blocks of the inner level.
    """

    def __init__(
        self,
        channels=3,
        scale=2,
        filters=48,
        blocks=1,
        inner_filters=96,
        inner_blocks=4,
        **kwargs,
    ):
        super().__init__(channels, scale, **kwargs)
        self.filters, self.blocks = filters, blocks
        self.inner_filters, self.inner_blocks = inner_filters, inner_blocks
        self.embedding = QualityEmbedding(dtype=self.precision, name="embedding")
        self.emphasis = Emphasis(name="emphasis")
        if scale < 4:
            self.head = conv(filters, dtype=self.precision, name="head")
            self.before = self._blocks("before", blocks, filters)
            self.down = conv(inner_filters, 2, strides=2, dtype=self.precision, name="down")
        else:
            self.head = conv(inner_filters, dtype=self.precision, name="head")
        self.inner = self._blocks("inner", inner_blocks, inner_filters)
        self.up = conv(4 * filters, 1, dtype=self.precision, name="up")
        self.after = self._blocks("after", blocks, filters)
        self.tail = conv(4 * channels, kernel_initializer="zeros", dtype="float32", name="tail")
        # In pixels at the two sizes; half of an inner one's neighbourhood may lie across its edge.
        outer, inner = 2 * (1 + 2 * blocks), 4 * (1 + 2 * inner_blocks)
        self.reach = inner + (2 * outer if scale < 4 else outer + 4)

    def build(self):
        embedding = self._build_embedding()
        self.emphasis.build((None, None, None, self.channels), embedding)
        outer, inner = self.filters, self.inner_filters
        if self.scale < 4:
            build_conv(self.head, self.channels * (1 if self.scale == 2 else 4))
            for block in self.before:
                block.build((None, None, None, outer), embedding)
            build_conv(self.down, outer)
        else:
            build_conv(self.head, self.channels)
        for block in self.inner:
            block.build((None, None, None, inner), embedding)
        build_conv(self.up, inner)
        for block in self.after:
            block.build((None, None, None, outer), embedding)
        build_conv(self.tail, outer)

    def emphasise(self, compact, quality, size=None):
        """Inverse of what `call` starts with: float32 `[N, h, w, C]` to the same."""
        return self.emphasis(compact, self.embedding(quality), size=size)

    def call(self, compact_hat, quality, size=None):
        """float32 `[N, h, w, C]` in [0, 1], and int `[N]`, to `[N, scale h, scale w, C]`.

        `size` as of `Network`.
        """
        height, width = ops.shape(compact_hat)[1:3]
        scale = self.scale
        embedding = self.embedding(quality)
        compact_hat = self.emphasis(compact_hat, embedding, inverse=True, size=size)
        # Sides at a quarter of the image's size, to which all is filled up; nothing below zero is
        # divided, since ONNX would round the other way.
        inner = [(side * scale + 3) // 4 for side in (height, width)]
        compact_hat = repeat_edges(
            compact_hat, size or (height, width), [side * 4 // scale for side in inner]
        )
        inner_frame = frame_at(size, inner, down=4 // scale)
        frame = frame_at(size, [2 * side for side in inner], up=2, down=4 // scale)
        # The plain upsampling to full size, and the features, as they come before depth-to-space.
        if scale == 4:
            halved = upsample_bicubic(compact_hat)
            if size:
                halved = repeat_edges(halved, [2 * side for side in size], ops.shape(halved)[1:3])
            plain = bicubic_phases(halved)
            skip, y = 0.0, self.head(inner_frame(compact_hat - 0.5))
        else:
            halved = compact_hat if scale == 2 else space_to_depth(compact_hat, 2)
            plain = bicubic_phases(compact_hat) if scale == 2 else halved
            skip = self.head(frame(halved - 0.5))
            for block in self.before:
                skip = block(skip, embedding, frame=frame)
            y = self.down(skip)
        for block in self.inner:
            y = block(y, embedding, frame=inner_frame)
        x = skip + depth_to_space(self.up(y), 2)
        for block in self.after:
            x = block(x, embedding, frame=frame)
        image_hat = depth_to_space(plain + self.tail(frame(x)), 2)
        return crop(image_hat, scale * height, scale * width)

    def get_config(self):
        return super().get_config() | {
            "filters": self.filters,
            "blocks": self.blocks,
            "inner_filters": self.inner_filters,
            "inner_blocks": self.inner_blocks,
        }
