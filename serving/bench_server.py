"""A server to measure: one that runs already, or one in a process of its own."""

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cnn_compression.serving.client import Client, UnavailableError

UNKNOWN = float("nan")
# What is tried against none, which is how the server is shipped.
BATCHING = """
max_batch_size { value: 64 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 8 }
num_batch_threads { value: 2 }
"""


def tensorflow_serving():
    """Path of the `tensorflow_model_server` that would be started, or None."""
    return shutil.which("tensorflow_model_server")


def resident(process, which):
    """MiB of a process, or of "self": `VmRSS` now, `VmHWM` at most; NaN where there is no /proc."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return UNKNOWN
    return int(re.search(rf"{which}:\s+(\d+) kB", status)[1]) / 1024


@dataclass(frozen=True)
class Server:
    """Addresses for `Client`, what it calls the model; where we started it, its process' number."""

    rest: str
    grpc: str
    model: str
    process: int | None = None

    def memory(self, which):
        return UNKNOWN if self.process is None else resident(self.process, which)

    def client(self, transport="rest"):
        """`Client` that waits for as long as it takes."""
        return Client(getattr(self, transport), self.model, timeout=900, attempts=9999)


@contextlib.contextmanager
def started(saved_model, batching=False):
    """TensorFlow's server where it is on the PATH, else the local one, until the end.

    Its malloc is this process': for that of serving/Dockerfile set LD_PRELOAD.

    Args:
        saved_model: `Path` of the version to serve.
        batching: whether TensorFlow's is to batch across requests; the local one cannot.

    Yields:
        `Server`.

    Raises:
        OSError: where it ends before it serves.
    """
    with tempfile.TemporaryDirectory() as folder:
        versions = Path(folder) / "versions"
        versions.mkdir()
        (versions / "1").symlink_to(saved_model)  # whatever other versions lie beside it
        rest_port, port = free_port(), free_port()
        command = program(Path(folder), batching)
        command += [f"--port={port}", f"--rest_api_port={rest_port}"]
        command += ["--model_name=default", f"--model_base_path={versions}"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                address = f"http://127.0.0.1:{rest_port}"
                wait_for(address, process)
                yield Server(address, f"grpc://127.0.0.1:{port}", "default", process.pid)
            finally:
                process.send_signal(signal.SIGTERM)


def program(folder, batching):
    """What to start, but not on which model: as serving/Dockerfile does, or the local server."""
    serving = tensorflow_serving()
    if not serving:
        return [sys.executable, "-m", "cnn_compression", "serve"]
    command = [serving, "--rest_api_timeout_in_ms=60000", "--rest_api_num_threads=4"]
    command += ["--grpc_max_threads=4"]
    if batching:
        file = folder / "batching.config"
        file.write_text(BATCHING)
        command += ["--enable_batching", f"--batching_parameters_file={file}"]
    return command


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as place:
        return place.getsockname()[1]


def wait_for(address, process):
    with Client(address) as client:
        while True:
            try:
                return client.probe()
            except UnavailableError as error:
                if process.poll() is not None:
                    received = f"exit status {process.returncode}"
                    raise OSError(f"expected a server. Received: {received}") from error
