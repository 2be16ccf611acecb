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

# From the top down: a wing imports from its own floor and from those below.
FLOORS = [
    ["__main__"],
    ["cli"],
    ["serving"],
    ["beam", "benchmark", "export", "training"],
    ["codec"],
    ["models"],
    ["files", "images", "jpeg", "metadata", "packing"],
    ["payload"],
    ["compiled", "process", "tensors"],
]
FLOOR = {wing: floor for floor, wings in enumerate(FLOORS) for wing in wings}
NOT_FOR_MODELS = {"files", "images", "metadata", "packing", "payload"}
# What the package itself offers, and the wing behind it.
FRONT_DOOR = {"load": "codec", "Codec": "codec", "__version__": None}
WITHOUT_TENSORFLOW = ["training.config", "payload.layout", "files", "jpeg", "process", "images"]
WITHOUT_TENSORFLOW += ["jpeg.coefficients", "metadata", "codec", "serving.client"]
WITHOUT_TENSORFLOW += ["packing.payloads", "packing.jpegs", "packing.any_bytes", "packing.formats"]
WITHOUT_TENSORFLOW += ["packing.predictors", "packing.symbols", "payload.latent_layout"]
WITHOUT_TENSORFLOW += ["cli.pack", "cli.unpack"]
WITHOUT_TENSORFLOW += ["cli", "cli.encode", "cli.info", "cli.train", "cli.serve"]

SOURCES = sorted([*PACKAGE.rglob("*.py"), *SERVING.rglob("*.py")])


def module_name(path):
    """`cnn_compression.models.fast`; of an `__init__.py` its folder's."""
    home, prefix = (SERVING, ["serving"]) if path.is_relative_to(SERVING) else (PACKAGE, [])
    parts = path.relative_to(home).with_suffix("").parts
    return ".".join(["cnn_compression", *prefix, *parts]).removesuffix(".__init__")


MODULES = {module_name(path): path for path in SOURCES}


def wing_of(path):
    """`models` for models/fast.py, `files` for files.py, `__init__` for the package's own."""
    if path.is_relative_to(SERVING):
        return "serving"
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def wings_imported(source):
    """The wings that a file imports, at its top or inside a function."""
    wings = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"expected absolute imports only. Received: line {node.lineno}")
            if node.module == "cnn_compression":
                wings |= {FRONT_DOOR.get(alias.name, alias.name) for alias in node.names}
            else:
                wings.add(wing_named(node.module))
        elif isinstance(node, ast.Import):
            wings |= {wing_named(alias.name) for alias in node.names}
    return wings - {None}


def wing_named(module):
    package, _, inside = module.partition(".")
    if package != "cnn_compression":
        return None
    return inside.split(".")[0] or FRONT_DOOR["load"]


def violations(wing, source):
    """What a file of `wing` imports though it must not."""
    imported = wings_imported(source) - {wing}
    above = {other for other in imported if FLOOR[other] < FLOOR[wing]}
    return above | (imported & NOT_FOR_MODELS if wing == "models" else set())


def modules_imported(source):
    """The package's modules that a file imports: those that their wings hand on, not the wings."""
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("cnn_compression"):
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            modules |= (named & MODULES.keys()) or {node.module}
    return modules


@pytest.mark.parametrize(
    "wing, source, expected",
    [
        ("codec", "from cnn_compression import jpeg\nimport numpy.linalg", set()),
        ("codec", "from cnn_compression.models.fast import FastComCNN", set()),
        ("jpeg", "from cnn_compression.tensors import levels, metrics", set()),
        ("cli", "from cnn_compression import __version__, load\nfrom cnn_compression.cli import x",
         set()),
        ("tensors", "import cnn_compression.jpeg as j", {"jpeg"}),
        ("tensors", "import cnn_compression", {"codec"}),
        ("codec", "def f():\n    from cnn_compression.training import config", {"training"}),
        ("export", "from cnn_compression import cli", {"cli"}),
        ("models", "from cnn_compression.payload import layout", {"payload"}),
        ("models", "from cnn_compression import load", {"codec"}),
    ],
)  # fmt: skip
def test_the_rule_itself(wing, source, expected):
    assert violations(wing, source) == expected


def test_relative_imports_do_not_slip_through():
    with pytest.raises(ValueError, match="absolute"):
        wings_imported("from . import cli")


def test_every_file_stands_on_a_floor():
    assert SOURCES
    assert {wing_of(path) for path in SOURCES} - {"__init__"} <= FLOOR.keys()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downward(path):
    if path != PACKAGE / "__init__.py":
        assert violations(wing_of(path), path.read_text()) == set()


def test_no_wing_imports_itself_by_way_of_another():
    graph = {wing: set() for wing in FLOOR}
    for path in SOURCES:
        wing = wing_of(path)
        graph.setdefault(wing, set()).update(wings_imported(path.read_text()) - {wing})
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_no_module_imports_itself_by_way_of_another():
    graph = {name: modules_imported(path.read_text()) for name, path in MODULES.items()}
    assert graph["cnn_compression.codec.pair"] >= {"cnn_compression.codec.effort"}
    graphlib.TopologicalSorter(graph).prepare()


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


def replaced_in_libraries(source):
    """Lines where a test's stand-in goes into another library by way of a module of ours."""
    libraries = sys.stdlib_module_names | {"np", "tf", "keras"}
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "setattr"
        and isinstance(node.args[0], ast.Attribute)
        and node.args[0].attr in libraries
    ]


def test_no_stand_in_reaches_those_who_did_not_ask_for_it():
    """A library that is imported meanwhile, as numba is at a first call, would keep it for good."""
    assert replaced_in_libraries("patch.setattr(rows.time, 'sleep', f)") == [1]
    assert replaced_in_libraries("patch.setattr(rows, 'time', f)") == []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        assert not replaced_in_libraries(path.read_text()), path.name
