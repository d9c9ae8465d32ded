"""Real text that every Python has, and batches of it.

``python_documentation`` is the English of Python's reference manual, from ``pydoc_data.topics``;
``standard_library_source`` is code. Both belong to the running Python, so they differ a little between its versions.

    ids = byte_text(python_documentation())
    training, validation = split(ids)
    for inputs, targets in batches(training, B=16, T=128, rng=np.random.default_rng(0)): ...
"""

from __future__ import annotations

import functools
import pathlib
import sys
import sysconfig
import tokenize
from collections.abc import Iterator
from typing import TypeVar

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import as_tensor
from minitf.nn.init import generator
from minitf.tokens.bytes import ByteTokenizer

#: to be shown wherever the text is
ATTRIBUTION = (
    "Text and source code of Python: Copyright (c) 2001 Python Software Foundation, "
    "PSF License Version 2, https://docs.python.org/3/license.html"
)

Sliceable = TypeVar("Sliceable", str, np.ndarray)


@functools.cache
def python_documentation() -> str:
    """The topics of Python's built-in help in alphabetical order, about half a million characters. See ATTRIBUTION."""
    try:
        from pydoc_data.topics import topics
    except ImportError:  # distributions may leave it out
        raise FileNotFoundError(
            "python_documentation: this Python comes without pydoc_data.topics; install its documentation package, or "
            "a Python from python.org"
        ) from None
    return "\n\n".join(topics[name].strip() for name in sorted(topics)) + "\n"


@functools.cache
def standard_library_source(limit: int = 1_000_000) -> str:
    """Modules of Python's standard library in alphabetical order, whole files up to ``limit`` characters.

    Each starts with a line ``# name.py``. Public top-level modules only. See ATTRIBUTION.
    """
    folder = pathlib.Path(sysconfig.get_path("stdlib"))
    parts: list[str] = []
    size = 0
    for name in sorted(name for name in sys.stdlib_module_names if not name.startswith("_")):
        path = folder / f"{name}.py"
        if not path.is_file():
            continue
        with tokenize.open(path) as file:
            part = f"# {path.name}\n{file.read()}\n"
        if size + len(part) <= limit:
            parts.append(part)
            size += len(part)
    if not parts:
        raise FileNotFoundError(
            f"standard_library_source: no module in {folder} has at most {limit} characters; does this Python come "
            "with its source?"
        )
    return "".join(parts)


def byte_text(text: str) -> np.ndarray:
    """The bytes of ``text`` in UTF-8, plus 1 (0 pads): ids from 0 to 256, those of ``tokens.ByteTokenizer``."""
    return ByteTokenizer().encode(text)


def split(data: Sliceable, validation: float = 0.1) -> tuple[Sliceable, Sliceable]:
    """(training, validation): the last fraction of a text or of ids is for validation."""
    if not 0 < validation < 1:
        raise ValueError(f"split: validation is a fraction between 0 and 1, got {validation!r}")
    cut = len(data) - round(len(data) * validation)
    return data[:cut], data[cut:]


def batches(ids: np.ndarray, B: int, T: int, *, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Endless pairs (inputs, targets), each ``(B, T)``: windows at random places, targets one step later."""
    ids = _long_enough("batches", ids, B, T)
    rng = generator(rng)

    def draw() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        while True:
            yield _windows(ids, rng.integers(0, len(ids) - T, B), T)

    return draw()


def windows(ids: np.ndarray, B: int, T: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs (inputs, targets) of windows one after the other, each ``(B, T)``, the last with fewer rows.

    Every id after the first is a target once, except for a rest shorter than T.
    """
    ids = _long_enough("windows", ids, B, T)
    starts = np.arange(0, len(ids) - T, T)
    return (_windows(ids, starts[i : i + B], T) for i in range(0, len(starts), B))


def _windows(ids: np.ndarray, starts: np.ndarray, T: int) -> tuple[np.ndarray, np.ndarray]:
    rows = ids[starts[:, None] + np.arange(T + 1)]
    return rows[:, :-1], rows[:, 1:]


def _long_enough(what: str, ids: np.ndarray, B: int, T: int) -> np.ndarray:
    if isinstance(ids, str):
        raise TypeError(f"{what}: needs one sequence of integer ids, got text; byte_text(text) makes ids of it")
    ids = as_tensor(ids).data
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise TypeError(f"{what}: needs one sequence of integer ids, got {ids.dtype} {ids.shape}; see byte_text")
    if B < 1 or T < 1:
        raise ShapeError(f"{what}: B and T must be positive, got B={B}, T={T}")
    if len(ids) <= T:
        raise ShapeError(f"{what}: {len(ids)} ids are too few for windows of T={T} and the id after them")
    return ids
