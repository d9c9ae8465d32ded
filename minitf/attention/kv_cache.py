"""One slot of a decoder's cache: the keys and values of the positions seen so far."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.shape import concatenate
from minitf.autodiff.tensor import Tensor, as_tensor


class KVCache:
    """Keys (B, K, S, E) and values (B, K', S, W); S grows with every ``update``. Keys are stored rotated.

    The buffer belongs to the caller and grows by doubling, so appending one position costs amortized O(1) copies.
    Inside a transformation, or with leaves that require gradients, the rows are joined as Tensors instead, so
    gradients flow through the cache.
    """

    def __init__(self) -> None:
        self.length = 0
        self._buffers: list[Any] = [None, None]

    @property
    def k(self) -> Tensor | None:
        return self._read(0)

    @property
    def v(self) -> Tensor | None:
        return self._read(1)

    def _read(self, which: int) -> Tensor | None:
        buffer = self._buffers[which]
        if buffer is None or isinstance(buffer, Tensor):
            return buffer
        return as_tensor(buffer[:, :, : self.length])

    def update(self, k: Any, v: Any) -> tuple[Tensor, Tensor]:
        """Appends k (B, K, T, E) and v (B, K', T, W); returns everything that may be read, S + T positions."""
        k, v = as_tensor(k), as_tensor(v)
        if k.ndim != 4 or v.ndim != 4 or k.shape[0] != v.shape[0] or k.shape[2] != v.shape[2]:
            raise ShapeError(f"KVCache.update: needs k (B, K, T, E) and v (B, K', T, W), got {k.shape} and {v.shape}")
        for which, new in enumerate((k, v)):
            old = self._read(which)
            if old is not None and (old.shape[:2] != new.shape[:2] or old.shape[3] != new.shape[3]):
                raise ShapeError(f"KVCache.update: the cache holds {old.shape}, rows of shape {new.shape} do not fit")
            if new.trace is not None or isinstance(self._buffers[which], Tensor):
                self._buffers[which] = new if old is None else concatenate([old, new], axis=2)
            else:
                self._append(which, new.data)
        self.length += k.shape[2]
        keys, values = self.k, self.v
        assert keys is not None
        assert values is not None
        return keys, values

    def _append(self, which: int, rows: np.ndarray) -> None:
        buffer, end = self._buffers[which], self.length + rows.shape[2]
        if buffer is None or buffer.shape[2] < end:
            grown = np.empty((*rows.shape[:2], max(end, 2 * self.length), rows.shape[3]), rows.dtype)
            if buffer is not None:
                grown[:, :, : self.length] = buffer[:, :, : self.length]
            self._buffers[which] = buffer = grown
        buffer[:, :, self.length : end] = rows

    def _select(self, choose: Any, length: int) -> None:
        self._buffers = [None if (kept := self._read(i)) is None else choose(kept) for i in (0, 1)]
        self._buffers = [b.data.copy() if isinstance(b, Tensor) and b.trace is None else b for b in self._buffers]
        self.length = length

    def crop(self, length: int) -> None:
        """Forgets everything from position ``length`` on."""
        if not 0 <= length <= self.length:
            raise ValueError(f"KVCache.crop: the cache holds {self.length} positions, cannot keep {length}")
        self._select(lambda kept: kept[:, :, :length], length)

    def keep(self, indices: Any) -> None:
        """Keeps only the positions ``indices``, in that order."""
        indices = np.asarray(indices)
        self._select(lambda kept: kept[:, :, indices], len(indices))

    def reorder(self, rows: Any) -> None:
        """Replaces batch row b by row ``rows[b]``: beam search."""
        rows = np.asarray(rows)
        self._select(lambda kept: kept[rows], self.length)

    def nbytes(self, bits: int | None = None) -> int:
        """Bytes of the positions held, at ``bits`` an element (default: as stored)."""
        held = [x for x in (self.k, self.v) if x is not None]
        return sum(x.nbytes if bits is None else x.size * bits // 8 for x in held)
