"""In other people's processes: what is printed, threads, forks, pickles."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_pairs import RANGES, pair

import cnn_compression
from cnn_compression.codec import Codec
from cnn_compression.codec.model_files import find_model
from cnn_compression.models.multi_scale import MultiScale

GUEST = """
import copy, os, pickle, pydoc, rlcompleter, sys, threading
before = dict(os.environ)
import cnn_compression

# Before anything is loaded.
assert "load" in dir(cnn_compression)
assert "load(name_or_path: str" in pydoc.plain(pydoc.render_doc(cnn_compression))
completer = rlcompleter.Completer({"cnn_compression": cnn_compression})
assert "cnn_compression.load(" in completer.attr_matches("cnn_compression.")
assert not {"tensorflow", "keras"} & sys.modules.keys()

# Eight threads, of which half ask by another name of the same file, and one for another model.
folder, other = sys.argv[1:3]
names = ["default", folder] * 4 + [other]
found = [None] * len(names)

def load(number):
    found[number] = cnn_compression.load(names[number])

threads = [threading.Thread(target=load, args=[number]) for number in range(len(names))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(120)
codec = found[0]
assert codec is not None and all(one is codec for one in found[:8]) and found[8] is not codec

# What TensorFlow sets itself is not ours.
import tensorflow
changed = {name for name in os.environ.keys() | before if os.environ.get(name) != before.get(name)}
assert not changed & {"TF_CPP_MIN_LOG_LEVEL", "KERAS_BACKEND"}, changed

import numpy as np
other, image = found[8], np.arange(48 * 40 * 3, dtype=np.uint8).reshape(48, 40, 3)
unused = pickle.dumps(other)
payload = other.encode(image, 40)
for copied in (pickle.loads(unused), pickle.loads(pickle.dumps(other)), copy.deepcopy(other)):
    assert copied.encode(image, 40) == payload
    assert (copied.decode(payload) == other.decode(payload)).all()

def child():
    for call in (
        lambda: other.encode(image),
        lambda: other.decode(payload),
        lambda: other.encode_to(image, target_bytes=900),
        lambda: cnn_compression.load("default"),
        lambda: cnn_compression.load(folder),
    ):
        try:
            call()
        except RuntimeError as error:
            assert "spawn" in str(error)
        else:
            return 3
    return 0

number = os.fork()
if number == 0:
    status = 4
    try:
        status = child()
    finally:
        os._exit(status)
assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == 0
other.encode(image)  # the parent goes on
sys.stdout.buffer.write(pickle.dumps((payload, image)))
"""

FORKED_BEFORE = """
import os, sys
import cnn_compression
from cnn_compression.codec import Codec  # TensorFlow is imported, but has no thread yet
number = os.fork()
if number == 0:
    status = 4
    try:
        cnn_compression.load(sys.argv[1])
        status = 0
    finally:
        os._exit(status)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]))
"""


def python(program, *arguments):
    environment = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    words = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(words, env=environment, capture_output=True, timeout=300)


def shell(line, *arguments, **environment):
    """One command by the shell; `$0` is Python, and the arguments follow it."""
    environment = os.environ | environment
    words = ["sh", "-c", line, sys.executable, *map(str, arguments)]
    return subprocess.run(words, env=environment, capture_output=True, timeout=300)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small model of its own folder, as a training run leaves it."""
    folder = tmp_path_factory.mktemp("small")
    MultiScale([pair(2), pair(1)], RANGES).save(folder / "model.keras")
    return folder


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="TensorFlow 2.21 prints before it listens")
def test_a_guest_leaves_everything_as_it_was(small):
    default = find_model("default").parents[2]
    run = python(GUEST, default, small)
    assert (run.returncode, run.stderr.decode()) == (0, "")
    payload, image = pickle.loads(run.stdout)
    assert cnn_compression.load(small).encode(image, 40) == payload


def test_a_fork_before_tensorflow_runs_may_load(small):
    assert python(FORKED_BEFORE, small).returncode == 0


def test_a_codec_made_in_memory_pickles_with_its_weights(photos):
    codec = Codec(MultiScale([pair(2), pair(1)], RANGES), "mine", tile=512)
    image = photos["rocket"][:40, :56]
    data = pickle.dumps(codec)
    payload = codec.encode(image, 70)
    for copied in (pickle.loads(data), pickle.loads(pickle.dumps(codec))):
        assert copied.model is not codec.model
        assert (copied.name, copied.tile, copied.fingerprint) == ("mine", 512, codec.fingerprint)
        assert copied.encode(image, 70) == payload
    assert pickle.loads(pickle.dumps(codec.reporting(print)))._report is print


def test_a_pickle_of_a_model_that_changed_since_is_refused(small, tmp_path):
    file = tmp_path / "model.keras"
    file.write_bytes((small / "model.keras").read_bytes())
    data = pickle.dumps(cnn_compression.load(tmp_path))
    cnn_compression.codec.codec._load.cache_clear()
    model = MultiScale([pair(2), pair(1)], RANGES)
    model.pairs[0].rec.tail.bias.assign(np.ones(12, np.float32))
    model.save(file)
    with pytest.raises(ValueError, match="expected model [0-9a-f]{16}, .* Received: "):
        pickle.loads(data)


def test_a_codec_says_what_it_is(small):
    codec = cnn_compression.load(small)
    expected = f"<Codec {small.name!r} {codec.fingerprint}, scales 2/1>"
    assert repr(codec) == expected


def test_the_types_are_shipped():
    assert (Path(cnn_compression.__file__).parent / "py.typed").is_file()
    hints = cnn_compression.load.__annotations__
    assert hints["return"] == "Codec | LatentCodec"


# The command line in a shell that is not as usual.


@pytest.fixture
def odd_names(small, photos, tmp_path, monkeypatch):
    """A payload and an image, here, under names that not every terminal can show."""
    monkeypatch.chdir(tmp_path)
    image = photos["chelsea"][:32, :32]
    Path("été 図.cnn.jpg").write_bytes(cnn_compression.load(small).encode(image, 50))
    Image.fromarray(image).save("žluť.png")


def test_names_that_the_streams_cannot_show_are_escaped(odd_names):
    run = shell('"$0" -m cnn_compression info *.cnn.jpg missing-ö', PYTHONIOENCODING="ascii")
    assert run.returncode == 1
    assert run.stdout.startswith(rb"\xe9t\xe9 \u56f3.cnn.jpg: 32x32, ")
    assert run.stderr.startswith(rb"cnn-compression: missing-\xf6: no such file")


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_fault(odd_names, closed):
    expected = b"" if ">&- 2" in closed else b"32x32"
    run = shell(f'"$0" -m cnn_compression info *.cnn.jpg {closed}')
    assert run.returncode == 0 and expected in run.stdout
    assert shell(f'"$0" -m cnn_compression info gone {closed}').returncode == 1


def test_encode_with_closed_streams_in_ascii(odd_names, small):
    line = f'"$0" -m cnn_compression encode --model={small} --manifest=all.csv *.png <&- 2>&-'
    run = shell(line, PYTHONIOENCODING="ascii")
    assert run.returncode == 0 and run.stdout.startswith(b"1 file, 0 failed")
    payload = Path("žluť.cnn.jpg").read_bytes()
    assert cnn_compression.load(small).decode(payload).shape == (32, 32, 3)
    assert "žluť.cnn.jpg" in Path("all.csv").read_text(encoding="utf-8")
