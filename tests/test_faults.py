"""A short run of `faults.py`: commands that are killed, and a full file system."""

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
    assert "encode: killed 1 times; 1 runs came to their end" in run.stdout
    assert "train: killed 1 times; 1 runs came to their end" in run.stdout
