"""``Loader``: the batches of a data set, epoch after epoch, from a position that can be saved and taken up again.

    loader = Loader((x, y), B=32, rng=np.random.default_rng(0))
    for x, y in loader: ...                         # the rest of this epoch; the next loop is the next epoch

The order of an epoch depends on the loader's key, which is drawn once, and on the number of the epoch, on nothing else:
so three integers say where a loader stands, and a run that goes on there sees exactly the batches it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.nn.init import generator


def stack(examples: Sequence[Any]) -> Any:
    """Examples of one shape as one array with a new first axis; tuples of them as a tuple of arrays.

    Raises ShapeError for examples that differ in shape.
    """
    if isinstance(examples[0], tuple):
        return tuple(stack(column) for column in zip(*examples, strict=True))
    arrays = [np.asarray(example) for example in examples]
    if len({a.shape for a in arrays}) > 1:
        shapes = ", ".join(sorted({str(a.shape) for a in arrays}))
        raise ShapeError(
            f"stack: examples of a batch must have one shape, got {shapes}; pad makes sequences equally long"
        )
    return np.stack(arrays)


def pad(
    sequences: Sequence[Any], *, fill: Any = 0, length: int | None = None, side: str = "right"
) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of different lengths as one array ``(B, T, ...)``, and a mask ``(B, T)``, True where it is not filled.

    length: T; the longest sequence's by default. side: where the filling goes, "right" or "left".

    Raises ShapeError for a sequence longer than ``length`` or features that differ.
    """
    if side not in ("right", "left"):
        raise ValueError(f"pad: side must be right or left, got {side!r}")
    rows = [np.asarray(sequence) for sequence in sequences]
    if not rows or any(row.ndim == 0 for row in rows) or len({row.shape[1:] for row in rows}) > 1:
        raise ShapeError(f"pad: needs sequences that differ in length only, got {[row.shape for row in rows]}")
    longest = max(map(len, rows))
    T = longest if length is None else length
    if longest > T:
        raise ShapeError(f"pad: a sequence has {longest} items, more than length={T}; cut it first")
    out = np.full((len(rows), T, *rows[0].shape[1:]), fill, np.result_type(*rows))
    mask = np.zeros((len(rows), T), bool)
    for i, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(T - len(row), T)
        out[i, place], mask[i, place] = row, True
    return out, mask


class Loader:
    """Batches of a data set.

    data: an array or a tuple of arrays with one row per example; or any sequence of examples, of which ``collate`` makes a
        batch. B: examples a batch. rng: for another order in every epoch; a key is drawn from it, here and once.
    drop_last: leave out a last batch that is smaller than B.
    collate: ``collate(list of examples) -> batch``: ``stack``; ``pad``, or a ``functools.partial`` of it, for
        sequences of different lengths.
    """

    def __init__(
        self,
        data: Any,
        B: int,
        *,
        rng: np.random.Generator | None = None,
        drop_last: bool = False,
        collate: Callable[[list[Any]], Any] | None = None,
    ):
        columns = data if isinstance(data, tuple) else (data,)
        self._arrays = collate is None and all(isinstance(column, np.ndarray) for column in columns)
        lengths = {len(column) for column in columns} if self._arrays else {len(data)}
        if len(lengths) > 1:
            raise ShapeError(f"Loader: the arrays of data have different lengths: {[len(c) for c in columns]}")
        (self.size,) = lengths
        if B < 1 or self.size < (B if drop_last else 1):
            raise ValueError(f"Loader: {self.size} examples make no batch of B={B}" + " with drop_last" * drop_last)
        self.data, self.B, self.drop_last, self.collate = data, B, drop_last, collate or stack
        self.key = None if rng is None else int(generator(rng).integers(2**63))
        self.epoch, self.position = 0, 0

    def __len__(self) -> int:
        """Batches an epoch."""
        return self.size // self.B if self.drop_last else -(-self.size // self.B)

    def order(self, epoch: int) -> np.ndarray:
        """The numbers of the examples in the order of an epoch, ``(size,)``."""
        if self.key is None:
            return np.arange(self.size)
        return np.random.default_rng((self.key, epoch)).permutation(self.size)

    def __iter__(self) -> Iterator[Any]:
        """The batches of the current epoch that have not been read; afterwards the next epoch is the current one."""
        order = self.order(self.epoch)
        while self.position < len(self):
            rows = order[self.position * self.B : (self.position + 1) * self.B]
            self.position += 1
            yield self._batch(rows)
        self.epoch, self.position = self.epoch + 1, 0

    def _batch(self, rows: np.ndarray) -> Any:
        if not self._arrays:
            return self.collate([self.data[i] for i in rows.tolist()])
        return tuple(column[rows] for column in self.data) if isinstance(self.data, tuple) else self.data[rows]

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands: after the last batch that it gave."""
        return {"key": self.key, "epoch": self.epoch, "position": self.position, "size": self.size, "B": self.B}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to where a loader of the same data stood.

        Raises ValueError if the data has another number of examples, the batches another size, or only one shuffles.
        """
        if state.keys() != self.state_dict().keys():
            raise ValueError(f"Loader: needs what state_dict() returns, with {', '.join(self.state_dict())}")
        mine, theirs = (self.size, self.B, self.key is None), (state["size"], state["B"], state["key"] is None)
        if mine != theirs:
            raise ValueError(
                f"Loader: the state is of {theirs[0]} examples in batches of {theirs[1]}, "
                f"{'in order' if theirs[2] else 'shuffled'}; here are {mine[0]} in batches of {mine[1]}, "
                f"{'in order' if mine[2] else 'shuffled'}"
            )
        self.key, self.epoch, self.position = state["key"], state["epoch"], state["position"]
