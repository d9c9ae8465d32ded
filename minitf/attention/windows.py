"""Shifted-window attention: pixels attend within M x M windows, which every second layer moves by half a window.

    token (i, j) of window (a, b)  =  pixel ((a M + i + t) mod Y, (b M + j + t) mod X)        t the shift
    s_ij = scale q_i . k_j + bias[i - j + M - 1]               offsets are query minus key
    y_i  = sum over the pixels j that i sees of softmax(s_i)_j v_j

With t > 0 windows wrap around the map; two pixels of a window see each other iff they have the same cell
((y + M - t) // M, (x + M - t) // M). That is attention in windows cut on the map as it is, ragged ones at its borders.

Cost for a map of Y x X pixels and a head of width E: 2 M² Y X E multiply-adds. The rolled map, its windows and the mask are
not built (``minitf.kernels.windows``); what the backward sweep keeps are q, k, v, out and one number a query.

Paper: swin, "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows" (2021). Pixels of other cells have
exactly no weight; the authors' code adds -100 to their logits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from minitf import autodiff as mt
from minitf.attention.on_maps import operands, primitives
from minitf.autodiff.checked import checked
from minitf.autodiff.dispatch import compiled, widened
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.convolution import per_axis
from minitf.autodiff.rules import defcost
from minitf.autodiff.tensor import Tensor, as_tensor, bind
from minitf.kernels import windows as kernels
from minitf.nn.fused_attention import attention
from minitf.registry import reference

if TYPE_CHECKING:
    from jaxtyping import Float

Pair = tuple[int, int]

# -- out (B, H, Y, X, W) and lse (B, H, Y, X) as one primitive, its vjp as another --------------------------------------


def _partition(x: Any, window: Pair, shift: Pair) -> Tensor:
    """(B, H, Y, X, E) as windows (B, Y / M_y, X / M_x, H, M_y M_x, E)."""
    (B, H, Y, X, E), (My, Mx) = x.shape, window
    x = mt.reshape(mt.roll(x, (-shift[0], -shift[1]), (2, 3)), (B, H, Y // My, My, X // Mx, Mx, E))
    return mt.reshape(mt.transpose(x, (0, 2, 4, 1, 3, 5, 6)), (B, Y // My, X // Mx, H, My * Mx, E))


def _reverse(x: Tensor, window: Pair, shift: Pair) -> Tensor:
    """The inverse of ``_partition``."""
    (B, down, across, H, _, E), (My, Mx) = x.shape, window
    x = mt.transpose(mt.reshape(x, (B, down, across, H, My, Mx, E)), (0, 3, 1, 4, 2, 5, 6))
    return mt.roll(mt.reshape(x, (B, H, down * My, across * Mx, E)), shift, (2, 3))


def _cut(q: Any, k: Any, v: Any, bias: Any, *, window: Pair, shift: Pair, scale: float) -> tuple[Tensor, Tensor]:
    """The map rolled and cut, ordinary attention with a mask in every window, and back."""
    n = math.prod(window)
    mask = kernels.visible(q.shape[2], q.shape[3], window, shift)[:, :, None]
    if bias is not None:
        bias = as_tensor(bias)[:, *kernels.offsets(window)]
    q, k, v = (_partition(x, window, shift) for x in (q, k, v))
    out, lse = attention(q, k, v, bias, mask, scale=scale, nearest=-n, farthest=n)
    return _reverse(out, window, shift), _reverse(mt.expand_dims(lse, -1), window, shift)[..., 0]


window_p, window_vjp_p = primitives(
    "window_attention",
    widened(compiled(kernels.window_attention, kernels.window_attention_twin)),
    widened(compiled(kernels.window_attention_vjp, kernels.window_attention_vjp_twin)),
    _cut,
)


# Of every pair in a window, masked or not: its products, a subtraction, an exponential, an addition, and what the bias takes.


def _cost(out: Any, q: Any, k: Any, v: Any, bias: Any, *, window: Pair, **choices: Any) -> tuple[int, int]:
    logits = math.prod(q.shape[:-1]) * math.prod(window)
    macs = logits * (q.shape[-1] + v.shape[-1])
    return 2 * macs + (5 + (bias is not None)) * logits, macs


def _vjp_cost(
    out: Any, q: Any, k: Any, v: Any, bias: Any, y: Any, *rest: Any, window: Pair, of_bias: bool, **choices: Any
) -> tuple[int, int]:
    logits = math.prod(q.shape[:-1]) * math.prod(window)
    macs = logits * (3 * q.shape[-1] + 2 * v.shape[-1])
    return 2 * macs + (5 + (bias is not None) + of_bias) * logits + q.size + k.size + 2 * y.size, macs


defcost(window_p, _cost)
defcost(window_vjp_p, _vjp_cost)


# -- the function -------------------------------------------------------------------------------------------------


@checked
def window_attention(
    q: Float[Tensor, "*B H Y X E"],
    k: Float[Tensor, "*B H Y X E"],
    v: Float[Tensor, "*B H Y X W"],
    window: int | tuple[int, int],
    *,
    shift: int | tuple[int, int] = 0,
    bias: Float[Tensor, "H _ _"] | None = None,
    scale: float | None = None,
) -> Tensor:
    """softmax(scale q_i . k_j + bias) v over the pixels j in the window of pixel i.

    q, k: (*, H, Y, X, E). v: (*, H, Y, X, W). Y and X are multiples of the window.
    window: side M. shift: how far windows are moved, less than M. Each one integer, or one for Y and one for X.
    bias: (H, 2 M_y - 1, 2 M_x - 1), entry [h, M_y - 1 + δ_y, M_x - 1 + δ_x] for a query δ pixels after the key.
    scale: default E**-0.5.

    Returns (*, H, Y, X, W). Raises ShapeError unless windows tile the map, ValueError for a shift that is not in 0 .. M - 1.
    """
    q, k, v = as_tensor(q), as_tensor(k), as_tensor(v)
    *lead, H, Y, X, E = q.shape
    if E == 0:
        raise ShapeError(f"window_attention: the head width E must be at least 1, got q {q.shape}")
    sides, moved = (
        per_axis("window_attention", "window", window, 2, 1),
        per_axis("window_attention", "shift", shift, 2, 0),
    )
    if any(t >= M for t, M in zip(moved, sides, strict=True)):
        raise ValueError(f"window_attention: shift must be smaller than the window {window!r}, got {shift!r}")
    if Y % sides[0] or X % sides[1]:
        raise ShapeError(
            f"window_attention: Y and X must be multiples of the window {sides[0]} x {sides[1]}, got a map of {Y} x {X}; "
            "pad it at the end"
        )
    q, k, v = (mt.reshape(x, (math.prod(lead), *x.shape[-4:])) for x in (q, k, v))
    q, k, v, bias = operands("window_attention", q, k, v, bias, (H, *(2 * M - 1 for M in sides)))
    scale = float(E**-0.5 if scale is None else scale)
    out, _ = bind(window_p, q, k, v, bias, window=sides, shift=moved, scale=scale)
    return mt.store(mt.reshape(out, (*lead, H, Y, X, v.shape[-1])))


# -- what the oracle asks --------------------------------------------------------------------------------------------


def window_attention_with_bias(q: Any, k: Any, v: Any, bias: Any, **options: Any) -> Tensor:
    """``window_attention`` with the bias as an array among the others."""
    return window_attention(q, k, v, bias=bias, **options)


def _example(draw: Any, size: str, *, large: bool = False, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    (B, H, Y, X, E), M = {
        "tiny": ((1, 1, 3, 6, 4), 3),
        "small": ((2, 2, 6, 9, 8), 3),
        "medium": ((2, 4, 14, 21, 32), 7),
    }[size]
    q, k, v = (draw.normal((B, H, Y, X, E)) for _ in range(3))
    if large:
        q[0, 0, 0, 0] *= 30
    return {"q": q, "k": k, "v": v, "bias": draw.normal((H, 2 * M - 1, 2 * M - 1))}, {"window": M, **options}


reference(
    "attention.window",
    window_attention_with_bias,
    example=_example,
    differentiable=("q", "k", "v", "bias"),
    options=({}, {"shift": 1}, {"large": True, "shift": 2}),
)
