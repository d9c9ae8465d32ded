"""The error function of arrays, 2/sqrt(π) ∫_0^x exp(-t²) dt, which NumPy lacks."""

from __future__ import annotations

from typing import Any

import numpy as np


def erf(x: Any) -> Any:
    """SciPy's for float32, float64 and complex numbers; other formats by way of these, and extended precision here."""
    if x.dtype == np.longdouble and np.dtype(np.longdouble).itemsize > 8:
        return _erf_longdouble(x)
    from scipy.special import erf as scipy_erf

    if x.dtype.kind in "biu":
        x = x.astype(np.float64)
    return scipy_erf(x) if x.dtype.char in "fdFD" else scipy_erf(x.astype(np.float32)).astype(x.dtype)


def _erf_longdouble(x: np.ndarray) -> np.ndarray:
    """The Maclaurin series below 3, the continued fraction of erfc above; about 1e-18."""
    a = np.atleast_1d(np.abs(x))
    out = np.ones_like(a)
    small = a < 3
    z = a[small]
    term, total, n = z.copy(), z.copy(), 0
    while z.size and n < 200 and np.any(np.abs(term) > np.finfo(np.longdouble).eps * np.abs(total) / 4):
        n += 1
        term = term * (2 * z * z) / (2 * n + 1)
        total = total + term
    root_pi = np.sqrt(np.longdouble("3.14159265358979323846264338327950288"))
    out[small] = total * np.exp(-z * z) * 2 / root_pi
    z = a[~small & (a < 12)]
    fraction = np.zeros_like(z)
    for k in range(200, 0, -1):
        fraction = (np.longdouble(k) / 2) / (z + fraction)
    out[~small & (a < 12)] = 1 - np.exp(-z * z) / root_pi / (z + fraction)
    return np.copysign(np.where(np.isnan(x), x, out.reshape(x.shape)), x)
