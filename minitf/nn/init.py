"""Initial values of parameters: ``(shape, ..., *, rng) -> ndarray``.

Values are drawn in float64 and then rounded to the configured dtype, so a float32 model is the rounding of the float64
model with the same seed. Matrices are ``(D_in, D_out)``; convolution weights ``(C_out, C_in/groups, ...)``.

A scheme says how the weights of a whole transformer start: a table from the role of a weight, the name of the layer
that it belongs to, to its initializer. ``reinitialize(model, scheme, rng=rng)`` applies it.

    attention     q, k, v, out            feed_forward   gate, up, down
    vocabulary    embedding, head         positions      positions, relative_bias
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from minitf.autodiff.config import current
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.transform import repeatable
from minitf.nn.module import Module, is_unfilled, placeholder

#: ``init(shape, rng=rng) -> array``: what layers take as ``init=``; ``functools.partial`` sets its options
Init: TypeAlias = Callable[..., np.ndarray]
#: role of a weight -> how it starts
Scheme: TypeAlias = Mapping[str, Init]


def generator(rng: Any) -> np.random.Generator:
    """``rng``, checked: randomness is always an explicit ``numpy.random.Generator``."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator such as np.random.default_rng(0), got {rng!r}")
    return repeatable(rng)


def _rounded(shape: Sequence[int], draw: Callable[[], np.ndarray]) -> np.ndarray:
    """What is drawn, in the configured dtype; nothing is for a model that is to stay ``unfilled``."""
    return placeholder(tuple(shape), current().dtype) if is_unfilled() else draw().astype(current().dtype)


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
    rng = generator(rng)
    return _rounded(shape, lambda: rng.normal(mean, std, shape))


def uniform(shape: Sequence[int], low: float = -1.0, high: float = 1.0, *, rng: np.random.Generator) -> np.ndarray:
    """U(low, high)."""
    rng = generator(rng)
    return _rounded(shape, lambda: rng.uniform(low, high, shape))


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
    rng = generator(rng)

    def draw() -> np.ndarray:
        from scipy.special import ndtr, ndtri

        quantiles = rng.uniform(ndtr((low - mean) / std), ndtr((high - mean) / std), shape)
        return np.clip(mean + std * ndtri(quantiles), low, high)

    return _rounded(shape, draw)


def xavier_uniform(shape: Sequence[int], gain: float = 1.0, *, rng: np.random.Generator) -> np.ndarray:
    """U(±gain sqrt(6 / (fan_in + fan_out)))."""
    bound = gain * math.sqrt(6 / sum(fans(shape)))
    return uniform(shape, -bound, bound, rng=rng)


def xavier_normal(shape: Sequence[int], gain: float = 1.0, *, rng: np.random.Generator) -> np.ndarray:
    """N(0, gain² 2 / (fan_in + fan_out))."""
    return normal(shape, 0.0, gain * math.sqrt(2 / sum(fans(shape))), rng=rng)


def calculate_gain(nonlinearity: str, slope: float = 0.01) -> float:
    """The factor by which weights must be larger to keep the variance through ``nonlinearity`` (PyTorch's table).

    nonlinearity: "linear", "sigmoid", "tanh", "relu", "leaky_relu" (of ``slope`` below 0) or "selu".
    """
    gains = {
        "linear": 1.0,
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "relu": math.sqrt(2),
        "leaky_relu": math.sqrt(2 / (1 + slope**2)),
        "selu": 3 / 4,
    }
    if nonlinearity not in gains:
        raise ValueError(f"calculate_gain: nonlinearity must be one of {', '.join(gains)}, got {nonlinearity!r}")
    return gains[nonlinearity]


def _fan(shape: Sequence[int], mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode must be 'fan_in' or 'fan_out', got {mode!r}")
    return fans(shape)[mode == "fan_out"]


def kaiming_uniform(
    shape: Sequence[int], gain: float = math.sqrt(2), mode: str = "fan_in", *, rng: np.random.Generator
) -> np.ndarray:
    """U(±gain sqrt(3 / fan)); the default gain is that of ReLU. mode: "fan_in" or "fan_out"."""
    bound = gain * math.sqrt(3 / _fan(shape, mode))
    return uniform(shape, -bound, bound, rng=rng)


def kaiming_normal(
    shape: Sequence[int], gain: float = math.sqrt(2), mode: str = "fan_in", *, rng: np.random.Generator
) -> np.ndarray:
    """N(0, gain² / fan); the default gain is that of ReLU. mode: "fan_in" or "fan_out"."""
    return normal(shape, 0.0, gain / math.sqrt(_fan(shape, mode)), rng=rng)


def fan_in_uniform(shape: Sequence[int], *, rng: np.random.Generator) -> np.ndarray:
    """U(±1 / sqrt(fan_in)): PyTorch's default for linear layers and convolutions."""
    return kaiming_uniform(shape, math.sqrt(1 / 3), rng=rng)


def fan_in_bias(size: int, fan_in: int, *, rng: np.random.Generator) -> np.ndarray:
    """``(size,)`` of U(±1 / sqrt(fan_in)), where ``fan_in`` is that of the weight: PyTorch's default for biases."""
    bound = 1 / math.sqrt(fan_in)
    return uniform((size,), -bound, bound, rng=rng)


def lecun_uniform(shape: Sequence[int], *, rng: np.random.Generator) -> np.ndarray:
    """U(±sqrt(3 / fan_in)): keeps the variance through a linear map."""
    return kaiming_uniform(shape, 1.0, rng=rng)


def lecun_normal(shape: Sequence[int], *, rng: np.random.Generator) -> np.ndarray:
    """N(0, 1 / fan_in), not truncated: keeps the variance through a linear map."""
    return kaiming_normal(shape, 1.0, rng=rng)


def orthogonal(shape: Sequence[int], gain: float = 1.0, *, rng: np.random.Generator) -> np.ndarray:
    """``gain`` times a uniformly drawn matrix with orthonormal rows or columns, whichever are fewer.

    Axes behind the first count as one. Drawn by QR, with the signs that make the diagonal of R positive.
    """
    shape = tuple(shape)
    if len(shape) < 2:
        raise ShapeError(f"orthogonal: needs a weight of at least 2 dimensions, got shape {shape}")
    rows, columns = shape[0], math.prod(shape[1:])
    rng = generator(rng)

    def draw() -> np.ndarray:
        q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
        return gain * (q if rows >= columns else q.T).reshape(shape)

    return _rounded(shape, draw)


# -- schemes ----------------------------------------------------------------------------------------------------


def _normals(**stds: float) -> Scheme:
    return {role: partial(normal, std=std) for role, std in stds.items()}


def gpt2_scheme(L: int) -> Scheme:
    """GPT-2 of L layers: N(0, 0.02²), and 0.02 / sqrt(2L) for the 2L matrices that write to the residual stream."""
    stds = dict.fromkeys(("embedding", "positions", "head", "q", "k", "v", "gate", "up"), 0.02)
    return _normals(**stds, out=0.02 / math.sqrt(2 * L), down=0.02 / math.sqrt(2 * L))


def t5_scheme(D: int, H: int, E: int, F: int) -> Scheme:
    """T5 of width D with H heads of width E and F hidden units: attention is not scaled, so q starts smaller."""
    return _normals(
        q=(D * E) ** -0.5, k=D**-0.5, v=D**-0.5, out=(H * E) ** -0.5, gate=D**-0.5, up=D**-0.5, down=F**-0.5,
        embedding=1.0, head=1.0, relative_bias=D**-0.5,
    )  # fmt: skip


def deepnorm_constants(N: int = 0, M: int = 0) -> dict[str, tuple[float, float]]:
    """(alpha, beta) of DeepNorm for an encoder of N and a decoder of M layers, or for one of them alone (the other 0).

    x = LayerNorm(alpha x + f(x)), and ``deepnorm_scheme(beta)``. From DeepNet (2022), whose released code has 1 / 0.87
    in place of 0.87 in the encoder's beta of a pair.
    """
    if N < 0 or M < 0 or N + M == 0:
        raise ValueError(f"deepnorm_constants: needs N or M layers, not negative, got N = {N}, M = {M}")
    if N and M:
        depth = (N**4 * M) ** (1 / 16)
        return {"encoder": (0.81 * depth, 0.87 / depth), "decoder": ((3 * M) ** 0.25, (12 * M) ** -0.25)}
    return {"encoder" if N else "decoder": ((2 * (N + M)) ** 0.25, (8 * (N + M)) ** -0.25)}


def deepnorm_scheme(beta: float) -> Scheme:
    """DeepNorm: Xavier's, with the gain ``beta`` for what a residual branch passes on and 1 for queries and keys."""
    passes_on: Init = partial(xavier_normal, gain=beta)
    return {"q": xavier_normal, "k": xavier_normal} | dict.fromkeys(("v", "out", "gate", "up", "down"), passes_on)


def reinitialize(model: Module, scheme: Scheme, *, rng: np.random.Generator) -> Module:
    """Draws the weights anew whose role is in ``scheme``, and sets the biases beside them to zero; returns ``model``.

    A weight's role is the attribute of the layer that holds it: ``blocks.0.attention.q.weight`` has the role "q".
    """
    found = False
    for name, parameter in model.named_parameters():
        *_, role, kind = ("", *name.split("."))
        if role in scheme and kind in ("weight", "bias"):
            found = True
            parameter.data[...] = scheme[role](parameter.shape, rng=rng) if kind == "weight" else 0.0
    if not found:
        raise ValueError(f"reinitialize: no weight of {type(model).__name__} has a role in {', '.join(scheme)}")
    return model
