"""``check_grads``: rules against central differences, in random directions, to any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minitf.autodiff.dtypes import is_complex, is_inexact
from minitf.autodiff.errors import describe
from minitf.autodiff.tensor import Tensor, as_tensor, no_grad, plain
from minitf.autodiff.transform import jvp, vjp
from minitf.autodiff.tree import tree_leaves


def check_grads(
    function: Callable[..., Any],
    *args: Any,
    order: int = 2,
    modes: Sequence[str] = ("vjp", "jvp"),
    rng: np.random.Generator | None = None,
    step: float = 1e-4,
    rtol: float = 1e-6,
    atol: float = 1e-6,
) -> None:
    """Checks the derivatives of ``function`` at ``args`` up to ``order``, in float64.

    args: arrays; integer and boolean ones are held fixed. Keep them away from kinks: a difference quotient across one
        is no derivative.
    modes: "vjp" (reverse) and/or "jvp" (forward). Each is compared along one random direction with a fourth-order
        central difference of width ``step``; the function that the rule computes is then checked again, to ``order``.

    Raises AssertionError naming the mode, the order and both numbers.
    """
    for mode in modes:
        if mode not in ("vjp", "jvp"):
            raise ValueError(f"check_grads: modes are 'vjp' and 'jvp', got {mode!r}")
    values = [as_tensor(a) for a in args]
    free = [i for i, v in enumerate(values) if is_inexact(v.dtype)]
    if not free:
        raise TypeError("check_grads: no argument is floating, there is nothing to differentiate")
    for i in free:
        kind = np.complex128 if is_complex(values[i].dtype) else np.float64
        values[i] = plain(values[i].data.astype(kind))
    rng = rng or np.random.default_rng(0)

    def of_free(*xs: Tensor) -> tuple[Tensor, ...]:
        full: list[Any] = list(values)
        for i, x in zip(free, xs, strict=True):
            full[i] = x
        out = [as_tensor(o) for o in tree_leaves(function(*full))]
        return tuple(o for o in out if is_inexact(o.dtype))

    _check(of_free, [values[i] for i in free], order, tuple(modes), rng, step, rtol, atol, "")


def _check(
    f: Any,
    xs: list[Tensor],
    order: int,
    modes: tuple[str, ...],
    rng: Any,
    step: float,
    rtol: float,
    atol: float,
    path: str,
) -> None:
    directions = [_random(x, rng) for x in xs]
    with no_grad():
        measured = _difference(f, xs, directions, step)
    outs = [o.data for o in f(*xs)]
    weights = [_random(plain(o), rng) for o in outs]
    scale = max((np.abs(m).max(initial=0.0) for m in measured), default=0.0)

    if "jvp" in modes:
        _, tangents = jvp(f, tuple(xs), tuple(directions))
        for i, (got, want) in enumerate(zip(tangents, measured, strict=True)):
            _compare(got.data, want, scale, rtol, atol, f"{path}jvp of output {i}")
    if "vjp" in modes:
        _, pullback = vjp(f, *xs)
        pulled = pullback(tuple(weights))
        for i, (p, x) in enumerate(zip(pulled, xs, strict=True)):
            if (p.shape, p.dtype) != (x.shape, x.dtype):
                raise AssertionError(
                    f"check_grads: {path}vjp of argument {i} is {describe(p)}, the argument is {describe(x)}"
                )
        got = sum((np.sum(np.conj(p.data) * d.data)).real for p, d in zip(pulled, directions, strict=True))
        want = sum((np.sum(np.conj(w.data) * m)).real for w, m in zip(weights, measured, strict=True))
        size = sum(np.sum(np.abs(w.data) * np.abs(m)) for w, m in zip(weights, measured, strict=True))
        _compare(np.asarray(got), np.asarray(want), float(size), rtol, atol, f"{path}vjp")
    if order > 1:
        deeper = (rng, step, rtol, atol)
        if "jvp" in modes:

            def tangent(*ys: Tensor) -> tuple[Tensor, ...]:
                return tuple(jvp(f, tuple(ys), tuple(directions))[1])

            _check(tangent, xs, order - 1, modes, *deeper, f"{path}jvp -> ")
        if "vjp" in modes:

            def pulled_back(*ys: Tensor) -> tuple[Tensor, ...]:
                return vjp(f, *ys)[1](tuple(weights))

            _check(pulled_back, xs, order - 1, modes, *deeper, f"{path}vjp -> ")


def _random(x: Tensor, rng: np.random.Generator) -> Tensor:
    draw = rng.standard_normal(x.shape)
    if is_complex(x.dtype):
        draw = draw + 1j * rng.standard_normal(x.shape)
    return plain(np.asarray(draw, dtype=x.dtype))


def _difference(f: Any, xs: list[Tensor], directions: list[Tensor], h: float) -> list[np.ndarray]:
    def at(k: float) -> list[np.ndarray]:
        return [o.data for o in f(*(plain(x.data + k * h * d.data) for x, d in zip(xs, directions, strict=True)))]

    far_plus, plus, minus, far_minus = at(2), at(1), at(-1), at(-2)
    return [(8 * (p - m) - (pp - mm)) / (12 * h) for pp, p, m, mm in zip(far_plus, plus, minus, far_minus, strict=True)]


def _compare(got: np.ndarray, want: np.ndarray, scale: float, rtol: float, atol: float, what: str) -> None:
    if got.shape != want.shape:
        raise AssertionError(f"check_grads: {what} has shape {got.shape}, the function's change {want.shape}")
    error = np.abs(got - want)
    bound = atol + rtol * max(scale, 1.0)
    if not (error <= bound).all():
        worst = np.unravel_index(np.argmax(np.where(np.isnan(error), np.inf, error)), error.shape)
        raise AssertionError(
            f"check_grads: {what} is {got[worst]!r} at {tuple(int(i) for i in worst)}, "
            f"a central difference gives {want[worst]!r} (allowed difference {bound:.1e})"
        )
