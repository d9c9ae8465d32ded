"""T5's relative positions: distances fall into buckets, fine when near and logarithmic when far; each head likes some.

    bias[h, i, j] = table[bucket(j - i), h]                 added to the logits of query i and key j, which are not scaled

Of n buckets for one direction the first n/2 are single distances; the others divide the distances up to
``max_distance`` in equal ratios, and what is farther shares the last. Source: "Exploring the Limits of Transfer Learning
with a Unified Text-to-Text Transformer" (2020), section 2.1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitf.autodiff.ops.shape import moveaxis
from minitf.autodiff.tensor import Tensor, as_tensor
from minitf.nn.layers import Embedding
from minitf.nn.module import Module


def relative_position_bucket(
    distance: Any, bidirectional: bool = True, num_buckets: int = 32, max_distance: int = 128
) -> np.ndarray:
    """The bucket (*) of distances key - query (*), integers.

    bidirectional: half of the buckets are for keys in front, half for keys behind; otherwise keys in front (positive
    distances) are in bucket 0.

    Raises ValueError for too few buckets, or a ``max_distance`` that the single distances already reach.
    """
    least = 4 if bidirectional else 2
    if num_buckets < least or (bidirectional and num_buckets % 2):
        raise ValueError(f"relative_position_bucket: needs at least {least} buckets, an even number, got {num_buckets}")
    n = num_buckets // 2 if bidirectional else num_buckets
    single = n // 2
    if max_distance <= single:
        raise ValueError(f"relative_position_bucket: max_distance must exceed {single}, got {max_distance}")
    distance = as_tensor(distance).data
    if distance.dtype.kind not in "iu":
        raise TypeError(f"relative_position_bucket: distances must be integers, got {distance.dtype}")
    away = np.abs(distance) if bidirectional else np.maximum(-distance, 0)
    # where the buckets behind the single ones begin; the tolerance puts a distance that is exactly there into its bucket
    begins = single * (max_distance / single) ** (np.arange(1, n - single) / (n - single))
    far = single + np.searchsorted(begins * (1 - 1e-12), away, side="right")
    bucket = np.where(away < single, away, far)
    return bucket + np.where(distance > 0, n, 0) if bidirectional else bucket


class RelativeBias(Module):
    """The learned table (buckets, H) of a whole stack, as its ``position_bias``."""

    def __init__(
        self,
        H: int,
        num_buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = True,
        *,
        rng: np.random.Generator,
    ):
        super().__init__()
        relative_position_bucket(np.zeros(1, int), bidirectional, num_buckets, max_distance)
        self.num_buckets, self.max_distance, self.bidirectional = num_buckets, max_distance, bidirectional
        self.table = Embedding(num_buckets, H, rng=rng)

    def forward(self, start: int, T: int) -> Tensor:
        """(H, T, start + T): for queries at start ... start + T - 1 and keys at 0 ... start + T - 1."""
        distance = np.arange(start + T) - np.arange(start, start + T)[:, None]
        bucket = relative_position_bucket(distance, self.bidirectional, self.num_buckets, self.max_distance)
        return moveaxis(self.table(bucket), -1, 0)
