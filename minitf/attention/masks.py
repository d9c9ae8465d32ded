"""Boolean masks: True = may attend, broadcast against (B, H, T, S), combined with ``&``."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import Tensor, as_tensor, plain
from minitf.nn.scaled_dot_product import band


def causal_mask(T: int, S: int | None = None, offset: int | None = None) -> Tensor:
    """(T, S): query i, at position offset + i, sees the keys at positions up to its own.

    S defaults to T; offset to S - T (the queries are the last T positions).
    """
    return plain(band(T, T if S is None else S, offset=offset))


def sliding_window_mask(
    T: int, S: int | None = None, *, window: int, causal: bool = True, offset: int | None = None
) -> Tensor:
    """(T, S): keep 0 <= i - j < window, or |i - j| <= window when not causal. See ``causal_mask`` for S and offset."""
    return plain(band(T, T if S is None else S, causal=causal, window=window, offset=offset))


def padding_mask(valid: Any) -> Tensor:
    """(B, 1, 1, S) from valid (B, S), True for real tokens: nobody attends to padding."""
    valid = as_tensor(valid)
    if valid.dtype != np.bool_:
        raise TypeError(f"padding_mask: valid must be boolean (True = a real token), got {valid.dtype}")
    if valid.ndim != 2:
        raise ShapeError(f"padding_mask: valid must be (B, S), got shape {valid.shape}")
    return plain(valid.data[:, None, None, :])


def prefix_mask(n: int, T: int) -> Tensor:
    """(T, T): causal, but the first n positions see each other in both directions."""
    if not 0 <= n <= T:
        raise ValueError(f"prefix_mask: the prefix must have 0 to {T} positions, got {n}")
    return plain(band(T, T) | (np.arange(T) < n))


def chunk_mask(T: int, chunk: int, left_chunks: int | None = None) -> Tensor:
    """(T, T): position i sees its own chunk and the ``left_chunks`` before it (all of them by default)."""
    if chunk < 1:
        raise ValueError(f"chunk_mask: a chunk must have at least 1 position, got {chunk}")
    if left_chunks is not None and left_chunks < 0:
        raise ValueError(f"chunk_mask: left_chunks must be 0 or more, or None for all, got {left_chunks}")
    block = np.arange(T) // chunk
    behind = block[:, None] - block
    return plain((behind >= 0) & (behind <= (T if left_chunks is None else left_chunks)))


def blockwise_causal_mask(T: int, block: int) -> Tensor:
    """(T, T): causal inside a block, nothing across blocks."""
    if block < 1:
        raise ValueError(f"blockwise_causal_mask: a block must have at least 1 position, got {block}")
    return segment_mask(np.arange(T) // block) & causal_mask(T)


def segment_mask(ids: Any) -> Tensor:
    """(T, T) from segment ids (T,), (B, 1, T, T) from (B, T): attention stays inside a segment of a packed sequence."""
    ids = as_tensor(ids).data
    if ids.dtype.kind not in "iu":
        raise TypeError(f"segment_mask: ids must be integers, got {ids.dtype}")
    if ids.ndim not in (1, 2):
        raise ShapeError(f"segment_mask: ids must be (T,) or (B, T), got shape {ids.shape}")
    same = ids[..., :, None] == ids[..., None, :]
    return plain(same if ids.ndim == 1 else same[:, None])
