"""What was written once is restored for ever, and alike on each TensorFlow.

`golden/default/*` are payloads of the default model, one for each scale, and what Python 3.11 and
TensorFlow 2.16 made of them; `CNN_COMPRESSION_REGENERATE_GOLDEN=1` writes them anew, as a new
default model asks for. Payloads of no model are in `test_payload`.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnn_compression.payload import layout

GOLDEN = Path(__file__).parent / "golden" / "default"
QUALITIES = {4: 20, 2: 48, 1: 70}


@pytest.mark.parametrize("scale", QUALITIES)
def test_golden_payloads_restore_within_a_level(codec, photos, scale):
    payload, restored = (GOLDEN / f"scale{scale}.{kind}" for kind in ("cnn.jpg", "png"))
    if os.environ.get("CNN_COMPRESSION_REGENERATE_GOLDEN") == "1":
        GOLDEN.mkdir(exist_ok=True)
        payload.write_bytes(codec.encode(photos["chelsea"][:96, :128], QUALITIES[scale]))
        Image.fromarray(codec.decode(payload.read_bytes())).save(restored)
    assert layout.read_header(payload.read_bytes()).scale == scale
    expected = np.asarray(Image.open(restored))
    found = codec.decode(payload.read_bytes())
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert np.abs(expected.astype(int) - photos["chelsea"][:96, :128]).mean() < 20
