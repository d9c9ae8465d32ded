"""Why it is wrong: mistakes that would explain an error, found by making them.

Two kinds. *Patterns* compare a wrong array with the right one: zeros, another axis order, heads interleaved, one step late,
a constant factor, another input's gradient, NaN where there is nothing to attend to. *Counterfactuals* evaluate the
reference with a mistake put in (``minitf.oracle.mistakes``), such as no scale or a causal mask that is off by one, and look
whether the wrong arrays are what comes out. A mistake is named only if it explains the values to within rounding and the
right answer does not; of several that do, the one that is nearest.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from minitf.oracle.answers import Arrays, Case, outputs_and_gradients, outputs_of
from minitf.oracle.mistakes import mistakes
from minitf.oracle.substitutes import Function
from minitf.registry import Reference

#: (kind, name) -> array, with kind "output" or "gradient"
Named = Mapping[tuple[str, str], np.ndarray]


def diagnose(
    reference: Reference, case: Case, got: Named, tolerances: Named, failed: set[tuple[str, str]]
) -> list[str]:
    """Explanations, the likeliest first: of all failed arrays together if there is one, else of each alone."""
    expected = {("output", name): x for name, x in case.outputs.items()}
    expected |= {("gradient", name): x for name, x in case.gradients.items()}
    wrong = {name for kind, name in failed if kind == "output"}
    reasons = {}
    for kind, name in sorted(failed, reverse=True):
        others = {other: x for (k, other), x in expected.items() if k == kind == "gradient" and other != name}
        axes = reference.axes.get(name, "")
        reasons[kind, name] = pattern(got[kind, name], expected[kind, name], tolerances[kind, name], others, axes)
    if wrong and not all(reasons["output", name] for name in wrong):
        found = _counterfactual(reference, case, got, expected, tolerances, wrong)
        if found is not None:
            told, function = found
            if _follow(reference, case, function, got, expected, tolerances, failed):
                return [f"this is what comes out {told} ({case.place})"]
            return [f"this is what comes out {told}; the gradients do not follow from that alone ({case.place})"]
    found = []
    for key in reasons:
        reason = reasons[key] or not_finite(got[key], expected[key])
        if reason:
            kind, name = key
            what = name if kind == "output" else f"the gradient of {name}"
            found.append(f"{what} {reason} ({case.place})")
    return found


def pattern(got: np.ndarray, expected: np.ndarray, tolerance: np.ndarray, others: Arrays, axes: str = "") -> str | None:
    """What ``got`` is instead of ``expected``, if that can be said of finite values. axes: letters of the axes."""
    if not np.isfinite(got).all() or not np.isfinite(expected).all() or got.size == 0:
        return None
    if not got.any():
        return "is all zeros"
    norm, most = np.sum(expected * expected), 2 * tolerance.max(initial=0)
    if norm > 0 and got.size > 1:
        factor = float(np.sum(got * expected) / norm)
        if abs(factor) > 1e-3 and (np.abs(got - factor * expected) <= max(1.0, abs(factor)) * tolerance).all():
            return "has the wrong sign" if abs(factor + 1) < 0.01 else f"is {factor:.4g} times what it should be"
    for a, b in itertools.combinations(range(expected.ndim), 2):
        if 1 in (expected.shape[a], expected.shape[b]):
            continue
        told = f"{a} and {b}" + (f" ({axes[a]} and {axes[b]})" if len(axes) == expected.ndim else "")
        swapped = np.swapaxes(expected, a, b)
        if swapped.shape == got.shape and (np.abs(got - swapped) <= most).all():
            return f"has its axes {told} exchanged"
        back = np.swapaxes(expected.reshape(swapped.shape), a, b)
        if any((np.abs(got - x) <= most).all() for x in (swapped.reshape(got.shape), back)):
            return (
                f"has its axes {told} exchanged in memory under the right shape: what belongs together is interleaved"
            )
    for axis in range(expected.ndim):
        x, y = np.moveaxis(expected, axis, 0), np.moveaxis(got, axis, 0)
        if len(x) > 2:
            told = f"along axis {axis}" + (f" ({axes[axis]})" if len(axes) == expected.ndim else "")
            if (np.abs(y[1:] - x[:-1]) <= most).all():
                return f"is one step late {told}"
            if (np.abs(y[:-1] - x[1:]) <= most).all():
                return f"is one step early {told}"
            if (np.abs(y - x[::-1]) <= most).all():
                return f"is in reverse order {told}"
    for name, other in others.items():
        if other.shape == got.shape and (np.abs(got - other) <= most).all():
            return f"is what the gradient of {name} should be"
    return None


def not_finite(got: np.ndarray, expected: np.ndarray) -> str | None:
    """Where ``got`` is infinite or NaN and should not be."""
    wrong = ~np.isfinite(got) & np.isfinite(expected)
    if not wrong.any():
        return None
    what = "NaN" if np.isnan(got[wrong]).any() else "infinite"
    rows = wrong.any(axis=-1) if wrong.ndim else wrong
    empty = (expected == 0).all(axis=-1) if wrong.ndim else expected == 0
    if (rows & empty).sum() == rows.sum():
        return f"is {what} in the rows that must be zero, where there is nothing to attend to"
    return f"is {what} in {int(wrong.sum())} of {wrong.size} elements"


def _counterfactual(
    reference: Reference, case: Case, got: Named, expected: Named, tolerances: Named, wrong: set[str]
) -> tuple[str, Function] | None:
    """The mistake whose outputs are nearest to those that are wrong and no farther than rounding from all."""
    best, found = np.inf, None
    for told, function in mistakes(reference, case):
        try:
            with np.errstate(all="ignore"):
                outputs = outputs_of(function, case.inputs, {})
        except (ValueError, TypeError, IndexError):  # this mistake cannot be made here
            continue
        if len(outputs) != len(reference.outputs):
            continue
        distance = 0.0
        for name, mistaken in zip(reference.outputs, outputs, strict=True):
            key = ("output", name)
            if key in got:
                x = np.asarray(mistaken)
                distance = max(distance, _distance(got[key], x, expected[key], tolerances[key], name in wrong))
        if distance < best / 1.5:  # of those that are about as near the first is the likeliest
            best, found = distance, (told, function)
    return found


def _follow(
    reference: Reference,
    case: Case,
    function: Function,
    got: Named,
    expected: Named,
    tolerances: Named,
    failed: set[tuple[str, str]],
) -> bool:
    """Whether the gradients that failed are those of ``function``; all of them are not finite where an output is not."""
    names = {name for kind, name in failed if kind == "gradient"}
    if not names or not all(np.isfinite(x).all() for (kind, _), x in got.items() if kind == "output"):
        return True
    positions = tuple(list(case.inputs).index(name) for name in reference.differentiable)
    along = tuple(case.cotangents.get(name) for name in reference.outputs)
    with np.errstate(all="ignore"):
        _, gradients = outputs_and_gradients(function, tuple(case.inputs.values()), {}, along, positions)
    for name, mistaken in zip(reference.differentiable, gradients, strict=True):
        key = ("gradient", name)
        if name in names and not np.isfinite(
            _distance(got[key], np.asarray(mistaken), expected[key], tolerances[key], True)
        ):
            return False
    return True


def _distance(
    got: np.ndarray, mistaken: np.ndarray, expected: np.ndarray, tolerance: np.ndarray, differs: bool
) -> float:
    """The distance of ``got`` from ``mistaken`` in units of that from ``expected``; infinite if it is beyond rounding.

    Rounding is a few tolerances, more where the mistake makes larger numbers. Rows in which the mistake leaves nothing to
    attend to are zero here and may be NaN elsewhere; where it overflows, ``got`` must too. differs: whether ``got`` must be
    clearly nearer to ``mistaken`` than to ``expected``.
    """
    if got.shape != mistaken.shape:
        return np.inf
    bad, beyond = ~np.isfinite(got), ~np.isfinite(mistaken)
    empty = (mistaken == 0).all(axis=-1, keepdims=True) if mistaken.ndim else mistaken == 0
    if (beyond & ~bad).any() or (bad & ~(beyond | empty)).any():
        return np.inf
    kept = ~bad & np.isfinite(expected)
    error, other = got[kept] - mistaken[kept], got[kept] - expected[kept]
    largest = max(float(np.abs(expected[kept]).max(initial=0)), 1e-300)
    scale = max(1.0, float(np.abs(mistaken[kept]).max(initial=0)) / largest)
    if not (np.abs(error) <= 4 * scale * tolerance.max(initial=0)).all():
        return np.inf
    near, far = float(np.square(error).sum()), float(np.square(other).sum())
    if differs and not beyond.any() and not near < far / 16:
        return np.inf
    return float(np.sqrt(near / far)) if far > 0 and differs else 0.0
