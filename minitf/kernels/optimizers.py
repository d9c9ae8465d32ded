"""Steps of optimizers: one pass over a parameter, its gradient and its state, in place.

A call takes all parameters as ``rows``: (p, g, what the rule remembers about p). Large ones are cut into pieces and all
pieces are handed out together, so threads have the same to do whatever the sizes are.

    AdamW   m ← β1 m + (1 - β1) g,   v ← β2 v + (1 - β2) g²
            p ← (1 - lr decay) p - lr (m / (1 - β1^t)) / (sqrt(v / (1 - β2^t)) + eps)
    Lion    p ← (1 - lr decay) p - lr sign(β1 m + (1 - β1) g),   m ← β2 m + (1 - β2) g
    SGD     g ← g + decay p,   u ← momentum u + g,   p ← p - lr u,   with nesterov  p ← p - lr (g + momentum u)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from minitf.kernels.compile import jit
from minitf.kernels.pool import over_rows

#: elements of a piece
PIECE = 1 << 16


@jit
def _adamw(p, g, m, v, keep, beta1, beta2, lr, correction, eps):
    """keep: 1 - lr decay. lr is divided by 1 - β1^t already, sqrt(v) is multiplied with ``correction``."""
    number = p.dtype.type
    keep, lr, correction, eps = number(keep), number(lr), number(correction), number(eps)
    old1, new1, old2, new2 = number(beta1), number(1 - beta1), number(beta2), number(1 - beta2)
    for i in range(p.size):
        first = old1 * m[i] + new1 * g[i]
        second = old2 * v[i] + new2 * g[i] * g[i]
        p[i] = keep * p[i] - lr * first / (np.sqrt(second) * correction + eps)
        m[i] = first
        v[i] = second


@jit
def _lion(p, g, m, keep, beta1, beta2, lr):
    number = p.dtype.type
    keep, lr = number(keep), number(lr)
    old1, new1, old2, new2 = number(beta1), number(1 - beta1), number(beta2), number(1 - beta2)
    for i in range(p.size):
        p[i] = keep * p[i] - lr * np.sign(old1 * m[i] + new1 * g[i])
        m[i] = old2 * m[i] + new2 * g[i]


@jit
def _sgd(p, g, decay, lr):
    number = p.dtype.type
    decay, lr = number(decay), number(lr)
    for i in range(p.size):
        p[i] -= lr * (g[i] + decay * p[i])


@jit
def _sgd_momentum(p, g, u, decay, lr, momentum, nesterov):
    number = p.dtype.type
    decay, lr, momentum = number(decay), number(lr), number(momentum)
    for i in range(p.size):
        slope = g[i] + decay * p[i]
        u[i] = momentum * u[i] + slope
        p[i] -= lr * (slope + momentum * u[i] if nesterov else u[i])


def _over_pieces(kernel: Callable[..., None], steps: Iterable[tuple[Any, ...]], threads: int) -> None:
    """Calls ``kernel(*arrays, *numbers)`` for all ``steps``, each (arrays, numbers) with arrays p, g and the state."""
    pieces, total = [], 0
    for (p, g, *state), numbers in steps:
        flat = [p.reshape(-1), np.ascontiguousarray(g, p.dtype).reshape(-1), *[s.reshape(-1) for s in state]]
        pieces += [(*[a[i : i + PIECE] for a in flat], *numbers) for i in range(0, p.size, PIECE)]
        total += p.size

    def some(start: int, stop: int) -> None:
        for piece in pieces[start:stop]:
            kernel(*piece)

    over_rows(some, len(pieces), threads=min(threads, 1 + total // PIECE))


Rows = Sequence[tuple[Any, ...]]


def adamw(rows: Rows, *, lr: float, betas: tuple[float, float], eps: float, weight_decay: float, threads: int) -> None:
    """rows: (p, g, m, v, t), of one shape and C-contiguous but for g; t counts the steps of this parameter from 1."""
    beta1, beta2 = betas
    keep = 1 - lr * weight_decay
    steps = (
        ((p, g, m, v), (keep, beta1, beta2, lr / (1 - beta1**t), 1 / math.sqrt(1 - beta2**t), eps))
        for p, g, m, v, t in rows
    )
    _over_pieces(_adamw, steps, threads)


def lion(rows: Rows, *, lr: float, betas: tuple[float, float], weight_decay: float, threads: int) -> None:
    """rows: (p, g, m), of one shape and C-contiguous but for g."""
    _over_pieces(_lion, ((row, (1 - lr * weight_decay, *betas, lr)) for row in rows), threads)


def sgd(rows: Rows, *, lr: float, momentum: float, nesterov: bool, weight_decay: float, threads: int) -> None:
    """rows: (p, g, u), without u if momentum is 0; of one shape and C-contiguous but for g."""
    if momentum:
        _over_pieces(_sgd_momentum, ((row, (weight_decay, lr, momentum, nesterov)) for row in rows), threads)
    else:
        _over_pieces(_sgd, ((row, (weight_decay, lr)) for row in rows), threads)


# -- twins --------------------------------------------------------------------------------------------------------


def adamw_twin(rows: Rows, *, lr: float, betas: tuple[float, float], eps: float, weight_decay: float) -> None:
    beta1, beta2 = betas
    for p, g, m, v, t in rows:
        m[...] = beta1 * m + (1 - beta1) * g
        v[...] = beta2 * v + (1 - beta2) * g * g
        step = lr / (1 - beta1**t) * m / (np.sqrt(v) / math.sqrt(1 - beta2**t) + eps)
        p[...] = (1 - lr * weight_decay) * p - step


def lion_twin(rows: Rows, *, lr: float, betas: tuple[float, float], weight_decay: float) -> None:
    beta1, beta2 = betas
    for p, g, m in rows:
        p[...] = (1 - lr * weight_decay) * p - lr * np.sign(beta1 * m + (1 - beta1) * g)
        m[...] = beta2 * m + (1 - beta2) * g


def sgd_twin(rows: Rows, *, lr: float, momentum: float, nesterov: bool, weight_decay: float) -> None:
    for p, g, *u in rows:
        step = g + weight_decay * p
        if momentum:
            u[0][...] = momentum * u[0] + step
            step = step + momentum * u[0] if nesterov else u[0]
        p[...] = p - lr * step
