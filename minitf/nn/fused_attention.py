"""Attention as one primitive with the outputs (out, lse), and its vjp as another: ``minitf.kernels.attention``.

    s = softcap(scale q kᵀ + bias), -inf where masked      out = softmax(s) v      lse = log sum exp(s)

A sink is a key without a value that every query sees: its logit takes part in the softmax and in lse. The backward sweep
keeps the arguments, out and lse. Derivatives beyond the first, and forward mode, go through the decompositions, which
make arrays of T x S. The primitives charge the blocks they compute; a masked element costs what any other does.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.dispatch import compiled
from minitf.autodiff.precision import store
from minitf.autodiff.rules import defcost
from minitf.autodiff.tensor import Primitive, Tensor, as_tensor, bind
from minitf.kernels import attention as kernels
from minitf.kernels.attention import Extra, Shape
from minitf.nn.activations import check_cap
from minitf.nn.activations import softcap as cap


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Any = None,
    mask: Any = None,
    sinks: Any = None,
    *,
    scale: float,
    softcap: float | None = None,
    nearest: int,
    farthest: int,
) -> tuple[Tensor, Tensor]:
    """out (*, H, T, W) and lse (*, H, T) of q (*, H, T, E), k (*, K, S, E), v (*, K, S, W), all of one dtype.

    bias, mask: broadcast against (*, H, T, S). sinks: (H,) logits.
    nearest, farthest: bounds, inclusively, of the distance S - T + i - j of query i to key j.

    Raises ValueError unless the softcap is positive.
    """
    if softcap is not None:
        check_cap(softcap)
    choices = {"scale": float(scale), "softcap": softcap, "nearest": nearest, "farthest": farthest}
    return bind(attention_p, q, k, v, bias, mask, sinks, **choices)


# -- to the kernel's rows and back --------------------------------------------------------------------------------


def _extra(x: Any, lead: tuple[int, ...], S: int, dtype: Any) -> Extra:
    """``x``, which broadcasts against (*lead, T, S), without the repetitions."""
    if x is None:
        return Extra(np.empty((0, 0, 0), dtype), np.zeros(math.prod(lead), np.int64))
    x = np.asarray(x, dtype).reshape((1,) * (len(lead) + 2 - x.ndim) + x.shape)
    count = math.prod(x.shape[:-2])
    of_row = np.broadcast_to(np.arange(count).reshape(x.shape[:-2]), lead).reshape(-1)
    return Extra(np.broadcast_to(x, (*x.shape[:-1], S)).reshape(count, x.shape[-2], S), of_row)


def _rows(q: Any, k: Any, v: Any, bias: Any, mask: Any, sinks: Any, choices: dict[str, Any]) -> tuple[Any, ...]:
    """The kernel's arguments and its Shape."""
    lead, (S, W) = q.shape[:-2], v.shape[-2:]
    rows, R = math.prod(k.shape[:-2]), math.prod(lead)
    group = lead[-1] // k.shape[-3] if len(lead) else 1
    shape = Shape(
        group, choices["scale"], float(choices["softcap"] or 0), int(choices["nearest"]), int(choices["farthest"])
    )
    sunk = np.empty(0, q.dtype) if sinks is None else np.broadcast_to(sinks, lead).reshape(R).astype(q.dtype)
    return (
        q.reshape(R, *q.shape[-2:]), k.reshape(rows, S, k.shape[-1]), v.reshape(rows, S, W),
        _extra(bias, lead, S, q.dtype), _extra(mask, lead, S, np.bool_), sunk, shape,
    )  # fmt: skip


_forward = compiled(kernels.attention, kernels.attention_twin)
_backward = compiled(kernels.attention_vjp, kernels.attention_vjp_twin)


def _attention(q: Any, k: Any, v: Any, bias: Any, mask: Any, sinks: Any, **choices: Any) -> tuple[Any, Any]:
    *arguments, shape = _rows(q, k, v, bias, mask, sinks, choices)
    out, lse = _forward(*arguments, shape=shape)
    return out.reshape(*q.shape[:-1], v.shape[-1]), lse.reshape(q.shape[:-1])


def _attention_vjp(
    q: Any, k: Any, v: Any, bias: Any, mask: Any, sinks: Any, out: Any, lse: Any, g: Any, g_lse: Any,
    *, of_bias: bool, **choices: Any,
) -> tuple[Any, ...]:  # fmt: skip
    """The cotangents of q, k and v, then those of bias and sinks, arrays of no size if they are not asked for."""
    *arguments, sunk, shape = _rows(q, k, v, bias, mask, sinks, choices)
    R, T, S = len(arguments[0]), q.shape[-2], k.shape[-2]
    delta = np.sum(g * out, axis=-1) - g_lse
    rows = lse.reshape(R, T), delta.reshape(R, T), g.reshape(R, T, g.shape[-1])
    dq, dk, dv, logits = _backward(*arguments, *rows, shape=shape, logits=of_bias)
    d_bias = np.empty(0, q.dtype)
    if logits is not None:
        d_bias = mt.unbroadcast(logits.reshape(*q.shape[:-1], S), bias).data
    d_sinks = np.empty(0, q.dtype)
    if sinks is not None:
        weight = np.exp(np.where(lse == -np.inf, -np.inf, sunk.reshape(q.shape[:-2])[..., None] - lse))
        d_sinks = mt.unbroadcast(np.sum(-weight * delta, axis=-1), sinks).data
    return dq.reshape(q.shape), dk.reshape(k.shape), dv.reshape(v.shape), d_bias, d_sinks


# -- decompositions -----------------------------------------------------------------------------------------------


def _per_query_head(x: Any, q: Any) -> Tensor:
    """Keys or values with the heads of q."""
    x = as_tensor(x)
    return x if x.ndim < 3 or x.shape[-3] == q.shape[-3] else mt.repeat(x, q.shape[-3] // x.shape[-3], axis=-3)


def _logits(q: Any, k: Any, bias: Any, mask: Any, choices: dict[str, Any]) -> Tensor:
    T, S = q.shape[-2], k.shape[-2]
    s = mt.matmul(q * choices["scale"], mt.swapaxes(_per_query_head(k, q), -1, -2))
    if bias is not None:
        s = s + bias
    if choices["softcap"]:
        s = cap(s, choices["softcap"])
    distance = np.arange(S - T, S)[:, None] - np.arange(S)
    allowed = (choices["nearest"] <= distance) & (distance <= choices["farthest"])
    if mask is not None:
        allowed = allowed & as_tensor(mask).data
    return s if allowed.all() else mt.where(allowed, s, -math.inf)


def _decomposed(q: Any, k: Any, v: Any, bias: Any, mask: Any, sinks: Any, **choices: Any) -> tuple[Tensor, Tensor]:
    s = _logits(q, k, bias, mask, choices)
    top = np.max(s.data, axis=-1, keepdims=True, initial=-math.inf)
    if sinks is not None:
        sinks = mt.expand_dims(sinks, (-2, -1))
        top = np.maximum(top, as_tensor(sinks).data)
    top = np.where(top == -math.inf, 0, top).astype(s.dtype)
    exponentials = mt.exp(s - top)
    total = mt.sum(exponentials, -1, keepdims=True)
    if sinks is not None:
        total = total + mt.exp(sinks - top)
    empty = total.data == 0
    # kernels multiply with v in the storage format
    weights = store(exponentials / mt.where(empty, 1.0, total))
    out = store(mt.matmul(weights, _per_query_head(v, q)))  # as the backward kernel reads it
    lse = mt.where(empty, -math.inf, mt.log(mt.where(empty, 1.0, total)) + top)
    return out, mt.reshape(lse, lse.shape[:-1])


def _decomposed_vjp(
    q: Any, k: Any, v: Any, bias: Any, mask: Any, sinks: Any, out: Any, lse: Any, g: Any, g_lse: Any,
    *, of_bias: bool, **choices: Any,
) -> tuple[Tensor, ...]:  # fmt: skip
    out, lse, g = as_tensor(out), as_tensor(lse), as_tensor(g)
    empty = lse.data == -math.inf
    lse = mt.expand_dims(mt.where(empty, 0.0, lse), -1)
    p = mt.where(empty[..., None], 0.0, mt.exp(_logits(q, k, bias, mask, choices) - lse))
    delta = mt.expand_dims(mt.sum(g * out, -1) - g_lse, -1)
    ds = store(p) * (mt.matmul(g, mt.swapaxes(_per_query_head(v, q), -1, -2)) - delta)
    if choices["softcap"]:
        s = mt.matmul(q * choices["scale"], mt.swapaxes(_per_query_head(k, q), -1, -2))
        s = s if bias is None else s + bias
        ds = ds * (1 - mt.square(mt.tanh(s / choices["softcap"])))
    ds = store(ds)
    dq = mt.matmul(ds, _per_query_head(k, q)) * choices["scale"]
    dk = mt.matmul(mt.swapaxes(ds, -1, -2), q * choices["scale"])
    dv = mt.matmul(mt.swapaxes(store(p), -1, -2), g)
    d_bias = mt.unbroadcast(ds, bias) if of_bias else mt.zeros((0,), ds.dtype)
    d_sinks = mt.zeros((0,), ds.dtype)
    if sinks is not None:
        weight = mt.where(empty[..., None], 0.0, mt.exp(mt.expand_dims(sinks, (-2, -1)) - lse))
        d_sinks = mt.unbroadcast(mt.sum(-weight * delta, (-2, -1)), sinks)
    return dq, _of_heads(dk, k), _of_heads(dv, v), d_bias, d_sinks


def _of_heads(g: Tensor, x: Any) -> Tensor:
    """What query heads that share keys or values contribute to them, together."""
    if g.shape == x.shape:
        return g
    K, H = x.shape[-3], g.shape[-3]
    return mt.sum(mt.reshape(g, (*g.shape[:-3], K, H // K, *g.shape[-2:])), -3)


attention_p = Primitive("attention", _attention, outputs="many", decomposition=_decomposed)
attention_vjp_p = Primitive("attention_vjp", _attention_vjp, outputs="many", decomposition=_decomposed_vjp)


def _pull(g: Any, needed: list[int], out: Any, args: Any, choices: dict[str, Any]) -> list[Any]:
    found = bind(attention_vjp_p, *args, *out, *g, of_bias=3 in needed, **choices)
    by_position = {**dict(enumerate(found[:4])), 5: found[4]}
    return [by_position[i] for i in needed]


attention_p.vjp = _pull


# -- cost ---------------------------------------------------------------------------------------------------------
# Of every computed logit: its products, a subtraction, an exponential, an addition, and what cap and bias take.


def _visited(q: Any, k: Any, choices: dict[str, Any], back: bool) -> int:
    shape = Shape(1, 1.0, 0.0, choices["nearest"], choices["farthest"])
    return math.prod(q.shape[:-2]) * kernels.visited(q.shape[-2], k.shape[-2], shape, back)


def _cost(out: Any, q: Any, k: Any, v: Any, bias: Any, mask: Any, sinks: Any, **choices: Any) -> tuple[int, int]:
    logits = _visited(q, k, choices, back=False)
    macs = logits * (q.shape[-1] + v.shape[-1])
    each = 3 + (bias is not None) + 3 * bool(choices["softcap"])
    return 2 * macs + each * logits + q.size + out[0].size, macs


def _vjp_cost(out: Any, q: Any, k: Any, v: Any, bias: Any, mask: Any, sinks: Any, *rest: Any, **choices: Any) -> Any:
    logits = _visited(q, k, choices, back=True)
    macs = logits * (3 * q.shape[-1] + 2 * v.shape[-1])
    each = 4 + (bias is not None) + 6 * bool(choices["softcap"])
    return 2 * macs + each * logits + 2 * q.size + 2 * rest[0].size, macs


defcost(attention_p, _cost)
defcost(attention_vjp_p, _vjp_cost)
