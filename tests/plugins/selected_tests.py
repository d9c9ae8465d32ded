"""Which tests a run has.

    (nothing)                     all but the slow ones and tests/cross
    --slow                        the slow ones too
    --cross, or a path in tests/cross
                                  tests/cross too, which compares with other people's implementations and needs torch
    --affected BASE [--rotation N]
                                  of these, the ones that changes since BASE reach, and one tenth of the others

A test asked for by its id always runs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import affected_files
import pytest
from affected_files import Reach

_REACH = pytest.StashKey[Reach]()
_INPUT = "selected_tests"
_NEEDS_TORCH = "torch is not installed; pip install 'minitf[cross]' brings what tests/cross compares with"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("selection")
    group.addoption("--slow", action="store_true", help="run the tests marked slow as well")
    group.addoption("--cross", action="store_true", help="run tests/cross as well (needs torch)")
    group.addoption("--affected", metavar="BASE", help="run what changes since this git revision reach, and a tenth")
    group.addoption("--rotation", type=int, metavar="N", help="which tenth (default: the number of commits, modulo 10)")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes long; runs with --slow (make test-all)")
    config.addinivalue_line("markers", "cross: needs others' implementations; runs with --cross (make test-cross)")
    base = config.getoption("affected")
    if config.getoption("rotation") is not None and base is None:
        raise pytest.UsageError("--rotation chooses the tenth that runs beside what is affected: it needs --affected")
    if base is None:
        return
    if config.getoption("rotation") is None:
        config.option.rotation = affected_files.current_rotation(config.rootpath)
    if hasattr(config, "workerinput"):  # the controller has found out
        files, reason = config.workerinput[_INPUT]
        config.stash[_REACH] = Reach(None if files is None else frozenset(files), reason)
    else:
        config.stash[_REACH] = affected_files.reach(config.rootpath, base)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    reach = node.config.stash.get(_REACH, None)
    if reach is not None:
        node.workerinput[_INPUT] = (None if reach.files is None else sorted(reach.files), reach.reason)


def pytest_report_header(config: pytest.Config) -> str | None:
    reach = config.stash.get(_REACH, None)
    if reach is None:
        return None
    tenth = "" if reach.files is None else f"; with tenth {config.getoption('rotation') % 10} of the others"
    return f"affected: {reach.reason}{tenth}"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if collection_path == _cross(config) and not _wants_cross(config) else None


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    if module_path.is_relative_to(_cross(parent.config)) and not _has_torch():
        return _NeedsTorch.from_parent(parent, path=module_path)
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    reach = config.stash.get(_REACH, None)
    slow = config.getoption("slow") or "slow" in config.getoption("markexpr")
    cross = _wants_cross(config) or "cross" in config.getoption("markexpr")
    by_id = any("::" in argument for argument in config.args)
    chosen, others = [], []
    for item in items:
        if item.path.is_relative_to(_cross(config)):
            item.add_marker("cross")
        if item.get_closest_marker("cross") and not _has_torch():
            item.add_marker(pytest.mark.skip(reason=_NEEDS_TORCH))
        wanted = (
            (slow or not item.get_closest_marker("slow"))
            and (cross or not item.get_closest_marker("cross"))
            and (reach is None or _reached(item, reach, config.getoption("rotation")))
        )
        (chosen if wanted or by_id else others).append(item)
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = chosen


class _NeedsTorch(pytest.Module):
    """Stands for a module of tests/cross that is not even imported."""

    def collect(self) -> Iterator[pytest.Item]:
        pytest.skip(_NEEDS_TORCH, allow_module_level=True)


def _reached(item: pytest.Item, reach: Reach, rotation: int) -> bool:
    if reach.files is None or item.nodeid.split("::")[0] in reach.files:
        return True
    return affected_files.in_rotation(item.nodeid, rotation)


def _cross(config: pytest.Config) -> Path:
    return config.rootpath / "tests" / "cross"


def _wants_cross(config: pytest.Config) -> bool:
    here = config.invocation_params.dir
    asked = ((here / argument.split("::")[0]).resolve() for argument in config.args)
    return config.getoption("cross") or any(path.is_relative_to(_cross(config).resolve()) for path in asked)


def _has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None
