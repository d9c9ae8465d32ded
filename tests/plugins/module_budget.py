"""Reports the test modules that use more CPU than the quick suite grants one; fails nothing.

Counted is the CPU time of set-up, call and tear-down, of all threads and of finished child processes, so that a module
gains nothing from more cores. ``--module-budget SECONDS`` changes the grant.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest

DEFAULT = 2.0
_OUTPUT = "module_budget"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--module-budget",
        type=float,
        default=DEFAULT,
        metavar="SECONDS",
        help=f"report test modules above this many CPU-seconds (default {DEFAULT:g})",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(ModuleBudget(config), "module-budget")


class ModuleBudget:
    """CPU seconds per test file; under xdist a worker hands its own to the controller."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.seconds: Counter[str] = Counter()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        before = cpu_seconds()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid.split("::")[0]] += cpu_seconds() - before  # pyright: ignore

    def pytest_sessionfinish(self) -> None:
        if hasattr(self.config, "workeroutput"):
            self.config.workeroutput[_OUTPUT] = dict(self.seconds)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.seconds.update(getattr(node, "workeroutput", {}).get(_OUTPUT, {}))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        budget = self.config.getoption("module_budget")
        over = [(seconds, file) for file, seconds in self.seconds.items() if seconds > budget]
        if over:
            terminalreporter.section(f"test modules above {budget:g} CPU-seconds")
            for seconds, file in sorted(over, reverse=True):
                terminalreporter.line(f"{seconds:8.1f} s  {file}")


def cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
