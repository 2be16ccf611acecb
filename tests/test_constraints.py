"""The versions in `constraints/` are those that setup.cfg allows, the lowest ones the lowest."""

import configparser
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def requirements(python):
    """Of the package and all its extras, for a version of Python."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options"]["install_requires"] + "".join(setup["options.extras_require"].values())
    found = [Requirement(line) for line in lines.splitlines() if line.strip() and line[0] != "#"]
    environment = {"python_version": python, "extra": ""}
    return [
        one
        for one in found
        if one.name != "cnn-compression" and (not one.marker or one.marker.evaluate(environment))
    ]


def pins(name):
    text = (ROOT / "constraints" / name).read_text()
    lines = re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE)
    return {canonicalize_name(package): version for package, version in lines}


@pytest.mark.parametrize(
    "name, python",
    [("python3.11.txt", "3.11"), ("python3.13.txt", "3.13"), ("minimum.txt", "3.11")],
)
def test_each_requirement_is_met(name, python):
    pinned = pins(name)
    wanted = requirements(python)
    assert len(wanted) > 15
    for one in wanted:
        assert one.specifier.contains(pinned[canonicalize_name(one.name)]), one


def test_the_lowest_versions_are_the_lowest():
    lowest = {}
    for one in requirements("3.11"):
        [version] = [part.version for part in one.specifier if part.operator in (">=", "==")]
        lowest.setdefault(canonicalize_name(one.name), []).append(Version(version))
    pinned = {name: Version(version) for name, version in pins("minimum.txt").items()}
    assert pinned == {name: max(versions) for name, versions in lowest.items()}
