"""codec -> ONNX: RecCNN of each pair, for browsers, phones and servers without TensorFlow."""

import json
import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import tensorflow as tf

import cnn_compression
from cnn_compression import files
from cnn_compression.export.saved_model import joined
from cnn_compression.tensors.colour import luma
from cnn_compression.tensors.levels import to_uint8, to_unit

OPSET = 17  # of ONNX 1.12, which runtimes of 2022 and later read
WEIGHTS = ("float32", "float16")
CARD = "model.json"
# Values of a tensor: larger ones are kernels, and become float16. Biases and the DCT's matrix stay.
_SMALL = 64 * 64


def export_onnx(
    models: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    name: str = "",
    output: str | os.PathLike[str] = "onnx_models",
    ranges: Sequence[Sequence[int]] | None = None,
    handovers: Sequence[Sequence[float]] | None = None,
    weights: str = "float32",
    licence: str = "Apache-2.0",
) -> Path:
    """Writes `<output>/<fingerprint>/`, whole or not at all.

    The fingerprint is what payloads say of their decoder. For each scale there is `scale<N>.onnx`,
    in stock operators, with the inputs

        compact_hat  uint8 [1, h, w, C]: the decoded JPEG; C = 1, or the model's channels
        quality      int32 [1]: the JPEG's, 1..100, as the payload's header has it

    and the output `image_hat`, uint8 `[1, scale h, scale w, C]`, of which the image is the upper
    left part of the header's height and width. What a file is, is in its metadata, and for all
    together in `model.json`: a reader needs `reach`, the pixels of the image beyond a tile that
    have a say in it.

    Args:
        models, name, ranges, handovers: as of `saved_model.export`.
        output: folder of models.
        weights: what kernels are kept as, `float32` or `float16`, half the bytes; all is computed
            in float32.
        licence: of the weights, its SPDX name.

    Returns:
        `Path` of the fingerprint's folder.

    Raises:
        ValueError: where a model is none or they do not go together, or the folder is there.
        OSError: where another process exports to the same folder.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}. Received: {weights!r}")
    codec = joined(models, ranges, handovers)
    if codec.family:
        raise ValueError(
            f"a model of the family {codec.family} is not exported to ONNX, only as a SavedModel"
        )
    card = {
        "fingerprint": codec.fingerprint,
        "name": name or codec.name,
        "licence": licence,
        "channels": codec.model.channels,
        "weights": weights,
        "written_by": f"cnn_compression {cnn_compression.__version__}",
    }
    home = Path(output)
    with files.locked(home):
        folder = home / codec.fingerprint
        if folder.exists():
            raise ValueError(f"expected no such folder yet. Received: {str(folder)!r}")
        temporary = home / f".{codec.fingerprint}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)  # of an export that was killed
        try:
            temporary.mkdir()
            pairs = [_write(pair, card, temporary) for pair in codec.model.pairs]
            text = json.dumps(card | {"pairs": pairs}, indent=1)
            (temporary / CARD).write_text(text + "\n", encoding="utf-8")
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def to_onnx(pair, weights="float32"):
    """RecCNN of a `ComRec`, with what is done around it, as an `onnx.ModelProto`."""
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    signature = [
        tf.TensorSpec((1, None, None, None), tf.uint8, name="compact_hat"),
        tf.TensorSpec((1,), tf.int32, name="quality"),
    ]
    function = tf.function(_restorer(pair), signature, autograph=False)
    model, _ = tf2onnx.convert.from_function(function, signature, opset=OPSET)
    for value, sides in ((model.graph.input[0], "hw"), (model.graph.output[0], "HW")):
        for dimension, letter in zip(
            value.type.tensor_type.shape.dim[1:], sides + "C", strict=True
        ):
            dimension.dim_param = letter
    _take_zeros_as_they_are(model.graph)
    if weights == "float16":
        _halve(model.graph)
    return model


def _restorer(pair):
    def restore(compact_hat, quality):
        x = to_unit(compact_hat) + tf.zeros(pair.channels)  # grey becomes three equal channels
        image_hat = pair.rec(tf.ensure_shape(x, [1, None, None, pair.channels]), quality)
        if pair.channels == 3:
            # Of grey its luma. Sliced and not branched: stock operators that run anywhere.
            grey = tf.equal(tf.shape(compact_hat)[-1], 1)
            both = tf.concat([luma(image_hat), image_hat], -1)
            image_hat = both[..., tf.where(grey, 0, 1) : tf.where(grey, 1, 4)]
        return {"image_hat": to_uint8(image_hat)}

    return restore


def _take_zeros_as_they_are(graph):
    """Of a picture without whole blocks: a side of 0, which would else mean "as it came"."""
    import onnx

    copying = {
        constant.name
        for constant in graph.initializer
        if constant.data_type == onnx.TensorProto.INT64
        and not onnx.numpy_helper.to_array(constant).all()
    }
    for node in graph.node:
        if node.op_type == "Reshape" and node.input[1] not in copying:
            node.attribute.append(onnx.helper.make_attribute("allowzero", 1))


def _halve(graph):
    """Keeps large constants as float16, each cast to float32 before its use."""
    import onnx

    casts = []
    for constant in graph.initializer:
        values = onnx.numpy_helper.to_array(constant)
        if values.dtype == "float32" and values.size > _SMALL:
            name = constant.name
            constant.CopyFrom(onnx.numpy_helper.from_array(values.astype("float16"), f"{name}_16"))
            casts.append(
                onnx.helper.make_node("Cast", [f"{name}_16"], [name], to=onnx.TensorProto.FLOAT)
            )
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _write(pair, card, folder):
    """One file; what the card says of it."""
    import onnx

    model = to_onnx(pair, card["weights"])
    described = {"scale": pair.scale, "reach": pair.rec.reach}
    network = {"network": type(pair.rec).__name__, "config": json.dumps(_plain(pair.rec))}
    onnx.helper.set_model_props(
        model, {key: str(value) for key, value in (card | described | network).items()}
    )
    onnx.checker.check_model(model)
    file = folder / f"scale{pair.scale}.onnx"
    onnx.save(model, file)
    return described | {"file": file.name, "bytes": file.stat().st_size}


def _plain(network):
    """Arguments of a network that are numbers and words: its widths, for one."""
    config = network.get_config()
    return {key: value for key, value in config.items() if isinstance(value, (bool, int, str))}
