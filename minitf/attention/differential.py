"""Differential attention: subtract a second attention map from the first, and what both pay to noise cancels.

    A_i = softmax(q_i k_iᵀ / sqrt(E))                                   i = 1, 2
    o   = (A_1 - λ A_2) v                                               v of width 2E
    λ   = exp(λ_q1 . λ_k1) - exp(λ_q2 . λ_k2) + λ_init                  learned, one a layer
    y   = concat over heads of (1 - λ_init) RMSNorm(o_h), then W_o      λ_init = 0.8 - 0.6 exp(-0.3 layer)

A head has two queries and two keys of width E = D / 2H and one value of width 2E, so H is half the head count of the
transformer it replaces, and parameters, scores and cache (4 H E = 2 D numbers a token) are the same. Each map is
applied to the values by itself, as kernels without a (T, S) array have to: 4 T S E multiply-adds a head for that, twice
what the difference of two stored maps would take.

Paper: differential-transformer, "Differential Transformer" (2024). Sub-heads are paired "consecutive" (2h, 2h + 1: the
authors' code) or "halves" (h, h + H: DiffLlama, whose 2K value heads of width E are joined as [v_j, v_{j+K}]).
With fewer key/value heads, map i of head h reads sub-head i of key/value head h // (H/K), as in the flash variants of
the authors' code; their plain variant repeats sub-heads instead, which pairs a head's maps with other keys.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from minitf.attention.dot_product import merge_heads, split_heads
from minitf.attention.kv_cache import KVCache
from minitf.autodiff.checked import checked
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.broadcast import sum as sum_
from minitf.autodiff.ops.elementwise import exp
from minitf.autodiff.ops.shape import concatenate
from minitf.autodiff.tensor import Tensor, as_tensor
from minitf.nn.layers import Linear, RMSNorm
from minitf.nn.module import Module, Parameter
from minitf.nn.scaled_dot_product import scaled_dot_product_attention
from minitf.position.rotary import apply_rotary, rotary_frequencies
from minitf.registry import implements, reference

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

PAIRINGS = ("consecutive", "halves")


def lambda_init(layer: int) -> float:
    """λ_init of a layer counted from 0: 0.2 in the first, towards 0.8 in deep ones."""
    if layer < 0:
        raise ValueError(f"lambda_init: layers count from 0, got {layer}")
    return 0.8 - 0.6 * math.exp(-0.3 * layer)


@implements("differential-transformer")
@checked
def differential_attention(
    q1: Float[Tensor, "*B H T E"],
    k1: Float[Tensor, "*B K S E"],
    q2: Float[Tensor, "*B H T E"],
    k2: Float[Tensor, "*B K S E"],
    v: Float[Tensor, "*B K S W"],
    *,
    lambda_: Any,
    mask: Bool[Tensor, "..."] | None = None,
    causal: bool = False,
    scale: float | None = None,
    return_weights: bool = False,
) -> Any:
    """(A_1 - lambda_ A_2) v with A_i = softmax(scale q_i k_iᵀ) over the keys that ``mask`` allows.

    q1, q2: (*, H, T, E). k1, k2: (*, K, S, E), K dividing H. v: (*, K, S, W), in the paper W = 2E.
    lambda_: a number, or an array that broadcasts against the output (*, H, T, W).
    mask, causal, scale: as in ``scaled_dot_product_attention``; a query that may attend to nothing gives zeros.
    return_weights: return (out, A_1 - lambda_ A_2), the map (*, H, T, S); its rows sum to 1 - lambda_.

    Returns (*, H, T, W). Before the norm and the factor 1 - λ_init, which belong to the layer.
    """
    first, second = (
        scaled_dot_product_attention(q, k, v, mask=mask, causal=causal, scale=scale, return_weights=return_weights)
        for q, k in ((q1, k1), (q2, k2))
    )
    if not return_weights:
        return first - lambda_ * second
    (o1, a1), (o2, a2) = first, second
    return o1 - lambda_ * o2, a1 - lambda_ * a2


@implements("differential-transformer")
class DifferentialAttention(Module):
    """The layer: two linear maps around ``differential_attention``, its λ, and a norm on every head.

    D: model width, H: heads of two sub-heads each (half the usual count), K: key/value heads, dividing H.
    layer: index from 0, for λ_init. theta: rotary base, None for no rotation; layout: rotary layout.
    pairing: "consecutive" or "halves". norm_affine: a weight of width 2E in the head norm (DiffLlama has none).
    E: width of a sub-head, default D / 2H. bias: biases in all four maps.
    """

    def __init__(
        self,
        D: int,
        H: int,
        K: int | None = None,
        *,
        layer: int,
        E: int | None = None,
        bias: bool = False,
        theta: float | None = 10000.0,
        layout: str = "interleaved",
        pairing: str = "consecutive",
        norm_affine: bool = True,
        eps: float = 1e-5,
        rng: np.random.Generator,
    ):
        super().__init__()
        K = H if K is None else K
        if K < 1 or H % K:
            raise ShapeError(f"DifferentialAttention: K = {K} key/value heads must divide H = {H} heads")
        if E is None and D % (2 * H):
            raise ShapeError(f"DifferentialAttention: 2H = {2 * H} sub-heads do not divide D = {D}; give the width E")
        if pairing not in PAIRINGS:
            raise ValueError(f"DifferentialAttention: pairing must be one of {', '.join(PAIRINGS)}, got {pairing!r}")
        E = D // (2 * H) if E is None else E
        self.H, self.K, self.E, self.pairing, self.layout = H, K, E, pairing, layout
        self.q = Linear(D, 2 * H * E, bias=bias, rng=rng)
        self.k = Linear(D, 2 * K * E, bias=bias, rng=rng)
        self.v = Linear(D, 2 * K * E, bias=bias, rng=rng)
        self.out = Linear(2 * H * E, D, bias=bias, rng=rng)
        self.lambda_init = lambda_init(layer)
        dtype = self.q.weight.dtype
        self.lambda_q1, self.lambda_k1, self.lambda_q2, self.lambda_k2 = (
            Parameter(rng.normal(0, 0.1, E).astype(dtype)) for _ in range(4)
        )
        self.norm = RMSNorm(2 * E, eps=eps, affine=norm_affine)
        self.freqs = None if theta is None else rotary_frequencies(E, theta)

    def lambda_(self) -> Tensor:
        """λ of this layer, a scalar."""
        first = exp(sum_(self.lambda_q1 * self.lambda_k1))
        second = exp(sum_(self.lambda_q2 * self.lambda_k2))
        return first - second + self.lambda_init

    def _pairs(self, x: Tensor, heads: int) -> tuple[Tensor, Tensor]:
        """Sub-heads (B, 2 heads, T, E) as the first and the second of every head, (B, heads, T, E) each."""
        if self.pairing == "halves":
            return x[:, :heads], x[:, heads:]
        return x[:, 0::2], x[:, 1::2]

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        context: Float[Tensor, "B S D"] | None = None,
        *,
        mask: Any = None,
        causal: bool = False,
        cache: KVCache | None = None,
        positions: Any = None,
        return_weights: bool = False,
    ) -> Any:
        """As ``MultiHeadAttention.forward``; the weights are the differential maps (B, H, T, S)."""
        x = as_tensor(x)
        source = x if context is None else as_tensor(context)
        q, k = split_heads(self.q(x), 2 * self.H), split_heads(self.k(source), 2 * self.K)
        v = concatenate(self._pairs(split_heads(self.v(source), 2 * self.K), self.K), axis=-1)
        if self.freqs is not None:
            start = 0 if cache is None else cache.length
            at = np.arange(start, start + x.shape[1]) if positions is None else positions
            q, k = (apply_rotary(t, at, self.freqs, self.layout) for t in (q, k))
        if cache is not None:
            k, v = cache.update(k, v)
        (q1, q2), (k1, k2) = self._pairs(q, self.H), self._pairs(k, self.K)
        o, weights = differential_attention(
            q1, k1, q2, k2, v, lambda_=self.lambda_(), mask=mask, causal=causal, return_weights=True
        )
        y = self.out(merge_heads(self.norm(o) * (1 - self.lambda_init)))
        return (y, weights) if return_weights else y


def _example(draw: Any, size: str, *, causal: bool = False, masked: bool = False, K: int | None = None) -> Any:
    B, H, T, S, E = {"tiny": (1, 1, 3, 4, 4), "small": (2, 2, 17, 23, 16), "medium": (2, 4, 130, 129, 32)}[size]
    K = H if K is None else K
    S = T if causal else S
    q, k = (B, H, T, E), (B, K, S, E)
    inputs = {name: draw.normal(shape) for name, shape in (("q1", q), ("k1", k), ("q2", q), ("k2", k))}
    inputs["v"] = draw.normal((B, K, S, 2 * E))
    options: dict[str, Any] = {"lambda_": round(float(draw.uniform((), 0.2, 0.8)), 3)}
    if causal:
        options["causal"] = True
    if masked:
        mask = draw.boolean((B, 1, T, S), 0.7)
        mask[0, :, -1] = False  # one query that may attend to nothing
        options["mask"] = mask
    return inputs, options


reference(
    "attention.differential",
    differential_attention,
    example=_example,
    differentiable=("q1", "k1", "q2", "k2", "v"),
    options=({}, {"causal": True}, {"masked": True}, {"K": 1, "causal": True}),
    axes={"q1": "BHTE", "k1": "BKSE", "q2": "BHTE", "k2": "BKSE", "v": "BKSW", "out": "BHTW"},
)
