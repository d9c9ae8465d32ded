"""Transformers on tokens: an encoder, a decoder, and both together.

Encoder         y = blocks(embedding(ids) + position code)                every token attends to every token
Decoder         logits = blocks(...) @ W_vocabulary                       a token attends to itself and earlier ones
EncoderDecoder  logits = decoder(ids, context=encoder(source))            and to what the encoder made of the source

What the blocks are made of is chosen with the options of ``minitf.models.stack.Stack``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.contract import matmul
from minitf.autodiff.ops.create import zeros
from minitf.autodiff.ops.shape import repeat, swapaxes
from minitf.autodiff.tensor import Tensor, as_tensor
from minitf.models.cache import DecoderCache
from minitf.models.stack import NORMS, PLACES, Block, Factory, Stack
from minitf.nn import init
from minitf.nn.layers import Dropout, Embedding, Linear
from minitf.nn.module import Module, Parameter
from minitf.position.rotary import rotary_frequencies
from minitf.position.sinusoidal import sincos1d

__all__ = ["NORMS", "PLACES", "Block", "Conditioned", "Decoder", "Encoder", "EncoderDecoder", "Factory", "Stack"]

#: how embeddings start
DRAWN = partial(init.normal, std=0.02)
POSITIONS = ("none", "learned", "sinusoidal", "rotary")


class TokenStack(Stack):
    """A stack behind an embedding of tokens.

    V: vocabulary. position: "none", "learned", "sinusoidal", "rotary" (the default attention rotates; an attention of
        your own brings its own position code, use "none"), or a function of positions (*) that gives their codes (*, D).
    max_length: longest sequence; needed for learned positions. position_offset: rows of the table of learned positions
        in front of that of position 0.
    embedding: a module to share instead of a new one. embedding_width: of the tables, if not D; a linear map follows.
    types: number of token types, whose embedding is added. embedding_norm: a norm behind the sum.
    embedding_scale: factor of the token's embedding. embedding_dropout: default ``dropout``.
    """

    def __init__(
        self,
        V: int,
        D: int,
        L: int,
        H: int,
        F: int | None = None,
        *,
        position: str | Callable[[Any], Any] = "learned",
        max_length: int | None = None,
        position_offset: int = 0,
        embedding: Embedding | None = None,
        embedding_width: int | None = None,
        embedding_norm: bool = False,
        embedding_scale: float = 1.0,
        types: int = 0,
        dropout: float = 0.0,
        embedding_dropout: float | None = None,
        rng: np.random.Generator,
        **stack: Any,
    ):
        name = type(self).__name__
        self._require_counts(L=L, H=H)
        if not callable(position) and position not in POSITIONS:
            raise ValueError(f"{name}: position must be one of {', '.join(POSITIONS)}, got {position!r}")
        if position == "learned" and not max_length:
            raise ValueError(f"{name}: learned positions need max_length")
        if position == "rotary" and stack.get("freqs") is None:
            stack["freqs"] = rotary_frequencies(stack.get("E") or D // H)
        width = D if embedding_width is None else embedding_width
        self.V, self.max_length, self.position = V, max_length, position
        self.position_offset, self.embedding_scale = position_offset, embedding_scale
        self.embedding = Embedding(V, width, rng=rng, init=DRAWN) if embedding is None else embedding
        self.positions: Callable[[Any], Any] | None = None
        if position == "learned":
            self.positions = Embedding((max_length or 0) + position_offset, width, rng=rng, init=DRAWN)
        elif position == "sinusoidal":
            self.positions = partial(sincos1d, width)
        elif callable(position):
            self.positions = position
        self.types = Embedding(types, width, rng=rng, init=DRAWN) if types else None
        self.embedding_norm = None
        if embedding_norm:
            self.embedding_norm = self._norm(stack.get("norm", "layer"), width, stack.get("eps", 1e-5))()
        self.embedding_dropout = Dropout(dropout if embedding_dropout is None else embedding_dropout, rng=rng)
        self.projection = None if width == D else Linear(width, D, rng=rng)
        super().__init__(D, L, H, F, dropout=dropout, rng=rng, **stack)

    def places(self, ids: np.ndarray, start: int) -> np.ndarray:
        """The positions of ``ids`` (B, T), of which ``start`` others are in the cache: (T,) or (B, T)."""
        return np.arange(start, start + ids.shape[1])

    def embed(self, ids: Any, *, at: Any, types: Any = None) -> Tensor:
        """(B, T, D) of token ids (B, T) at positions ``at``; types (B, T), default 0."""
        x = self.embedding(ids)
        if self.embedding_scale != 1:
            x = x * self.embedding_scale
        if self.types is not None:
            x = x + self.types(np.zeros(ids.shape, np.intp) if types is None else types)
        elif types is not None:
            raise ValueError(f"{type(self).__name__}: this model has no token types")
        if self.positions is not None:
            x = x + as_tensor(self.positions(at + self.position_offset)).astype(x.dtype)
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        x = self.embedding_dropout(x)
        return x if self.projection is None else self.projection(x)

    def hidden(
        self,
        ids: Any,
        *,
        mask: Any = None,
        positions: Any = None,
        types: Any = None,
        cache: DecoderCache | None = None,
        causal: bool = False,
        context: Any = None,
        context_mask: Any = None,
    ) -> Tensor:
        """The last hidden states (B, T, D) of token ids (B, T), after the last norm."""
        ids = as_tensor(ids)
        if ids.ndim != 2:
            raise ShapeError(f"{type(self).__name__}: ids must be (B, T), got shape {ids.shape}")
        start = self.checked_cache(cache, ids.shape[1], self.max_length)
        at = self.places(ids.data, start) if positions is None else as_tensor(positions).data
        x = self.embed(ids, at=at, types=types)
        return self.through_blocks(
            x,
            mask=mask,
            causal=causal,
            positions=positions,
            cache=cache,
            context=context,
            context_mask=context_mask,
        )


class Encoder(TokenStack):
    """Hidden states of tokens that all see each other; the options are those of ``TokenStack`` and ``Stack``."""

    def forward(self, ids: Any, *, mask: Any = None, positions: Any = None, types: Any = None) -> Tensor:
        """(B, T, D) of token ids (B, T).

        mask: boolean, True = may attend, broadcast against (B, H, T, T); ``attention.masks.padding_mask(valid)`` hides
        padding. positions: (T,) or (B, T), default 0, 1, ... types: (B, T) token types, default 0.
        """
        return self.hidden(ids, mask=mask, positions=positions, types=types)


class Decoder(TokenStack):
    """A causal language model; the other options are those of ``TokenStack`` and ``Stack``.

    tied: the output matrix is the embedding's transpose; otherwise it has its own. head_bias: the logits have a bias.
    head_scale: factor of the last hidden states in front of the output matrix.
    """

    def __init__(
        self,
        V: int,
        D: int,
        L: int,
        H: int,
        F: int | None = None,
        *,
        tied: bool = True,
        head_bias: bool = False,
        head_scale: float = 1.0,
        rng: np.random.Generator,
        **options: Any,
    ):
        super().__init__(V, D, L, H, F, rng=rng, **options)
        if tied and self.projection is not None:
            raise ValueError(f"{type(self).__name__}: an output tied to the embedding needs an embedding of width D")
        self.head = None if tied else Linear(D, V, bias=False, rng=rng)
        self.head_bias = Parameter(zeros(V)) if head_bias else None
        self.head_scale = head_scale

    def hidden(self, ids: Any, **options: Any) -> Tensor:
        """The last hidden states (B, T, D) of token ids (B, T), after the last norm; options as of ``forward``."""
        return super().hidden(ids, causal=True, **options)

    def logits(self, x: Any) -> Tensor:
        """Logits (*, V) of last hidden states (*, D)."""
        if self.head_scale != 1:
            x = x * self.head_scale
        y = self.head(x) if self.head is not None else matmul(x, swapaxes(self.embedding.weight, 0, 1))
        return y if self.head_bias is None else y + self.head_bias

    def forward(
        self,
        ids: Any,
        *,
        mask: Any = None,
        positions: Any = None,
        types: Any = None,
        cache: DecoderCache | None = None,
        context: Any = None,
        context_mask: Any = None,
    ) -> Tensor:
        """Logits (B, T, V) of token ids (B, T); logits at t predict token t + 1.

        mask: boolean (B, 1, 1, S) or broadcastable, on top of causality. positions: (T,) or (B, T), default counted on
        from the cache. cache: from ``new_cache``; the new tokens are appended to it. context: (B, S, D) for blocks that
        attend to one, and its mask; a cache keeps what the first call made of both.
        """
        options = {} if types is None else {"types": types}
        x = self.hidden(
            ids,
            mask=mask,
            positions=positions,
            cache=cache,
            context=context,
            context_mask=context_mask,
            **options,
        )
        return self.logits(x)


class EncoderDecoder(Module):
    """An encoder reads the source, a decoder (with ``cross``) writes the target and attends to what was read."""

    def __init__(self, encoder: Encoder, decoder: Decoder):
        super().__init__()
        if not decoder.crosses or encoder.D != decoder.D:
            raise ValueError(
                f"EncoderDecoder: needs a decoder with cross attention and of the encoder's width, got cross="
                f"{decoder.crosses} and widths {encoder.D} and {decoder.D}"
            )
        self.encoder, self.decoder = encoder, decoder

    def forward(self, source: Any, ids: Any, *, source_mask: Any = None, mask: Any = None) -> Tensor:
        """Logits (B, T, V) of target ids (B, T), given source ids (B, S).

        source_mask: boolean (B, 1, 1, S) or broadcastable: which tokens of the source may be attended to; mask: the same
        for the target, on top of causality.
        """
        context = self.encoder(source, mask=source_mask)
        return self.decoder(ids, mask=mask, context=context, context_mask=source_mask)

    def condition(self, source: Any, source_mask: Any = None) -> Conditioned:
        """The decoder with the source read: a model of the target alone, for everything that generates."""
        return Conditioned(self, self.encoder(source, mask=source_mask), source_mask)


class Conditioned(Module):
    """A decoder that attends to a fixed context (B, S, D).

    With n B rows of ids, rows b n to (b + 1) n - 1 belong to row b of the context, as in beam search.
    """

    def __init__(self, model: EncoderDecoder, context: Tensor, mask: Any = None):
        super().__init__()
        self.model, self.context = model, context
        self.mask = None if mask is None else as_tensor(mask)

    def new_cache(self, B: int | None = None) -> DecoderCache:
        return self.model.decoder.new_cache(B)

    def hidden(self, ids: Any, **options: Any) -> Tensor:
        """The decoder's last hidden states (B, T, D) of token ids (B, T)."""
        ids = as_tensor(ids)
        return self.model.decoder.hidden(ids, **self._context(ids), **options)

    def forward(self, ids: Any, *, cache: DecoderCache | None = None, mask: Any = None) -> Tensor:
        """Logits (B, T, V) of token ids (B, T)."""
        return self.model.decoder.logits(self.hidden(ids, cache=cache, mask=mask))

    def _context(self, ids: Tensor) -> dict[str, Any]:
        rows = self.context.shape[0]
        if ids.ndim != 2 or ids.shape[0] % rows:
            raise ShapeError(
                f"Conditioned: ids must be (B, T) with a multiple of the source's {rows} rows, got shape {ids.shape}"
            )
        times = ids.shape[0] // rows
        context, mask = self.context, self.mask
        if times > 1:
            context = repeat(context, times, axis=0)
            mask = mask if mask is None or mask.ndim < 4 or mask.shape[0] == 1 else repeat(mask, times, axis=0)
        return {"context": context, "context_mask": mask}
