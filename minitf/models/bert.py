"""BERT: an encoder with learned positions and token types, norms behind the sub-layers, and a pooled first state.

Source: "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding" (2018), and the released weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from minitf.autodiff.tensor import Tensor
from minitf.models.checkpoints.activations import ACTIVATIONS, activation
from minitf.models.checkpoints.auto import AutoModel
from minitf.models.checkpoints.configuration import Configuration
from minitf.models.checkpoints.names import Names
from minitf.models.heads import MaskedLMHead, Pooler, SequenceClassifier
from minitf.models.transformer import Encoder
from minitf.nn.module import Module

#: the blocks of BERT and of those who kept its names
BLOCKS = {
    "blocks.{}.attention.q": "encoder.layer.{}.attention.self.query",
    "blocks.{}.attention.k": "encoder.layer.{}.attention.self.key",
    "blocks.{}.attention.v": "encoder.layer.{}.attention.self.value",
    "blocks.{}.attention.out": "encoder.layer.{}.attention.output.dense",
    "blocks.{}.attention_norm": "encoder.layer.{}.attention.output.LayerNorm",
    "blocks.{}.feed_forward.up": "encoder.layer.{}.intermediate.dense",
    "blocks.{}.feed_forward.down": "encoder.layer.{}.output.dense",
    "blocks.{}.feed_forward_norm": "encoder.layer.{}.output.LayerNorm",
}
EMBEDDINGS = {
    "embedding": "embeddings.word_embeddings",
    "positions": "embeddings.position_embeddings",
    "types": "embeddings.token_type_embeddings",
    "embedding_norm": "embeddings.LayerNorm",
}


@dataclass(frozen=True, kw_only=True)
class BERTConfig(Configuration):
    """The options of a BERT."""

    model_type: ClassVar[str] = "bert"
    depth: ClassVar = ("num_hidden_layers",)
    only: ClassVar = {
        "hidden_act": ACTIVATIONS,
        "position_embedding_type": ("absolute",),
        "is_decoder": (False,),
        "add_cross_attention": (False,),
    }
    may_be_zero: ClassVar = ("type_vocab_size",)

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    classifier_dropout: float | None = None
    position_embedding_type: str = "absolute"
    is_decoder: bool = False
    add_cross_attention: bool = False
    tie_word_embeddings: bool = True
    id2label: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_divisible(
            self.hidden_size, self.num_attention_heads, "num_attention_heads must divide hidden_size"
        )

    @property
    def num_labels(self) -> int:
        """Classes of a classifier: the labels that have names, 2 without them."""
        return len(self.id2label) if self.id2label else 2


class BERT(Encoder):
    """The body: hidden states (B, T, D), and ``pool`` for the whole sequence.

    options: of ``Encoder``, for the families that differ from BERT in some of them.
    """

    architecture = "BertModel"
    names = Names(
        {**EMBEDDINGS, **BLOCKS, "pooler.linear": "pooler.dense"}, prefix="bert", ignored=(r"embeddings\.position_ids",)
    )

    def __init__(self, config: BERTConfig, *, pooler: bool = True, rng: np.random.Generator, **options: Any):
        defaults = {
            "max_length": config.max_position_embeddings,
            "types": config.type_vocab_size,
            "embedding_norm": True,
        }
        super().__init__(
            config.vocab_size, config.hidden_size, config.num_hidden_layers, config.num_attention_heads,
            config.intermediate_size, act=activation(config.hidden_act), norm_place="post", eps=config.layer_norm_eps,
            dropout=config.hidden_dropout_prob, attention_dropout=config.attention_probs_dropout_prob, rng=rng,
            **{**defaults, **options},
        )  # fmt: skip
        self.pooler = Pooler(config.hidden_size, rng=rng) if pooler else None
        self.config = config

    def pool(self, hidden: Any) -> Tensor:
        """(B, D) of hidden states (B, T, D). Raises ValueError for a body without a pooler."""
        if self.pooler is None:
            raise ValueError(f"{type(self).__name__}.pool: this body was made without a pooler")
        return self.pooler(hidden)


class BERTForMaskedLM(Module):
    """BERT with scores of the vocabulary at every position."""

    architecture = "BertForMaskedLM"
    names = BERT.names.inside(
        "bert",
        "bert",
        {
            "head.transform": "cls.predictions.transform.dense",
            "head.norm": "cls.predictions.transform.LayerNorm",
            "head.bias": "cls.predictions.bias",
            "head.decoder": "cls.predictions.decoder",
        },
        tied={
            "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
            "cls.predictions.decoder.bias": "cls.predictions.bias",
        },
    )

    def __init__(self, config: BERTConfig, *, rng: np.random.Generator):
        super().__init__()
        self.bert = BERT(config, pooler=False, rng=rng)
        self.head = MaskedLMHead(
            config.hidden_size, self.bert.embedding, activation(config.hidden_act), config.layer_norm_eps,
            config.tie_word_embeddings, rng=rng,
        )  # fmt: skip
        self.config = config

    def forward(self, ids: Any, **options: Any) -> Tensor:
        """Logits (B, T, V) of token ids (B, T); the options are those of ``Encoder``."""
        return self.head(self.bert(ids, **options))


class BERTForSequenceClassification(Module):
    """BERT with classes of the whole sequence."""

    architecture = "BertForSequenceClassification"
    names = BERT.names.inside("bert", "bert", {"classifier.linear": "classifier"}, tied={})

    def __init__(self, config: BERTConfig, *, rng: np.random.Generator):
        super().__init__()
        p = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        self.bert = BERT(config, rng=rng)
        self.classifier = SequenceClassifier(config.hidden_size, config.num_labels, p, rng=rng)
        self.config = config

    def forward(self, ids: Any, **options: Any) -> Tensor:
        """Logits (B, classes) of token ids (B, T); the options are those of ``Encoder``."""
        return self.classifier(self.bert.pool(self.bert(ids, **options)))


AutoModel.register(
    BERTConfig,
    {"base": BERT, "masked-lm": BERTForMaskedLM, "sequence-classification": BERTForSequenceClassification},
)
