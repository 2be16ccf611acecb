"""Training across machines: two processes on this one, over loopback."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cnn_compression.codec.model_files import load_model

STEPS = 6
FLAGS = [
    *("--rec=filters=8,blocks=1,inner_filters=8,inner_blocks=1", f"--steps={STEPS}"),
    *("--finish_steps=2", "--batch_size=4", "--crop_size=32", "--held_out=1", "--warmup_steps=1"),
    *("--learning_rate=1e-3", "--log_steps=1", "--checkpoint_steps=2", "--eval_steps=100"),
]


@pytest.fixture(scope="module")
def pictures(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("astronaut", "coffee", "chelsea", "rocket"):
        Image.fromarray(photos[name][:96, :96]).save(folder / f"{name}.png")
    return folder


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def start(pictures, output, strategy, cluster=None, task=0):
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    if cluster:
        task = {"type": "worker", "index": task}
        environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": cluster}, "task": task})
    command = [sys.executable, "-m", "cnn_compression", "train", f"--output={output}", *FLAGS]
    command += [f"--strategy={strategy}", str(pictures)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def start_both(pictures, output):
    cluster = [f"127.0.0.1:{port}" for port in free_ports(2)]
    return [start(pictures, output, "multi_worker", cluster, task) for task in range(2)]


def step_of_checkpoint(output):
    path = tf.train.latest_checkpoint(str(output / "checkpoints"))
    return int(path.rpartition("-")[2]) if path else 0


@pytest.mark.slow
def test_two_processes_end_as_one_does_even_when_one_is_killed_on_the_way(pictures, tmp_path):
    output = tmp_path / "two"
    workers = start_both(pictures, output)
    deadline = time.monotonic() + 300
    while step_of_checkpoint(output) < 2 and time.monotonic() < deadline:
        assert workers[0].poll() is None, workers[0].stderr.read()
        time.sleep(0.05)
    workers[1].send_signal(signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        workers[0].wait(5)  # it may also wait for the other's return
    workers[0].kill()
    for worker in workers:
        worker.communicate()
    assert 2 <= step_of_checkpoint(output) <= STEPS
    shutil.rmtree(output / "worker1")  # all go on from what the first one has kept
    resumed = [
        (*worker.communicate(timeout=300), worker) for worker in start_both(pictures, output)
    ]
    for _, errors, worker in resumed:
        assert worker.returncode == 0, errors
        assert "resumed" in errors
    alone = tmp_path / "one"
    one = start(pictures, alone, "one_device")
    _, errors = one.communicate(timeout=300)
    assert one.returncode == 0, errors
    expected, found = (load_model(folder).get_weights() for folder in (alone, output))
    for a, b in zip(expected, found, strict=True):
        # A tenth of what Adam moves a weight in a step: sums in another order stay below.
        np.testing.assert_allclose(a, b, atol=1e-4)
