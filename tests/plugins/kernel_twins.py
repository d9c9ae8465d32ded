"""What every kernel owes: its twin's answer, the same bits for any number of threads and any memory layout.

    agree(kernel, twin, x, axis=-1)

``extreme`` draws arrays with the values that break kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

#: relative to the largest finite entry of the answer
TOLERANCES = {"float32": 2e-6, "float64": 1e-14}
DTYPES = tuple(TOLERANCES)
THREADS = (1, 2, 3, 7)


def agree(
    kernel: Callable[..., Any],
    twin: Callable[..., Any],
    *arrays: Any,
    dtypes: tuple[str, ...] = DTYPES,
    scale: float = 1.0,
    **params: Any,
) -> None:
    """``kernel(*arrays, threads=..., **params)`` is ``twin(*arrays, **params)`` in every dtype.

    Floating arrays are cast to the dtype, everything else is passed on as it is; None is no array.
    scale: factor on the tolerance, for sums of many terms.
    """
    for dtype in dtypes:
        cast = [a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in arrays]
        before = [a.copy() if isinstance(a, np.ndarray) else a for a in cast]
        with np.errstate(all="ignore"):
            want = leaves(twin(*cast, **params))
        got = leaves(kernel(*cast, threads=1, **params))
        assert len(got) == len(want)
        for g, w in zip(got, want, strict=True):
            close(g, w, TOLERANCES[dtype] * scale)
        for threads in THREADS[1:]:
            same_bits(leaves(kernel(*cast, threads=threads, **params)), got)
        for rearranged in (_fortran, _reversed, _gapped):
            others = [rearranged(a) if isinstance(a, np.ndarray) else a for a in cast]
            same_bits(leaves(kernel(*others, threads=2, **params)), got)
        for a, b in zip(cast, before, strict=True):
            np.testing.assert_array_equal(a, b, err_msg="the kernel wrote into its input")


def leaves(out: Any) -> list[np.ndarray]:
    return [np.asarray(o) for o in (out if isinstance(out, (tuple, list)) else (out,)) if o is not None]


def close(got: np.ndarray, want: np.ndarray, tolerance: float) -> None:
    """Equal up to ``tolerance`` times the largest finite entry; infinities and NaN in the same places."""
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    finite = np.isfinite(want)
    np.testing.assert_array_equal(np.where(finite, 0, got), np.where(finite, 0, want))
    largest = (
        max(float(np.abs(want[finite]).max(initial=0)), np.finfo(want.dtype).tiny) if want.dtype.kind == "f" else 1
    )
    np.testing.assert_allclose(got[finite], want[finite], rtol=0, atol=tolerance * largest)


def same_bits(got: list[np.ndarray], want: list[np.ndarray]) -> None:
    for g, w in zip(got, want, strict=True):
        assert (g.shape, g.dtype) == (w.shape, w.dtype)
        np.testing.assert_array_equal(np.ascontiguousarray(g).view(np.uint8), np.ascontiguousarray(w).view(np.uint8))


def _fortran(a: np.ndarray) -> np.ndarray:
    return np.array(a, order="F")


def _reversed(a: np.ndarray) -> np.ndarray:
    return np.flip(np.flip(a).copy())


def _gapped(a: np.ndarray) -> np.ndarray:
    wide = np.zeros(tuple(2 * n for n in a.shape), a.dtype)
    wide[tuple(slice(None, None, 2) for _ in a.shape)] = a
    return wide[tuple(slice(None, None, 2) for _ in a.shape)]


def extreme(rng: np.random.Generator, shape: tuple[int, ...], *, infinite: bool = True) -> np.ndarray:
    """Normal values, among them zeros, subnormal numbers, 1e30 and (if ``infinite``) -inf."""
    special = [0.0, -0.0, 1e-40, -1e-40, 1e30, -1e30, *([-np.inf] if infinite else [])]
    x = rng.standard_normal(shape)
    return np.where(rng.random(shape) < 0.2, rng.choice(special, shape), x)
