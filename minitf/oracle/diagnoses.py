"""Why it is wrong: mistakes that would explain an error, found by making them.

Two kinds. *Patterns* compare a wrong array with the right one: zeros, another axis order, a constant factor, another
input's gradient, NaN where there is nothing to attend to. *Counterfactuals* evaluate the reference with a mistake put
in, such as no scale or a causal mask that is off by one, and look whether the wrong arrays are what comes out. A
mistake is named only if it explains the values to within rounding.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from minitf.oracle.answers import Arrays, Case, answer
from minitf.registry import Reference

#: (kind, name) -> array, with kind "output" or "gradient"
Named = Mapping[tuple[str, str], np.ndarray]


def diagnose(
    reference: Reference, case: Case, got: Named, tolerances: Named, failed: set[tuple[str, str]]
) -> list[str]:
    """Explanations, the likeliest first: of all failed arrays together if there is one, else of each alone."""
    expected = {("output", name): x for name, x in case.outputs.items()}
    expected |= {("gradient", name): x for name, x in case.gradients.items()}
    if failed and all(np.isfinite(got[key]).all() for key in failed):
        for told, outputs, gradients in counterfactuals(reference, case):
            mistaken = {("output", name): x for name, x in outputs.items()}
            mistaken |= {("gradient", name): x for name, x in gradients.items()}
            if all(_explains(got[key], mistaken[key], expected[key], tolerances[key]) for key in failed):
                return [f"this is what comes out {told} ({case.place})"]
    found = []
    for kind, name in sorted(failed, reverse=True):
        others = {other: x for (k, other), x in expected.items() if k == kind == "gradient" and other != name}
        reason = pattern(got[kind, name], expected[kind, name], tolerances[kind, name], others)
        if reason:
            what = name if kind == "output" else f"the gradient of {name}"
            found.append(f"{what} {reason} ({case.place})")
    return found


def pattern(got: np.ndarray, expected: np.ndarray, tolerance: np.ndarray, others: Arrays) -> str | None:
    """What ``got`` is instead of ``expected``, if that can be said."""
    wrong = ~np.isfinite(got) & np.isfinite(expected)
    if wrong.any():
        what = "NaN" if np.isnan(got[wrong]).any() else "infinite"
        rows = wrong.any(axis=-1) if wrong.ndim else wrong
        empty = (expected == 0).all(axis=-1) if wrong.ndim else expected == 0
        if rows.any() and (rows & empty).sum() == rows.sum():
            return f"is {what} in the rows that must be zero, where there is nothing to attend to"
        return f"is {what} in {int(wrong.sum())} of {wrong.size} elements"
    if not got.any():
        return "is all zeros"
    norm = np.sum(expected * expected)
    if norm > 0:
        factor = float(np.sum(got * expected) / norm)
        if abs(factor) > 1e-3 and (np.abs(got - factor * expected) <= max(1.0, abs(factor)) * tolerance).all():
            return "has the wrong sign" if abs(factor + 1) < 0.01 else f"is {factor:.4g} times what it should be"
    for axes in itertools.combinations(range(expected.ndim), 2):
        swapped = np.swapaxes(expected, *axes)
        if swapped.shape == got.shape and (np.abs(got - swapped) <= 2 * tolerance.max()).all():
            return f"has its axes {axes[0]} and {axes[1]} exchanged"
    for name, other in others.items():
        if other.shape == got.shape and (np.abs(got - other) <= 2 * tolerance.max()).all():
            return f"is what the gradient of {name} should be"
    return None


def counterfactuals(reference: Reference, case: Case) -> Iterator[tuple[str, Arrays, Arrays]]:
    """(in words, outputs, gradients) of the reference with one mistake each."""
    for told, changed in _other_options(reference, case):
        yield told, *answer(reference, case.inputs, {**case.options, **changed}, case.cotangents)
    for a, b in itertools.combinations(case.inputs, 2):
        if case.inputs[a].shape == case.inputs[b].shape:
            inputs = {**case.inputs, a: case.inputs[b], b: case.inputs[a]}
            outputs, gradients = answer(reference, inputs, case.options, case.cotangents)
            if a in gradients and b in gradients:
                gradients = {**gradients, a: gradients[b], b: gradients[a]}
            yield f"with {a} and {b} exchanged", outputs, gradients


def _other_options(reference: Reference, case: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    known = inspect.signature(reference.function).parameters
    first, second = (*case.inputs.values(), *case.inputs.values())[:2]
    for name, value in case.options.items():
        if isinstance(value, np.ndarray) and value.dtype == np.bool_:
            yield f"without {name}", {name: None}
            yield f"with {name} inverted", {name: ~value}
            for step in (1, -1):
                yield f"with {name} off by one", {name: np.roll(value, step, axis=-1)}
        elif value is True:
            yield f"without {name}", {name: False}
        elif isinstance(value, float):
            yield f"with {name} of the opposite sign", {name: -value}
            yield f"without {name}", {name: 0.0}
    if case.options.get("causal") is True and "mask" in known and "mask" not in case.options:
        T, S = first.shape[-2], second.shape[-2]
        for offset, told in ((1, "one key too many"), (-1, "one key too few")):
            yield (
                f"with the causal mask off by one ({told})",
                {"causal": False, "mask": np.tri(T, S, S - T + offset) > 0},
            )
    if "scale" in known and "scale" not in case.options:
        width = first.shape[-1]
        yield "without the scale 1/sqrt(E)", {"scale": 1.0}
        yield "with the scale 1/sqrt(E) applied twice", {"scale": 1.0 / width}


def _explains(got: np.ndarray, mistaken: np.ndarray, expected: np.ndarray, tolerance: np.ndarray) -> bool:
    """Whether ``got`` is ``mistaken`` up to rounding, and clearly nearer to it than to ``expected``."""
    if got.shape != mistaken.shape or not np.isfinite(mistaken).all():
        return False
    scale = max(1.0, float(np.abs(mistaken).max(initial=0)) / max(float(np.abs(expected).max(initial=0)), 1e-300))
    near = (np.abs(got - mistaken) <= 2 * scale * tolerance.max(initial=0)).all()
    return bool(near) and float(np.square(got - mistaken).sum()) < float(np.square(got - expected).sum()) / 16
