"""Adafactor (Shazeer and Stern): Adam without a first moment, the second one of a matrix kept as two vectors.

R ← β R + (1 - β) mean over columns of G²,   C ← β C + (1 - β) mean over rows of G²,   β = 1 - t^beta2_decay
V = R Cᵀ / mean(R)                              as good as a rank-one matrix can be, for (m + n) numbers instead of m n
U = G / sqrt(V);   U ← U / max(1, rms(U) / d)   what the slow averages missed is clipped
p ← (1 - lr weight_decay) p - max(eps2, rms(p)) min(lr, 1 / sqrt(t)) U

A step is relative to the parameter's own size. Parameters with one axis keep all of V; of those with more than two, the
last two are the matrix.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minitf.optim.optimizer import Optimizer, Params


class Adafactor(Optimizer):
    """Adafactor as in PyTorch.

    lr: the most by which a parameter changes, relative to its size. beta2_decay: exponent of t, negative. eps: the least V,
    as its root (None: the dtype's), and the least rms(p). d: the largest rms of U.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        *,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, lr=lr, beta2_decay=beta2_decay, eps=eps, d=d, weight_decay=weight_decay)

    def _check(self, options: dict[str, Any]) -> None:
        eps, d, decay = options["eps"], options["d"], options["beta2_decay"]
        super()._check({**options, "eps": 0.0})
        pair = isinstance(eps, (tuple, list)) and len(eps) == 2 and eps[1] is not None
        if not pair or any(e is not None and not 0 <= e < math.inf for e in eps):
            raise ValueError(
                f"{self._name}: eps must be two numbers that are not negative, or (None, eps2), got {eps!r}"
            )
        if not d > 0:
            raise ValueError(f"{self._name}: d must be positive, got {d!r}")
        if not decay <= 0:
            raise ValueError(f"{self._name}: beta2_decay, an exponent, must not be positive, got {decay!r}")

    def _update(self, p: np.ndarray, g: np.ndarray, state: dict[str, Any], **options: Any) -> None:
        matrix, eps2 = p.ndim > 1, options["eps"][1]
        eps1 = float(np.finfo(p.dtype).eps) if options["eps"][0] is None else options["eps"][0]
        if not state:
            state["step"] = 0
            if matrix:
                state.update(row_var=np.zeros_like(p[..., :1]), col_var=np.zeros_like(p[..., :1, :]))
            else:
                state["variance"] = np.zeros_like(p)
        state["step"] += 1
        t, lr = state["step"], options["lr"]
        new = t ** options["beta2_decay"]
        size = max(eps2, _rms(p)) * min(lr, 1 / math.sqrt(t))
        p *= 1 - lr * options["weight_decay"]
        if matrix:
            R, C = state["row_var"], state["col_var"]
            R += new * (np.mean(g * g, axis=-1, keepdims=True) - R)
            C += new * (np.mean(g * g, axis=-2, keepdims=True) - C)
            V = R * C / np.maximum(np.mean(R, axis=-2, keepdims=True), eps1)
        else:
            V = state["variance"]
            V += new * (g * g - V)
        U = g / np.sqrt(np.maximum(V, eps1 * eps1))
        p -= size / max(1.0, _rms(U) / options["d"]) * U

    def _state_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        return {"row_var": (*shape[:-1], 1), "col_var": (*shape[:-2], 1, *shape[-1:])}.get(name, shape)


def _rms(x: np.ndarray) -> float:
    return float(np.linalg.norm(x)) / math.sqrt(max(x.size, 1))
