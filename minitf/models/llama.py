"""Llama: a decoder with rotary positions, RMS norms, gated feed-forward layers, shared key/value heads and no biases.

Source: "LLaMA: Open and Efficient Foundation Language Models" (2023), "The Llama 3 Herd of Models" (2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from minitf.attention.dot_product import MultiHeadAttention
from minitf.feedforward.mlp import GatedFeedForward
from minitf.models.checkpoints.activations import ACTIVATIONS, activation
from minitf.models.checkpoints.auto import AutoModel
from minitf.models.checkpoints.configuration import CheckpointError, Configuration
from minitf.models.checkpoints.names import Names
from minitf.models.transformer import Decoder
from minitf.position.interpolation import linearly_scaled, llama3_scaled
from minitf.position.rotary import rotary_frequencies

SCALINGS = ("default", "linear", "llama3")


@dataclass(frozen=True, kw_only=True)
class LlamaConfig(Configuration):
    """The options of a Llama.

    num_key_value_heads: default all; head_dim: default hidden_size / num_attention_heads. rope_parameters: with
    ``rope_type`` ("default", "linear", "llama3"), ``rope_theta`` and what the type needs; older files have ``rope_theta``
    and ``rope_scaling`` instead.
    """

    model_type: ClassVar[str] = "llama"
    depth: ClassVar = ("num_hidden_layers",)
    only: ClassVar = {"hidden_act": ACTIVATIONS, "pretraining_tp": (1,)}

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    rope_parameters: dict[str, Any] | None = None
    rope_theta: float | None = None
    rope_scaling: dict[str, Any] | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    attention_dropout: float = 0.0
    tie_word_embeddings: bool = False
    pretraining_tp: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head_dim is None:
            self.require_divisible(
                self.hidden_size, self.num_attention_heads, "num_attention_heads must divide hidden_size"
            )
        if self.num_key_value_heads is not None:
            told = "num_key_value_heads must divide num_attention_heads"
            self.require_divisible(self.num_attention_heads, self.num_key_value_heads, told)
        self.frequencies()

    @property
    def head_width(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads

    def frequencies(self) -> np.ndarray:
        """(E/2,) rotary frequencies. Raises CheckpointError for parameters that mean none."""
        told = dict(self.rope_parameters or self.rope_scaling or {})
        theta = told.get("rope_theta", self.rope_theta or 10000.0)
        kind = told.get("rope_type", told.get("type", "default"))
        try:
            if kind not in SCALINGS:
                raise ValueError(f"rope_type {kind!r} is not implemented; implemented: {', '.join(SCALINGS)}")
            freqs = rotary_frequencies(self.head_width, theta)
            if kind == "linear":
                return linearly_scaled(freqs, told["factor"])
            if kind == "llama3":
                return llama3_scaled(
                    freqs, told["factor"], told["original_max_position_embeddings"], told["low_freq_factor"],
                    told["high_freq_factor"],
                )  # fmt: skip
            return freqs
        except KeyError as error:
            raise CheckpointError(f"llama configuration: rope_type {kind!r} needs {error}") from None
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"llama configuration: the rotary parameters mean nothing: {error}") from None


class Llama(Decoder):
    """A Llama with its language modelling head."""

    architecture = "LlamaForCausalLM"
    names = Names(
        {
            "embedding": "model.embed_tokens",
            "blocks.{}.attention_norm": "model.layers.{}.input_layernorm",
            "blocks.{}.attention.q": "model.layers.{}.self_attn.q_proj",
            "blocks.{}.attention.k": "model.layers.{}.self_attn.k_proj",
            "blocks.{}.attention.v": "model.layers.{}.self_attn.v_proj",
            "blocks.{}.attention.out": "model.layers.{}.self_attn.o_proj",
            "blocks.{}.feed_forward_norm": "model.layers.{}.post_attention_layernorm",
            "blocks.{}.feed_forward.gate": "model.layers.{}.mlp.gate_proj",
            "blocks.{}.feed_forward.up": "model.layers.{}.mlp.up_proj",
            "blocks.{}.feed_forward.down": "model.layers.{}.mlp.down_proj",
            "norm": "model.norm",
            "head": "lm_head",
        },
        prefix="model",
        tied={"lm_head.weight": "model.embed_tokens.weight"},
        ignored=(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq",),
    )

    def __init__(self, config: LlamaConfig, *, rng: np.random.Generator):
        D, F = config.hidden_size, config.intermediate_size
        act, freqs = activation(config.hidden_act), config.frequencies()
        super().__init__(
            config.vocab_size, D, config.num_hidden_layers, config.num_attention_heads,
            attention=lambda layer, rng: MultiHeadAttention(
                D, config.num_attention_heads, config.num_key_value_heads, config.head_width,
                bias=config.attention_bias, freqs=freqs, dropout=config.attention_dropout, rng=rng,
            ),
            feed_forward=lambda layer, rng: GatedFeedForward(D, F, act, config.mlp_bias, rng=rng),
            norm="rms", eps=config.rms_norm_eps, position="none", max_length=config.max_position_embeddings,
            tied=config.tie_word_embeddings, rng=rng,
        )  # fmt: skip
        self.config = config


AutoModel.register(LlamaConfig, {"causal-lm": Llama})
