"""Lion: the sign of an interpolated momentum (Chen and others, Symbolic Discovery of Optimization Algorithms).

p ← p - lr weight_decay p                       before the step, and not part of the gradient
p ← p - lr sign(β1 m + (1 - β1) g)
m ← β2 m + (1 - β2) g

Every element moves by lr, so lr is to be 3 to 10 times smaller than AdamW's, and weight_decay as much larger. There is
one array of state instead of two.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitf.kernels import optimizers as kernels
from minitf.optim.optimizer import Optimizer, Params, Row, fused

_lion = fused(kernels.lion, kernels.lion_twin)


class Lion(Optimizer):
    """Lion with decoupled weight decay."""

    def __init__(
        self,
        params: Params,
        lr: float = 1e-4,
        *,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ):
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay)

    def _update_all(self, rows: list[Row], **options: Any) -> None:
        for p, _, state in rows:
            if not state:
                state["exp_avg"] = np.zeros_like(p)
        _lion([(p, g, state["exp_avg"]) for p, g, state in rows], **options)
