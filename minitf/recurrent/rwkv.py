"""The weighted key-value averages of RWKV: attention without queries, whose past fits into a state of constant size.

Version 4, ``wkv4``, averages every channel by itself. A token's weight is e^{k_i}, divided by e^w for every step since
then, and that of the newest token e^{u + k_t}:

    y_t = (sum_{i<t} e^{-(t-1-i) w + k_i} v_i + e^{u + k_t} v_t) / (sum_{i<t} e^{-(t-1-i) w + k_i} + e^{u + k_t})

The state is a = sum_{i<=t} e^{-(t-i) w + k_i - p} v_i, b the same without v_i, and p the largest of the exponents, so
that keys of any size neither overflow nor vanish: 3 C numbers, and about 21 T C FLOPs.

Versions 5 and 6, ``wkv6``, keep a matrix a head, which a receptance r reads and a decay w forgets, row by row:

    y_t = r_t (S_{t-1} + diag(u) k_tᵀ v_t)          S_t = diag(w_t) S_{t-1} + k_tᵀ v_t

with w_t computed from the token in version 6 and the same for all of them in version 5: E² numbers a head, and about
5 T E² FLOPs. Without u it is gated linear attention that reads the state before the token.

Forms, all with the same result up to rounding:

    scan          step by step in a compiled kernel (``minitf.kernels.wkv``); for the backward sweep only the arguments
                  are kept
    sequential    step by step in array operations
    matrix        ``wkv4``: the (T, T) weights of every channel
    chunked       ``wkv6``: within a chunk as attention, from chunk to chunk by the state

Paper: rwkv, "RWKV: Reinventing RNNs for the Transformer Era" (2023), where w is e^{time_decay} and u is time_first.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.checked import checked
from minitf.autodiff.dispatch import compiled
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.shape import unstack
from minitf.autodiff.rules import defcost, defvjp_all
from minitf.autodiff.tensor import Primitive, Tensor, bind
from minitf.kernels import wkv as kernels
from minitf.kernels.scan import steps_repeated
from minitf.recurrent.linear_recurrence import SMALL, operands
from minitf.registry import reference

if TYPE_CHECKING:
    from jaxtyping import Float

# -- version 4: k, v (B, T, C), w, u (C,), a, b, p (B, C) -> y, a, b, p ---------------------------------------------------


def _fraction(over: Tensor, under: Tensor) -> Tensor:
    """over / under, and 0 where nothing has a weight."""
    nothing = mt.equal(under, 0)
    return mt.where(nothing, 0.0, over / mt.where(nothing, 1.0, under))


def _sequential4(k: Any, v: Any, w: Any, u: Any, a: Any, b: Any, p: Any) -> tuple[Tensor, ...]:
    y = []
    for k_t, v_t in zip(unstack(k, 1), unstack(v, 1), strict=True):
        q = mt.stop_gradient(mt.maximum(p, u + k_t))  # y_t is the same for any q
        old, new = mt.exp(p - q), mt.exp(u + k_t - q)
        y.append(_fraction(old * a + new * v_t, old * b + new))
        q = mt.maximum(p - w, k_t)
        old, new = mt.exp(p - w - q), mt.exp(k_t - q)
        a, b, p = old * a + new * v_t, old * b + new, q
    return (mt.stack(y, 1) if y else mt.zeros_like(v)), a, b, p


def _matrix4(k: Any, v: Any, w: Any, u: Any, a: Any, b: Any, p: Any) -> tuple[Tensor, ...]:
    T = k.shape[1]
    t, i = np.arange(T + 1)[:, None, None], np.arange(T)[:, None]
    # exponents (B, T + 1, T + 1, C): of the state in front and of every token, as seen by every token and at the end
    tokens = k[:, None] - mt.astype(t - 1 - i, k.dtype) * w
    tokens = mt.where(i < t, tokens, mt.where(i == t, (u + k)[:, None], -math.inf))
    front = p[:, None, None] - mt.astype(t, k.dtype) * w
    exponents = mt.concatenate([front, tokens], 2)
    values, counts = mt.concatenate([a[:, None], v], 1), mt.concatenate([b[:, None], mt.ones_like(v)], 1)
    top = mt.max(exponents, 2)
    weights = mt.exp(exponents - mt.expand_dims(top, 2))
    over, under = (mt.einsum("btic,bic->btc", weights, x) for x in (values, counts))
    return _fraction(over[:, :T], under[:, :T]), over[:, T], under[:, T], top[:, T]


wkv4_p = Primitive(
    "wkv4", compiled(kernels.wkv4, kernels.wkv4_twin, small=SMALL), outputs="many", decomposition=_sequential4
)
wkv4_vjp_p = Primitive(
    "wkv4_vjp",
    compiled(kernels.wkv4_vjp, kernels.wkv4_vjp_twin, small=SMALL),
    outputs="many",
    decomposition=lambda gy, ga, gb, gp, *arrays: mt.vjp(_sequential4, *arrays)[1]((gy, ga, gb, gp)),
)
defvjp_all(wkv4_p, lambda g, out, *arrays: bind(wkv4_vjp_p, *g, *arrays), saves=tuple(range(7)))


def _wkv4_vjp_cost(out: Any, gy: np.ndarray, *rest: Any) -> tuple[int, int]:
    B, T, C = gy.shape
    return B * C * (42 * T + 10 * steps_repeated(T) + 8 * (T > 0)), 0


defcost(wkv4_p, lambda out, k, *rest: (21 * k.size, 0))
defcost(wkv4_vjp_p, _wkv4_vjp_cost)

FORMS4 = {"scan": lambda *arrays: bind(wkv4_p, *arrays), "sequential": _sequential4, "matrix": _matrix4}


@checked
def wkv4(
    k: Float[Tensor, "*B T C"],
    v: Float[Tensor, "*B T C"],
    w: Float[Tensor, "C"],
    u: Float[Tensor, "C"],
    *,
    state: tuple[Any, Any, Any] | None = None,
    form: str = "scan",
    return_state: bool = False,
) -> Any:
    """y (*, T, C): averages of v with weights that fall by e^{-w} a step, before the receptance.

    k, v: (*, T, C). w: (C,), the decay, positive; u: (C,), the bonus of the newest token.
    state: a, b, p, (*, C) each, in front of the first step; nothing yet, (0, 0, -1e38), by default.
    form: "scan", "sequential" or "matrix"; see the module.
    return_state: return (y, (a, b, p) after the last step).

    A token with k = -inf has no weight; where nothing has, y is zero.
    Raises ShapeError when shapes disagree, ValueError for another form.
    """
    if form not in FORMS4:
        raise ValueError(f"wkv4: form must be one of {', '.join(FORMS4)}, got {form!r}")
    k, v, w, u, *abp = operands(k, v, w, u, *(() if state is None else state))
    *lead, T, C = k.shape
    samples = math.prod(lead)
    if state is not None and [x.shape for x in abp] != [(*lead, C)] * 3:
        raise ShapeError(
            f"wkv4: state must be (a, b, p), each (*, C) = {(*lead, C)}, got {', '.join(str(x.shape) for x in abp)}"
        )
    k, v = mt.reshape(mt.store(k), (samples, T, C)), mt.reshape(mt.store(v), (samples, T, C))
    if state is None:
        nothing, never = mt.zeros((samples, C), k.dtype), max(-1e38, float(ml_dtypes.finfo(k.dtype).min))
        abp = nothing, nothing, mt.full((samples, C), never, k.dtype)
    y, *last = FORMS4[form](k, v, w, u, *(mt.reshape(x, (samples, C)) for x in abp))
    y = mt.store(mt.reshape(y, (*lead, T, C)))
    return (y, tuple(mt.reshape(x, (*lead, C)) for x in last)) if return_state else y


# -- versions 5 and 6: r, k, w (B, H, T, E), v (B, H, T, M), u (H, E), S (B, H, E, M) -> y, S ------------------------------


def _sequential6(r: Any, k: Any, v: Any, w: Any, u: Any, S: Any) -> tuple[Tensor, Tensor]:
    y = []
    for r_t, k_t, v_t, w_t in zip(*(unstack(x, 2) for x in (r, k, v, w)), strict=True):
        read = mt.matmul(r_t[:, :, None], S)[:, :, 0]
        y.append(read + mt.sum(r_t * u * k_t, -1, keepdims=True) * v_t)
        S = w_t[..., None] * S + k_t[..., None] * v_t[:, :, None]
    return (mt.stack(y, 2) if y else mt.zeros_like(v)), S


def _chunked6(r: Any, k: Any, v: Any, w: Any, u: Any, S: Any, chunk: int) -> tuple[Tensor, Tensor]:
    y = []
    for start in range(0, r.shape[2], chunk):
        r_c, k_c, v_c, w_c = (x[:, :, start : start + chunk] for x in (r, k, v, w))
        L = r_c.shape[2]
        # kept[t, s]: what is left in front of token t of what token s - 1 wrote, or (s = 0) of the state in front
        later = np.tri(L + 1, k=-1, dtype=bool)[:, :, None]
        first = mt.concatenate([mt.ones_like(w_c[:, :, :1]), w_c], 2)
        kept = mt.cumprod(mt.where(later, mt.expand_dims(first, 3), 1.0), 2)
        kept = mt.where(np.tri(L + 1, dtype=bool)[:, :, None], kept, 0.0)
        scores = mt.einsum("bhte,bhtse,bhse->bhts", r_c, kept[:, :, :L, 1:], k_c)
        bonus = mt.sum(r_c * u[:, None] * k_c, -1, keepdims=True)
        y.append(mt.matmul(scores, v_c) + bonus * v_c + mt.matmul(r_c * kept[:, :, :L, 0], S))
        written = mt.matmul(mt.swapaxes(kept[:, :, L, 1:] * k_c, 2, 3), v_c)
        S = kept[:, :, L, 0, :, None] * S + written
    return (mt.concatenate(y, 2) if y else mt.zeros_like(v)), S


wkv6_p = Primitive(
    "wkv6", compiled(kernels.wkv6, kernels.wkv6_twin, small=SMALL), outputs="many", decomposition=_sequential6
)
wkv6_vjp_p = Primitive(
    "wkv6_vjp",
    compiled(kernels.wkv6_vjp, kernels.wkv6_vjp_twin, small=SMALL),
    outputs="many",
    decomposition=lambda gy, gS, *arrays: mt.vjp(_sequential6, *arrays)[1]((gy, gS)),
)
defvjp_all(wkv6_p, lambda g, out, *arrays: bind(wkv6_vjp_p, *g, *arrays), saves=tuple(range(6)))


def _wkv6_cost(out: Any, r: np.ndarray, k: Any, v: np.ndarray, *rest: Any) -> tuple[int, int]:
    products = r.size * v.shape[-1]  # r S
    return 5 * products + 3 * r.size + v.size, products


def _wkv6_vjp_cost(out: Any, gy: np.ndarray, gS: Any, r: np.ndarray, *rest: Any) -> tuple[int, int]:
    products = r.size * gy.shape[-1]  # one for each of r, k, v and w
    T = r.shape[2]
    repeated = 3 * products // max(T, 1) * steps_repeated(T)
    return 11 * products + 12 * r.size + 3 * gy.size + repeated, 4 * products


defcost(wkv6_p, _wkv6_cost)
defcost(wkv6_vjp_p, _wkv6_vjp_cost)

FORMS6 = ("scan", "sequential", "chunked")


@checked
def wkv6(
    r: Float[Tensor, "*B H T E"],
    k: Float[Tensor, "*B H T E"],
    v: Float[Tensor, "*B H T M"],
    w: Float[Tensor, "*#B #H #T E"],
    u: Float[Tensor, "H E"] | None = None,
    *,
    state: Float[Tensor, "*B H E M"] | None = None,
    form: str = "scan",
    chunk: int = 16,
    return_state: bool = False,
) -> Any:
    """y (*, H, T, M): what the receptance r reads from a matrix that keys and values write and w forgets.

    r, k: (*, H, T, E). v: (*, H, T, M), in the papers M = E. w: the factor, from 0 to 1, that is left of row e of the
        state after a step; it broadcasts against r, so (H, 1, E) is version 5. u: (H, E), the bonus of the newest token;
        None: a token does not read itself.
    state: (*, H, E, M), in front of the first step, zeros by default.
    form: "scan", "sequential" or "chunked", in chunks of ``chunk`` tokens; see the module.
    return_state: return (y, state after the last step).

    Raises ShapeError when shapes disagree, ValueError for another form or a chunk below 1.
    """
    if form not in FORMS6:
        raise ValueError(f"wkv6: form must be one of {', '.join(FORMS6)}, got {form!r}")
    if chunk < 1:
        raise ValueError(f"wkv6: chunk must be at least 1, got {chunk!r}")
    r, k, v, w, u, S = operands(r, k, v, w, u, state)
    *lead, H, T, E = r.shape
    samples, M = math.prod(lead), v.shape[-1]
    r, k, v, w = (
        mt.reshape(x, (samples, H, T, x.shape[-1]))
        for x in (mt.store(r), mt.store(k), mt.store(v), mt.broadcast_to(w, r.shape))
    )
    u = mt.zeros((H, E), r.dtype) if u is None else u
    S = mt.zeros((samples, H, E, M), r.dtype) if S is None else mt.reshape(S, (samples, H, E, M))
    if form == "chunked":
        y, last = _chunked6(r, k, v, w, u, S, chunk)
    else:
        y, last = _sequential6(r, k, v, w, u, S) if form == "sequential" else bind(wkv6_p, r, k, v, w, u, S)
    y = mt.store(mt.reshape(y, (*lead, H, T, M)))
    return (y, mt.reshape(last, (*lead, H, E, M))) if return_state else y


# -- what the oracle asks --------------------------------------------------------------------------------------------


def _example4(draw: Any, size: str) -> Any:
    B, T, C = {"tiny": (1, 3, 2), "small": (2, 19, 6), "medium": (2, 258, 32)}[size]
    inputs = {"k": 2 * draw.normal((B, T, C)), "v": draw.normal((B, T, C))}
    return inputs | {"w": draw.uniform(C, 0.01, 2.0), "u": draw.normal(C)}, {}


def wkv6_with_state(r: Any, k: Any, v: Any, w: Any, u: Any, state: Any) -> tuple[Tensor, Tensor]:
    """(y, state after the last step): ``wkv6`` from a given state."""
    return wkv6(r, k, v, w, u, state=state, return_state=True)


def _example6(draw: Any, size: str) -> Any:
    B, H, T, E = {"tiny": (1, 2, 3, 2), "small": (2, 2, 13, 4), "medium": (2, 4, 130, 16)}[size]
    inputs = {name: draw.normal((B, H, T, E)) for name in ("r", "k", "v")}
    inputs |= {"w": draw.uniform((B, H, T, E), 0.3, 0.999), "u": draw.normal((H, E))}
    return inputs | {"state": draw.normal((B, H, E, E))}, {}


reference(
    "recurrent.wkv4",
    wkv4,
    example=_example4,
    differentiable=("k", "v", "w", "u"),
    axes={"k": "BTC", "v": "BTC", "w": "C", "u": "C", "out": "BTC"},
)
reference(
    "recurrent.wkv6",
    wkv6_with_state,
    example=_example6,
    differentiable=("r", "k", "v", "w", "u", "state"),
    outputs=("out", "state"),
    axes={**dict.fromkeys(("r", "k", "v", "w", "out"), "BHTE"), "u": "HE", "state": "BHEM"},
)
