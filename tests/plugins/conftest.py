"""A suite of its own, run in another process with the plugins of this one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parent
ROOT = PLUGINS.parents[1]


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """An empty repository whose tests/ has these plugins; ``runpytest`` runs it."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    pytester.makeini(
        "[pytest]\ntestpaths = tests\naddopts = --import-mode=importlib --strict-markers -p no:cacheprovider\n"
        f"pythonpath = {PLUGINS}\n"
    )
    conftest = (PLUGINS.parent / "conftest.py").read_text(encoding="utf-8")
    write(pytester, "tests/conftest.py", conftest)
    return pytester


def write(pytester: pytest.Pytester, path: str, text: str) -> None:
    file = pytester.path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


@pytest.fixture
def add(suite: pytest.Pytester):
    """add("tests/test_a.py", source) writes a file of the suite."""
    return lambda path, text: write(suite, path, text)
