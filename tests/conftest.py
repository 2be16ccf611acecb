"""What all tests share: two logical CPUs, a quiet TensorFlow, photographs, the default codec."""

import functools
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import pytest
import skimage.data
import tensorflow as tf
from both_pythons import runs_on_both
from chromium import CHROMIUM
from cli_calls import FakeCodec, read_header

import cnn_compression
from cnn_compression import cli
from cnn_compression.codec.model_files import find_model
from cnn_compression.payload import layout

# Two replicas on one machine, for tf.distribute; must be said before TensorFlow starts.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


# Groups of files that take longest, the longest first: none is begun when all else is done.
LONGEST = (
    "test_faults.py",
    "test_training_workers.py",
    "test_effort.py",
    "test_training.py",
    "test_training_packing.py",
    "test_host_settings.py",
    "test_serving_page.py",
    "test_web.py",
    "test_cli_remote.py",
    "test_serving_contract.py",
    "test_signatures.py",
    "test_export.py",
    "test_export_onnx.py",
    "test_benchmark.py",
    "test_canvas.py",
    "test_cli.py",
    "test_beam.py",
    "test_c_api.py",
    "test_codec.py",
    "test_guest.py",
    "test_pair.py",
    "test_hostile.py",
    "test_targets.py",
    "test_images.py",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """For `--dist=loadfile`: a file's tests go to one process, and so do files that share a server.

    Not by marks of `xdist_group`: of these pytest-xdist 3.8 sees none in pytest 9.2, and says
    nothing.
    """
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "default_server" if _served(config.rootpath / file) else file

    config.option.loadscopereorder = False  # in the order of `LONGEST`
    return Files(config, log)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: _place(item.path.name))
    for item in items:
        slow = item.get_closest_marker("slow") is not None
        if runs_on_both(item.path.name, item.function.__name__, slow):
            item.add_marker("both_pythons")


@functools.cache
def _served(path):
    return "default_server" in path.read_text(encoding="utf-8")


def _place(file):
    return LONGEST.index(file) if file in LONGEST else len(LONGEST)


def _crop(image, top, left, height=192, width=256):
    return image[top : top + height, left : left + width]


@pytest.fixture(scope="session")
def photos():
    """Real photographs, name -> uint8 `[192, 256, 3]` or `[192, 256, 1]`; not to be written to."""
    data = skimage.data
    cropped = {
        "astronaut": _crop(data.astronaut(), 0, 100),
        "coffee": _crop(data.coffee(), 80, 200),
        "chelsea": _crop(data.chelsea(), 40, 100),
        "rocket": _crop(data.rocket(), 200, 200),
        "camera": _crop(data.camera(), 80, 130)[:, :, None],
    }
    for image in cropped.values():
        image.setflags(write=False)
    return cropped


@pytest.fixture(scope="session")
def codec():
    """The pretrained default codec."""
    return cnn_compression.load()


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium, for tests that are marked `chromium.NEEDS_CHROMIUM`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def default_server():
    """`LocalServer` of the default model, at free ports of the loopback."""
    from cnn_compression.serving.local_server import LocalServer, Settings

    versions = find_model("default").parents[2]
    with LocalServer(Settings({"default": str(versions)}, port=0, rest_api_port=0)) as server:
        yield server


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder, and the fake codec behind every model's name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cnn_compression, "load", lambda name: FakeCodec(), raising=False)
    monkeypatch.setattr(layout, "read_header", read_header)
    return tmp_path


@pytest.fixture
def command(capsys):
    """Runs one command; gives exit status, stdout, and the lines of stderr."""

    def run(*words):
        capsys.readouterr()
        status = cli.main([str(word) for word in words])
        out, err = capsys.readouterr()
        return status, out, err.splitlines()

    return run
