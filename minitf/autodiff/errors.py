"""The errors of the engine: one message each, saying what was wrong and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class ShapeError(ValueError):
    """Shapes, axes or dimension names that do not fit together."""


def describe(value: Any) -> str:
    """``float64 (2, 3)`` for anything with a shape and a dtype, the value itself otherwise."""
    shape = getattr(value, "shape", None)
    if shape is None:
        return repr(value)
    return f"{value.dtype} {tuple(shape)}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean x?`` if one of ``known`` is close to ``name``, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def fits_into(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """True if an array of ``shape`` broadcasts against one of shape ``target`` without making that larger."""
    return len(shape) <= len(target) and all(n in (1, m) for n, m in zip(shape[::-1], target[::-1], strict=False))


def broadcast_message(shapes: list[tuple[int, ...]]) -> str:
    """Says which aligned axis keeps ``shapes`` from broadcasting, or an empty string when they do broadcast."""
    width = max((len(shape) for shape in shapes), default=0)
    for axis in range(1, width + 1):
        sizes = {shape[-axis] for shape in shapes if len(shape) >= axis and shape[-axis] != 1}
        if len(sizes) > 1:
            told = " and ".join(str(shape) for shape in shapes)
            return (
                f"shapes {told} do not broadcast: axis -{axis} has sizes {sorted(sizes)}; "
                "aligned from the right, sizes must be equal or 1"
            )
    return ""
