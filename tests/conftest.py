"""What all tests share: two logical CPUs, a quiet TensorFlow, photographs, the default codec."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import pytest
import skimage.data
import tensorflow as tf
from cli_calls import FakeCodec, read_header

import cnn_compression
from cnn_compression import cli
from cnn_compression.codec.model_files import find_model
from cnn_compression.payload import layout

# Two replicas on one machine, for tf.distribute; must be said before TensorFlow starts.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the marks
def pytest_collection_modifyitems(config, items):
    """For `--dist=loadgroup`: a file's tests go to one process, and all that share a server."""
    if config.pluginmanager.hasplugin("xdist"):
        served = {item.path for item in items if "default_server" in item.fixturenames}
        for item in items:
            name = "default_server" if item.path in served else item.path.name
            item.add_marker(pytest.mark.xdist_group(name))


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


@pytest.fixture(scope="session")
def default_server():
    """`LocalServer` of the default model, at free ports of the loopback."""
    from cnn_compression.serving.local_server import LocalServer, Settings

    versions = find_model("default").parents[2]
    with LocalServer(Settings("default", str(versions), port=0, rest_api_port=0)) as server:
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
