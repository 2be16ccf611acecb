"""README stays short, links lead somewhere, and the same is said of the same everywhere."""

import configparser
import fnmatch
import inspect
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from cnn_compression.serving.client import Client

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    path
    for pattern in ("*.md", "docs/*.md", "serving/*.md", "saved_models/*.md", "benchmarks/*/*.md")
    for path in sorted(ROOT.glob(pattern))
]
TEXTS = {path: path.read_text() for path in DOCUMENTS}
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(text):
    """Of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_readme_is_short_and_begins_with_what_and_gain():
    text = TEXTS[ROOT / "README.md"]
    assert len(text.split()) <= 1000
    first_screen = text[: text.index("## Install")]
    assert first_screen.count("![") == 1
    assert len(re.findall(r"^- \*\*", first_screen, re.MULTILINE)) == 3


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for link in LINK.findall(TEXTS[document]):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(TEXTS[target]), link


def test_each_document_is_within_reach_of_readme():
    linked = {
        (document.parent / link.partition("#")[0]).resolve()
        for document, text in TEXTS.items()
        for link in LINK.findall(text)
    }
    assert not {path for path in (ROOT / "docs").iterdir() if path.resolve() not in linked}


def test_one_test_command():
    assert re.search(r"^    make test ", TEXTS[ROOT / "README.md"], re.MULTILINE)
    ci = ROOT / ".ci" / "run"
    assert "suite .venv test\n" in ci.read_text()


def test_one_default_quality():
    from cnn_compression.cli import common
    from cnn_compression.codec import Codec

    qualities = {
        "python": inspect.signature(Codec.encode).parameters["quality"].default,
        "client": inspect.signature(Client.encode).parameters["quality"].default,
        "pixels": inspect.signature(Client.encode_pixels).parameters["quality"].default,
    }
    values = common.flags.FlagValues()
    common.add_quality_flag(values)
    qualities["command line"] = values["quality"].default
    page = (ROOT / "serving" / "web" / "index.html").read_text()
    [qualities["page"]] = re.findall(r'id="quality" .*value="(\d+)"', page)
    [qualities["shown"]] = re.findall(r'id="quality-shown"[^>]*>(\d+)<', page)
    [qualities["readme"]] = re.findall(r"photo\.cnn\.jpg, quality (\d+)", TEXTS[ROOT / "README.md"])
    assert {int(quality) for quality in qualities.values()} == {50}, qualities


@pytest.mark.parametrize(
    "platform, python, wanted",
    [("linux", "3.11", True), ("darwin", "3.12", True), ("win32", "3.11", False)]
    + [(platform, "3.13", False) for platform in ("linux", "darwin", "win32")],
)
def test_tensorflow_io_is_asked_for_where_it_has_wheels(platform, python, wanted):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options"]["install_requires"].split("\n")
    [needed] = [Requirement(line) for line in lines if line.startswith("tensorflow-io")]
    environment = {"sys_platform": platform, "python_version": python}
    assert needed.marker.evaluate(environment) is wanted
    assert "OS Independent" not in setup["metadata"]["classifiers"]


def ignored(path):
    """Whether .dockerignore leaves a path, or a folder above it, out of what Docker is sent."""
    patterns = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    above = [path, *map(str, Path(path).parents)]
    return any(
        fnmatch.fnmatch(part, pattern.removeprefix("**/")) or fnmatch.fnmatch(part, pattern)
        for part in [*above, Path(path).name]
        for pattern in patterns
    )


@pytest.mark.parametrize("path", [".git", ".venv/bin/python", ".venv313", "out", "runs/half/x"])
def test_docker_is_not_sent_what_it_does_not_need(path):
    assert ignored(path)


@pytest.mark.parametrize(
    "path",
    ["saved_models/default/6/saved_model.pb", "serving/models.config", "serving/probe.sh"]
    + ["setup.cfg", "pyproject.toml", "README.md", "LICENSE", "cnn_compression/process.py"]
    + ["cnn_compression/benchmark/run.py"],
)
def test_docker_is_sent_what_its_images_copy(path):
    assert (ROOT / path).parent.exists() and not ignored(path)
