"""GPT-2: a decoder with learned positions, norms in front of the sub-layers, and the tanh form of GELU.

Source: "Language Models are Unsupervised Multitask Learners" (2019), and the released weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from minitf.attention.dot_product import MultiHeadAttention, scaled_dot_product_attention
from minitf.models.checkpoints.activations import ACTIVATIONS, activation
from minitf.models.checkpoints.auto import AutoModel
from minitf.models.checkpoints.configuration import Configuration
from minitf.models.checkpoints.names import AsIs, Names
from minitf.models.transformer import Decoder


@dataclass(frozen=True, kw_only=True)
class GPT2Config(Configuration):
    """The options of a GPT-2; ``n_inner``: F, default 4D."""

    model_type: ClassVar[str] = "gpt2"
    depth: ClassVar = ("n_layer",)
    only: ClassVar = {"activation_function": ACTIVATIONS, "add_cross_attention": (False,)}

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    tie_word_embeddings: bool = True
    add_cross_attention: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_divisible(self.n_embd, self.n_head, "n_head must divide n_embd")


class GPT2(Decoder):
    """GPT-2 with its language modelling head.

    Dropout has one probability here, ``resid_pdrop``, and one for the attention weights; ``embd_pdrop`` is its own.
    """

    architecture = "GPT2LMHeadModel"
    names = Names(
        {
            "embedding": "transformer.wte",
            "positions": "transformer.wpe",
            "blocks.{}.attention_norm": "transformer.h.{}.ln_1",
            ("blocks.{}.attention.q", "blocks.{}.attention.k", "blocks.{}.attention.v"): AsIs(
                "transformer.h.{}.attn.c_attn"
            ),
            "blocks.{}.attention.out": AsIs("transformer.h.{}.attn.c_proj"),
            "blocks.{}.feed_forward_norm": "transformer.h.{}.ln_2",
            "blocks.{}.feed_forward.up": AsIs("transformer.h.{}.mlp.c_fc"),
            "blocks.{}.feed_forward.down": AsIs("transformer.h.{}.mlp.c_proj"),
            "norm": "transformer.ln_f",
            "head": "lm_head",
        },
        prefix="transformer",
        tied={"lm_head.weight": "transformer.wte.weight"},
        ignored=(r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias",),
    )

    def __init__(self, config: GPT2Config, *, rng: np.random.Generator):
        D, H = config.n_embd, config.n_head

        def attention(layer: int, rng: np.random.Generator) -> MultiHeadAttention:
            scale = (D // H) ** -0.5 if config.scale_attn_weights else 1.0
            if config.scale_attn_by_inverse_layer_idx:
                scale /= layer + 1
            function = partial(scaled_dot_product_attention, scale=scale)
            return MultiHeadAttention(D, H, dropout=config.attn_pdrop, attention=function, rng=rng)

        super().__init__(
            config.vocab_size, D, config.n_layer, H, config.n_inner, attention=attention,
            act=activation(config.activation_function), eps=config.layer_norm_epsilon, position="learned",
            max_length=config.n_positions, tied=config.tie_word_embeddings, dropout=config.resid_pdrop,
            embedding_dropout=config.embd_pdrop, rng=rng,
        )  # fmt: skip
        self.config = config


AutoModel.register(GPT2Config, {"causal-lm": GPT2})
