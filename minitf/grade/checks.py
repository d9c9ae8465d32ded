"""What a ``grader.py`` is written with: ``check``, ``expect`` and ``expect_close``.

A grader is a page of functions, each of which says one thing about the submission:

    @check("rows of the differential map sum to 1 - λ", points=3, hint=2)
    def rows_sum(student, rng):
        for T in (1, 2, 5):
            q1, k1, q2, k2 = rng.standard_normal((4, T, 3))
            got = student.differential_attention(q1, k1, q2, k2, np.eye(T), lambda_=0.3)
            expect_close(got.sum(-1), np.full(T, 0.7), what="the sum of each row")

``student`` calls the submission in its own process; ``rng`` is a ``numpy.random.Generator`` of this check, fresh in
every grading. A check earns all of its points or none, and stops at its first failure: let sizes grow, and the learner
is shown the smallest case that fails.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from minitf.grade.calls import Student, kind_of

#: arrays up to this many entries are shown in full, of others this many around the worst entry
SHOWN = 6

CheckFunction = Callable[[Student, np.random.Generator], None]


class Mismatch(Exception):
    """The submission answered, and the answer is wrong. ``details`` are (label, text) lines for the learner."""

    def __init__(self, reason: str, details: tuple[tuple[str, str], ...] = ()):
        super().__init__(reason)
        self.reason = reason
        self.details = details


@dataclass(frozen=True)
class Check:
    """One property of a submission. ``name`` is the function's; ``hint`` the number of the hint that is about it."""

    name: str
    title: str
    points: int
    hint: int | None
    function: CheckFunction


def check(title: str, *, points: int, hint: int | None = None) -> Callable[[CheckFunction], Check]:
    """Makes a function of a ``grader.py`` one of its checks."""

    def register(function: CheckFunction) -> Check:
        return Check(function.__name__, title, points, hint, function)

    return register


def checks_of(grader: ModuleType) -> tuple[Check, ...]:
    """The checks of a grader, in the order in which they are written."""
    return tuple(thing for thing in vars(grader).values() if isinstance(thing, Check))


def expect(condition: Any, reason: str, **details: Any) -> None:
    """Fails the check with this reason unless the condition holds; ``details`` become labelled lines."""
    if not condition:
        raise Mismatch(reason, tuple((label.replace("_", " "), _show(value)) for label, value in details.items()))


@np.errstate(invalid="ignore", over="ignore")
def expect_close(got: Any, want: Any, *, rtol: float = 1e-9, atol: float = 1e-12, what: str = "the result") -> None:
    """Fails the check unless ``got`` has the shape of ``want`` and |got - want| <= atol + rtol |want| everywhere.

    Infinities must be where they are expected, and NaN never is an answer. ``want`` may be a Tensor.
    """
    want = np.asarray(want)
    if not isinstance(got, np.ndarray | int | float):
        raise Mismatch(f"{what} should be an array of shape {want.shape}, but is {kind_of(got)}")
    got = np.asarray(got)
    if got.shape != want.shape:
        raise Mismatch(f"{what} has the shape {got.shape}; expected {want.shape}")
    if got.dtype.kind not in ("biufc" if want.dtype.kind == "c" else "biuf"):
        raise Mismatch(f"{what} has the dtype {got.dtype}; expected {want.dtype}")
    kind = complex if want.dtype.kind == "c" else float
    got, want = got.astype(kind), want.astype(kind)
    error = np.where(got == want, 0.0, np.abs(got - want))  # equal infinities have no difference
    wrong = np.where(np.isfinite(want), ~(error <= atol + rtol * np.abs(want)), got != want)
    if not wrong.any():
        return
    if np.isnan(got).any():
        worst = _first_largest(np.isnan(got))
        raise Mismatch(
            f"{what} has NaN in it (first at {list(worst)})" if worst else f"{what} is NaN",
            _entries(got, want, wrong, worst),
        )
    worst = _first_largest(np.where(wrong, np.nan_to_num(error, nan=np.inf), -1.0))
    largest = ("largest error", f"{error[worst]:.3g}" + (f" at {list(worst)}" if worst else ""))
    raise Mismatch(f"{what} is not right", (largest, *_entries(got, want, wrong, worst), *_pattern(got, want, rtol)))


def _first_largest(array: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(np.argmax(array), array.shape))


def _entries(
    got: np.ndarray, want: np.ndarray, wrong: np.ndarray, worst: tuple[int, ...]
) -> tuple[tuple[str, str], ...]:
    """Expected and got: all entries of a small array, else a few of the row that ``worst`` lies in."""
    lines = [("wrong in", f"{wrong.sum()} of {wrong.size} entries")] if got.size > 1 else []
    if got.size > SHOWN:
        start = max(0, min(worst[-1] - SHOWN // 2, got.shape[-1] - SHOWN))
        stop = min(start + SHOWN, got.shape[-1])
        lines.append(("shown", f"entries [{', '.join([*map(str, worst[:-1]), f'{start}:{stop}'])}]"))
        row = (*worst[:-1], slice(start, stop))
        got, want = got[row], want[row]
    digits = 16 if np.allclose(got, want, rtol=1e-5, atol=0) else 6
    return (*lines, ("expected", _show(want, digits)), ("got", _show(got, digits)))


def _show(value: Any, digits: int = 6) -> str:
    if isinstance(value, np.ndarray | float | np.floating):
        return np.array2string(np.asarray(value), precision=digits, separator=", ", threshold=12, max_line_width=200)
    return f"{value!r:.200}"


def _pattern(got: np.ndarray, want: np.ndarray, rtol: float) -> tuple[tuple[str, str], ...]:
    """What a teacher would see at a glance: a missing factor, exchanged axes."""
    if got.size > 1 and np.isfinite(got).all() and np.isfinite(want).all() and want.any() and got.any():
        factor = np.vdot(want, got) / np.vdot(want, want)
        if np.allclose(got, factor * want, rtol=max(rtol, 1e-9), atol=1e-12 * np.abs(got).max()):
            return (("note", f"every entry is {factor:.6g} times what is expected"),)
        if got.ndim >= 2 and got.shape[-1] == got.shape[-2] and np.allclose(got.swapaxes(-1, -2), want, rtol=1e-9):
            return (("note", "the last two axes are exchanged"),)
    return ()
