"""RoBERTa: BERT trained longer; in the model only the positions differ, which count from behind the padding id.

Source: "RoBERTa: A Robustly Optimized BERT Pretraining Approach" (2019), and the released weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from minitf.autodiff.tensor import Tensor
from minitf.models.bert import BERT, BERTConfig
from minitf.models.checkpoints.auto import AutoModel
from minitf.models.checkpoints.names import Names
from minitf.models.heads import MaskedLMHead
from minitf.nn.module import Module


@dataclass(frozen=True, kw_only=True)
class RoBERTaConfig(BERTConfig):
    """The options of a RoBERTa; ``max_position_embeddings`` counts pad_token_id + 1 rows that no text uses."""

    model_type: ClassVar[str] = "roberta"

    vocab_size: int = 50265
    pad_token_id: int = 1


class RoBERTa(BERT):
    """The body. Token number n of a row that is not padding is at position pad_token_id + n, padding at pad_token_id."""

    architecture = "RobertaModel"
    names = Names(BERT.names.table, prefix="roberta", ignored=BERT.names.ignored)

    def __init__(self, config: RoBERTaConfig, *, pooler: bool = True, rng: np.random.Generator):
        super().__init__(config, pooler=pooler, rng=rng)
        self.pad = config.pad_token_id

    def places(self, ids: np.ndarray, start: int) -> np.ndarray:
        valid = ids != self.pad
        return np.cumsum(valid, axis=1) * valid + self.pad


class RoBERTaForMaskedLM(Module):
    """RoBERTa with scores of the vocabulary at every position; the activation of the head is always GELU."""

    architecture = "RobertaForMaskedLM"
    names = RoBERTa.names.inside(
        "roberta",
        "roberta",
        {
            "head.transform": "lm_head.dense",
            "head.norm": "lm_head.layer_norm",
            "head.bias": "lm_head.bias",
            "head.decoder": "lm_head.decoder",
        },
        tied={
            "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
            "lm_head.decoder.bias": "lm_head.bias",
        },
    )

    def __init__(self, config: RoBERTaConfig, *, rng: np.random.Generator):
        super().__init__()
        self.roberta = RoBERTa(config, pooler=False, rng=rng)
        self.head = MaskedLMHead(
            config.hidden_size,
            self.roberta.embedding,
            "gelu",
            config.layer_norm_eps,
            config.tie_word_embeddings,
            rng=rng,
        )
        self.config = config

    def forward(self, ids: Any, **options: Any) -> Tensor:
        """Logits (B, T, V) of token ids (B, T); the options are those of ``Encoder``."""
        return self.head(self.roberta(ids, **options))


AutoModel.register(RoBERTaConfig, {"base": RoBERTa, "masked-lm": RoBERTaForMaskedLM})
