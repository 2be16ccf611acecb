"""A short run of `faults.py`: commands that are killed, and a full file system."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = Path(__file__).with_name("faults.py")


@pytest.mark.slow
def test_commands_survive_being_killed():
    command = [sys.executable, FAULTS, "--kills=1", "--only=encode,train"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for name in ("encode", "train"):
        # A moment may come after the end: that run is compared, and killing is tried anew.
        ended = rf"^{name}: killed 1 times; \d+ runs came to their end, all as undisturbed ones$"
        assert re.search(ended, run.stdout, re.MULTILINE), run.stdout
