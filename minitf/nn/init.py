"""Initial values of parameters: ``(shape, ..., *, rng) -> ndarray``.

Values are drawn in float64 and then rounded to the configured dtype, so a float32 model is the rounding of the float64
model with the same seed. Matrices are ``(D_in, D_out)``; convolution weights ``(C_out, C_in/groups, ...)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from minitf.autodiff.config import current
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.transform import repeatable

#: ``init(shape, rng=rng) -> array``: what layers take as ``init=``; ``functools.partial`` sets its options
Init: TypeAlias = Callable[..., np.ndarray]


def generator(rng: Any) -> np.random.Generator:
    """``rng``, checked: randomness is always an explicit ``numpy.random.Generator``."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator such as np.random.default_rng(0), got {rng!r}")
    return repeatable(rng)


def _rounded(values: np.ndarray) -> np.ndarray:
    return values.astype(current().dtype)


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """(fan_in, fan_out): how many inputs an output sees, and how many outputs an input feeds."""
    shape = tuple(shape)
    if len(shape) < 2:
        raise ShapeError(f"fan-in and fan-out need a weight of at least 2 dimensions, got shape {shape}")
    if len(shape) == 2:
        return shape[0], shape[1]
    taps = math.prod(shape[2:])
    return shape[1] * taps, shape[0] * taps


def zeros(shape: Sequence[int], *, rng: np.random.Generator | None = None) -> np.ndarray:
    """Zeros; ``rng`` is not drawn from."""
    return np.zeros(shape, current().dtype)


def ones(shape: Sequence[int], *, rng: np.random.Generator | None = None) -> np.ndarray:
    """Ones; ``rng`` is not drawn from."""
    return np.ones(shape, current().dtype)


def normal(shape: Sequence[int], mean: float = 0.0, std: float = 1.0, *, rng: np.random.Generator) -> np.ndarray:
    """N(mean, std²)."""
    return _rounded(generator(rng).normal(mean, std, shape))


def uniform(shape: Sequence[int], low: float = -1.0, high: float = 1.0, *, rng: np.random.Generator) -> np.ndarray:
    """U(low, high)."""
    return _rounded(generator(rng).uniform(low, high, shape))


def trunc_normal(
    shape: Sequence[int],
    mean: float = 0.0,
    std: float = 1.0,
    low: float = -2.0,
    high: float = 2.0,
    *,
    rng: np.random.Generator,
) -> np.ndarray:
    """N(mean, std²) conditioned on [low, high]. The bounds are absolute, not in units of ``std`` (as in PyTorch)."""
    if std <= 0 or not low < high:
        raise ValueError(f"trunc_normal: needs std > 0 and low < high, got std={std}, low={low}, high={high}")
    from scipy.special import ndtr, ndtri

    quantiles = generator(rng).uniform(ndtr((low - mean) / std), ndtr((high - mean) / std), shape)
    return _rounded(np.clip(mean + std * ndtri(quantiles), low, high))


def xavier_uniform(shape: Sequence[int], gain: float = 1.0, *, rng: np.random.Generator) -> np.ndarray:
    """U(±gain sqrt(6 / (fan_in + fan_out)))."""
    bound = gain * math.sqrt(6 / sum(fans(shape)))
    return uniform(shape, -bound, bound, rng=rng)


def xavier_normal(shape: Sequence[int], gain: float = 1.0, *, rng: np.random.Generator) -> np.ndarray:
    """N(0, gain² 2 / (fan_in + fan_out))."""
    return normal(shape, 0.0, gain * math.sqrt(2 / sum(fans(shape))), rng=rng)


def kaiming_uniform(shape: Sequence[int], gain: float = math.sqrt(2), *, rng: np.random.Generator) -> np.ndarray:
    """U(±gain sqrt(3 / fan_in)); the default gain is that of ReLU."""
    bound = gain * math.sqrt(3 / fans(shape)[0])
    return uniform(shape, -bound, bound, rng=rng)


def kaiming_normal(shape: Sequence[int], gain: float = math.sqrt(2), *, rng: np.random.Generator) -> np.ndarray:
    """N(0, gain² / fan_in); the default gain is that of ReLU."""
    return normal(shape, 0.0, gain / math.sqrt(fans(shape)[0]), rng=rng)
