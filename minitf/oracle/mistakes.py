"""Mistakes to make on purpose: a reference with something wrong in it, and how that is told.

Three sources. What a technique registers itself comes first (``reference(..., mistakes=...)``). *Substitutes* stand in for
a primitive while the reference runs (``minitf.oracle.substitutes``): attention over the wrong axis, a norm with its epsilon
elsewhere; every technique that uses the primitive has them. *Changes* of inputs and options need to know nothing of the
technique: an option left out, a mask inverted, an input that is zero, exchanged with another or one step late. All are
differentiated like the reference, so gradients are those of the mistake.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.dtypes import is_inexact
from minitf.autodiff.tensor import Tensor, as_tensor
from minitf.oracle.answers import Case
from minitf.oracle.substitutes import SUBSTITUTES, Function, substituted
from minitf.registry import Reference


def mistakes(reference: Reference, case: Case) -> Iterator[tuple[str, Function]]:
    """(how it is told, function of the case's inputs with the mistake in it), the likelier ones first.

    Functions may raise, where a mistake makes no sense, and may return the right answer, where it changes nothing.
    """
    for told, function in reference.mistakes.items():
        yield told, functools.partial(function, **case.options)
    right = functools.partial(reference.function, **case.options)
    for primitive, of_primitive in SUBSTITUTES.items():
        for told, substitute in of_primitive(case):
            yield told, substituted(right, {primitive: substitute})
    for told, changed in _other_options(reference, case):
        yield told, functools.partial(reference.function, **{**case.options, **changed})
    yield from _other_inputs(reference, case, right)


def _other_options(reference: Reference, case: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, value in case.options.items():
        if isinstance(value, np.ndarray) and value.dtype == np.bool_:
            yield f"without {name}", {name: None}
            yield f"with {name} inverted", {name: ~value}
            for step in (1, -1):
                yield f"with {name} off by one", {name: np.roll(value, step, axis=-1)}
            if value.ndim > 1 and value.shape[-1] == value.shape[-2]:
                yield f"with {name} transposed", {name: np.swapaxes(value, -1, -2)}
        elif isinstance(value, bool):
            yield f"{'without' if value else 'with'} {name}", {name: not value}
        elif isinstance(value, int):
            for other in (value - 1, value + 1):
                yield f"with {name} = {other} instead of {value}", {name: other}
        elif isinstance(value, float):
            yield f"with {name} of the opposite sign", {name: -value}
            yield f"without {name}", {name: 0.0}


def _other_inputs(reference: Reference, case: Case, right: Function) -> Iterator[tuple[str, Function]]:
    names = list(case.inputs)

    def with_inputs(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Function:
        def run(*inputs: Any) -> Any:
            named = dict(zip(names, inputs, strict=True))
            return right(*(named | change(named)).values())

        return run

    for a, b in itertools.combinations(names, 2):
        if case.inputs[a].shape == case.inputs[b].shape:
            yield f"with {a} and {b} exchanged", with_inputs(lambda x, a=a, b=b: {a: x[b], b: x[a]})
    floating = [name for name in names if is_inexact(case.inputs[name].dtype)]
    for name in floating:
        for told, change in _changes(name, case.inputs[name].shape, reference.axes.get(name, "")):
            yield told, with_inputs(lambda x, name=name, change=change: {name: change(as_tensor(x[name]))})
    headed = {n: change for n in floating if (change := _headless(case.inputs[n].shape, reference.axes.get(n, "")))}
    if len(headed) > 1:
        yield (
            "with axes of heads and positions not exchanged in any input: heads are interleaved",
            with_inputs(lambda x: {name: change(as_tensor(x[name])) for name, change in headed.items()}),
        )


def _changes(name: str, shape: tuple[int, ...], axes: str) -> Iterator[tuple[str, Function]]:
    """Mistakes with one input of this shape."""
    forgotten = "bias" in name or name == "state"
    yield f"with {name} forgotten" if forgotten else f"with zeros for {name}", lambda x: x * 0.0
    yield f"with ones for {name}", lambda x: x * 0.0 + 1.0
    yield f"with -{name} instead of {name}", lambda x: -x
    if len(shape) > 1 and shape[-1] == shape[-2]:
        yield f"with {name} transposed", lambda x: mt.swapaxes(x, -1, -2)
    for axis, letter in enumerate(axes):
        if letter in "TS" and len(axes) == len(shape) and shape[axis] > 1:
            for told, step in (("late", 1), ("early", -1)):
                yield f"with {name} one step {told}", functools.partial(_shifted, axis=axis, step=step)
            yield f"with {name} in reverse order", functools.partial(mt.flip, axis=axis)
    if change := _headless(shape, axes):
        yield f"with heads and positions of {name} not exchanged: its heads are interleaved", change


def _shifted(x: Tensor, axis: int, step: int) -> Tensor:
    """``x`` one step later (or earlier), and zeros where nothing comes from."""
    keep = np.ones(x.shape[axis])
    keep[0 if step > 0 else -1] = 0.0
    return mt.roll(x, step, axis) * keep.reshape([-1 if i == axis else 1 for i in range(x.ndim)])


def _headless(shape: tuple[int, ...], axes: str) -> Function | None:
    """What reads an array of heads as if positions came before heads in memory, if it has both."""
    if len(shape) != 4 or len(axes) != 4 or axes[1] not in "HK" or axes[2] not in "TS" or 1 in shape[1:3]:
        return None
    B, H, T, E = shape
    return lambda x: mt.swapaxes(mt.reshape(x, (B, T, H, E)), 1, 2)
