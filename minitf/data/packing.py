"""Sequences of different lengths without padding between them: packed into rows, or laid end to end.

packed = pack_sequences(documents, capacity=1024)
logits = model(packed.ids, mask=same_segment(packed.segment_ids), positions=packed.positions)

values, layout = unpad_input(x, mask)           # (B, T, D) -> (total, D); the layout leads back
x = pad_input(values, layout)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.index import index_add
from minitf.autodiff.ops.shape import reshape
from minitf.autodiff.tensor import ArrayLike, Tensor, as_tensor


class Packed(NamedTuple):
    """Rows of packed sequences, each array ``(B, T)``.

    segment_ids: the number of the sequence that a token is of, counted from 1; 0 where nothing is.
    positions: of the token in its sequence, from 0.
    """

    ids: np.ndarray
    segment_ids: np.ndarray
    positions: np.ndarray


def pack_sequences(sequences: Sequence[Any], capacity: int, *, fill: int = 0) -> Packed:
    """Puts each sequence, in the order given, into the first row of ``capacity`` tokens that has room (first fit).

    sequences: of ids, none empty. fill: the id where nothing is.

    Raises ShapeError for a sequence that is empty or longer than ``capacity``.
    """
    rows = [np.asarray(sequence) for sequence in sequences]
    for i, row in enumerate(rows):
        if row.ndim != 1 or not 1 <= len(row) <= capacity:
            raise ShapeError(
                f"pack_sequences: sequence {i} has shape {row.shape}; needed is one axis of 1 to {capacity} ids"
            )
    used: list[int] = []
    places = []
    for row in rows:
        b = next((b for b, length in enumerate(used) if length + len(row) <= capacity), len(used))
        if b == len(used):
            used.append(0)
        places.append((b, used[b]))
        used[b] += len(row)
    shape = (len(used), capacity)
    packed = Packed(
        np.full(shape, fill, np.result_type(np.int64, *rows)), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    )
    for i, (row, (b, start)) in enumerate(zip(rows, places, strict=True)):
        place = b, slice(start, start + len(row))
        packed.ids[place], packed.segment_ids[place], packed.positions[place] = row, i + 1, np.arange(len(row))
    return packed


def unpack_sequences(values: np.ndarray, segment_ids: np.ndarray) -> list[np.ndarray]:
    """What belongs to each sequence in ``values`` ``(B, T, *)``, in the order in which they were packed."""
    return [values[segment_ids == i] for i in range(1, int(segment_ids.max(initial=0)) + 1)]


def same_segment(segment_ids: np.ndarray) -> np.ndarray:
    """The mask ``(B, 1, T, T)`` that lets tokens attend within their own sequence; nothing attends to what is filled."""
    own = segment_ids[:, None, :, None] == segment_ids[:, None, None, :]
    return own & (segment_ids > 0)[:, None, None, :]


class Layout(NamedTuple):
    """Where tokens laid end to end belong.

    indices: ``(total,)`` places in the padded batch, seen as ``(B T,)``. cu_seqlens: ``(B + 1,)`` where each sequence begins
    among the tokens, and their number. max_seqlen: tokens of the longest. shape: (B, T).
    """

    indices: np.ndarray
    cu_seqlens: np.ndarray
    max_seqlen: int
    shape: tuple[int, int]


def unpad_input(x: ArrayLike, mask: Any) -> tuple[Tensor, Layout]:
    """The values ``(total, *)`` of x ``(B, T, *)`` where ``mask`` ``(B, T)`` is True, sequence after sequence.

    Raises ShapeError if x does not begin with the mask's shape.
    """
    x, mask = as_tensor(x), np.asarray(as_tensor(mask).data, bool)
    if mask.ndim != 2 or x.shape[:2] != mask.shape:
        raise ShapeError(f"unpad_input: needs x (B, T, ...) and a mask (B, T), got {x.shape} and {mask.shape}")
    lengths = mask.sum(axis=1)
    layout = Layout(
        np.flatnonzero(mask), np.concatenate([[0], np.cumsum(lengths)]), int(lengths.max(initial=0)), mask.shape
    )
    return reshape(x, (mask.size, *x.shape[2:]))[layout.indices], layout


def pad_input(values: ArrayLike, layout: Layout) -> Tensor:
    """Values ``(total, *)`` at their places in ``(B, T, *)``, zeros elsewhere.

    Raises ShapeError if there are not as many values as the layout has places.
    """
    values = as_tensor(values)
    if values.shape[:1] != layout.indices.shape:
        raise ShapeError(f"pad_input: the layout has {len(layout.indices)} places, values are {values.shape}")
    B, T = layout.shape
    empty = np.zeros((B * T, *values.shape[1:]), values.dtype)
    return reshape(index_add(empty, layout.indices, values), (B, T, *values.shape[1:]))
