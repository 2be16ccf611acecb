"""The rules of the house that its readers rely on. Imports are read, not run."""

import ast
import configparser
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "cnn_compression"
SERVING = ROOT / "serving"  # installed as cnn_compression.serving

# From the top down: a room imports from its own floor and from those below.
FLOORS = [
    ["__main__"],
    ["cli"],
    ["serving"],
    ["beam", "benchmark", "evaluation", "export", "training"],
    ["serving_assets", "serving_graph", "signatures"],
    ["codec"],
    ["model_files", "pair_codec", "targets"],
    ["objectives", "refine"],
    ["models"],
    ["layers", "jpeg", "jpeg_twin", "container_ops", "metrics", "data", "images"],
    ["canvas", "image_formats"],
    ["image_sizes"],
    ["attempts", "bisection", "config", "container", "files", "functions", "image_bytes", "ops"]
    + ["optimizers", "tiles"],
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
NOT_FOR_MODELS = {"jpeg", "container", "container_ops", "data"}
# What the package itself offers, and the room behind it.
FRONT_DOOR = {"load": "codec", "__version__": None}
WITHOUT_TENSORFLOW = ["config", "container", "files", "cli", "cli.encode", "cli.info", "cli.train"]
WITHOUT_TENSORFLOW += ["cli.serve", "serving.client"]

SOURCES = sorted([*PACKAGE.rglob("*.py"), *SERVING.rglob("*.py")])


def room_of(path):
    """`models` for models/fast.py, `jpeg` for jpeg.py, `__init__` for the package's own."""
    if path.is_relative_to(SERVING):
        return "serving"
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def rooms_imported(source):
    """The rooms that a file imports, at its top or inside a function."""
    rooms = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"expected absolute imports only. Received: line {node.lineno}")
            if node.module == "cnn_compression":
                rooms |= {FRONT_DOOR.get(alias.name, alias.name) for alias in node.names}
            else:
                rooms.add(room_named(node.module))
        elif isinstance(node, ast.Import):
            rooms |= {room_named(alias.name) for alias in node.names}
    return rooms - {None}


def room_named(module):
    package, _, inside = module.partition(".")
    if package != "cnn_compression":
        return None
    return inside.split(".")[0] or FRONT_DOOR["load"]


def violations(room, source):
    """What a file of `room` imports though it must not."""
    imported = rooms_imported(source) - {room}
    above = {other for other in imported if FLOOR[other] < FLOOR[room]}
    return above | (imported & NOT_FOR_MODELS if room == "models" else set())


@pytest.mark.parametrize(
    "room, source, expected",
    [
        ("codec", "from cnn_compression import jpeg\nimport numpy.linalg", set()),
        ("codec", "from cnn_compression.models.fast import FastComCNN", set()),
        ("jpeg", "from cnn_compression import ops, metrics", set()),
        ("cli", "from cnn_compression import __version__, load\nfrom cnn_compression.cli import x",
         set()),
        ("ops", "import cnn_compression.jpeg as j", {"jpeg"}),
        ("ops", "import cnn_compression", {"codec"}),
        ("codec", "def f():\n    from cnn_compression.training import train", {"training"}),
        ("export", "from cnn_compression import cli", {"cli"}),
        ("models", "from cnn_compression import ops, jpeg", {"jpeg"}),
        ("models", "from cnn_compression import load", {"codec"}),
    ],
)  # fmt: skip
def test_the_rule_itself(room, source, expected):
    assert violations(room, source) == expected


def test_relative_imports_do_not_slip_through():
    with pytest.raises(ValueError, match="absolute"):
        rooms_imported("from . import cli")


def test_every_file_stands_on_a_floor():
    assert SOURCES
    assert {room_of(path) for path in SOURCES} - {"__init__"} <= FLOOR.keys()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downward(path):
    if path != PACKAGE / "__init__.py":
        assert violations(room_of(path), path.read_text()) == set()


def test_no_room_imports_itself_by_way_of_another():
    graph = {room: set() for room in FLOOR}
    for path in SOURCES:
        room = room_of(path)
        graph.setdefault(room, set()).update(rooms_imported(path.read_text()) - {room})
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_importing_does_not_start_tensorflow():
    modules = ["cnn_compression", *(f"cnn_compression.{name}" for name in WITHOUT_TENSORFLOW)]
    program = (
        f"import sys, {', '.join(modules)}\n"
        "print(sorted({'tensorflow', 'keras', 'tensorflow_io'} & sys.modules.keys()))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (run.stdout.strip(), run.stderr) == ("[]", "")


def test_setup_cfg_lists_every_package():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
    assert listed == there | {"cnn_compression.saved_models", "cnn_compression.serving"}
