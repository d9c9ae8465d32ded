"""Mistakes as substitutes for primitives: what stands in for one while a function runs, and how that is told.

A substitute takes the arguments and parameters of its primitive and is written with ``mt``, so it is differentiated like
anything else, and its gradients are those of the mistake.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.dtypes import is_inexact
from minitf.autodiff.precision import FORMATS
from minitf.autodiff.tensor import Primitive, Tensor, Trace, as_tensor, bind, lower, traced
from minitf.nn.activations import gelu, silu
from minitf.nn.fused_attention import attention
from minitf.nn.softmax import softmax
from minitf.oracle.answers import Case

Function = Callable[..., Any]


class _Substitution(Trace):
    """Records nothing, but calls something else for the primitives named in ``table``."""

    __slots__ = ("table",)

    def __init__(self, table: Mapping[str, Function]):
        super().__init__()
        self.table = table

    def process(self, primitive: Primitive, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        function = self.table.get(primitive.name, functools.partial(bind, primitive))
        out = function(*(lower(a, self) for a in args), **params)
        return tuple(traced(o, self, None) for o in out) if primitive.many else traced(out, self, None)


def substituted(function: Function, table: Mapping[str, Function]) -> Function:
    """``function`` with the primitives named in ``table`` replaced wherever they touch its inputs."""

    def run(*inputs: Any, **options: Any) -> Any:
        trace = _Substitution(table)
        given = [traced(t, trace, None) if is_inexact((t := as_tensor(x)).dtype) else x for x in inputs]
        try:
            out = function(*given, **options)
        finally:
            trace.active = False
        return tuple(lower(o, trace) for o in out) if isinstance(out, tuple | list) else lower(out, trace)

    return run


def _of_attention(case: Case) -> Iterator[tuple[str, Function]]:
    """Substitutes for ``nn.fused_attention.attention``, which returns (out, lse)."""

    def changed(
        change: Callable[..., dict[str, Any]], call: Function = attention
    ) -> Callable[..., tuple[Tensor, Tensor]]:
        """Attention with some of its arguments others; ``change`` has the arguments by name and returns those."""

        def run(q: Any, k: Any, v: Any, bias: Any, mask: Any, sinks: Any, **choices: Any) -> tuple[Tensor, Tensor]:
            named = {"q": q, "k": k, "v": v, "bias": bias, "mask": mask, "sinks": sinks, **choices}
            return call(**{**named, **change(**named)})

        return run

    yield "without the scale 1/sqrt(E)", changed(lambda **_: {"scale": 1.0})
    yield "with the scale 1/sqrt(E) applied twice", changed(lambda scale, **_: {"scale": scale * scale})
    yield "with the scale sqrt(E) instead of 1/sqrt(E)", changed(lambda scale, **_: {"scale": 1 / scale})
    yield "with the scale 1/E**0.25", changed(lambda scale, **_: {"scale": scale**0.5})
    yield "with 2**x instead of exp(x) in the softmax", changed(lambda scale, **_: {"scale": scale * math.log(2)})
    yield (
        "with the scale 1/sqrt(H E) of the whole width instead of a head's",
        changed(lambda q, scale, **_: {"scale": scale * q.shape[-3] ** -0.5}),
    )
    yield (
        "with the mask added as a large negative number, not -inf: queries without keys get the mean of the values",
        changed(lambda **_: {}, _with_means),
    )
    for told, change in BANDS.items():
        yield told, changed(change)
        yield told, changed(change, _with_means)  # libraries differ in what a query without keys gets
    yield (
        "with key/value heads grouped as h % K instead of h // (H/K)",
        changed(lambda q, k, v, **_: {"k": _modulo(k, q), "v": _modulo(v, q)}),
    )
    yield "without the last key and value", changed(lambda mask, **rest: {"mask": _without_key(mask, -1, **rest)})
    yield "without the first key and value", changed(lambda mask, **rest: {"mask": _without_key(mask, 0, **rest)})
    yield "with the values one position late", changed(lambda v, **_: {"v": mt.roll(v, 1, -2)})
    yield "with the values one position early", changed(lambda v, **_: {"v": mt.roll(v, -1, -2)})
    yield "with the keys one position late", changed(lambda k, **_: {"k": mt.roll(k, 1, -2)})
    yield "with the keys one position early", changed(lambda k, **_: {"k": mt.roll(k, -1, -2)})
    for told, weigh in WEIGHTS.items():
        yield told, functools.partial(_attend, weigh=weigh)
    for format in dict.fromkeys(("float32", case.dtype)):
        yield (
            "without the largest logit subtracted before exp, which overflows",
            functools.partial(_attend, weigh=functools.partial(_overflowing, format=format)),
        )
    S = max((x.shape[-2] for x in case.inputs.values() if x.ndim > 1), default=1)
    for size in sorted({2, 4, 5, 8, 16, 32, 64, 128, (S + 1) // 2} & set(range(2, S))):
        for told, how in TILES.items():
            yield f"{told} (tiles of {size} keys)", functools.partial(_attend_in_tiles, size=size, **how)


#: the bounds of i - j, or the mask, that a wrong mask has
BANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "with the causal mask off by one (one key too many)": lambda nearest, **_: {"nearest": nearest - 1},
    "with the causal mask off by one (one key too few)": lambda nearest, **_: {"nearest": nearest + 1},
    "without the causal mask": lambda nearest, q, **_: {"nearest": min(nearest, -q.shape[-2])},
    "with a causal mask that nobody asked for": lambda nearest, **_: {"nearest": max(nearest, 0)},
    "with the causal mask aligned to the first key, not to the last": lambda nearest, q, k, **_: {
        "nearest": nearest + (k.shape[-2] - q.shape[-2] if nearest == 0 else 0)
    },
    "with the causal mask inverted": lambda q, k, nearest, **_: (
        {"nearest": -q.shape[-2], "farthest": -1} if nearest == 0 else {}
    ),
    "with the causal mask transposed (triu for tril)": lambda q, k, nearest, **_: (
        {"nearest": -q.shape[-2], "farthest": 0} if nearest == 0 else {}
    ),
    "without the mask": lambda **_: {"mask": None},
    "with the mask inverted": lambda mask, **_: {"mask": None if mask is None else ~as_tensor(mask).data},
}


def _modulo(x: Tensor, q: Tensor) -> Tensor:
    """Keys or values (*, K, S, E) for the heads of q, head h reading h % K."""
    return mt.take(x, np.arange(q.shape[-3]) % x.shape[-3], -3)


def _without_key(mask: Any, key: int, *, q: Tensor, k: Tensor, **_: Any) -> np.ndarray:
    allowed = np.ones((q.shape[-2], k.shape[-2]), bool)
    allowed[:, key] = False
    return allowed if mask is None else allowed & as_tensor(mask).data


def _logits(q: Tensor, k: Tensor, bias: Any, mask: Any, choices: Mapping[str, Any], fill: float = -math.inf) -> Tensor:
    """(*, H, T, S), ``fill`` where a query may not attend."""
    T, S = q.shape[-2], k.shape[-2]
    s = mt.matmul(q * choices["scale"], mt.swapaxes(_for_heads(k, q), -1, -2))
    s = s if bias is None else s + bias
    if choices["softcap"]:
        s = choices["softcap"] * mt.tanh(s / choices["softcap"])
    distance = np.arange(S - T, S)[:, None] - np.arange(S)
    allowed = (choices["nearest"] <= distance) & (distance <= choices["farthest"])
    return mt.where(allowed if mask is None else allowed & as_tensor(mask).data, s, fill)


def _for_heads(x: Tensor, q: Tensor) -> Tensor:
    return x if x.ndim < 3 or x.shape[-3] == q.shape[-3] else mt.repeat(x, q.shape[-3] // x.shape[-3], axis=-3)


def _attend(
    q: Any,
    k: Any,
    v: Any,
    bias: Any,
    mask: Any,
    sinks: Any,
    *,
    weigh: Function,
    fill: float = -math.inf,
    **choices: Any,
) -> tuple[Tensor, Tensor]:
    """Attention with the weights weigh(logits). What stands for lse is of its shape only."""
    q, k, v = as_tensor(q), as_tensor(k), as_tensor(v)
    out = mt.matmul(weigh(_logits(q, k, bias, mask, choices, fill)), _for_heads(v, q))
    return out, mt.sum(out, -1)


def _with_means(q: Any, k: Any, v: Any, bias: Any, mask: Any, sinks: Any, **choices: Any) -> tuple[Tensor, Tensor]:
    """Attention with a large negative number where a query may not attend."""
    return _attend(q, k, v, bias, mask, sinks, weigh=softmax, fill=-1e30, **choices)


def _exponentials(s: Tensor) -> Tensor:
    top = s.data.max(-1, keepdims=True)
    return mt.exp(s - np.where(np.isfinite(top), top, 0.0))


def _overflowing(s: Tensor, *, format: str) -> Tensor:
    """The softmax of exponentials that are infinite, or zero, as soon as ``format`` cannot hold them."""
    smallest = 2.0 ** (FORMATS[format].least - FORMATS[format].digits)
    e = mt.where(s.data > math.log(FORMATS[format].largest), math.inf, mt.exp(s))
    e = mt.where(e.data < smallest, 0.0, e)
    total = mt.sum(e, -1, keepdims=True)
    return e / mt.where((s.data == -math.inf).all(-1, keepdims=True), 1.0, total)


#: weights of logits, (*, H, T, S)
WEIGHTS: dict[str, Function] = {
    "with the softmax over the queries instead of the keys": lambda s: softmax(s, -2),
    "with the softmax over the heads instead of the keys": lambda s: softmax(s, -3),
    "without dividing by the sum of the exponentials": _exponentials,
    "with one softmax over all queries and keys of a head": lambda s: mt.reshape(
        softmax(mt.reshape(s, (*s.shape[:-2], s.shape[-2] * s.shape[-1]))), s.shape
    ),
}

#: how a softmax over tiles goes wrong: is the old output, is the old denominator rescaled when the largest logit grows?
TILES: dict[str, dict[str, Any]] = {
    "with tiles whose old accumulator is not rescaled when the largest logit grows": {"out": False, "total": True},
    "with tiles whose old denominator is not rescaled when the largest logit grows": {"out": True, "total": False},
    "with tiles of which neither accumulator nor denominator is rescaled when the largest logit grows": {
        "out": False,
        "total": False,
    },
    "with tiles normalised by their own denominators and added": {"out": None, "total": 1},
    "with tiles normalised by their own denominators and averaged": {"out": None, "total": None},
}


def _attend_in_tiles(
    q: Any, k: Any, v: Any, bias: Any, mask: Any, sinks: Any, *, size: int, out: Any, total: Any, **choices: Any
) -> tuple[Tensor, Tensor]:
    """Attention over tiles of ``size`` keys, one after the other; see ``TILES``."""
    q, k, v = as_tensor(q), as_tensor(k), as_tensor(v)
    s, v = _logits(q, k, bias, mask, choices), _for_heads(v, q)
    starts = range(0, s.shape[-1], size)
    if out is None:
        parts = [mt.matmul(softmax(s[..., i : i + size]), v[..., i : i + size, :]) for i in starts]
        y = functools.reduce(lambda a, b: a + b, parts) / (total or len(parts))
        return y, mt.sum(y, -1)
    top: Any = np.full((*s.shape[:-1], 1), -math.inf)
    sums, y = mt.zeros(top.shape), mt.zeros((*s.shape[:-1], v.shape[-1]))
    for i in starts:
        part = s[..., i : i + size]
        highest = np.maximum(top, part.data.max(-1, keepdims=True))
        safe = np.where(np.isfinite(highest), highest, 0.0)
        factor, e = np.exp(top - safe), mt.exp(part - safe)
        y = y * (factor if out else 1.0) + mt.matmul(e, v[..., i : i + size, :])
        sums = sums * (factor if total else 1.0) + mt.sum(e, -1, keepdims=True)
        top = highest
    y = y / mt.where(sums.data == 0, 1.0, sums)
    return y, mt.sum(y, -1)


def _of_softmax(case: Case) -> Iterator[tuple[str, Function]]:
    def masked(function: Function) -> Function:
        return lambda x, mask=None, *, axis: function(x if mask is None else mt.where(mask, x, -math.inf), axis)

    for other in (-1, -2, -3):
        yield f"with the softmax over axis {other}", masked(lambda x, axis, other=other: softmax(x, other))
    yield (
        "without dividing by the sum of the exponentials",
        masked(lambda x, axis: mt.exp(x - x.data.max(axis, keepdims=True))),
    )
    yield "with a sigmoid instead of the softmax", masked(lambda x, axis: mt.sigmoid(x))
    yield "with the weights of the softmax in reverse order", masked(lambda x, axis: mt.flip(softmax(x, axis), axis))
    yield "with 1 for every weight of the softmax", masked(lambda x, axis: x * 0.0 + 1.0)
    yield "with equal weights instead of the softmax", masked(lambda x, axis: softmax(x * 0.0, axis))


def _of_norm(case: Case) -> Iterator[tuple[str, Function]]:
    """Substitutes for the norm over the last axis."""

    def norm(divisor: Callable[[Tensor, float], Tensor], centred: bool | None = None) -> Function:
        def run(x: Any, weight: Any, bias: Any = None, *, eps: float, center: bool, offset: float) -> Tensor:
            y = x - mt.mean(x, -1, keepdims=True) if (center if centred is None else centred) else as_tensor(x)
            y = y / divisor(y, eps)
            y = y if weight is None else y * (weight + offset)
            return y if bias is None else y + bias

        return run

    def mean_square(y: Tensor) -> Tensor:
        return mt.mean(mt.square(y), -1, keepdims=True)

    def root(y: Tensor, eps: float) -> Tensor:
        return mt.sqrt(mean_square(y) + eps)

    def unbiased(y: Tensor) -> Tensor:
        return mt.sum(mt.square(y), -1, keepdims=True) / (y.shape[-1] - 1)

    yield "with epsilon outside the root instead of inside", norm(lambda y, eps: mt.sqrt(mean_square(y)) + eps)
    yield "with epsilon forgotten", norm(lambda y, eps: mt.sqrt(mean_square(y)))
    yield "with epsilon squared", norm(lambda y, eps: root(y, eps**2))
    yield "with the variance divided by n - 1 instead of n", norm(lambda y, eps: mt.sqrt(unbiased(y) + eps))
    yield "with the mean not subtracted", norm(root, centred=False)
    yield "with the mean subtracted", norm(root, centred=True)
    yield "with the square root forgotten", norm(lambda y, eps: mean_square(y) + eps)
    yield "with the sum of squares instead of their mean", norm(lambda y, eps: root(y * y.shape[-1] ** 0.5, eps))


def _of_gate(case: Case) -> Iterator[tuple[str, Function]]:
    yield "with the activation forgotten in the gate", lambda x, y: x * y
    yield "with the activation on the other half", lambda x, y: silu(y) * x
    yield "with gelu instead of silu", lambda x, y: gelu(x) * y
    yield "with a sigmoid instead of silu", lambda x, y: mt.sigmoid(x) * y
    yield "with relu instead of silu", lambda x, y: mt.maximum(x, 0.0) * y


#: name of a primitive -> its substitutes for a case
SUBSTITUTES: dict[str, Callable[[Case], Iterator[tuple[str, Function]]]] = {
    "attention": _of_attention,
    "softmax": _of_softmax,
    "norm": _of_norm,
    "swiglu": _of_gate,
}
