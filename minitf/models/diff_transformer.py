"""The Differential Transformer: a decoder whose attention is differential.

    x = x + diff(RMSNorm(x));  x = x + SwiGLU(RMSNorm(x))

Paper: differential-transformer, "Differential Transformer" (2024). Compared with a transformer of 2H heads it has as
many parameters (four vectors of E numbers and a norm of 2E a layer aside) and as large a cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitf.attention.differential import DifferentialAttention
from minitf.feedforward.mlp import GatedFeedForward
from minitf.models.transformer import Decoder
from minitf.registry import implements


@implements("differential-transformer")
class DiffTransformer(Decoder):
    """V, D, L: vocabulary, width, layers. H: differential heads, half of the transformer's it is compared with.

    K: key/value heads. F: width of the gated feed-forward layer, default 8D/3. The rest goes to
    ``DifferentialAttention`` (theta, layout, pairing, norm_affine, bias) and is the same in every layer.
    """

    def __init__(
        self,
        V: int,
        D: int,
        L: int,
        H: int,
        K: int | None = None,
        F: int | None = None,
        *,
        eps: float = 1e-5,
        tied: bool = False,
        max_length: int | None = None,
        dropout: float = 0.0,
        rng: np.random.Generator,
        **attention: Any,
    ):
        width = 8 * D // 3 if F is None else F
        super().__init__(
            V, D, L, H,
            attention=lambda layer, rng: DifferentialAttention(D, H, K, layer=layer, eps=eps, rng=rng, **attention),
            feed_forward=lambda layer, rng: GatedFeedForward(D, width, "silu", rng=rng),
            norm="rms", eps=eps, position="none", max_length=max_length, tied=tied, dropout=dropout, rng=rng,
        )  # fmt: skip

    def lambdas(self) -> np.ndarray:
        """(L,) the present λ of every layer."""
        layers = [block.attention for block in self.blocks]
        return np.array([layer.lambda_().item() for layer in layers if isinstance(layer, DifferentialAttention)])
