"""Block-sparse attention: a mask over blocks of queries and keys says which are computed at all.

    s_ij = scale q_i . k_j       where block_mask[i // block, j // block], the mask, and causality allow it
    y_i  = sum over j of softmax(s_i)_j v_j

What a pattern computes is what it costs: block² multiply-adds times E + W for each block that is set and not wholly in the
future, and no array larger than q, k, v and out (``minitf.kernels.block_attention``); what the backward sweep keeps are
those and one number a query. All blocks set is ``scaled_dot_product_attention``.
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
from minitf.kernels import block_attention as kernels
from minitf.kernels.attention import Extra
from minitf.kernels.block_attention import Shape
from minitf.nn.fused_attention import attention
from minitf.registry import reference

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

# -- out (*, H, T, W) and lse (*, H, T) as one primitive, its vjp as another -------------------------------------------


def _extra(x: Any, full: tuple[int, ...]) -> Extra:
    """Booleans that broadcast to ``full``, without the repetitions but those along the last two axes."""
    if x is None:
        return Extra(np.empty((0, 0, 0), np.bool_), np.zeros(math.prod(full[:-2]), np.int64))
    x = np.asarray(x).reshape((1,) * (len(full) - x.ndim) + x.shape)
    count = math.prod(x.shape[:-2])
    of_row = np.broadcast_to(np.arange(count).reshape(x.shape[:-2]), full[:-2]).reshape(-1)
    return Extra(np.broadcast_to(x, (*x.shape[:-2], *full[-2:])).reshape(count, *full[-2:]), of_row)


def _shape(q: Any, k: Any, block: int, causal: bool, scale: float) -> Shape:
    return Shape(q.shape[-3] // k.shape[-3], block, causal, scale)


def _grid(q: Any, k: Any, block: int) -> tuple[int, ...]:
    """What the block mask broadcasts to."""
    return (*q.shape[:-2], -(-q.shape[-2] // block), -(-k.shape[-2] // block))


def _rows(q: Any, k: Any, v: Any, block_mask: Any, mask: Any, *, block: int) -> tuple[Any, ...]:
    return (
        *(x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:]) for x in (q, k, v)),
        _extra(block_mask, _grid(q, k, block)), _extra(mask, (*q.shape[:-1], k.shape[-2])),
    )  # fmt: skip


_forward = compiled(kernels.block_attention, kernels.block_attention_twin)
_backward = compiled(kernels.block_attention_vjp, kernels.block_attention_vjp_twin)


def _attend(q: Any, k: Any, v: Any, block_mask: Any, mask: Any, *, block: int, **choices: Any) -> tuple[Any, Any]:
    shape = _shape(q, k, block, **choices)
    out, lse = _forward(*_rows(q, k, v, block_mask, mask, block=block), shape=shape)
    return out.reshape(*q.shape[:-1], v.shape[-1]), lse.reshape(q.shape[:-1])


def _attend_vjp(
    q: Any, k: Any, v: Any, block_mask: Any, mask: Any, out: Any, lse: Any, g: Any, g_lse: Any, *, block: int, **choices: Any
) -> tuple[Any, ...]:  # fmt: skip
    R, T = math.prod(q.shape[:-2]), q.shape[-2]
    delta = np.sum(g * out, axis=-1) - g_lse
    rows = lse.reshape(R, T), delta.reshape(R, T), g.reshape(R, T, g.shape[-1])
    shape = _shape(q, k, block, **choices)
    found = _backward(*_rows(q, k, v, block_mask, mask, block=block), *rows, shape=shape)
    return tuple(d.reshape(x.shape) for d, x in zip(found, (q, k, v), strict=True))


def _expanded(
    q: Any, k: Any, v: Any, block_mask: Any, mask: Any, *, block: int, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """Ordinary attention with the mask of all tokens."""
    (T, S), listed = (q.shape[-2], k.shape[-2]), as_tensor(block_mask).data
    listed = np.broadcast_to(listed, (*listed.shape[:-2], *_grid(q, k, block)[-2:]))
    seen = kernels.expanded(listed, T, S, block)
    if mask is not None:
        seen = seen & as_tensor(mask).data
    return attention(q, k, v, None, seen, scale=scale, nearest=0 if causal else -T, farthest=S)


def _expanded_vjp(
    q: Any, k: Any, v: Any, block_mask: Any, mask: Any, out: Any, lse: Any, g: Any, g_lse: Any, **choices: Any
) -> Any:
    return mt.vjp(lambda q, k, v: _expanded(q, k, v, block_mask, mask, **choices), q, k, v)[1]((g, g_lse))


block_p = Primitive("block_sparse_attention", widened(_attend), outputs="many", decomposition=_expanded)
block_vjp_p = Primitive("block_sparse_attention_vjp", widened(_attend_vjp), outputs="many", decomposition=_expanded_vjp)


def _pull(g: Any, needed: list[int], out: Any, args: Any, choices: dict[str, Any]) -> list[Any]:
    found = bind(block_vjp_p, *args, *out, *g, **choices)
    return [found[i] for i in needed]


block_p.vjp = _pull


# Of every logit of a computed block: its products, a subtraction, an exponential, an addition.


def _visited(q: Any, k: Any, block_mask: Any, block: int, causal: bool, scale: float) -> int:
    listed = _extra(as_tensor(block_mask).data, _grid(q, k, block))
    return kernels.visited(listed, q.shape[-2], k.shape[-2], _shape(q, k, block, causal, scale))


def _cost(out: Any, q: Any, k: Any, v: Any, block_mask: Any, mask: Any, **choices: Any) -> tuple[int, int]:
    logits = _visited(q, k, block_mask, **choices)
    macs = logits * (q.shape[-1] + v.shape[-1])
    return 2 * macs + 3 * logits + q.size + out[0].size, macs


def _vjp_cost(out: Any, q: Any, k: Any, v: Any, block_mask: Any, mask: Any, y: Any, *_: Any, **choices: Any) -> Any:
    logits, E, W = _visited(q, k, block_mask, **choices), q.shape[-1], v.shape[-1]
    once = kernels.one_pass(math.prod(k.shape[:-2]))
    macs = logits * (3 * E + 2 * W + (0 if once else E + W))
    return 2 * macs + (4 if once else 8) * logits + 2 * q.size + 2 * y.size, macs


defcost(block_p, _cost)
defcost(block_vjp_p, _vjp_cost)


# -- the function ---------------------------------------------------------------------------------------------------


@checked
def block_sparse_attention(
    q: Float[Tensor, "*B H T E"],
    k: Float[Tensor, "*B K S E"],
    v: Float[Tensor, "*B K S W"],
    block_mask: Bool[Tensor, "..."],
    *,
    block: int,
    causal: bool = False,
    mask: Bool[Tensor, "..."] | None = None,
    scale: float | None = None,
) -> Tensor:
    """softmax(scale q kᵀ) v over the keys of the blocks that ``block_mask`` sets.

    q: (*, H, T, E). k: (*, K, S, E), v: (*, K, S, W); K divides H, query head h reads head h // (H/K).
    block_mask: boolean, True = the block may be attended to, broadcast against (*, H, T / block, S / block), rounded up.
    block: tokens of a block, the last ones hold what is left.
    causal: only keys at positions up to the query's own, the queries being the last T of S positions.
    mask: boolean, True = may attend, broadcast against (*, H, T, S); on top of the blocks.
    scale: default E**-0.5.

    Returns (*, H, T, W), zeros for a query without a key. Raises ShapeError when shapes disagree, ValueError for a block
    that is not a positive integer.
    """
    q, k, v, block_mask = as_tensor(q), as_tensor(k), as_tensor(v), as_tensor(block_mask)
    H, K, E = q.shape[-3], k.shape[-3], q.shape[-1]
    if isinstance(block, bool) or not isinstance(block, (int, np.integer)) or block < 1:
        raise ValueError(f"block_sparse_attention: block must be a positive integer, got {block!r}")
    if E == 0:
        raise ShapeError(f"block_sparse_attention: the head width E must be at least 1, got q {q.shape}")
    if K == 0 or H % K:
        raise ShapeError(f"block_sparse_attention: the K = {K} heads of k and v must divide the H = {H} heads of q")
    if not fits_into(block_mask.shape, grid := _grid(q, k, block)):
        raise ShapeError(
            f"block_sparse_attention: block_mask of shape {block_mask.shape} does not broadcast to the blocks "
            f"(*, H, T / block, S / block) = {grid}"
        )
    if mask is not None:
        mask = as_tensor(mask)
        if not fits_into(mask.shape, logits := (*q.shape[:-1], k.shape[-2])):
            raise ShapeError(
                f"block_sparse_attention: mask of shape {mask.shape} does not broadcast to the logits "
                f"(*, H, T, S) = {logits}"
            )
    dtype = common_dtype(q.dtype, k.dtype, v.dtype)
    q, k, v = (mt.store(mt.astype(x, dtype)) for x in (q, k, v))
    choices = {"block": int(block), "causal": bool(causal), "scale": float(E**-0.5 if scale is None else scale)}
    return mt.store(bind(block_p, q, k, v, block_mask, mask, **choices)[0])


# -- what the oracle asks --------------------------------------------------------------------------------------------


def _example(
    draw: Any, size: str, *, causal: bool = False, masked: bool = False, K: int | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    B, H, T, S, E, block = {
        "tiny": (1, 2, 3, 5, 4, 2),
        "small": (2, 4, 17, 23, 16, 4),
        "medium": (2, 4, 130, 129, 64, 16),
    }[size]
    K, S = H if K is None else K, T if causal else S
    inputs = {"q": draw.normal((B, H, T, E)), "k": draw.normal((B, K, S, E)), "v": draw.normal((B, K, S, E))}
    inputs["block_mask"] = draw.boolean((H, -(-T // block), -(-S // block)), 0.6)
    inputs["block_mask"][0, -1] = False  # queries of one head that may attend to nothing
    options: dict[str, Any] = {"block": block, **({"causal": True} if causal else {})}
    if masked:
        options["mask"] = draw.boolean((B, 1, T, S), 0.7)
    return inputs, options


reference(
    "attention.block_sparse",
    block_sparse_attention,
    example=_example,
    differentiable=("q", "k", "v"),
    options=({}, {"causal": True}, {"masked": True}, {"K": 2, "causal": True}),
)
