from __future__ import annotations

import subprocess
from pathlib import Path

import affected_files
import grimp
import pytest
from affected_files import Unavailable

IMPORTS = {
    "minitf": ["minitf.autodiff"],
    "minitf.autodiff": [],
    "minitf.nn": [],
    "minitf.nn.functional": ["minitf.autodiff"],
    "minitf.attention": [],
    "minitf.attention.dot_product": ["minitf.nn.functional"],
    "minitf.attention.differential": ["minitf.attention.dot_product"],
    "minitf.papers": [],
    "minitf.papers.catalogue": [],
    "minitf.cli": ["minitf.papers.catalogue"],
}
TESTS = {
    "tests/attention/test_dot_product.py": "from minitf.attention.dot_product import MultiHeadAttention",
    "tests/attention/test_differential.py": "def test_it(): ...",
    "tests/cross/attention/test_differential.py": "import keep_double",
    "tests/cross/attention/test_differential_long.py": "import keep_double",
    "tests/nn/test_functional.py": "import minitf as mt\nmt.nn.functional.softmax(1)",
    "tests/autodiff/test_grad.py": "import minitf as mt\nmt.grad(f)",
    "tests/papers/test_index.py": "from minitf.papers import catalogue as c",
    "tests/test_cli.py": "from minitf import cli",
    "tests/grade/test_exercises.py": "FOLDER = ROOT / 'exercises'\nVECTORS = 'differential.npz'",
}


@pytest.fixture
def graph() -> grimp.ImportGraph:
    graph = grimp.ImportGraph()
    for module in IMPORTS:
        graph.add_module(module)
    for module, imported in IMPORTS.items():
        for other in imported:
            graph.add_import(importer=module, imported=other)
    return graph


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path, source in TESTS.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(source)
    return tmp_path


def those(*names: str) -> set[str]:
    return {path for path in TESTS if any(name in path for name in names)}


@pytest.mark.parametrize(
    ("changed", "reached"),
    [
        ([], set()),
        (["minitf/attention/differential.py"], those("test_differential")),
        (["minitf/attention/dot_product.py"], those("dot_product", "test_differential")),
        (["minitf/nn/functional.py"], those("functional", "dot_product", "test_differential")),
        (["minitf/attention/__init__.py"], those("/attention/")),
        (["minitf/__init__.py"], set(TESTS)),
        (["minitf/papers/catalogue.toml"], those("papers", "cli")),
        (["minitf/attention/deleted.py"], set()),
        (["minitf/attention/data/table.npz"], those("/attention/")),
        (["tests/test_cli.py", "tests/test_deleted.py"], those("cli")),
        (["tests/cross/keep_double.py"], those("cross")),
        (["tests/attention/conftest.py"], {path for path in TESTS if path.startswith("tests/attention/")}),
        (["tests/golden/differential.npz"], those("grade")),
        (["exercises/attention/differential/grader.py"], those("grade")),
        (["README.md", "chapters/attention/normalizing_scores.md"], set()),
    ],
)
def test_what_a_change_reaches(root: Path, graph: grimp.ImportGraph, changed: list[str], reached: set[str]):
    found = affected_files.affected_tests(root, changed, graph)
    if changed == ["minitf/__init__.py"]:  # these two import nothing and lie at the path of a module
        reached = reached - {"tests/grade/test_exercises.py"}
    assert found == reached


@pytest.mark.parametrize("path", ["pyproject.toml", "tests/conftest.py", "tests/plugins/module_budget.py"])
def test_some_files_reach_everything(root: Path, graph: grimp.ImportGraph, path: str):
    with pytest.raises(Unavailable, match=f"{path} changed"):
        affected_files.affected_tests(root, [path], graph)


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("import minitf.nn.functional", {"minitf.nn.functional"}),
        ("import minitf.nn.functional as F", {"minitf.nn.functional"}),
        ("from minitf.nn import functional", {"minitf.nn.functional"}),
        ("from minitf.nn.functional import softmax", {"minitf.nn.functional"}),
        ("import minitf\nminitf.nn.functional.softmax", {"minitf", "minitf.nn", "minitf.nn.functional"}),
        ("from minitf import nn as layers\nlayers.functional.softmax", {"minitf.nn", "minitf.nn.functional"}),
        ("def test():\n    from minitf.cli import main", {"minitf.cli"}),
        ("import numpy as np\nnp.minitf", set()),
        ("import minitf(", set(IMPORTS)),
    ],
)
def test_what_a_test_imports(source: str, modules: set[str]):
    assert affected_files.imported_modules(source, IMPORTS.keys()) == modules


def test_every_test_belongs_to_one_of_ten_rotations():
    ids = [f"tests/test_a.py::test_{number}" for number in range(2000)]
    tenths = [{node for node in ids if affected_files.in_rotation(node, rotation)} for rotation in range(10)]
    assert set.union(*tenths) == set(ids)
    assert sum(map(len, tenths)) == len(ids)
    assert all(140 < len(tenth) < 260 for tenth in tenths)
    assert affected_files.in_rotation(ids[0], 3) == affected_files.in_rotation(ids[0], 13)


def git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


def test_changed_files_are_those_of_the_branch_and_the_working_tree(tmp_path: Path):
    git(tmp_path, "init", "-b", "main")
    for name in ("kept", "moved", "edited", "later"):
        (tmp_path / name).write_text(f"{name}\n" * 5)
    (tmp_path / ".gitignore").write_text("ignored\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "one")
    git(tmp_path, "switch", "-c", "branch")
    git(tmp_path, "mv", "moved", "new name")
    git(tmp_path, "commit", "-m", "two")
    git(tmp_path, "switch", "main")
    (tmp_path / "later").write_text("changed on main after the branch\n")
    git(tmp_path, "commit", "-am", "three")
    git(tmp_path, "switch", "branch")
    (tmp_path / "edited").write_text("")
    (tmp_path / "untracked").write_text("")
    (tmp_path / "ignored").write_text("")
    assert affected_files.changed_files(tmp_path, "main") == {"moved", "new name", "edited", "untracked"}
    assert affected_files.current_rotation(tmp_path) == 2


def test_without_git_or_base_everything_runs(tmp_path: Path, monkeypatch):
    reach = affected_files.reach(tmp_path, "main")
    assert reach.files is None
    assert reach.reason.startswith("everything runs: git merge-base: fatal: ")
    git(tmp_path, "init")
    assert affected_files.reach(tmp_path, "nosuch").files is None
    assert affected_files.current_rotation(tmp_path) == 0
    monkeypatch.setenv("PATH", "")
    assert affected_files.reach(tmp_path, "main").reason == "everything runs: git is not installed"


def test_the_graph_of_the_package_can_be_read():
    graph = affected_files._graph()
    assert "minitf.papers.results" in graph.find_downstream_modules("minitf.papers.catalogue")
