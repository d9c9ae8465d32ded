"""What every recurrence owes: all its forms say the same, and a sequence may be cut anywhere and continued.

forms_agree({form: lambda a, b: function(a, b, form=form) for form in FORMS}, a, b)
continues(lambda a, b, state: function(a, b, state=state, return_state=True), (a, b), axis=-2, cuts=(0, 3, 3))
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import minitf as mt


def everything(function: Callable[..., Any], *arrays: np.ndarray) -> list[np.ndarray]:
    """Outputs, the gradients of all arguments and the tangents of all outputs, along directions that are always the same."""
    rng = np.random.default_rng(0)
    outs, pullback = mt.vjp(lambda *xs: tuple(mt.tree_leaves(function(*xs))), *arrays)
    pulled = pullback(tuple(rng.standard_normal(o.shape) for o in outs))
    directions = [rng.standard_normal(a.shape) for a in arrays]
    tangents = mt.jvp(lambda *xs: tuple(mt.tree_leaves(function(*xs))), arrays, directions)[1]
    return [x.data for x in (*outs, *pulled, *tangents)]


def forms_agree(functions: Mapping[str, Callable[..., Any]], *arrays: np.ndarray, atol: float = 1e-12) -> None:
    """All ``functions`` have the same values, gradients and tangents, relative to the largest entry of each."""
    results = {form: everything(function, *arrays) for form, function in functions.items()}
    first, *others = results
    for form in others:
        for i, (got, want) in enumerate(zip(results[form], results[first], strict=True)):
            scale = max(float(np.abs(want).max(initial=0)), 1)
            np.testing.assert_allclose(got, want, rtol=0, atol=atol * scale, err_msg=f"{form}, {first}: result {i}")


def continues(
    run: Callable[..., Any], arrays: Sequence[np.ndarray], *, axis: int, cuts: Sequence[int], atol: float = 1e-12
) -> None:
    """``run(*arrays, state) -> (y, state)`` on the whole sequence is ``run`` on its pieces, state handed on."""
    y, last = run(*arrays, None)
    T, parts, state = arrays[0].shape[axis], [], None
    for start, stop in itertools.pairwise([0, *sorted(cuts), T]):
        window = (..., slice(start, stop), *(slice(None),) * (-axis - 1))
        piece, state = run(*(a[window] for a in arrays), state)
        parts.append(piece.data)
    np.testing.assert_allclose(np.concatenate(parts, axis), y.data, rtol=0, atol=atol)
    for got, want in zip(mt.tree_leaves(state), mt.tree_leaves(last), strict=True):
        np.testing.assert_allclose(got.data, want.data, rtol=0, atol=atol)


def on_grid(x: Any, format: str) -> bool:
    """Whether all values are ones that the storage format has."""
    values = np.asarray(x.data, np.float32)
    return np.array_equal(values, values.astype(mt.autodiff.dtypes.as_dtype(format)).astype(np.float32))
