"""ViT and DeiT: an encoder of image patches behind a class token; DeiT has a second token that learns from a teacher.

    x = [class, (distillation,) patches W + b] + positions;   pre-norm blocks;   logits = norm(x)[class] W_c + b_c

Source: "An Image is Worth 16x16 Words" (2020), "Training data-efficient image transformers & distillation through
attention" (2020), and the released weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from minitf.attention.dot_product import MultiHeadAttention
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.broadcast import broadcast_to
from minitf.autodiff.ops.shape import concatenate
from minitf.autodiff.tensor import Tensor
from minitf.models.checkpoints.activations import ACTIVATIONS, activation
from minitf.models.checkpoints.auto import AutoModel
from minitf.models.checkpoints.configuration import CheckpointError, Configuration
from minitf.models.checkpoints.names import Names
from minitf.models.heads import Pooler
from minitf.models.stack import Stack
from minitf.nn import init
from minitf.nn.layers import Dropout, Linear
from minitf.nn.module import Module, Parameter
from minitf.vision.patching import PatchEmbed


@dataclass(frozen=True, kw_only=True)
class ViTConfig(Configuration):
    """The options of a ViT; images and patches are squares of ``image_size`` and ``patch_size`` pixels."""

    model_type: ClassVar[str] = "vit"
    depth: ClassVar = ("num_hidden_layers",)
    only: ClassVar = {"hidden_act": ACTIVATIONS, "pooler_act": ("tanh",)}

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    image_size: int = 224
    patch_size: int = 16
    num_channels: int = 3
    qkv_bias: bool = True
    pooler_output_size: int | None = None
    pooler_act: str = "tanh"
    id2label: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_divisible(
            self.hidden_size, self.num_attention_heads, "num_attention_heads must divide hidden_size"
        )
        self.require_divisible(self.image_size, self.patch_size, "patch_size must divide image_size")
        if self.pooler_output_size not in (None, self.hidden_size):
            raise CheckpointError(
                f"{self.model_type} configuration: a pooler of another width than hidden_size = {self.hidden_size} is not "
                f"implemented, got pooler_output_size = {self.pooler_output_size}"
            )

    @property
    def num_labels(self) -> int:
        """Classes of a classifier: the labels that have names, 2 without them."""
        return len(self.id2label) if self.id2label else 2


@dataclass(frozen=True, kw_only=True)
class DeiTConfig(ViTConfig):
    """The options of a DeiT."""

    model_type: ClassVar[str] = "deit"


class VisionTransformer(Stack):
    """The body: hidden states (B, tokens, D) of images (B, C, Y, X), the class token's first."""

    architecture = "ViTModel"
    special = ("class_token",)
    names = Names(
        {
            "class_token": "embeddings.cls_token",
            "distillation_token": "embeddings.distillation_token",
            "positions": "embeddings.position_embeddings",
            "patches": "embeddings.patch_embeddings.projection",
            "blocks.{}.attention.q": "encoder.layer.{}.attention.attention.query",
            "blocks.{}.attention.k": "encoder.layer.{}.attention.attention.key",
            "blocks.{}.attention.v": "encoder.layer.{}.attention.attention.value",
            "blocks.{}.attention.out": "encoder.layer.{}.attention.output.dense",
            "blocks.{}.attention_norm": "encoder.layer.{}.layernorm_before",
            "blocks.{}.feed_forward.up": "encoder.layer.{}.intermediate.dense",
            "blocks.{}.feed_forward.down": "encoder.layer.{}.output.dense",
            "blocks.{}.feed_forward_norm": "encoder.layer.{}.layernorm_after",
            "norm": "layernorm",
            "pooler.linear": "pooler.dense",
        },
        prefix="vit",
    )

    def __init__(self, config: ViTConfig, *, pooler: bool = True, rng: np.random.Generator):
        D, H = config.hidden_size, config.num_attention_heads
        patches = (config.image_size // config.patch_size) ** 2
        drawn = lambda *shape: Parameter(init.trunc_normal(shape, std=config.initializer_range, rng=rng))
        for token in self.special:
            setattr(self, token, drawn(1, 1, D))
        self.positions = drawn(1, len(self.special) + patches, D)
        self.patches = PatchEmbed(config.num_channels, D, config.patch_size, rng=rng)
        self.embedding_dropout = Dropout(config.hidden_dropout_prob, rng=rng)

        def attention(layer: int, rng: np.random.Generator) -> MultiHeadAttention:
            layer_of = MultiHeadAttention(D, H, dropout=config.attention_probs_dropout_prob, rng=rng)
            if not config.qkv_bias:
                layer_of.q.bias = layer_of.k.bias = layer_of.v.bias = None
            return layer_of

        super().__init__(
            D, config.num_hidden_layers, H, config.intermediate_size, attention=attention,
            act=activation(config.hidden_act), eps=config.layer_norm_eps, dropout=config.hidden_dropout_prob, rng=rng,
        )  # fmt: skip
        self.pooler = Pooler(D, rng=rng) if pooler else None
        self.config, self.image_size = config, config.image_size

    def forward(self, images: Any) -> Tensor:
        x = self.patches(images)
        if x.shape[1] + len(self.special) != self.positions.shape[1]:
            raise ShapeError(
                f"{type(self).__name__}: images must be {self.image_size} x {self.image_size} pixels, got {images.shape}"
            )
        tokens = [broadcast_to(getattr(self, token), (x.shape[0], 1, self.D)) for token in self.special]
        return self.through_blocks(self.embedding_dropout(concatenate([*tokens, x], axis=1) + self.positions))

    def pool(self, hidden: Any) -> Tensor:
        """(B, D) of hidden states (B, tokens, D). Raises ValueError for a body without a pooler."""
        if self.pooler is None:
            raise ValueError(f"{type(self).__name__}.pool: this body was made without a pooler")
        return self.pooler(hidden)


class DeiT(VisionTransformer):
    """The body of a DeiT: behind the class token stands the distillation token."""

    architecture = "DeiTModel"
    special = ("class_token", "distillation_token")
    names = Names(VisionTransformer.names.table, prefix="deit")


class ViTForImageClassification(Module):
    """Classes of an image, from the class token's last state."""

    architecture = "ViTForImageClassification"
    names = VisionTransformer.names.inside("body", "vit", {"classifier": "classifier"}, tied={})
    body_class: type[VisionTransformer] = VisionTransformer

    def __init__(self, config: ViTConfig, *, rng: np.random.Generator):
        super().__init__()
        self.body = self.body_class(config, pooler=False, rng=rng)
        self.classifier = Linear(config.hidden_size, config.num_labels, rng=rng)
        self.config = config

    def forward(self, images: Any) -> Tensor:
        """Logits (B, classes) of images (B, C, Y, X)."""
        return self.classifier(self.body(images)[:, 0])


class DeiTForImageClassification(ViTForImageClassification):
    """Classes of an image by a DeiT, from the class token alone."""

    architecture = "DeiTForImageClassification"
    names = DeiT.names.inside("body", "deit", {"classifier": "classifier"}, tied={})
    body_class = DeiT


class DeiTForImageClassificationWithTeacher(Module):
    """Classes of an image by a DeiT: the mean of the logits of the class token and of the distillation token."""

    architecture = "DeiTForImageClassificationWithTeacher"
    names = DeiT.names.inside(
        "body", "deit", {"classifier": "cls_classifier", "distillation_classifier": "distillation_classifier"}, tied={}
    )

    def __init__(self, config: DeiTConfig, *, rng: np.random.Generator):
        super().__init__()
        self.body = DeiT(config, pooler=False, rng=rng)
        self.classifier = Linear(config.hidden_size, config.num_labels, rng=rng)
        self.distillation_classifier = Linear(config.hidden_size, config.num_labels, rng=rng)
        self.config = config

    def logits(self, images: Any) -> tuple[Tensor, Tensor]:
        """Logits (B, classes) of the class token, for the labels, and of the distillation token, for the teacher."""
        hidden = self.body(images)
        return self.classifier(hidden[:, 0]), self.distillation_classifier(hidden[:, 1])

    def forward(self, images: Any) -> Tensor:
        """Logits (B, classes) of images (B, C, Y, X): the mean of both."""
        from_labels, from_teacher = self.logits(images)
        return (from_labels + from_teacher) / 2


AutoModel.register(ViTConfig, {"base": VisionTransformer, "image-classification": ViTForImageClassification})
AutoModel.register(
    DeiTConfig,
    {
        "base": DeiT,
        "image-classification": DeiTForImageClassification,
        "image-classification-with-teacher": DeiTForImageClassificationWithTeacher,
    },
)
