"""T5 and mT5: encoder and decoder with relative positions, RMS norms, logits that are not scaled, and no biases.

The decoder begins with the padding token. Source: "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
Transformer" (2020), "mT5" (2021), and the released weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np

from minitf.attention.dot_product import MultiHeadAttention, scaled_dot_product_attention
from minitf.models.checkpoints.activations import activation
from minitf.models.checkpoints.auto import AutoModel
from minitf.models.checkpoints.configuration import Configuration
from minitf.models.checkpoints.names import Names
from minitf.models.transformer import Decoder, Encoder, EncoderDecoder
from minitf.position.relative_buckets import RelativeBias

#: feed_forward_proj -> (activation, gated); the "gated-gelu" of T5 1.1 is the tanh form
FEED_FORWARD = {
    "relu": ("relu", False),
    "gelu": ("gelu", False),
    "gated-gelu": ("gelu_new", True),
    "gated-silu": ("silu", True),
}


def _names(gated: bool) -> Names:
    table: dict[str | tuple[str, ...], str] = {"encoder.embedding": "shared", "decoder.head": "lm_head"}
    for side in ("encoder", "decoder"):
        block = f"{side}.block.{{}}.layer"
        feed_forward = 1 if side == "encoder" else 2
        attentions = [("attention", 0, "SelfAttention")]
        if side == "decoder":
            attentions.append(("cross", 1, "EncDecAttention"))
        for ours, number, theirs in attentions:
            for part, letter in {"q": "q", "k": "k", "v": "v", "out": "o"}.items():
                table[f"{side}.blocks.{{}}.{ours}.{part}"] = f"{block}.{number}.{theirs}.{letter}"
            table[f"{side}.blocks.{{}}.{ours}_norm"] = f"{block}.{number}.layer_norm"
        for part, letters in {"gate": "wi_0", "up": "wi_1" if gated else "wi", "down": "wo"}.items():
            table[f"{side}.blocks.{{}}.feed_forward.{part}"] = f"{block}.{feed_forward}.DenseReluDense.{letters}"
        table[f"{side}.blocks.{{}}.feed_forward_norm"] = f"{block}.{feed_forward}.layer_norm"
        table[f"{side}.position_bias.table"] = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias"
        table[f"{side}.norm"] = f"{side}.final_layer_norm"
    copies = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
    return Names(
        table,
        tied=dict.fromkeys(copies, "shared.weight"),
        ignored=(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",),
    )


@dataclass(frozen=True, kw_only=True)
class T5Config(Configuration):
    """The options of a T5; ``num_decoder_layers``: default ``num_layers``.

    scale_decoder_outputs: divide the last states by sqrt(d_model); default: ``tie_word_embeddings``. Files disagree about
    what the latter means: whether the output is the embedding is decided by the tensors that are there.
    """

    model_type: ClassVar[str] = "t5"
    depth: ClassVar = ("num_layers",)
    only: ClassVar = {"feed_forward_proj": tuple(FEED_FORWARD)}

    vocab_size: int = 32128
    d_model: int = 512
    d_kv: int = 64
    d_ff: int = 2048
    num_layers: int = 6
    num_decoder_layers: int | None = None
    num_heads: int = 8
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    dropout_rate: float = 0.1
    layer_norm_epsilon: float = 1e-6
    feed_forward_proj: str = "relu"
    tie_word_embeddings: bool = True
    scale_decoder_outputs: bool | None = None
    pad_token_id: int | None = 0
    decoder_start_token_id: int | None = None

    @property
    def scaled(self) -> bool:
        return self.tie_word_embeddings if self.scale_decoder_outputs is None else self.scale_decoder_outputs

    def fitted(self, tensors: Mapping[str, Any]) -> Self:
        head, shared = tensors.get("lm_head.weight"), tensors.get("shared.weight")
        tied = head is None or (self.tie_word_embeddings and shared is not None and np.array_equal(head, shared))
        return replace(self, tie_word_embeddings=tied, scale_decoder_outputs=self.scaled)


@dataclass(frozen=True, kw_only=True)
class MT5Config(T5Config):
    """The options of an mT5."""

    model_type: ClassVar[str] = "mt5"

    vocab_size: int = 250112
    d_ff: int = 1024
    num_layers: int = 8
    num_heads: int = 6
    feed_forward_proj: str = "gated-gelu"
    tie_word_embeddings: bool = False
    scale_decoder_outputs: bool | None = False


class T5(EncoderDecoder):
    """T5 with its language modelling head; both stacks share one embedding.

    ``dropout_rate`` acts, as in the released code, on embeddings, attention weights, the activations of the feed-forward
    layers, what the sub-layers add and behind the last norm of each stack.
    """

    architecture = "T5ForConditionalGeneration"

    def __init__(self, config: T5Config, *, rng: np.random.Generator):
        act, gated = FEED_FORWARD[config.feed_forward_proj]
        D, H, E = config.d_model, config.num_heads, config.d_kv
        buckets, farthest = config.relative_attention_num_buckets, config.relative_attention_max_distance

        def attention(layer: int, rng: np.random.Generator) -> MultiHeadAttention:
            unscaled = partial(scaled_dot_product_attention, scale=1.0)
            return MultiHeadAttention(D, H, E=E, bias=False, dropout=config.dropout_rate, attention=unscaled, rng=rng)

        shared: dict[str, Any] = {
            "attention": attention, "act": activation(act), "gated": gated, "bias": False, "norm": "rms",
            "eps": config.layer_norm_epsilon, "position": "none", "dropout": config.dropout_rate,
            "activation_dropout": config.dropout_rate, "last_dropout": True, "rng": rng,
        }  # fmt: skip
        encoder = Encoder(
            config.vocab_size, D, config.num_layers, H, config.d_ff,
            position_bias=RelativeBias(H, buckets, farthest, True, rng=rng), **shared,
        )  # fmt: skip
        decoder = Decoder(
            config.vocab_size, D, config.num_decoder_layers or config.num_layers, H, config.d_ff, cross=attention,
            embedding=encoder.embedding, position_bias=RelativeBias(H, buckets, farthest, False, rng=rng),
            tied=config.tie_word_embeddings, head_scale=D**-0.5 if config.scaled else 1.0, **shared,
        )  # fmt: skip
        super().__init__(encoder, decoder)
        self.config, self.names = config, _names(gated)


class MT5(T5):
    """mT5: T5 with gated layers and an output matrix of its own."""

    architecture = "MT5ForConditionalGeneration"


AutoModel.register(T5Config, {"seq2seq-lm": T5})
AutoModel.register(MT5Config, {"seq2seq-lm": MT5})
