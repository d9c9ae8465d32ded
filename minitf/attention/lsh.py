"""LSH attention: hash vectors by random rotations, sort by hash, and attend to what lands nearby.

    k_j = qk_j / sqrt(|qk_j|² + eps E)                one vector is both query and key, so that it meets what it resembles
    h_r(x) = argmax [x R_r ; -x R_r]                  bucket of round r, R_r (E, b) normal, 2b buckets
    sort by (bucket, position), cut into chunks; a chunk sees itself and the one before
    z_ri = log sum exp(s_ij),  o_ri = softmax(s_ri) v                          s_ij = scale qk_i . k_j, j in sight in round r
    out_i = sum_r exp(z_ri) o_ri / sum_r exp(z_ri)                             that is one softmax over all rounds' keys

A token attends to itself only if it may attend to nothing else. With R rounds and chunks of c tokens, 2 c R T (E + W)
multiply-adds a head instead of T² (E + W), and no array larger than qk and v (``minitf.kernels.lsh_attention``: they are
read through the order, not copied into it); what the backward sweep keeps are those, out, the orders, and one number a
token. If chunks are half the sequence and each round is a ring, everything is in sight: full attention with shared vectors.

Paper: reformer, "Reformer: The Efficient Transformer" (2020). The released code gives a token's own logit the value -5e4
instead, which is the same unless other logits are of that size.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.checked import checked
from minitf.autodiff.dispatch import compiled, widened
from minitf.autodiff.dtypes import common_dtype
from minitf.autodiff.errors import ShapeError, fits_into
from minitf.autodiff.rules import defcost
from minitf.autodiff.tensor import Primitive, Tensor, as_tensor, bind
from minitf.kernels import hadamard
from minitf.kernels import lsh_attention as kernels
from minitf.kernels.lsh_attention import Shape
from minitf.nn.fused_attention import attention

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

#: whether the chunk before the first of a round is the last of the round before, or of the same round
WRAPS = ("global", "per_round")

# -- out (*, T, W) and lse (*, T) as one primitive, its vjp as another -------------------------------------------------


def _rows(*arrays: Any) -> tuple[Any, ...]:
    """(*, A, B) as (R, A, B)."""
    return tuple(x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:]) if x.size else x for x in arrays)


_forward = compiled(kernels.lsh_attention, kernels.lsh_attention_twin)
_backward = compiled(kernels.lsh_attention_vjp, kernels.lsh_attention_vjp_twin)


def _attend(qk: Any, v: Any, order: Any, valid: Any, buckets: Any, *, shape: Shape) -> tuple[Any, Any]:
    qk, flat, order, buckets = _rows(qk, v, order, buckets)
    out, lse = _forward(qk, flat, order, valid.reshape(flat.shape[:2]), buckets, shape=shape)
    return out.reshape(v.shape), lse.reshape(v.shape[:-1])


def _attend_vjp(
    qk: Any, v: Any, order: Any, valid: Any, buckets: Any, out: Any, lse: Any, g: Any, g_lse: Any, *, shape: Shape
) -> tuple[Any, Any]:
    lead = qk.shape[:-1]
    delta = np.sum(g * out, axis=-1) - g_lse
    qk, v, order, buckets, g = _rows(qk, v, order, buckets, g)
    valid, lse, delta = (x.reshape(g.shape[:2]) for x in (valid, lse, delta))
    dqk, dv = _backward(qk, v, order, valid, buckets, lse, delta, g, shape=shape)
    return dqk.reshape(*lead, -1), dv.reshape(*lead, -1)


def _densely(qk: Any, v: Any, order: Any, valid: Any, buckets: Any, *, shape: Shape) -> tuple[Tensor, Tensor]:
    """Ordinary attention with a mask of what is in sight, and log m added to what is so m times."""
    qk, v, order, valid, buckets = (as_tensor(x) for x in (qk, v, order, valid, buckets))
    (*lead, T, E) = qk.shape
    rows, of_rows = _rows(order.data, buckets.data)
    met = kernels.meetings(rows, valid.data.reshape(-1, T), of_rows, shape)
    met = met.reshape(*lead, T, T)
    square = mt.sum(qk * qk, -1, keepdims=True) + shape.eps * E
    zero = square.data == 0
    keys = qk * mt.where(zero, 0.0, 1 / mt.sqrt(mt.where(zero, 1.0, square)))
    bias = None if shape.once else np.log(np.maximum(met, 1)).astype(qk.dtype)
    out, lse = attention(qk, keys, v, bias, met > 0, scale=shape.scale, nearest=-T, farthest=T)
    return mt.where((lse.data == -math.inf)[..., None], v, out), lse


def _densely_vjp(
    qk: Any, v: Any, order: Any, valid: Any, buckets: Any, out: Any, lse: Any, g: Any, g_lse: Any, *, shape: Shape
) -> Any:
    return mt.vjp(lambda qk, v: _densely(qk, v, order, valid, buckets, shape=shape), qk, v)[1]((g, g_lse))


lsh_p = Primitive("lsh_attention", widened(_attend), outputs="many", decomposition=_densely)
lsh_vjp_p = Primitive("lsh_attention_vjp", widened(_attend_vjp), outputs="many", decomposition=_densely_vjp)


def _pull(g: Any, needed: list[int], out: Any, args: Any, choices: dict[str, Any]) -> list[Any]:
    found = bind(lsh_vjp_p, *args, *out, *g, **choices)
    return [found[i] for i in needed]


lsh_p.vjp = _pull


# Of every pair in sight, masked or not: its products, a subtraction, an exponential, an addition. Of every token: its key,
# and in each round its scaled query and what it hears.


def _cost(out: Any, qk: Any, v: Any, order: Any, *_: Any, shape: Shape) -> tuple[int, int]:
    logits, rounds = order.size * 2 * shape.chunk, order.shape[-2]
    macs = logits * (qk.shape[-1] + v.shape[-1])
    return 2 * macs + 3 * logits + (3 + rounds) * qk.size + (1 + rounds) * v.size, macs


def _vjp_cost(out: Any, qk: Any, v: Any, order: Any, *_: Any, shape: Shape) -> tuple[int, int]:
    logits, rounds = order.size * 2 * shape.chunk, order.shape[-2]
    macs = logits * (3 * qk.shape[-1] + 2 * v.shape[-1])
    return 2 * macs + 4 * logits + (9 + 5 * rounds) * qk.size + (2 + 2 * rounds) * v.size, macs


defcost(lsh_p, _cost)
defcost(lsh_vjp_p, _vjp_cost)


# -- the functions --------------------------------------------------------------------------------------------------

_hash = compiled(hadamard.lsh_buckets, hadamard.lsh_buckets_twin)


@checked
def lsh_buckets(x: Float[Tensor, "*B T E"], rotations: Float[Tensor, "..."]) -> np.ndarray:
    """The bucket of every token in every round: argmax of [x R ; -x R], ties to the lowest. Nothing is differentiated.

    x: (*, T, E). rotations: (E, rounds, b), normal for a random hash, or (H, E, rounds, b) for x (*, H, T, E).

    Returns integers (*, rounds, T); those of round r, counted from 0, are in 2 b r .. 2 b (r + 1) - 1.
    Raises ShapeError when shapes disagree or b is 0.
    """
    x, rotations = as_tensor(x).data, as_tensor(rotations).data  # pyright: ignore
    per_head = rotations.ndim == 4
    fits = rotations.ndim in (3, 4) and rotations.shape[-3] == x.shape[-1] and rotations.shape[-1] > 0
    if not fits or (per_head and (x.ndim < 3 or rotations.shape[0] != x.shape[-3])):
        raise ShapeError(
            "lsh_buckets: rotations must be (E, rounds, b) or (H, E, rounds, b) with b at least 1, of the width and heads "
            f"of x (*, H, T, E); got {rotations.shape} for {x.shape}"
        )
    rounds, b = rotations.shape[-2:]
    if per_head:
        found = np.stack([_hash(x[..., h, :, :], one) for h, one in enumerate(rotations)], axis=-3)
    else:
        found = _hash(x, rotations)
    return found.swapaxes(-1, -2) + 2 * b * np.arange(rounds)[:, None]


@checked
def lsh_attention(
    qk: Float[Tensor, "*B T E"],
    v: Float[Tensor, "*B T W"],
    *,
    chunk: int,
    rounds: int = 1,
    rotations: Float[Tensor, "..."] | None = None,
    rng: np.random.Generator | None = None,
    causal: bool = False,
    mask: Bool[Tensor, "..."] | None = None,
    scale: float | None = None,
    key_eps: float = 0.0,
    same_bucket: bool = False,
    once: bool = False,
    wrap: str = "global",
) -> Tensor:
    """Attention of every token to those that random hashes put near it, in any of the rounds.

    qk: (*, T, E), queries and, at length 1, keys. v: (*, T, W). Heads are leading axes like any other.
    chunk: tokens of a chunk, which see each other and the chunk before; divides T.
    rounds, rng: hashes to draw, each into T / chunk buckets, an even number or 1, and from where.
    rotations: (E, rounds, b) or (H, E, rounds, b), used in place of a draw; 2b buckets, of which one per chunk is usual.
    causal: only tokens before the query. mask: True = valid, broadcast against (*, T); others are seen by nobody and see
        nothing. scale: default E**-0.5. key_eps: keys are qk / sqrt(|qk|² + key_eps E); a zero vector is its own key.
    same_bucket: only tokens of the query's bucket. once: a key that is in sight several times counts once.
    wrap: what the first chunk of a round sees before it: "global", the last one of the round before (of the last round for
        the first), as in the released code, or "per_round", the last one of its own round.

    Returns (*, T, W); v for a token that sees nothing else. Raises ShapeError when shapes disagree or chunks do not divide
    the sequence, ValueError for options that do not exist.
    """
    qk, v = as_tensor(qk), as_tensor(v)
    *lead, T, E = qk.shape
    if isinstance(chunk, bool) or not isinstance(chunk, (int, np.integer)) or chunk < 1:
        raise ValueError(f"lsh_attention: chunk must be a positive integer, got {chunk!r}")
    if wrap not in WRAPS:
        raise ValueError(f"lsh_attention: wrap must be one of {', '.join(WRAPS)}, got {wrap!r}")
    if E == 0 or T == 0 or T % chunk:
        raise ShapeError(
            f"lsh_attention: chunks of {chunk} must divide the sequence of T tokens, neither T nor E may be 0; got qk "
            f"{qk.shape}; pad at the end and mask"
        )
    dtype = common_dtype(qk.dtype, v.dtype)
    qk, v = (mt.store(mt.astype(x, dtype)) for x in (qk, v))
    buckets = _draw(qk, T // int(chunk), rounds, rng) if rotations is None else lsh_buckets(qk, rotations)
    # sixteen bits are sorted by counting
    small = buckets.astype(np.int16) if buckets.max(initial=0) < 1 << 15 else buckets
    order = np.argsort(small, axis=-1, kind="stable")
    valid = np.ones((), np.bool_) if mask is None else as_tensor(mask).data
    if not fits_into(valid.shape, (*lead, T)):
        raise ShapeError(
            f"lsh_attention: mask of shape {valid.shape} does not broadcast to the tokens (*, T) = {(*lead, T)}"
        )
    shape = Shape(
        int(chunk),
        wrap == "global",
        bool(causal),
        bool(once),
        float(E**-0.5 if scale is None else scale),
        float(key_eps),
    )
    seen = buckets if same_bucket else np.empty((0, 0, 0), np.int64)
    return mt.store(bind(lsh_p, qk, v, order, np.broadcast_to(valid, (*lead, T)), seen, shape=shape)[0])


def _draw(qk: Tensor, count: int, rounds: int, rng: np.random.Generator | None) -> np.ndarray:
    """The buckets by rotations that are drawn; with one bucket there is nothing to draw."""
    if rounds < 1:
        raise ValueError(f"lsh_attention: at least one round of hashing, got {rounds!r}")
    if count == 1:
        return np.broadcast_to(np.arange(rounds)[:, None], (*qk.shape[:-2], rounds, qk.shape[-2]))
    if count % 2:
        raise ShapeError(
            f"lsh_attention: T / chunk must be even, for buckets come in pairs, or 1; got {count} (or give rotations)"
        )
    if rng is None:
        raise ValueError("lsh_attention: rotations are drawn from rng, a numpy.random.Generator; give it, or rotations")
    return lsh_buckets(qk, as_tensor(rng.standard_normal((qk.shape[-1], rounds, count // 2))))
