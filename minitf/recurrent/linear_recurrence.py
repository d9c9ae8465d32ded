"""The gated linear recurrence, which all recurrences that train in parallel are made of.

    h_t = a_t h_{t-1} + b_t                                       every channel by itself

A step is the map h -> a h + b. Maps of this kind compose to maps of this kind,

    (a, b) then (a', b')  =  (a' a, a' b + b'),

and composition is associative, so the T steps need not be taken one after another. Forms, all with the same result up to
rounding:

    scan          step by step in a compiled kernel (``minitf.kernels.scan``): 2 T P FLOPs
    sequential    step by step in array operations
    chunked       the kernel on all chunks of time side by side, after finding what each does to a state: 5 T P
    associative   neighbours are composed, the half as many maps that result scanned the same way, and every other
                  state follows by one more step: 5 T P in log2(T) rounds

The gradient is the same recurrence backwards in time: with λ_t the cotangent of h_t and of all that follows from it,

    λ_t = g_t + a_{t+1} λ_{t+1},    b̄_t = λ_t,    ā_t = λ_t h_{t-1}.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.checked import checked
from minitf.autodiff.dispatch import compiled
from minitf.autodiff.dtypes import common_dtype
from minitf.autodiff.ops.shape import unstack
from minitf.autodiff.rules import defcost, defjvp_all, defvjp_all
from minitf.autodiff.tensor import Primitive, Tensor, as_tensor, bind
from minitf.kernels import scan as kernels
from minitf.registry import reference

if TYPE_CHECKING:
    from jaxtyping import Float

FORMS = ("scan", "sequential", "chunked", "associative")
#: elements below which twins of recurrences, which take T steps in Python, are as fast as their kernels
SMALL = 256


# -- the primitive: a, b (B, T, P), h0 (B, P) -> h (B, T, P), T at least 1 -----------------------------------------------


def _sequential(a: Any, b: Any, h: Any, *, reverse: bool = False, chunk: int | None = None) -> Tensor:
    if chunk is not None:
        return _chunked(a, b, h, reverse, chunk)
    steps, states = list(zip(unstack(a, 1), unstack(b, 1), strict=True)), []
    for a_t, b_t in reversed(steps) if reverse else steps:
        h = a_t * h + b_t
        states.append(h)
    return mt.stack(states[::-1] if reverse else states, 1)


def _chunked(a: Any, b: Any, h0: Any, reverse: bool, chunk: int) -> Tensor:
    if reverse:
        return mt.flip(_chunked(mt.flip(a, 1), mt.flip(b, 1), h0, False, chunk), 1)
    B, T, P = a.shape
    chunks = -(-T // chunk)
    rest = ((0, 0), (0, chunks * chunk - T), (0, 0))  # steps that change nothing
    a, b = (mt.reshape(x, (B * chunks, chunk, P)) for x in (mt.pad(a, rest, 1), mt.pad(b, rest)))
    decay, end = mt.prod(a, 1), _sequential(a, b, mt.zeros((B * chunks, P), a.dtype))[:, -1]
    ends = _sequential(mt.reshape(decay, (B, chunks, P)), mt.reshape(end, (B, chunks, P)), h0)
    starts = _before(ends, h0, False)
    h = _sequential(a, b, mt.reshape(starts, (B * chunks, P)))
    return mt.reshape(h, (B, chunks * chunk, P))[:, :T]


def _before(h: Tensor, h0: Any, reverse: bool) -> Tensor:
    """The state in front of every step."""
    parts = [h[:, 1:], h0[:, None]] if reverse else [h0[:, None], h[:, :-1]]
    return mt.concatenate(parts, 1)


recurrence_p = Primitive(
    "linear_recurrence",
    compiled(kernels.linear_recurrence, kernels.linear_recurrence_twin, small=SMALL),
    decomposition=_sequential,
)


def _pull(g: Any, h: Any, a: Any, b: Any, h0: Any, *, reverse: bool, chunk: int | None) -> tuple[Tensor, ...]:
    zeros = mt.zeros_like(h0)
    later = bind(recurrence_p, _before(a, zeros, not reverse), g, zeros, reverse=not reverse, chunk=chunk)
    first = (slice(None), -1 if reverse else 0)
    return later * _before(h, h0, reverse), later, a[first] * later[first]


def _push(tangents: list[Any], h: Any, a: Any, b: Any, h0: Any, *, reverse: bool, chunk: int | None) -> Tensor:
    of_a, of_b, of_h0 = tangents
    drive = mt.zeros_like(b) if of_b is None else of_b
    if of_a is not None:
        drive = drive + of_a * _before(h, h0, reverse)
    return bind(recurrence_p, a, drive, mt.zeros_like(h0) if of_h0 is None else of_h0, reverse=reverse, chunk=chunk)


defvjp_all(recurrence_p, _pull, saves=(0, 2, "out"))
defjvp_all(recurrence_p, _push)


def _cost(h: Any, a: np.ndarray, b: Any, h0: np.ndarray, *, reverse: bool, chunk: int | None) -> tuple[int, int]:
    T = a.shape[1]
    if chunk is None or chunk >= T:
        return 2 * a.size, 0
    return 5 * a.size + 2 * -(-T // chunk) * h0.size, 0


defcost(recurrence_p, _cost)


# -- the tree -------------------------------------------------------------------------------------------------------------


def associative_scan(a: Tensor, b: Tensor) -> Tensor:
    """All states h_t = a_t h_{t-1} + b_t from h_{-1} = 0, time on axis 1, any axes behind it."""
    B, T, *rest = a.shape
    if T < 2:
        return b
    pairs = T // 2
    first, second = slice(0, 2 * pairs, 2), slice(1, None, 2)
    odd = associative_scan(a[:, second] * a[:, first], a[:, second] * b[:, first] + b[:, second])
    even = mt.concatenate([b[:, :1], a[:, 2::2] * odd[:, : T - pairs - 1] + b[:, 2::2]], 1)
    together = mt.reshape(mt.stack([even[:, :pairs], odd], 2), (B, 2 * pairs, *rest))
    return mt.concatenate([together, even[:, pairs:]], 1)


def associative_states(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """h0 and the T states after it, (B, T + 1, ...): the state in front is a step that forgets everything."""
    return associative_scan(*(mt.concatenate([x[:, None], y], 1) for x, y in ((mt.zeros_like(h0), a), (h0, b))))


@checked
def gated_linear_recurrence(
    a: Float[Tensor, "*B T P"],
    b: Float[Tensor, "*B T P"],
    *,
    state: Float[Tensor, "*B P"] | None = None,
    form: str = "scan",
    chunk: int = 64,
    reverse: bool = False,
    return_state: bool = False,
) -> Any:
    """All states h (*, T, P) of h_t = a_t h_{t-1} + b_t.

    a, b: (*, T, P). state: (*, P), the state in front of the first step, zeros by default.
    form: "scan", "sequential", "chunked" (in chunks of ``chunk`` steps) or "associative"; see the module.
    reverse: from the last step to the first, h_t = a_t h_{t+1} + b_t.
    return_state: return (h, state after the last step taken).

    Raises ShapeError when shapes disagree, ValueError for another form or a chunk below 1.
    """
    if form not in FORMS:
        raise ValueError(f"gated_linear_recurrence: form must be one of {', '.join(FORMS)}, got {form!r}")
    if chunk < 1:
        raise ValueError(f"gated_linear_recurrence: chunk must be at least 1, got {chunk!r}")
    a, b, h0 = operands(a, b, state)
    shape, (T, P) = a.shape, a.shape[-2:]
    B = math.prod(shape[:-2])
    h0 = mt.zeros((B, P), a.dtype) if h0 is None else mt.reshape(h0, (B, P))
    if T == 0:
        return (b, mt.reshape(h0, (*shape[:-2], P))) if return_state else b
    a, b = mt.reshape(a, (B, T, P)), mt.reshape(b, (B, T, P))
    if form == "sequential":
        h = _sequential(a, b, h0, reverse=reverse)
    elif form == "associative":
        turned = (lambda x: mt.flip(x, 1)) if reverse else (lambda x: x)
        h = turned(associative_states(turned(a), turned(b), h0)[:, 1:])
    else:
        h = bind(recurrence_p, a, b, h0, reverse=reverse, chunk=chunk if form == "chunked" else None)
    h = mt.reshape(h, shape)
    return (mt.store(h), h[..., 0 if reverse else -1, :]) if return_state else mt.store(h)


def operands(*xs: Any) -> list[Any]:
    """``xs`` as Tensors of the dtype in which they meet; None stays None."""
    tensors = [None if x is None else as_tensor(x) for x in xs]
    dtype = common_dtype(*(x.dtype for x in tensors if x is not None))
    return [None if x is None else mt.astype(x, dtype) for x in tensors]


# -- what the oracle asks --------------------------------------------------------------------------------------------


def recurrence_with_state(a: Any, b: Any, state: Any, **options: Any) -> tuple[Tensor, Tensor]:
    """(h, state after the last step taken): ``gated_linear_recurrence`` from a given state."""
    return gated_linear_recurrence(a, b, state=state, return_state=True, **options)


def _example(draw: Any, size: str, *, reverse: bool = False, slow: bool = False) -> Any:
    B, T, P = {"tiny": (1, 3, 2), "small": (2, 33, 8), "medium": (2, 514, 32)}[size]
    decay = 1 - draw.uniform((B, T, P), 0.001, 0.01) if slow else draw.uniform((B, T, P), 0.1, 0.99)
    inputs = {"a": decay, "b": draw.normal((B, T, P)), "state": draw.normal((B, P))}
    return inputs, {"reverse": True} if reverse else {}


reference(
    "recurrent.gated_linear_recurrence",
    recurrence_with_state,
    example=_example,
    differentiable=("a", "b", "state"),
    outputs=("out", "state"),
    options=({}, {"slow": True}, {"reverse": True}),
    forms=({}, {"form": "associative"}),
    axes={"a": "BTD", "b": "BTD", "state": "BD", "out": "BTD"},
)
