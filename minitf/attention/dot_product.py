"""Dot-product attention: every token asks a question of all tokens and receives the answers' average.

    A[t, s] = softmax over s of (q_t . k_s / sqrt(E))        which tokens t listens to
    y_t     = sum over s of A[t, s] v_s                      what it hears

Row t of A is non-negative and sums to 1: y_t is a weighted average of the values. H heads do this side by side, each
with its own q, k, v of width E, and a last matrix mixes what they heard: (B, T, D) -> (B, T, D).

Papers: introduction-to-transformers, "An Introduction to Transformers" (2023), which writes tokens as columns; the
same mathematics in its notation is ``minitf.models.mathematical``. Cost for T queries and S keys, per head: 2 T S E
multiply-adds (2 T S (E + W) FLOPs with value width W), a (T, S) array of weights unless a kernel avoids it, and a
cache of 2 K S E numbers in a decoder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from minitf.attention.kv_cache import ContextCache, KVCache
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.broadcast import reshape
from minitf.autodiff.ops.shape import swapaxes
from minitf.autodiff.tensor import Tensor, as_tensor
from minitf.nn.layers import Dropout, Linear
from minitf.nn.module import Module
from minitf.nn.scaled_dot_product import attention_log_sum_exp, scaled_dot_product_attention
from minitf.position.rotary import apply_rotary
from minitf.registry import reference

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["MultiHeadAttention", "merge_heads", "scaled_dot_product_attention", "split_heads"]


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(*, T, heads * E) -> (*, heads, T, E); heads are contiguous in the last axis."""
    if x.ndim < 2 or heads < 1 or x.shape[-1] % heads:
        raise ShapeError(f"split_heads: {heads} heads must divide the width of x (*, T, width), got shape {x.shape}")
    return swapaxes(reshape(x, (*x.shape[:-1], heads, x.shape[-1] // heads)), -2, -3)


def merge_heads(x: Tensor) -> Tensor:
    """(*, H, T, E) -> (*, T, H * E), the inverse of ``split_heads``."""
    if x.ndim < 3:
        raise ShapeError(f"merge_heads: x must be (*, H, T, E), got shape {x.shape}")
    *lead, H, T, E = x.shape
    return reshape(swapaxes(x, -2, -3), (*lead, T, H * E))


class MultiHeadAttention(Module):
    """H heads of attention between two linear maps.

    D: model width. H: query heads. K: key/value heads, dividing H (default H). E: head width (default D // H).
    bias: biases in all four maps. freqs, layout: rotary frequencies and their layout, None for no rotation.
    dropout: probability, of the weights while training; drawn from ``rng``.
    attention: the attention function, called as ``attention(q, k, v, mask=, causal=, ...)`` with q (B, H, T, E) and
        k, v (B, K, S, E); it returns (B, H, T, W) with H W = H E, and with ``return_weights=True`` a pair.
    """

    def __init__(
        self,
        D: int,
        H: int,
        K: int | None = None,
        E: int | None = None,
        *,
        bias: bool = True,
        freqs: np.ndarray | None = None,
        layout: str = "half",
        dropout: float = 0.0,
        attention: Callable[..., Tensor] = scaled_dot_product_attention,
        rng: np.random.Generator,
    ):
        super().__init__()
        K = H if K is None else K
        if H < 1 or K < 1 or H % K:
            raise ShapeError(f"MultiHeadAttention: K = {K} key/value heads must divide H = {H} query heads")
        if E is None and D % H:
            raise ShapeError(f"MultiHeadAttention: H = {H} heads do not divide D = {D}; give the head width E")
        if not callable(attention):
            raise TypeError(
                f"MultiHeadAttention: attention must be a function (q, k, v, mask=, ...), got {attention!r}"
            )
        E = D // H if E is None else E
        self.H, self.K, self.E = H, K, E
        self.q = Linear(D, H * E, bias=bias, rng=rng)
        self.k = Linear(D, K * E, bias=bias, rng=rng)
        self.v = Linear(D, K * E, bias=bias, rng=rng)
        self.out = Linear(H * E, D, bias=bias, rng=rng)
        self.freqs, self.layout = freqs, layout
        self.dropout = Dropout(dropout, rng=rng) if dropout else None
        self.attention = attention

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        context: Float[Tensor, "B S D"] | None = None,
        *,
        mask: Any = None,
        causal: bool = False,
        cache: KVCache | ContextCache | None = None,
        positions: Any = None,
        return_weights: bool = False,
        **options: Any,
    ) -> Any:
        """x (B, T, D) attends to ``context`` (B, S, D), to itself by default.

        mask: boolean, True = may attend, broadcast against (B, H, T, S). causal: queries are the last T positions.
        cache: keys and values are appended to it and everything in it is attended to. A ``ContextCache`` is filled by
            the first call, and stands for context and mask in those that follow.
        positions: (T,) or (B, T), for rotary frequencies; default: counted on from the cache.
        options: what else the attention function takes, such as bias, window or softcap.

        Returns (B, T, D), with the weights (B, H, T, S) if ``return_weights``. Raises ValueError for a context of a
        layer with rotary frequencies, since only x has positions.
        """
        x = as_tensor(x)
        q = split_heads(self.q(x), self.H)
        if isinstance(cache, ContextCache) and cache.length:
            k, v, mask = cache.k, cache.v, cache.mask
        else:
            source = x if context is None else as_tensor(context)
            k, v = split_heads(self.k(source), self.K), split_heads(self.v(source), self.K)
        if self.freqs is not None:
            if context is not None:
                raise ValueError(
                    "MultiHeadAttention: a layer with rotary frequencies attends to x only, not to a context"
                )
            start = 0 if cache is None else cache.length
            at = np.arange(start, start + x.shape[-2]) if positions is None else positions
            q, k = (apply_rotary(t, at, self.freqs, self.layout) for t in (q, k))
        if isinstance(cache, KVCache):
            k, v = cache.update(k, v)
        elif cache is not None and not cache.length:
            cache.fill(k, v, mask)
        if self.dropout is not None and self.training:
            options["dropout"] = self.dropout
        if not return_weights:
            return self.out(merge_heads(self.attention(q, k, v, mask=mask, causal=causal, **options)))
        heard, weights = self.attention(q, k, v, mask=mask, causal=causal, return_weights=True, **options)
        return self.out(merge_heads(heard)), weights


def _example(
    draw: Any, size: str, *, causal: bool = False, masked: bool = False, K: int | None = None, dropout: float = 0.0
) -> Any:
    B, H, T, S, E = {"tiny": (1, 2, 3, 4, 4), "small": (2, 4, 17, 23, 16), "medium": (2, 4, 130, 129, 64)}[size]
    K = H if K is None else K
    S = T if causal else S
    inputs = {"q": draw.normal((B, H, T, E)), "k": draw.normal((B, K, S, E)), "v": draw.normal((B, K, S, E))}
    options: dict[str, Any] = {"causal": True} if causal else {}
    if masked:
        mask = draw.boolean((B, 1, T, S), 0.7)
        mask[0, :, -1] = False  # one query that may attend to nothing
        options["mask"] = mask
    if dropout:
        options["dropout"] = draw.boolean((B, H, T, S), 1 - dropout) / (1 - dropout)
    return inputs, options


reference(
    "attention.dot_product",
    scaled_dot_product_attention,
    example=_example,
    differentiable=("q", "k", "v"),
    options=({}, {"causal": True}, {"masked": True}, {"K": 2, "causal": True}),
    on_request=({"dropout": 0.2}, {"causal": True, "dropout": 0.2}),
    auxiliary={"lse": lambda q, k, v, dropout=None, **options: attention_log_sum_exp(q, k, **options)},
    axes={"q": "BHTE", "k": "BKSE", "v": "BKSE", "out": "BHTE"},
)
