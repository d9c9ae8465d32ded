"""BART: encoder and decoder with norms behind the sub-layers and behind the embedding, learned positions, one embedding.

Source: "BART: Denoising Sequence-to-Sequence Pre-training for Natural Language Generation, Translation, and
Comprehension" (2019), and the released weights, whose tables of positions begin with two rows that nobody uses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from minitf.autodiff.ops.create import zeros
from minitf.autodiff.tensor import Tensor
from minitf.models.checkpoints.activations import ACTIVATIONS, activation
from minitf.models.checkpoints.auto import AutoModel
from minitf.models.checkpoints.configuration import Configuration
from minitf.models.checkpoints.names import Names
from minitf.models.transformer import Decoder, Encoder, EncoderDecoder
from minitf.nn.module import Buffer

OFFSET = 2


def _names() -> Names:
    table: dict[str | tuple[str, ...], str] = {"encoder.embedding": "model.shared", "decoder.head": "lm_head"}
    for side in ("encoder", "decoder"):
        table[f"{side}.positions"] = f"model.{side}.embed_positions"
        table[f"{side}.embedding_norm"] = f"model.{side}.layernorm_embedding"
        layer = f"model.{side}.layers.{{}}"
        for ours, theirs in {"attention": "self_attn", "cross": "encoder_attn"}.items():
            for part, other in {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "out_proj"}.items():
                table[f"{side}.blocks.{{}}.{ours}.{part}"] = f"{layer}.{theirs}.{other}"
            table[f"{side}.blocks.{{}}.{ours}_norm"] = f"{layer}.{theirs}_layer_norm"
        table[f"{side}.blocks.{{}}.feed_forward.up"] = f"{layer}.fc1"
        table[f"{side}.blocks.{{}}.feed_forward.down"] = f"{layer}.fc2"
        table[f"{side}.blocks.{{}}.feed_forward_norm"] = f"{layer}.final_layer_norm"
    table["decoder.logits_bias"] = "final_logits_bias"
    copies = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
    return Names(table, prefix="model", tied=dict.fromkeys(copies, "model.shared.weight"))


@dataclass(frozen=True, kw_only=True)
class BARTConfig(Configuration):
    """The options of a BART."""

    model_type: ClassVar[str] = "bart"
    depth: ClassVar = ("encoder_layers", "decoder_layers")
    only: ClassVar = {"activation_function": ACTIVATIONS}

    vocab_size: int = 50265
    max_position_embeddings: int = 1024
    encoder_layers: int = 12
    encoder_ffn_dim: int = 4096
    encoder_attention_heads: int = 16
    decoder_layers: int = 12
    decoder_ffn_dim: int = 4096
    decoder_attention_heads: int = 16
    activation_function: str = "gelu"
    d_model: int = 1024
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    init_std: float = 0.02
    scale_embedding: bool = False
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 1
    decoder_start_token_id: int | None = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        for side in ("encoder", "decoder"):
            told = f"{side}_attention_heads must divide d_model"
            self.require_divisible(self.d_model, getattr(self, f"{side}_attention_heads"), told)


class BARTDecoder(Decoder):
    """A decoder whose logits have a bias that is not trained; released models have zeros there."""

    def __init__(self, V: int, *sizes: int, **options: Any):
        super().__init__(V, *sizes, **options)
        self.logits_bias = Buffer(zeros((1, V)))

    def logits(self, x: Any) -> Tensor:
        return super().logits(x) + self.logits_bias


class BART(EncoderDecoder):
    """BART with its language modelling head.

    ``dropout`` acts on embeddings and on what the sub-layers add, ``attention_dropout`` on the attention weights,
    ``activation_dropout`` on the activations of the feed-forward layers.
    """

    architecture = "BartForConditionalGeneration"
    names = _names()

    def __init__(self, config: BARTConfig, *, rng: np.random.Generator):
        D = config.d_model
        shared: dict[str, Any] = {
            "act": activation(config.activation_function), "norm_place": "post", "embedding_norm": True,
            "max_length": config.max_position_embeddings, "position_offset": OFFSET,
            "embedding_scale": math.sqrt(D) if config.scale_embedding else 1.0,
            "dropout": config.dropout, "attention_dropout": config.attention_dropout,
            "activation_dropout": config.activation_dropout, "rng": rng,
        }  # fmt: skip
        encoder = Encoder(
            config.vocab_size,
            D,
            config.encoder_layers,
            config.encoder_attention_heads,
            config.encoder_ffn_dim,
            **shared,
        )
        decoder = BARTDecoder(
            config.vocab_size, D, config.decoder_layers, config.decoder_attention_heads, config.decoder_ffn_dim,
            cross=True, embedding=encoder.embedding, tied=config.tie_word_embeddings, **shared,
        )  # fmt: skip
        super().__init__(encoder, decoder)
        self.config = config


AutoModel.register(BARTConfig, {"seq2seq-lm": BART})
