"""What the suite says of its own tests: which run where, and in which order."""

import ast
from pathlib import Path

import conftest
import pytest
from both_pythons import ALL, ON_BOTH, runs_on_both

HERE = Path(__file__).parent
LISTED = [(file, tests) for files in ON_BOTH.values() for file, tests in files.items()]


@pytest.mark.parametrize("file, tests", LISTED, ids=[file for file, _ in LISTED])
def test_what_runs_on_both_pythons_is_there(file, tests):
    tree = ast.parse((HERE / f"{file}.py").read_text(encoding="utf-8"))
    there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert set(tests) <= {name for name in there if name.startswith("test_")}
    assert tests == ALL or len(set(tests)) == len(tests)


def test_each_file_is_listed_once():
    assert len({file for file, _ in LISTED}) == len(LISTED)


def test_what_takes_longest_is_there():
    assert all((HERE / file).is_file() for file in conftest.LONGEST)
    assert len(set(conftest.LONGEST)) == len(conftest.LONGEST)


def test_a_file_is_listed_whole_or_by_its_tests():
    assert runs_on_both("test_guest.py", "test_the_types_are_shipped")
    assert runs_on_both("test_beam.py", "test_files_there_and_back")
    assert not runs_on_both("test_beam.py", "test_fixed_folders")
    assert not runs_on_both("test_tiles.py", "test_of_unknown_sizes_in_a_graph")


def test_a_slow_test_runs_on_both_where_it_is_named():
    assert runs_on_both("test_export.py", "test_stock_ops_only", slow=True)
    assert not runs_on_both("test_guest.py", "test_the_types_are_shipped", slow=True)


@pytest.mark.parametrize("dist", ["loadfile", "load"])
def test_a_file_is_one_process_s_and_so_is_a_server(request, dist):
    class Config:
        rootpath = request.config.rootpath

        class option:
            loadscopereorder = True
            tx = ["popen", "popen"]

        def getvalue(self, name):
            return dist if name == "dist" else self.option.tx

    scheduler = pytest.importorskip("xdist") and conftest.pytest_xdist_make_scheduler(
        Config(), None
    )
    if dist == "load":
        assert scheduler is None
        return
    files = [f"tests/{name}.py" for name in ("test_warmup", "test_serving_page", "test_cli")]
    groups = [scheduler._split_scope(f"{file}::test_a[b::c]") for file in files]
    assert groups == ["default_server", "default_server", "tests/test_cli.py"]
