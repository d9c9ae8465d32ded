"""Collects what the side-by-side benchmarks measured and writes ``benchmarks.json``; see ``test_side_by_side.py``."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import pytest

BESIDE_TORCH = "test_side_by_side.py"
#: name -> what is known about it so far
RESULTS: dict[str, dict[str, Any]] = {}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Only `make bench` times things against PyTorch; elsewhere its modules are not even imported."""
    other = collection_path.name == BESIDE_TORCH and not config.getoption("benchmark_only")
    return True if other else None


@pytest.fixture
def results() -> dict[str, dict[str, Any]]:
    return RESULTS


def pytest_sessionfinish(session: pytest.Session) -> None:
    rows = [finished(name, row) for name, row in RESULTS.items() if row.get("ours_s")]
    if rows:
        rows = [{**row, "machine": machine()} for row in rows]
        (session.config.rootpath / "benchmarks.json").write_text(json.dumps(rows, indent=1) + "\n")


def machine() -> str:
    import cpuinfo  # comes with pytest-benchmark
    import numba
    import numpy as np
    import torch

    versions = f"NumPy {np.__version__}, Numba {numba.__version__}, PyTorch {torch.__version__}"
    return (
        f"{cpuinfo.get_cpu_info().get('brand_raw', platform.machine())}, {torch.get_num_threads()} threads; {versions}"
    )


def finished(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """An entry of the file: seconds are medians; ratio is ours to PyTorch's, None where it has no such function.

    ``chapters/kernels/benchmarks.json``, which the book shows, is a copy of the file that one whole run wrote.
    """
    other = row.get("torch_s")
    ratio = row["ours_s"] / other if other else None
    keys = ("ours_s", "torch_s", "numpy_s")
    return {"name": name, **{key: row.get(key) for key in keys}, "ratio": ratio, **row["facts"]}


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not RESULTS:
        return
    terminalreporter.section("side by side (median seconds)")
    line = "{:<34}{:>11}{:>11}{:>11}{:>8}{:>14}"
    terminalreporter.line(line.format("", "ours", "torch", "numpy", "ratio", "peak bytes"))
    seconds = lambda x: "-" if x is None else f"{x:.3g}"
    for name, row in RESULTS.items():
        if row.get("ours_s"):
            entry = finished(name, row)
            ratio = "-" if entry["ratio"] is None else f"{entry['ratio']:.2f}"
            times = [seconds(entry[key]) for key in ("ours_s", "torch_s", "numpy_s")]
            terminalreporter.line(line.format(name, *times, ratio, f"{entry['peak_bytes']:,}"))
