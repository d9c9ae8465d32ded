"""What stands behind a body and turns its hidden states into an answer."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitf.autodiff.ops.contract import matmul
from minitf.autodiff.ops.create import zeros
from minitf.autodiff.ops.elementwise import tanh
from minitf.autodiff.ops.shape import swapaxes
from minitf.autodiff.tensor import Tensor
from minitf.feedforward.mlp import Activation, activation
from minitf.nn.layers import Dropout, Embedding, LayerNorm, Linear
from minitf.nn.module import Module, Parameter


class MaskedLMHead(Module):
    """Scores of the vocabulary at every position: norm(act(h W + b)) against the embedding of each token, plus a bias.

    D: width of the hidden states. embedding: of the body; its width is that of the scores' matrix. tied: whether the
    matrix is the embedding's transpose, or a new one.
    """

    def __init__(
        self,
        D: int,
        embedding: Embedding,
        act: Activation = "gelu",
        eps: float = 1e-12,
        tied: bool = True,
        *,
        rng: np.random.Generator,
    ):
        super().__init__()
        V, width = embedding.weight.shape
        self.transform = Linear(D, width, rng=rng)
        self.norm = LayerNorm(width, eps=eps)
        self.bias = Parameter(zeros(V))
        self.embedding = embedding if tied else None
        self.decoder = None if tied else Linear(width, V, bias=False, rng=rng)
        self.act = activation(act)

    def forward(self, hidden: Any) -> Tensor:
        """hidden (B, T, D) -> logits (B, T, V)."""
        x = self.norm(self.act(self.transform(hidden)))
        if self.decoder is not None:
            return self.decoder(x) + self.bias
        assert self.embedding is not None
        return matmul(x, swapaxes(self.embedding.weight, 0, 1)) + self.bias


class Pooler(Module):
    """tanh(h_0 W + b): the state of the first token, for answers about the whole sequence."""

    def __init__(self, D: int, *, rng: np.random.Generator):
        super().__init__()
        self.linear = Linear(D, D, rng=rng)

    def forward(self, hidden: Any) -> Tensor:
        """hidden (B, T, D) -> (B, D)."""
        return tanh(self.linear(hidden[:, 0]))


class SequenceClassifier(Module):
    """Classes of a whole sequence, from its pooled state: (B, D) -> (B, classes)."""

    def __init__(self, D: int, classes: int, dropout: float = 0.0, *, rng: np.random.Generator):
        super().__init__()
        self.dropout = Dropout(dropout, rng=rng)
        self.linear = Linear(D, classes, rng=rng)

    def forward(self, pooled: Any) -> Tensor:
        return self.linear(self.dropout(pooled))
