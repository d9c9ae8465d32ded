"""LAMB (You and others): Adam's direction, rescaled for each parameter to a step in proportion to its norm.

r = (m / (1 - β1^t)) / (sqrt(v / (1 - β2^t)) + eps) + weight_decay p
p ← p - lr (|p| / |r|) r                        the ratio is 1 where one of the norms is 0

However large a batch made the learning rate, no parameter moves by more than lr of its own length in a step.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitf.optim.optimizer import Optimizer, Params


class LAMB(Optimizer):
    """LAMB with bias correction, the norm's scaling function the identity."""

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
    ):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def _update(self, p: np.ndarray, g: np.ndarray, state: dict[str, Any], **options: Any) -> None:
        if not state:
            state.update(step=0, exp_avg=np.zeros_like(p), exp_avg_sq=np.zeros_like(p))
        state["step"] += 1
        m, v, t, (beta1, beta2) = state["exp_avg"], state["exp_avg_sq"], state["step"], options["betas"]
        m[...] = beta1 * m + (1 - beta1) * g
        v[...] = beta2 * v + (1 - beta2) * g * g
        r = m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + options["eps"]) + options["weight_decay"] * p
        length, step = np.linalg.norm(p), np.linalg.norm(r)
        p -= options["lr"] * (length / step if length > 0 and step > 0 else 1.0) * r
