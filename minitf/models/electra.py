"""ELECTRA: a small generator fills in masked tokens, and the discriminator says for every token whether it was replaced.

Both are BERTs without a pooler, whose embedding may be narrower than the blocks. Source: "ELECTRA: Pre-training Text
Encoders as Discriminators Rather Than Generators" (2020), and the released weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from minitf.autodiff.tensor import Tensor
from minitf.models.bert import BERT, BLOCKS, EMBEDDINGS, BERTConfig
from minitf.models.checkpoints.activations import activation
from minitf.models.checkpoints.auto import AutoModel
from minitf.models.checkpoints.names import Names
from minitf.models.heads import MaskedLMHead
from minitf.nn.layers import Linear
from minitf.nn.module import Module


@dataclass(frozen=True, kw_only=True)
class ELECTRAConfig(BERTConfig):
    """The options of an ELECTRA, generator or discriminator; ``embedding_size``: width of the embeddings."""

    model_type: ClassVar[str] = "electra"

    embedding_size: int = 128
    hidden_size: int = 256
    num_attention_heads: int = 4
    intermediate_size: int = 1024


class ELECTRA(BERT):
    """The body."""

    architecture = "ElectraModel"
    names = Names(
        {**EMBEDDINGS, "projection": "embeddings_project", **BLOCKS}, prefix="electra", ignored=BERT.names.ignored
    )

    def __init__(self, config: ELECTRAConfig, *, rng: np.random.Generator):
        super().__init__(config, pooler=False, embedding_width=config.embedding_size, rng=rng)


class ELECTRAForMaskedLM(Module):
    """The generator; the activation of its head is always GELU, the norm's eps 1e-12."""

    architecture = "ElectraForMaskedLM"
    names = ELECTRA.names.inside(
        "electra",
        "electra",
        {
            "head.transform": "generator_predictions.dense",
            "head.norm": "generator_predictions.LayerNorm",
            "head.bias": "generator_lm_head.bias",
            "head.decoder": "generator_lm_head",
        },
        tied={"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"},
    )

    def __init__(self, config: ELECTRAConfig, *, rng: np.random.Generator):
        super().__init__()
        self.electra = ELECTRA(config, rng=rng)
        self.head = MaskedLMHead(
            config.hidden_size,
            self.electra.embedding,
            "gelu",
            config.layer_norm_eps,
            config.tie_word_embeddings,
            rng=rng,
        )
        self.config = config

    def forward(self, ids: Any, **options: Any) -> Tensor:
        """Logits (B, T, V) of token ids (B, T); the options are those of ``Encoder``."""
        return self.head(self.electra(ids, **options))


class ELECTRADiscriminator(Module):
    """The discriminator: the logit of every token that it was replaced."""

    architecture = "ElectraForPreTraining"
    names = ELECTRA.names.inside(
        "electra",
        "electra",
        {
            "transform": "discriminator_predictions.dense",
            "prediction": "discriminator_predictions.dense_prediction",
        },
        tied={},
    )

    def __init__(self, config: ELECTRAConfig, *, rng: np.random.Generator):
        super().__init__()
        self.electra = ELECTRA(config, rng=rng)
        self.transform = Linear(config.hidden_size, config.hidden_size, rng=rng)
        self.prediction = Linear(config.hidden_size, 1, rng=rng)
        self.act = activation(config.hidden_act)
        self.config = config

    def forward(self, ids: Any, **options: Any) -> Tensor:
        """Logits (B, T) of token ids (B, T); the options are those of ``Encoder``."""
        return self.prediction(self.act(self.transform(self.electra(ids, **options))))[..., 0]


AutoModel.register(
    ELECTRAConfig,
    {"base": ELECTRA, "masked-lm": ELECTRAForMaskedLM, "replaced-token-detection": ELECTRADiscriminator},
)
