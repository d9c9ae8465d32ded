"""``--compile-times``: what compiling each kernel has cost; fails nothing. An empty MINITF_CACHE makes it complete.

Counted are CPU seconds of one core, each kernel without those that it calls, once the compiler has started. Processes that
share the cache share the work too; where two compiled the same, the slower counts.
"""

from __future__ import annotations

from typing import Any

import pytest

#: CPU seconds that one kernel may take for one signature, and all of them together
EACH, ALL = 4.0, 240.0
_OUTPUT = "compile_times"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--compile-times", action="store_true", help="report what compiling kernels has cost")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("compile_times"):
        config.pluginmanager.register(CompileTimes(config), "compile-times")


def compiled_here() -> dict[str, float]:
    """Seconds by "module.kernel signature" of the library's own kernels."""
    from minitf.kernels.compile import KERNELS

    return {
        f"{kernel.function.__module__.removeprefix('minitf.kernels.')}.{kernel.function.__name__} {signature}": seconds
        for kernel in KERNELS
        if kernel.function.__module__.startswith("minitf.kernels.")
        for signature, seconds in kernel.compiled.items()
    }


class CompileTimes:
    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.seconds: dict[str, float] = {}

    def pytest_sessionstart(self) -> None:
        """Wakes the compiler, whose own start takes seconds and is no kernel's."""
        import numpy as np

        from minitf.kernels.compile import jit

        @jit
        def product(x, y, out):
            np.dot(x[:2], y, out)

        product(np.eye(2), np.eye(2), np.eye(2))

    def _add(self, seconds: dict[str, float]) -> None:
        self.seconds.update({key: max(value, self.seconds.get(key, 0.0)) for key, value in seconds.items()})

    def pytest_sessionfinish(self) -> None:
        self._add(compiled_here())
        if hasattr(self.config, "workeroutput"):
            self.config.workeroutput[_OUTPUT] = self.seconds

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self._add(getattr(node, "workeroutput", {}).get(_OUTPUT, {}))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        kernels: dict[str, list[float]] = {}
        for key, seconds in self.seconds.items():
            kernels.setdefault(key.split(" ", 1)[0], []).append(seconds)
        total = sum(self.seconds.values())
        terminalreporter.section("compiling kernels (CPU-seconds)")
        terminalreporter.line(f"{'kernel':<50}{'signatures':>11}{'slowest':>9}{'all':>8}")
        for name, each in sorted(kernels.items(), key=lambda item: -max(item[1])):
            mark = f"   above {EACH:g} s" if max(each) > EACH else ""
            terminalreporter.line(f"{name:<50}{len(each):>11}{max(each):>9.2f}{sum(each):>8.2f}{mark}")
        terminalreporter.line(f"{len(kernels)} kernels, {total:.0f} s of {ALL:.0f} s")
