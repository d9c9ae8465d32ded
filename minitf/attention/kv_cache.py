"""One slot of a decoder's cache: the keys and values of the positions seen so far, or of those worth keeping.

It holds K E + K' W numbers a position. A decoder that appends its new token's keys and values computes those of T
tokens once each, instead of T (T + 1) / 2 times. Keys are stored rotated, so a key keeps the rotation of its own
position when others are evicted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.index import take_along_axis
from minitf.autodiff.ops.shape import concatenate
from minitf.autodiff.tensor import Tensor, as_tensor


class KVCache:
    """Keys (B, K, S, E), values (B, K', S, W) and positions (B, K, S); S grows with every ``update``.

    length: how many positions were seen, which is the position of the next token. Only ``keep`` makes S less than that.

    The buffers belong to the cache and grow by doubling, so appending a position costs amortized O(1) copies. Keys or
    values that belong to a transformation, or that require gradients, are joined as Tensors instead, so that gradients
    flow through the cache.
    """

    def __init__(self) -> None:
        self.length = 0
        self._held = 0  # S
        self._buffers: list[Any] = [None, None, None]  # keys, values, positions (B, K, S, 1); axis 2 has room to grow

    @property
    def k(self) -> Tensor | None:
        """The keys that are held, (B, K, S, E); None before the first ``update``."""
        return self._read(0)

    @property
    def v(self) -> Tensor | None:
        """The values that are held, (B, K', S, W); None before the first ``update``."""
        return self._read(1)

    @property
    def positions(self) -> np.ndarray | None:
        """The positions that the keys had, (B, K, S), ascending; None before the first ``update``."""
        positions = self._read(2)
        return None if positions is None else positions.data[..., 0]

    def update(self, k: Any, v: Any) -> tuple[Tensor, Tensor]:
        """Appends k (B, K, T, E) and v (B, K', T, W); returns everything that may be read, S + T positions.

        Raises ShapeError or TypeError, and appends nothing, when they do not fit to each other or to what is held.
        """
        k, v = as_tensor(k), as_tensor(v)
        if k.ndim != 4 or v.ndim != 4 or k.shape[0] != v.shape[0] or k.shape[2] != v.shape[2]:
            raise ShapeError(f"KVCache.update: needs k (B, K, T, E) and v (B, K', T, W), got {k.shape} and {v.shape}")
        for name, new, old in (("k", k, self.k), ("v", v, self.v)):
            if old is None:
                continue
            if old.shape[:2] != new.shape[:2] or old.shape[3] != new.shape[3]:
                raise ShapeError(
                    f"KVCache.update: the cache holds {name} {old.shape}, got {new.shape}; only axis 2 may differ"
                )
            if old.dtype != new.dtype:
                raise TypeError(
                    f"KVCache.update: the cache holds {name} of {old.dtype}, got {new.dtype}; cast it first"
                )
        T = k.shape[2]
        seen = np.arange(self.length, self.length + T)[:, None]
        for which, new in enumerate((k, v, as_tensor(np.broadcast_to(seen, (*k.shape[:3], 1))))):
            self._append(which, new)
        self._held += T
        self.length += T
        keys, values = self.k, self.v
        assert keys is not None
        assert values is not None
        return keys, values

    def crop(self, length: int) -> None:
        """Forgets everything from position ``length`` on.

        Raises ValueError if that many were not seen, or if rows or heads would be left with different numbers of them.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"KVCache.crop: length must be 0 to {self.length}, the positions seen, got {length}")
        if self.positions is not None:
            counts = np.count_nonzero(self.positions < length, axis=-1)
            left = counts.max(initial=0)
            if (counts != left).any():
                raise ValueError(
                    f"KVCache.crop: before position {length} the heads hold {counts.min()} to {left} positions, each what "
                    "keep() chose for it; all must be left with the same number"
                )
            self._choose(lambda held: held[:, :, :left])
        self.length = length

    def keep(self, indices: Any) -> None:
        """Keeps only these of the S positions held, in ascending order, and forgets the others.

        indices: (S',) for all rows and heads, or (B, K, S') for each; without repetition.
        """
        if self.k is None or self.v is None:
            raise ValueError("KVCache.keep: the cache is empty; update it first")
        indices = np.asarray(as_tensor(indices).data)
        B, K, S, _ = self.k.shape
        if indices.size == 0:
            indices = indices.astype(np.intp)  # an empty list has no dtype of its own
        if indices.dtype.kind not in "iu":
            raise TypeError(f"KVCache.keep: indices must be integers, got {indices.dtype}")
        if indices.ndim != 1 and (indices.shape[:-1] != (B, K) or self.v.shape[1] != K):
            raise ShapeError(
                f"KVCache.keep: indices must be (S',), or (B, K, S') = ({B}, {K}, S') for k and v of the same K heads; "
                f"got {indices.shape} for k {self.k.shape} and v {self.v.shape}"
            )
        indices = np.sort(indices, axis=-1)
        if ((indices < 0) | (indices >= S)).any() or (np.diff(indices) == 0).any():
            raise ValueError(f"KVCache.keep: indices must be different numbers from 0 to {S - 1}")
        if indices.ndim == 1:
            self._choose(lambda held: held[:, :, indices])
        else:
            self._choose(lambda held: take_along_axis(held, indices[..., None], axis=2))

    def reorder(self, rows: Any) -> None:
        """Replaces batch row b by row ``rows[b]``, as beam search does; there may be more or fewer rows afterwards."""
        rows = np.asarray(as_tensor(rows).data)
        B = 0 if self.k is None else self.k.shape[0]
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise TypeError(f"KVCache.reorder: rows must be one sequence of integers, got {rows.dtype} {rows.shape}")
        if ((rows < 0) | (rows >= B)).any():
            raise ValueError(f"KVCache.reorder: rows must be from 0 to {B - 1}, got {rows.min()} to {rows.max()}")
        self._choose(lambda held: held[rows])

    def nbytes(self, bits: int | None = None) -> int:
        """Bytes of the keys and values held, at ``bits`` an element (default: as stored)."""
        return _nbytes(self.k, self.v, bits)

    def _read(self, which: int) -> Tensor | None:
        buffer = self._buffers[which]
        return buffer if buffer is None or isinstance(buffer, Tensor) else as_tensor(buffer[:, :, : self._held])

    def _append(self, which: int, new: Tensor) -> None:
        old = self._read(which)
        if new.trace is not None or isinstance(self._buffers[which], Tensor):
            self._buffers[which] = new if old is None else concatenate([old, new], axis=2)
            return
        end = self._held + new.shape[2]
        if old is None or self._buffers[which].shape[2] < end:
            grown = np.empty((*new.shape[:2], max(end, 2 * self._held), new.shape[3]), new.dtype)
            if old is not None:
                grown[:, :, : self._held] = old.data
            self._buffers[which] = grown
        self._buffers[which][:, :, self._held : end] = new.data

    def _choose(self, choose: Callable[[Tensor], Tensor]) -> None:
        """Replaces what is held by what ``choose`` takes of it."""
        chosen = [None if (held := self._read(which)) is None else choose(held) for which in range(3)]
        self._buffers = [x if x is None or x.trace is not None else x.data for x in chosen]
        self._held = 0 if chosen[0] is None else chosen[0].shape[2]


class ContextCache:
    """Keys (B, K, S, E) and values (B, K', S, W) of a context that does not grow, such as an encoder's output.

    The first call of an attention layer fills it; from then on the layer reads it and does not look at the context.
    length: S, or 0 before that. mask: which of the context may be attended to, kept with it.
    """

    def __init__(self) -> None:
        self.k: Tensor | None = None
        self.v: Tensor | None = None
        self.mask: Tensor | None = None

    @property
    def length(self) -> int:
        return 0 if self.k is None else self.k.shape[2]

    def fill(self, k: Any, v: Any, mask: Any = None) -> None:
        """Holds k, v and the mask (broadcast against (B, H, T, S)) of a context."""
        self.k, self.v = as_tensor(k), as_tensor(v)
        self.mask = None if mask is None else as_tensor(mask)

    def reorder(self, rows: Any) -> None:
        """Replaces batch row b by row ``rows[b]``."""
        if self.k is None or self.v is None:
            raise ValueError("ContextCache.reorder: the cache is empty; the first call of its layer fills it")
        rows = np.asarray(as_tensor(rows).data)
        if np.array_equal(rows, np.arange(self.k.shape[0])):
            return
        self.k, self.v = self.k[rows], self.v[rows]
        if self.mask is not None and self.mask.ndim == 4 and self.mask.shape[0] > 1:
            self.mask = self.mask[rows]

    def nbytes(self, bits: int | None = None) -> int:
        """Bytes of the keys and values held, at ``bits`` an element (default: as stored)."""
        return _nbytes(self.k, self.v, bits)


def _nbytes(k: Tensor | None, v: Tensor | None, bits: int | None) -> int:
    held = [x for x in (k, v) if x is not None]
    return sum(x.nbytes for x in held) if bits is None else -(-sum(x.size for x in held) * bits // 8)
