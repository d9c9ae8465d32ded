"""The numbers of a case: drawn from Philox bits by transforms of our own, so that they are the same everywhere.

A bit generator's stream is fixed by its definition, NumPy's distributions are not, and the logarithms and sines of
mathematical libraries differ in their last bit from one processor to the next. So every number here is made of raw
64-bit words by additions, multiplications, divisions and square roots alone, which IEEE 754 rounds correctly:

    uniform   the top 53 bits of a word, times 2**-53
    normal    Box-Muller, sqrt(-2 ln u) cos(2 pi v), with ln, sin and cos summed from their series to full precision

What a Draw returns for a name, size, seed and option label is frozen within a major version of minitf.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

Shape = int | tuple[int, ...]

LN2 = float.fromhex("0x1.62e42fefa39efp-1")
HALF_PI = float.fromhex("0x1.921fb54442d18p+0")
SQRT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")


class Draw:
    """A stream of random numbers that depends on the words of ``key`` and on nothing else.

    Every method takes the shape first and returns an array of it.
    """

    def __init__(self, *key: object):
        digest = hashlib.sha256("\0".join(map(str, key)).encode()).digest()
        self._bits = np.random.Philox(key=int.from_bytes(digest[:16], "little"))

    def _fractions(self, shape: Shape) -> np.ndarray:
        """Multiples of 2**-53 in [0, 1)."""
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        words = np.asarray(self._bits.random_raw(math.prod(shape)), np.uint64).reshape(shape)
        return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def uniform(self, shape: Shape, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """Uniform in [low, high]."""
        return low + (high - low) * self._fractions(shape)

    def normal(self, shape: Shape) -> np.ndarray:
        """Standard normal; the largest possible magnitude is 8.6."""
        radius = np.sqrt(-2.0 * _log(1.0 - self._fractions(shape)))
        return radius * _cos_of_turns(self._fractions(shape))

    def boolean(self, shape: Shape, p: float = 0.5) -> np.ndarray:
        """True with probability ``p``."""
        return self._fractions(shape) < p

    def integers(self, shape: Shape, low: int, high: int) -> np.ndarray:
        """Integers in [low, high), equally likely up to (high - low) 2**-53."""
        return low + np.floor(self._fractions(shape) * (high - low)).astype(np.int64)


def _log(x: np.ndarray) -> np.ndarray:
    """ln x for x in (0, 1]: e ln 2 + ln m, where ln m = 2 artanh((m - 1) / (m + 1)) and m is within a factor sqrt 2 of 1."""
    m, e = np.frexp(x)
    small = m < SQRT_HALF
    m, e = np.where(small, 2.0 * m, m), e - small
    s = (m - 1.0) / (m + 1.0)
    return e * LN2 + 2.0 * s * _series(s * s, [1.0 / (2 * k + 1) for k in range(13)])


def _cos_of_turns(v: np.ndarray) -> np.ndarray:
    """cos(2 pi v): the nearest quarter turn, and from there the series of sine or cosine for at most pi / 4."""
    quarters = np.rint(4.0 * v)
    x = HALF_PI * (4.0 * v - quarters)
    x2 = x * x
    cos = _series(x2, [(-1.0) ** k / math.factorial(2 * k) for k in range(10)])
    sin = x * _series(x2, [(-1.0) ** k / math.factorial(2 * k + 1) for k in range(10)])
    odd = quarters % 2.0 == 1.0
    flip = (quarters == 1.0) | (quarters == 2.0)
    return np.where(odd, sin, cos) * np.where(flip, -1.0, 1.0)


def _series(x: np.ndarray, coefficients: list[float]) -> np.ndarray:
    """The polynomial with these coefficients, lowest power first, one multiplication and one addition at a time."""
    total = np.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x
        total = total + coefficient
    return total
