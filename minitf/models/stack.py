"""The stack of blocks that encoders, decoders and vision transformers are made of; each of its parts is a choice.

                  f is attention, attention to a context, or the feed-forward layer, one after the other
pre               x = x + f(norm(x)), and a last norm behind all blocks
post              x = norm(x + f(x))
sandwich          x = x + norm(f(norm(x))), and a last norm behind all blocks
parallel          x = x + attention(norm(x)) + feed_forward(norm(x)), one norm for both
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minitf.attention.dot_product import MultiHeadAttention
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import Tensor
from minitf.feedforward.mlp import Activation, FeedForward, GatedFeedForward
from minitf.models.cache import DecoderCache
from minitf.nn.layers import Dropout, LayerNorm, RMSNorm
from minitf.nn.module import Module

PLACES = ("pre", "post", "sandwich")
NORMS: dict[str, Callable[..., Module]] = {"layer": LayerNorm, "rms": RMSNorm}

#: makes the sub-layer of one layer: ``factory(layer, rng)``
Factory = Callable[[int, np.random.Generator], Module]


class Block(Module):
    """One layer: attention and feed-forward, between them perhaps attention to a context; each with norm and residual.

    attention, feed_forward, cross: the sub-layers. norm: makes a norm, called for each that is needed.
    place: "pre", "post" or "sandwich". parallel: attention and feed-forward read the same normalized x ("pre" only).
    dropout: of what a sub-layer adds.
    """

    def __init__(
        self,
        attention: Module,
        feed_forward: Module,
        norm: Callable[[], Module],
        place: str = "pre",
        dropout: Dropout | None = None,
        *,
        cross: Module | None = None,
        parallel: bool = False,
    ):
        super().__init__()
        if place not in PLACES:
            raise ValueError(f"Block: the norm's place must be 'pre', 'post' or 'sandwich', got {place!r}")
        if parallel and (place != "pre" or cross is not None):
            raise ValueError("Block: parallel sub-layers need the norm's place 'pre', and no attention to a context")
        self.attention, self.cross, self.feed_forward = attention, cross, feed_forward
        self.attention_norm = norm()
        self.cross_norm = None if cross is None else norm()
        self.feed_forward_norm = None if parallel else norm()
        if place == "sandwich":
            self.attention_out_norm = norm()
            self.cross_out_norm = None if cross is None else norm()
            self.feed_forward_out_norm = norm()
        self.dropout = Dropout(0.0) if dropout is None else dropout
        self.place, self.parallel = place, parallel

    def forward(self, x: Any, context: Any = None, *, context_options: Any = None, **attention_options: Any) -> Tensor:
        """x (B, T, D) -> (B, T, D); ``context`` and its options go to ``cross``, the other options to ``attention``."""
        if self.parallel:
            y = self.attention_norm(x)
            return x + self.dropout(self.attention(y, **attention_options) + self.feed_forward(y))
        x = self._branch("attention", x, **attention_options)
        if self.cross is not None:
            x = self._branch("cross", x, context, **(context_options or {}))
        return self._branch("feed_forward", x)

    def _branch(self, name: str, x: Any, *args: Any, **options: Any) -> Tensor:
        layer, norm = getattr(self, name), getattr(self, f"{name}_norm")
        if self.place == "post":
            return norm(x + self.dropout(layer(x, *args, **options)))
        y = layer(norm(x), *args, **options)
        if self.place == "sandwich":
            y = getattr(self, f"{name}_out_norm")(y)
        return x + self.dropout(y)


class Stack(Module):
    """L blocks of width D and the norm behind them.

    D, L, H: width, layers, heads. F: feed-forward width, default 4D.
    attention, feed_forward, cross: ``factory(layer, rng) -> Module``; the defaults are multi-head attention and a
        feed-forward layer made with the options in the next two lines. ``cross=True`` is attention to a context.
    K, E, freqs: key/value heads, head width and rotary frequencies of the default attention.
    act, gated: activation of the default feed-forward layer, and whether it has a gate. bias: in the linear maps.
    norm: "layer", "rms", or a function of D that makes one; norm_place: "pre", "post", "sandwich"; eps: of the named
        norms. last_norm: whether a norm follows the blocks, by default unless norm_place is "post".
    position_bias: a Module called with (start, T), that gives what is added to the logits of T queries from position
        ``start`` on and of all start + T keys, (H, T, start + T); one for all layers.
    parallel: see ``Block``. dropout: probability, of what each sub-layer adds; attention_dropout: of the weights of the
        default attention; activation_dropout: inside the default feed-forward layers; last_dropout: whether ``dropout``
        also acts behind the last norm. All are drawn from ``rng``.
    """

    def __init__(
        self,
        D: int,
        L: int,
        H: int,
        F: int | None = None,
        *,
        attention: Factory | None = None,
        feed_forward: Factory | None = None,
        cross: Factory | bool = False,
        K: int | None = None,
        E: int | None = None,
        freqs: np.ndarray | None = None,
        act: Activation = "gelu",
        gated: bool = False,
        bias: bool = True,
        norm: str | Callable[[int], Module] = "layer",
        norm_place: str = "pre",
        last_norm: bool | None = None,
        eps: float = 1e-5,
        position_bias: Module | None = None,
        parallel: bool = False,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        last_dropout: bool = False,
        rng: np.random.Generator,
    ):
        super().__init__()
        self._require_counts(L=L, H=H)
        make_norm = self._norm(norm, D, eps)
        width = 4 * D if F is None else F
        heads = {"K": K, "E": E, "bias": bias, "dropout": attention_dropout}
        if attention is None:
            attention = lambda layer, rng: MultiHeadAttention(D, H, freqs=freqs, rng=rng, **heads)
        elif freqs is not None:
            raise ValueError(
                f"{type(self).__name__}: rotary frequencies ('rotary' positions) are for the default attention; let your "
                "own rotate, with position='none'"
            )
        if cross is True:
            cross = lambda layer, rng: MultiHeadAttention(D, H, rng=rng, **heads)
        inner: dict[str, Any] = {"dropout": activation_dropout, "rng": rng}
        if feed_forward is None and gated:
            feed_forward = lambda layer, rng: GatedFeedForward(D, width, act, bias=bias, **inner)
        elif feed_forward is None:
            feed_forward = lambda layer, rng: FeedForward(D, width, act, bias=bias, **inner)
        self.D, self.L, self.H = D, L, H
        self.dropout = Dropout(dropout, rng=rng)
        self.position_bias = position_bias
        self.blocks = [
            Block(
                attention(layer, rng),
                feed_forward(layer, rng),
                make_norm,
                norm_place,
                self.dropout,
                cross=cross(layer, rng) if cross else None,
                parallel=parallel,
            )
            for layer in range(L)
        ]
        if last_norm is None:
            last_norm = norm_place != "post"
        self.norm = make_norm() if last_norm else None
        self.last_dropout = last_dropout
        self.crosses = bool(cross)

    def _require_counts(self, L: int, H: int) -> None:
        if L < 0 or H < 1:
            raise ValueError(
                f"{type(self).__name__}: needs L of at least 0 layers and H of at least 1 head, got L = {L}, H = {H}"
            )

    def _norm(self, norm: str | Callable[[int], Module], D: int, eps: float) -> Callable[[], Module]:
        if callable(norm):
            return lambda: norm(D)
        if norm not in NORMS:
            raise ValueError(
                f"{type(self).__name__}: norm must be one of {', '.join(NORMS)}, or make one; got {norm!r}"
            )
        return lambda: NORMS[norm](D, eps=eps)

    def new_cache(self, B: int | None = None) -> DecoderCache:
        """An empty cache for this model; it takes any batch size B with its first tokens."""
        return DecoderCache(len(self.blocks), contexts=len(self.blocks) if self.crosses else 0)

    def through_blocks(
        self,
        x: Any,
        *,
        mask: Any = None,
        causal: bool = False,
        positions: Any = None,
        cache: DecoderCache | None = None,
        context: Any = None,
        context_mask: Any = None,
    ) -> Tensor:
        """x (B, T, D) behind all blocks and the last norm, (B, T, D)."""
        if self.crosses and context is None and (cache is None or cache.contexts[0].length == 0):
            raise ValueError(f"{type(self).__name__}: its blocks attend to a context, (B, S, D); none was given")
        options: dict[str, Any] = {"mask": mask, "causal": causal, "positions": positions}
        if self.position_bias is not None:
            options["bias"] = self.position_bias(0 if cache is None else cache.length, x.shape[1])
        for layer, block in enumerate(self.blocks):
            options["cache"] = None if cache is None else cache[layer]
            if self.crosses:
                options["context_options"] = {
                    "mask": context_mask,
                    "cache": None if cache is None else cache.contexts[layer],
                }
            x = block(x, context, **options)
        x = x if self.norm is None else self.norm(x)
        return self.dropout(x) if self.last_dropout else x

    def checked_cache(self, cache: DecoderCache | None, new: int, longest: int | None) -> int:
        """The position of the first of ``new`` tokens. Raises ValueError for a cache that is not this model's."""
        if cache is not None and len(cache.layer_slot) != len(self.blocks):
            raise ValueError(
                f"{type(self).__name__}: the cache is for {len(cache.layer_slot)} layers, not for {len(self.blocks)}"
            )
        start = 0 if cache is None else cache.length
        if longest is not None and start + new > longest:
            raise ShapeError(f"{type(self).__name__}: {start + new} positions, but max_length is {longest}")
        return start
