"""Our models as the benchmark measures them, and what is left when a network is taken away.

The two ablations are the codec itself around other functions in the networks' places, so that they
differ from it in nothing else: the same JPEG, the same header, the same count of bytes.
"""

import hashlib
import importlib
import importlib.metadata
import logging
from types import SimpleNamespace

import numpy as np
import tensorflow as tf

from cnn_compression import __version__, codec
from cnn_compression.benchmark.codecs import MissingLibraryError
from cnn_compression.packing import predictors
from cnn_compression.payload import layout
from cnn_compression.tensors import resampling, shapes

_log = logging.getLogger(__name__)

LIBRARY = f"cnn-compression {__version__}, TensorFlow {tf.__version__}"
QUALITIES = (5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95)


class Model:
    """A model of ours.

    Args:
        codec: `cnn_compression.codec.Codec`.
        qualities: integers 1..100 to measure at.
        effort: 0..2, as of `Codec.encode`.
    """

    library = LIBRARY

    def __init__(self, codec, qualities=QUALITIES, effort=0):
        self.codec, self.effort, self.qualities = codec, effort, tuple(dict.fromkeys(qualities))
        self.name, self.settings = codec.name, f"model {codec.fingerprint}"
        self.settings += f", weights {_weights(codec.model)}"
        if effort:
            self.name += f", effort {effort}"
            self.settings += f", effort {effort}"

    def encode(self, image, quality):
        return self.codec.encode(image, quality, self.effort)

    def decode(self, payload):
        return self.codec.decode(payload)


class Latent(Model):
    """A latent model of ours.

    Args:
        codec: `cnn_compression.codec.latent.LatentCodec`.
        qualities: as of `Model`; of a model with a scale of its own, about `STEPS` are measured
            instead, from the first to the last, each as much more than the one before.

    Raises:
        ValueError: for another effort than 0.
    """

    STEPS = 9

    def __init__(self, codec, qualities=QUALITIES, effort=0):
        if effort:
            raise ValueError(f"effort of {codec.name} must be 0. Received: {effort}")
        self.codec, self.effort, self.name = codec, effort, codec.name
        if codec.qualities != range(1, 101):
            first, last = codec.qualities[0], codec.qualities[-1]
            qualities = np.rint(np.geomspace(first, last, self.STEPS)).astype(int).tolist()
        self.qualities = tuple(dict.fromkeys(qualities))
        self.settings = f"family {codec.family}, model {codec.fingerprint}"


class Packed(Model):
    """A model whose payloads are packed: the same pictures in fewer bytes.

    Raises:
        ValueError: the predicting networks are not installed.
    """

    def __init__(self, codec, qualities=QUALITIES):
        super().__init__(codec, qualities)
        self.name += ", packed"
        self.settings += f", packed by networks {predictors.find()[1]}"

    def encode(self, image, quality):
        return self.codec.pack(super().encode(image, quality))


class _Recoded(Model):
    """A model whose payloads another program codes anew, without loss: an anchor for `Packed`.

    A payload that the program refuses, of which the log tells, or that would grow is left as it is.
    All others are compared with what comes back. A subclass says `program`, `package` and `module`,
    and has `shrunk` and `grown`.

    Raises:
        MissingLibraryError: the package is not installed.
    """

    def __init__(self, codec, qualities=QUALITIES):
        super().__init__(codec, qualities)
        self.name += f", {self.program}"
        try:
            self.coder = importlib.import_module(self.module)
        except ImportError as error:
            raise MissingLibraryError(self.name, self.package) from error
        self.library += f", {self.package} {importlib.metadata.version(self.package)}"

    def encode(self, image, quality):
        payload = super().encode(image, quality)
        try:
            file = self.shrunk(payload)
        except RuntimeError as error:
            _log.warning("%s: a payload is left as it is: %s", self.name, error)
            return payload
        if self.grown(file) != payload:
            raise ValueError(f"{self.name}: a payload did not come back")
        return min(payload, file, key=len)

    def decode(self, file):
        return super().decode(file if layout.is_payload(file) else self.grown(file))


class Lepton(_Recoded):
    """By Lepton (Horn et al. 2017), which predicts coefficients from those around."""

    program, package, module = "Lepton", "lepton-jpeg-python", "lepton_jpeg_python"

    def shrunk(self, payload):
        return bytes(self.coder.compress_bytes(payload))

    def grown(self, file):
        return bytes(self.coder.decompress_bytes(file))


class JpegInXl(_Recoded):
    """By JPEG XL, which has a lossless coding of JPEG files (ISO/IEC 18181)."""

    program, package, module = "JPEG XL", "pillow-jxl-plugin", "pillow_jxl"

    def __init__(self, codec, qualities=QUALITIES):
        super().__init__(codec, qualities)
        self.settings += ", effort 9"

    def shrunk(self, payload):
        encode = self.coder.Encoder(mode="RGB", lossless=True, effort=9)
        return encode(payload, 0, 0, jpeg_encode=True)  # sizes are the payload's

    def grown(self, file):
        _, _, payload, *_ = self.coder.Decoder()(file)
        return bytes(payload)


class RecAlone(Model):
    """JPEG and RecCNN: a plain mean of the pixels in ComCNN's place.

    Its payloads are the model's: the model's own decoder restores them.
    """

    def __init__(self, ours, qualities=QUALITIES):
        super().__init__(ours, qualities)
        model = _around([_MeanForCom(pair) for pair in ours.model.pairs], ours.model.route)
        self.codec = codec.Codec(model, ours.name)
        self.name = f"RecCNN alone ({ours.name})"


class HalfBicubic:
    """Downscale by 2, JPEG, upscale: no network at all. The mean of 2x2 pixels, Keys' bicubic."""

    name = "JPEG at half size, bicubic"
    library = LIBRARY
    settings = "2x2 mean, JPEG of our payload, bicubic (a = -1/2)"
    qualities = QUALITIES

    def __init__(self):
        self._codec = codec.Codec(_around([_NoNetworks()], _jpegs_own), self.name)

    def encode(self, image, quality):
        return self._codec.encode(image, quality)

    def decode(self, payload):
        return self._codec.decode(payload)


def _weights(model):
    """8 hexadecimal digits over all that makes payloads: a fingerprint knows only RecCNNs."""
    digest = hashlib.sha256(model.jpeg_quality.tobytes() + model.limits.tobytes())
    for variable in model.variables:
        digest.update(np.asarray(variable.value).tobytes())
    return digest.hexdigest()[:8]


def _around(pairs, route):
    """What `Codec` asks of a `MultiScale`, with other pairs."""
    return SimpleNamespace(
        pairs=pairs,
        scales=[pair.scale for pair in pairs],
        channels=pairs[0].channels,
        variables=[variable for pair in pairs for variable in pair.rec.variables],
        route=route,
    )


def _jpegs_own(squares, quality):
    """The route of a single pair whose qualities are the JPEG's own."""
    return tf.zeros_like(quality), quality


def _mean(image, scale):
    return resampling.downsample(shapes.pad_to_multiple(image, scale), scale)


class _MeanForCom:
    """A `ComRec` whose ComCNN is a plain mean."""

    def __init__(self, pair):
        self._pair = pair

    def __getattr__(self, name):
        return getattr(self._pair, name)

    def compact(self, image, quality, size=None):
        size = size and [-(-side // self.scale) for side in size]
        return self.rec.emphasise(_mean(image, self.scale), quality, size=size)


class _NoNetworks:
    """What `Codec` asks of a `ComRec`, without any weights."""

    channels, scale, chroma, reach = 3, 2, "4:2:0", 6
    rec = SimpleNamespace(variables=())

    def compact(self, image, quality, size=None):
        return _mean(image, self.scale)

    def restore(self, compact_hat, quality, height, width, size=None):
        return shapes.crop(resampling.upsample_bicubic(compact_hat), height, width)
