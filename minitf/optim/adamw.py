"""AdamW: Adam with decoupled weight decay (Loshchilov and Hutter).

p ← p - lr weight_decay p                       before the step, and not part of the gradient
m ← β1 m + (1 - β1) g
v ← β2 v + (1 - β2) g²
p ← p - lr (m / (1 - β1^t)) / (sqrt(v / (1 - β2^t)) + eps)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitf.kernels import optimizers as kernels
from minitf.optim.optimizer import Optimizer, Params, Row, fused

_adamw = fused(kernels.adamw, kernels.adamw_twin)


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

    def _update_all(self, rows: list[Row], **options: Any) -> None:
        for p, _, state in rows:
            if not state:
                state.update(step=0, exp_avg=np.zeros_like(p), exp_avg_sq=np.zeros_like(p))
            state["step"] += 1
        _adamw([(p, g, s["exp_avg"], s["exp_avg_sq"], s["step"]) for p, g, s in rows], **options)
