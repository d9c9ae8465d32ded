"""CTRL: a decoder whose texts begin with a control code that names their source; later, codes steer what it writes.

    x = sqrt(D) embedding(ids) + [sin(p ω), cos(p ω)];  pre-norm blocks with ReLU;  logits tied to the embedding, plus a bias

Paper: ctrl, "CTRL: A Conditional Transformer Language Model for Controllable Generation" (2019).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from minitf.autodiff.tensor import Tensor
from minitf.models.checkpoints.auto import AutoModel
from minitf.models.checkpoints.configuration import CheckpointError, Configuration
from minitf.models.checkpoints.names import Names
from minitf.models.transformer import Decoder
from minitf.position.sinusoidal import sincos1d
from minitf.registry import implements


@implements("ctrl")
def split_sinusoid_positions(D: int, positions: Any) -> Tensor:
    """(*, D) codes of positions (*): all sines, then all cosines, of p 10000**(-2j/D); ``sincos1d`` by its paper's name."""
    return sincos1d(D, positions)


@dataclass(frozen=True, kw_only=True)
class CTRLConfig(Configuration):
    """The options of a CTRL; ``dff``: F."""

    model_type: ClassVar[str] = "ctrl"
    depth: ClassVar = ("n_layer",)
    only: ClassVar = {"tie_word_embeddings": (True,)}

    vocab_size: int = 246534
    n_positions: int = 256
    n_embd: int = 1280
    dff: int = 8192
    n_layer: int = 48
    n_head: int = 16
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-6
    initializer_range: float = 0.02
    tie_word_embeddings: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_divisible(self.n_embd, self.n_head, "n_head must divide n_embd")
        if self.n_embd % 2:
            raise CheckpointError(f"ctrl configuration: n_embd must be even, got {self.n_embd}")


@implements("ctrl")
class CTRL(Decoder):
    """CTRL with its language modelling head."""

    architecture = "CTRLLMHeadModel"
    names = Names(
        {
            "embedding": "transformer.w",
            "blocks.{}.attention.q": "transformer.h.{}.multi_head_attention.Wq",
            "blocks.{}.attention.k": "transformer.h.{}.multi_head_attention.Wk",
            "blocks.{}.attention.v": "transformer.h.{}.multi_head_attention.Wv",
            "blocks.{}.attention.out": "transformer.h.{}.multi_head_attention.dense",
            "blocks.{}.attention_norm": "transformer.h.{}.layernorm1",
            "blocks.{}.feed_forward_norm": "transformer.h.{}.layernorm2",
            "blocks.{}.feed_forward.up": "transformer.h.{}.ffn.0",
            "blocks.{}.feed_forward.down": "transformer.h.{}.ffn.2",
            "norm": "transformer.layernorm",
            "head_bias": "lm_head.bias",
        },
        prefix="transformer",
        tied={"lm_head.weight": "transformer.w.weight"},
    )

    def __init__(self, config: CTRLConfig, *, rng: np.random.Generator):
        super().__init__(
            config.vocab_size, config.n_embd, config.n_layer, config.n_head, config.dff, act="relu",
            eps=config.layer_norm_epsilon, position="sinusoidal", max_length=config.n_positions,
            embedding_scale=math.sqrt(config.n_embd), head_bias=True, dropout=config.resid_pdrop,
            embedding_dropout=config.embd_pdrop, rng=rng,
        )  # fmt: skip
        self.config = config


AutoModel.register(CTRLConfig, {"causal-lm": CTRL})
