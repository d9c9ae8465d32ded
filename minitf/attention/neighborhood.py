"""Neighbourhood attention: every pixel attends to the k x k pixels nearest to it, at the borders as well.

    start(i) = d clip(i // d - k // 2, 0, L_r - k) + r            r = i mod d,  L_r = ceil((L - r) / d)
    J_i      = {start(i) + t d : t = 0 .. k - 1}                  the keys of query i along an axis of L pixels
    s_ij     = scale q_i . k_j + bias[(j - i) / d + k - 1]        offsets are key minus query
    y_i      = sum over j in J_i of softmax(s_i)_j v_j

On a map J is the product of both axes' sets. A neighbourhood does not leave the map but stops at its border, so every query
has exactly k keys an axis, and d k <= L. With dilation d the pixels r, r + d, r + 2 d, ... are a map of their own: nothing
passes from one residue r to another. k = L is attention to everything, k = 1 returns v; in the interior a shifted map gives
shifted outputs, exactly, which windows do not.

Cost for a map of Y x X pixels and a head of width E: 2 k² Y X E multiply-adds, no array larger than q, k, v and out
(``minitf.kernels.neighborhood``); what the backward sweep keeps are those and one number a query.

Paper: nat, "Neighborhood Attention Transformer" (2022).
A map smaller than d k is padded at its end by the caller, as in the authors' model.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from minitf import autodiff as mt
from minitf.attention.on_maps import operands, primitives
from minitf.autodiff.checked import checked
from minitf.autodiff.dispatch import compiled, widened
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.convolution import per_axis
from minitf.autodiff.rules import defcost
from minitf.autodiff.tensor import Tensor, as_tensor, bind
from minitf.kernels import neighborhood as kernels
from minitf.nn.fused_attention import attention
from minitf.registry import reference

if TYPE_CHECKING:
    from jaxtyping import Float

# -- out (B, H, Y, X, W) and lse (B, H, Y, X) as one primitive, its vjp as another --------------------------------------


def _gathered(q: Any, k: Any, v: Any, bias: Any, *, size: Any, dilation: Any, scale: float) -> tuple[Tensor, Tensor]:
    """Keys and values of every query beside each other, (B, H, Y, X, n, E), to which it attends on its own."""
    of_map, of_bias = kernels.places(q.shape[2], q.shape[3], size, dilation)
    k, v = (as_tensor(x)[:, :, *of_map] for x in (k, v))
    if bias is not None:
        bias = mt.expand_dims(as_tensor(bias)[:, *of_bias], -2)
    n = math.prod(size)
    out, lse = attention(mt.expand_dims(q, -2), k, v, bias, scale=scale, nearest=-n, farthest=n)
    return mt.reshape(out, (*q.shape[:-1], v.shape[-1])), mt.reshape(lse, q.shape[:-1])


neighborhood_p, neighborhood_vjp_p = primitives(
    "neighborhood_attention",
    widened(compiled(kernels.na2d, kernels.na2d_twin)),
    widened(compiled(kernels.na2d_vjp, kernels.na2d_vjp_twin)),
    _gathered,
)


# Of every logit: its products, a subtraction, an exponential, an addition, and what the bias takes.


def _cost(out: Any, q: Any, k: Any, v: Any, bias: Any, *, size: Any, **choices: Any) -> tuple[int, int]:
    logits = math.prod(q.shape[:-1]) * math.prod(size)
    macs = logits * (q.shape[-1] + v.shape[-1])
    return 2 * macs + (3 + (bias is not None)) * logits + q.size + out[0].size, macs


def _vjp_cost(
    out: Any, q: Any, k: Any, v: Any, bias: Any, y: Any, *rest: Any, size: Any, of_bias: bool, **choices: Any
) -> tuple[int, int]:
    logits = math.prod(q.shape[:-1]) * math.prod(size)
    macs = logits * (3 * q.shape[-1] + 2 * v.shape[-1])
    return 2 * macs + (4 + (bias is not None) + of_bias) * logits + 2 * q.size + 2 * y.size, macs


defcost(neighborhood_p, _cost)
defcost(neighborhood_vjp_p, _vjp_cost)


# -- the functions ------------------------------------------------------------------------------------------------


def neighborhood_start(length: int, kernel_size: int, dilation: int = 1) -> np.ndarray:
    """(length,) integers: the first key of every query along one axis; the others follow at steps of ``dilation``.

    Raises ValueError unless kernel_size is odd and dilation positive, ShapeError unless their product is at most length.
    """
    (size,), (step,) = _options("neighborhood_start", (length,), kernel_size, dilation)
    return kernels.starts(length, size, step)


@checked
def neighborhood_attention_2d(
    q: Float[Tensor, "*B H Y X E"],
    k: Float[Tensor, "*B H Y X E"],
    v: Float[Tensor, "*B H Y X W"],
    kernel_size: int | tuple[int, int],
    *,
    dilation: int | tuple[int, int] = 1,
    bias: Float[Tensor, "H _ _"] | None = None,
    scale: float | None = None,
) -> Tensor:
    """softmax(scale q_i . k_j + bias) v over the kernel_size x kernel_size pixels j nearest to pixel i.

    q, k: (*, H, Y, X, E). v: (*, H, Y, X, W).
    kernel_size: odd; dilation: distance of neighbours. Each one integer, or one for Y and one for X.
    bias: (H, 2 k_y - 1, 2 k_x - 1), entry [h, k_y - 1 + δ_y, k_x - 1 + δ_x] for a key δ neighbours after the query.
    scale: default E**-0.5.

    Returns (*, H, Y, X, W). Raises ShapeError unless kernel_size * dilation fits into the map along both axes (a smaller
    map is padded by the caller), ValueError for a kernel_size that is not odd or a dilation below 1.
    """
    return _attend("neighborhood_attention_2d", q, k, v, kernel_size, dilation, bias, scale, axes=2)


@checked
def neighborhood_attention_1d(
    q: Float[Tensor, "*B H T E"],
    k: Float[Tensor, "*B H T E"],
    v: Float[Tensor, "*B H T W"],
    kernel_size: int,
    *,
    dilation: int = 1,
    bias: Float[Tensor, "H _"] | None = None,
    scale: float | None = None,
) -> Tensor:
    """softmax(scale q_i . k_j + bias) v over the kernel_size tokens j nearest to token i.

    q, k: (*, H, T, E). v: (*, H, T, W). bias: (H, 2 kernel_size - 1), entry [h, kernel_size - 1 + δ] for a key δ neighbours
        after the query. The rest as in ``neighborhood_attention_2d``.

    Returns (*, H, T, W).
    """
    return _attend("neighborhood_attention_1d", q, k, v, kernel_size, dilation, bias, scale, axes=1)


def _attend(
    what: str, q: Any, k: Any, v: Any, kernel_size: Any, dilation: Any, bias: Any, scale: float | None, *, axes: int
) -> Tensor:
    """Attention on a map of one or two axes; a sequence is a map of one column."""
    q, k, v = as_tensor(q), as_tensor(k), as_tensor(v)
    lead, H, lengths, E = q.shape[: -axes - 2], q.shape[-axes - 2], q.shape[-axes - 1 : -1], q.shape[-1]
    if E == 0:
        raise ShapeError(f"{what}: the head width E must be at least 1, got q {q.shape}")
    size, step = _options(what, lengths, kernel_size, dilation)
    column = (1,) * (2 - axes)
    maps = (math.prod(lead), H, *lengths, *column)
    q, k, v = (mt.reshape(x, (*maps, x.shape[-1])) for x in (q, k, v))
    q, k, v, bias = operands(what, q, k, v, bias, (H, *(2 * s - 1 for s in size)))
    if bias is not None:
        bias = mt.reshape(bias, (*bias.shape, *column))
    choices = {"size": size + column, "dilation": step + column, "scale": float(E**-0.5 if scale is None else scale)}
    return mt.store(mt.reshape(bind(neighborhood_p, q, k, v, bias, **choices)[0], (*lead, H, *lengths, v.shape[-1])))


def _options(
    what: str, lengths: tuple[int, ...], kernel_size: Any, dilation: Any
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """kernel_size and dilation of each axis, of so many pixels."""
    size = per_axis(what, "kernel_size", kernel_size, len(lengths), 1)
    step = per_axis(what, "dilation", dilation, len(lengths), 1)
    if any(s % 2 == 0 for s in size):
        raise ValueError(f"{what}: kernel_size must be odd, for a neighbourhood has a middle; got {kernel_size!r}")
    if any(s * d > n for s, d, n in zip(size, step, lengths, strict=True)):
        raise ShapeError(
            f"{what}: {' x '.join(map(str, lengths))} pixels are too few for kernel_size {kernel_size!r} with dilation "
            f"{dilation!r}; their product must fit, so pad at the end"
        )
    return size, step


# -- what the oracle asks --------------------------------------------------------------------------------------------


def neighborhood_1d_with_bias(q: Any, k: Any, v: Any, bias: Any, **options: Any) -> Tensor:
    """``neighborhood_attention_1d`` with the bias as an array among the others."""
    return neighborhood_attention_1d(q, k, v, bias=bias, **options)


def neighborhood_2d_with_bias(q: Any, k: Any, v: Any, bias: Any, **options: Any) -> Tensor:
    """``neighborhood_attention_2d`` with the bias as an array among the others."""
    return neighborhood_attention_2d(q, k, v, bias=bias, **options)


def _example(
    draw: Any, shape: tuple[int, ...], kernel_size: int, large: bool, options: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """q, k, v of ``shape`` (B, H, *lengths, E); ``large``: one query has logits far apart."""
    q, k, v = (draw.normal(shape) for _ in range(3))
    if large:
        q[0, 0, 0] *= 30
    bias = draw.normal((shape[1], *(2 * kernel_size - 1,) * (len(shape) - 3)))
    return {"q": q, "k": k, "v": v, "bias": bias}, {"kernel_size": kernel_size, **options}


def _example_1d(draw: Any, size: str, *, kernel_size: int = 3, large: bool = False, **options: Any) -> Any:
    shape = {"tiny": (1, 2, 7, 4), "small": (2, 2, 23, 16), "medium": (2, 4, 130, 64)}[size]
    return _example(draw, shape, kernel_size, large, options)


def _example_2d(draw: Any, size: str, *, kernel_size: int = 3, large: bool = False, **options: Any) -> Any:
    shape = {"tiny": (1, 2, 6, 7, 4), "small": (1, 2, 7, 9, 8), "medium": (2, 4, 14, 17, 32)}[size]
    return _example(draw, shape, kernel_size, large, options)


_CASES: tuple[dict[str, Any], ...] = ({}, {"kernel_size": 5}, {"dilation": 2}, {"large": True})
reference(
    "attention.neighborhood_1d",
    neighborhood_1d_with_bias,
    example=_example_1d,
    differentiable=("q", "k", "v", "bias"),
    options=_CASES,
)
reference(
    "attention.neighborhood_2d",
    neighborhood_2d_with_bias,
    example=_example_2d,
    differentiable=("q", "k", "v", "bias"),
    options=_CASES,
)
