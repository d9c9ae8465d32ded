"""AdamW: Adam with decoupled weight decay (Loshchilov and Hutter).

p ← p - lr weight_decay p                       before the step, and not part of the gradient
m ← β1 m + (1 - β1) g
v ← β2 v + (1 - β2) g²
p ← p - lr (m / (1 - β1^t)) / (sqrt(v / (1 - β2^t)) + eps)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minitf.optim.optimizer import Optimizer, Params


class AdamW(Optimizer):
    """AdamW as in PyTorch."""

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def _check(self, options: dict[str, Any]) -> None:
        super()._check(options)
        betas = options["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"{self._name}: betas must be two numbers in [0, 1), got {betas!r}")

    def _update(
        self,
        p: np.ndarray,
        g: np.ndarray,
        state: dict[str, Any],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
    ) -> None:
        if not state:
            state.update(step=0, exp_avg=np.zeros_like(p), exp_avg_sq=np.zeros_like(p))
        state["step"] += 1
        m, v, t = state["exp_avg"], state["exp_avg_sq"], state["step"]
        (beta1, beta2), lr = betas, float(lr)
        if weight_decay:
            p *= 1 - lr * weight_decay
        m *= beta1
        m += (1 - beta1) * g
        squares = np.square(g, out=np.empty_like(p))
        squares *= 1 - beta2
        v *= beta2
        v += squares
        step = np.sqrt(v, out=squares)
        step *= 1 / math.sqrt(1 - beta2**t)
        step += eps
        np.divide(m, step, out=step)
        step *= lr / (1 - beta1**t)
        p -= step
