"""DistilBERT: half of BERT's layers, no token types, no pooler, names of its own.

Source: "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter" (2019), and the released weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from minitf.autodiff.tensor import Tensor
from minitf.feedforward.mlp import FeedForward
from minitf.models.checkpoints.activations import ACTIVATIONS, activation
from minitf.models.checkpoints.auto import AutoModel
from minitf.models.checkpoints.configuration import Configuration
from minitf.models.checkpoints.names import Names
from minitf.models.heads import MaskedLMHead
from minitf.models.transformer import Encoder
from minitf.nn.layers import Dropout
from minitf.nn.module import Module

EPS = 1e-12


@dataclass(frozen=True, kw_only=True)
class DistilBERTConfig(Configuration):
    """The options of a DistilBERT. ``sinusoidal_pos_embds`` only says how the table of positions begins."""

    model_type: ClassVar[str] = "distilbert"
    depth: ClassVar = ("n_layers",)
    only: ClassVar = {"activation": ACTIVATIONS}

    vocab_size: int = 30522
    max_position_embeddings: int = 512
    sinusoidal_pos_embds: bool = False
    n_layers: int = 6
    n_heads: int = 12
    dim: int = 768
    hidden_dim: int = 3072
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation: str = "gelu"
    initializer_range: float = 0.02
    tie_word_embeddings: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_divisible(self.dim, self.n_heads, "n_heads must divide dim")


class DroppedFeedForward(FeedForward):
    """Dropout acts on what feed-forward layers add but, unlike in BERT, not on what attention adds."""

    def __init__(self, config: DistilBERTConfig, *, rng: np.random.Generator):
        super().__init__(config.dim, config.hidden_dim, activation(config.activation), rng=rng)
        self.output_dropout = Dropout(config.dropout, rng=rng)

    def forward(self, x: Any) -> Tensor:
        return self.output_dropout(super().forward(x))


class DistilBERT(Encoder):
    """The body: hidden states (B, T, D)."""

    architecture = "DistilBertModel"
    names = Names(
        {
            "embedding": "embeddings.word_embeddings",
            "positions": "embeddings.position_embeddings",
            "embedding_norm": "embeddings.LayerNorm",
            "blocks.{}.attention.q": "transformer.layer.{}.attention.q_lin",
            "blocks.{}.attention.k": "transformer.layer.{}.attention.k_lin",
            "blocks.{}.attention.v": "transformer.layer.{}.attention.v_lin",
            "blocks.{}.attention.out": "transformer.layer.{}.attention.out_lin",
            "blocks.{}.attention_norm": "transformer.layer.{}.sa_layer_norm",
            "blocks.{}.feed_forward.up": "transformer.layer.{}.ffn.lin1",
            "blocks.{}.feed_forward.down": "transformer.layer.{}.ffn.lin2",
            "blocks.{}.feed_forward_norm": "transformer.layer.{}.output_layer_norm",
        },
        prefix="distilbert",
        ignored=(r"embeddings\.position_ids",),
    )

    def __init__(self, config: DistilBERTConfig, *, rng: np.random.Generator):
        super().__init__(
            config.vocab_size, config.dim, config.n_layers, config.n_heads, config.hidden_dim,
            norm_place="post", eps=EPS, max_length=config.max_position_embeddings,
            embedding_norm=True, embedding_dropout=config.dropout, attention_dropout=config.attention_dropout, rng=rng,
            feed_forward=lambda layer, rng: DroppedFeedForward(config, rng=rng),
        )  # fmt: skip
        self.config = config


class DistilBERTForMaskedLM(Module):
    """DistilBERT with scores of the vocabulary at every position."""

    architecture = "DistilBertForMaskedLM"
    names = DistilBERT.names.inside(
        "distilbert",
        "distilbert",
        {
            "head.transform": "vocab_transform",
            "head.norm": "vocab_layer_norm",
            "head.bias": "vocab_projector.bias",
            "head.decoder": "vocab_projector",
        },
        tied={"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"},
    )

    def __init__(self, config: DistilBERTConfig, *, rng: np.random.Generator):
        super().__init__()
        self.distilbert = DistilBERT(config, rng=rng)
        act = activation(config.activation)
        self.head = MaskedLMHead(config.dim, self.distilbert.embedding, act, EPS, config.tie_word_embeddings, rng=rng)
        self.config = config

    def forward(self, ids: Any, **options: Any) -> Tensor:
        """Logits (B, T, V) of token ids (B, T); the options are those of ``Encoder``."""
        return self.head(self.distilbert(ids, **options))


AutoModel.register(DistilBERTConfig, {"base": DistilBERT, "masked-lm": DistilBERTForMaskedLM})
