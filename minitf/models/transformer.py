"""The decoder-only transformer as a skeleton: which attention, feed-forward layer, norm and position code is a choice.

x = embedding(ids) (+ position code)
x = x + attention(norm(x));  x = x + feed_forward(norm(x))         L times ("pre"; "post": x = norm(x + f(x)))
logits = norm(x) @ W_vocabulary                                     W_vocabulary: tied to the embedding, or its own
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minitf.attention.dot_product import MultiHeadAttention
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.contract import matmul
from minitf.autodiff.ops.shape import swapaxes
from minitf.autodiff.tensor import Tensor, as_tensor
from minitf.feedforward.mlp import FeedForward
from minitf.models.cache import DecoderCache
from minitf.nn.layers import Dropout, Embedding, LayerNorm, Linear, RMSNorm
from minitf.nn.module import Module
from minitf.position.rotary import rotary_frequencies
from minitf.position.sinusoidal import sincos1d

POSITIONS = ("none", "learned", "sinusoidal", "rotary")
NORMS: dict[str, Callable[..., Module]] = {"layer": LayerNorm, "rms": RMSNorm}

#: makes the sub-layer of one layer: ``factory(layer, rng)``
Factory = Callable[[int, np.random.Generator], Module]


class Block(Module):
    """One layer: attention and feed-forward, each with a norm and a residual connection."""

    def __init__(
        self, attention: Module, feed_forward: Module, norms: tuple[Module, Module], place: str, dropout: Dropout
    ):
        super().__init__()
        if place not in ("pre", "post"):
            raise ValueError(f"Block: the norm's place must be 'pre' or 'post', got {place!r}")
        self.attention, self.feed_forward = attention, feed_forward
        self.attention_norm, self.feed_forward_norm = norms
        self.dropout = dropout
        self.place = place

    def forward(self, x: Any, **attention_options: Any) -> Tensor:
        """x (B, T, D) -> (B, T, D); the options go to the attention."""
        if self.place == "pre":
            x = x + self.dropout(self.attention(self.attention_norm(x), **attention_options))
            return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        x = self.attention_norm(x + self.dropout(self.attention(x, **attention_options)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class Decoder(Module):
    """A causal language model.

    V, D, L, H: vocabulary, width, layers, heads. F: feed-forward width, default 4D.
    attention, feed_forward: ``factory(layer, rng) -> Module``; default multi-head attention and a GELU layer.
    norm: "layer" or "rms"; norm_place: "pre" or "post". position: "none", "learned", "sinusoidal", "rotary" (the
        default attention rotates; an attention of your own brings its own position code, use "none").
    max_length: longest sequence, needed for learned positions. tied: the output matrix is the embedding's transpose.
    dropout: probability, on the embedding and on both branches; drawn from ``rng``.
    """

    def __init__(
        self,
        V: int,
        D: int,
        L: int,
        H: int,
        F: int | None = None,
        *,
        attention: Factory | None = None,
        feed_forward: Factory | None = None,
        norm: str = "layer",
        norm_place: str = "pre",
        eps: float = 1e-5,
        position: str = "learned",
        max_length: int | None = None,
        tied: bool = True,
        dropout: float = 0.0,
        rng: np.random.Generator,
    ):
        super().__init__()
        if L < 0 or H < 1:
            raise ValueError(f"Decoder: needs L of at least 0 layers and H of at least 1 head, got L = {L}, H = {H}")
        if position not in POSITIONS:
            raise ValueError(f"Decoder: position must be one of {', '.join(POSITIONS)}, got {position!r}")
        if norm not in NORMS:
            raise ValueError(f"Decoder: norm must be one of {', '.join(NORMS)}, got {norm!r}")
        if position == "learned" and not max_length:
            raise ValueError("Decoder: learned positions need max_length")
        if position == "rotary" and attention is not None:
            raise ValueError(
                "Decoder: 'rotary' is for the default attention; let your own rotate, with position='none'"
            )
        width = 4 * D if F is None else F
        freqs = rotary_frequencies(D // H) if position == "rotary" else None
        if attention is None:
            attention = lambda layer, rng: MultiHeadAttention(D, H, freqs=freqs, rng=rng)
        if feed_forward is None:
            feed_forward = lambda layer, rng: FeedForward(D, width, rng=rng)
        self.V, self.D, self.max_length, self.position = V, D, max_length, position
        self.embedding = Embedding(V, D, rng=rng, init=_normal(0.02))
        self.positions = Embedding(max_length or 0, D, rng=rng, init=_normal(0.02)) if position == "learned" else None
        self.dropout = Dropout(dropout, rng=rng)
        make_norm = NORMS[norm]
        self.blocks = [
            Block(
                attention(layer, rng),
                feed_forward(layer, rng),
                (make_norm(D, eps=eps), make_norm(D, eps=eps)),
                norm_place,
                self.dropout,
            )
            for layer in range(L)
        ]
        self.norm = make_norm(D, eps=eps) if norm_place == "pre" else None
        self.head = None if tied else Linear(D, V, bias=False, rng=rng)

    def new_cache(self, B: int | None = None) -> DecoderCache:
        """An empty cache for this model; it takes any batch size B with its first tokens."""
        return DecoderCache(len(self.blocks))

    def hidden(self, ids: Any, *, mask: Any = None, positions: Any = None, cache: DecoderCache | None = None) -> Tensor:
        """The last hidden states (B, T, D) of token ids (B, T), after the final norm."""
        ids = as_tensor(ids)
        if ids.ndim != 2:
            raise ShapeError(f"Decoder: ids must be (B, T), got shape {ids.shape}")
        if cache is not None and len(cache.layer_slot) != len(self.blocks):
            raise ValueError(f"Decoder: the cache is for {len(cache.layer_slot)} layers, not for {len(self.blocks)}")
        start = 0 if cache is None else cache.length
        end = start + ids.shape[1]
        if self.max_length is not None and end > self.max_length:
            raise ShapeError(f"Decoder: {end} positions, but max_length is {self.max_length}")
        at = np.arange(start, end) if positions is None else as_tensor(positions).data
        x = self.embedding(ids)
        if self.positions is not None:
            x = x + self.positions(at)
        elif self.position == "sinusoidal":
            x = x + sincos1d(self.D, at).astype(x.dtype)
        x = self.dropout(x)
        for layer, block in enumerate(self.blocks):
            slot = None if cache is None else cache[layer]
            x = block(x, mask=mask, causal=True, cache=slot, positions=positions)
        return x if self.norm is None else self.norm(x)

    def forward(
        self, ids: Any, *, mask: Any = None, positions: Any = None, cache: DecoderCache | None = None
    ) -> Tensor:
        """Logits (B, T, V) of token ids (B, T); logits at t predict token t + 1.

        mask: boolean (B, 1, 1, S) or broadcastable, on top of causality. positions: (B, T), default counted on from
        the cache. cache: from ``new_cache``; the new tokens are appended to it.
        """
        x = self.hidden(ids, mask=mask, positions=positions, cache=cache)
        return self.head(x) if self.head is not None else matmul(x, swapaxes(self.embedding.weight, 0, 1))


def _normal(std: float) -> Callable[..., np.ndarray]:
    return lambda shape, *, rng: rng.normal(0, std, shape)
