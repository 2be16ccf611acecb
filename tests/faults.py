"""Killed at random moments, and out of disk: nothing is half there, and what was stopped goes on.

    python tests/faults.py [--kills=50] [--seed=1] [--only=encode,train,export,batch]

Each command is run again and again in a process that is killed (SIGKILL) after a random part of the
time that it takes; what lies in its folder is checked each time, and when the command has come to
its end it must be what an undisturbed run wrote. As root, a full file system is tried as well.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
from absl import app, flags
from PIL import Image

FLAGS = flags.FLAGS
flags.DEFINE_integer("kills", 50, "of each command")
flags.DEFINE_integer("seed", 1, "of the moments")
flags.DEFINE_list("only", [], "commands; all by default")

TRAINING = [
    *("--rec=filters=8,blocks=1,inner_filters=8,inner_blocks=1", "--steps=30", "--finish_steps=10"),
    *("--batch_size=4", "--crop_size=32", "--held_out=1", "--warmup_steps=1", "--log_steps=5"),
    *("--checkpoint_steps=2", "--eval_steps=10", "--strategy=one_device"),
]


def run(words, kill_after=None):
    """Runs a command to its end or until it is killed; whether it came to its end, well."""
    command = [sys.executable, "-m", "cnn_compression", *map(str, words)]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    with (
        open("log", "ab") as log,
        subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        ) as process,
    ):
        try:
            status = process.wait(kill_after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return False
    if status:
        raise AssertionError(f"{words[0]} ended with {status}:\n{Path('log').read_text()[-3000:]}")
    return True


def files_of(folder):
    """Name -> bytes of what lies in a folder without what is hidden, as temporary files are."""
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {
        name: path.read_bytes() for name, path in names.items() if not Path(name).name[0] == "."
    }


class Files:
    """`encode` and `batch`: payloads, and the manifest."""

    def __init__(self, verb):
        self.words = [verb, "--model=model/tiny", "--skip_existing"]
        self.words += ["--input=in/*.png"] if verb == "batch" else ["in", "--manifest=out/all.csv"]

    def command(self, folder):
        return [word.replace("out/", f"{folder}/") for word in self.words] + [f"--output={folder}"]

    def check(self, folder, expected, complete):
        found = files_of(folder)
        manifest, whole_manifest = (files.get("all.csv", b"") for files in (found, expected))
        found, expected = (
            {name: data for name, data in files.items() if name != "all.csv"}
            for files in (found, expected)
        )
        assert found.items() <= expected.items(), "a payload differs"
        if complete:
            assert found == expected
            assert manifest.count(b"\n") == whole_manifest.count(b"\n"), "rows are missing"


class Training:
    def command(self, folder):
        return ["train", f"--output={folder}", *TRAINING, "in"]

    def check(self, folder, expected, complete):
        """That it goes on from what is there is checked by its coming to an end."""
        if complete:
            kept = Path(folder).with_name("expected.keras")
            kept.write_bytes(expected["model.keras"])
            for a, b in zip(*map(weights, (kept, Path(folder, "model.keras"))), strict=True):
                np.testing.assert_array_equal(a, b)


class Export:
    def command(self, folder):
        return ["export", "run", "--name=tiny", f"--output={folder}"]

    def check(self, folder, expected, complete):
        versions = [path for path in Path(folder, "tiny").glob("*") if path.name.isdigit()]
        assert versions or not complete
        for version in versions:
            found = files_of(version)
            assert found.keys() == {name.removeprefix("tiny/1/") for name in expected}
            weights = "variables/variables.data-00000-of-00001"
            assert found[weights] == expected[f"tiny/1/{weights}"]


def weights(path):
    """The arrays of a `.keras` file, which is opened whole or not at all."""
    arrays = []

    def keep(_, item):
        if isinstance(item, h5py.Dataset):
            arrays.append(item[()])

    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as file:
        h5py.File(file).visititems(keep)
    return arrays


def kill_often(name, scenario, kills, moments):
    start = time.monotonic()
    run(scenario.command(f"{name}-whole"))
    seconds = time.monotonic() - start
    expected, killed, ended, folder = files_of(f"{name}-whole"), 0, 0, f"{name}-0"
    complete = False
    while killed < kills or not complete:
        limit = moments.uniform(0, 1.1 * seconds) if killed < kills else None
        complete = run(scenario.command(folder), limit)
        scenario.check(folder, expected, complete)
        killed, ended = killed + (not complete), ended + complete
        if complete:
            folder = f"{name}-{ended}"
        print(f"{name}: killed {killed} times, {ended} ended", end="\r", file=sys.stderr)
    print(f"{name}: killed {killed} times; {ended} runs came to their end, all as undisturbed ones")


def fill_the_disk():
    """Outputs that do not fit are said and leave nothing; with more room the work goes on."""
    disk = Path("disk")
    disk.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]
    if subprocess.run(mounting, stderr=subprocess.DEVNULL).returncode:
        print("disk: not tried, which takes the right to mount a file system")
        return
    try:
        expected = files_of("encode-whole")
        expected.pop("all.csv")
        for words in (
            ["encode", "in", "--model=model/tiny", "--output=disk", "--skip_existing"],
            ["export", "run", "--name=tiny", "--output=disk"],
            ["train", "--output=disk/run", *TRAINING, "in"],
        ):
            try:
                run(words)
            except AssertionError as error:
                assert "No space left on device" in str(error) or "space" in str(error), error
            else:
                raise AssertionError(f"{words[0]}: expected an error")
            found = files_of(disk)
            assert {name for name in found if "/" not in name} <= expected.keys()
            assert all(found[name] == expected[name] for name in found if "/" not in name)
            assert not list(disk.glob("tiny/[0-9]*")), "half a version"
            assert not list(disk.rglob("model.keras")), "half a model"
        subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
        run(["encode", "in", "--model=model/tiny", "--output=disk", "--skip_existing"])
        run(["train", "--output=disk/run", *TRAINING, "in"])
        found = files_of(disk)
        assert {name: found[name] for name in expected} == expected
        print("disk: full, said so, and went on with more room")
    finally:
        subprocess.run(["umount", disk], check=True)


def main(_):
    scenarios = {"encode": Files("encode"), "batch": Files("batch")}
    scenarios |= {"train": Training(), "export": Export()}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        noise = np.random.default_rng(1)
        Path("in").mkdir()
        for number in range(60):
            pixels = np.cumsum(noise.integers(-9, 10, (96, 96, 3)), axis=1) + 128
            Image.fromarray(np.uint8(pixels.clip(0, 255))).save(f"in/{number:03}.png")
        run(["train", "--output=run", *TRAINING, "in"])
        run(["export", "run", "--name=tiny", "--output=model"])
        moments = random.Random(FLAGS.seed)
        for name, scenario in scenarios.items():
            if not FLAGS.only or name in FLAGS.only:
                kill_often(name, scenario, FLAGS.kills, moments)
        if Path("encode-whole").exists():
            fill_the_disk()


if __name__ == "__main__":
    app.run(main)
