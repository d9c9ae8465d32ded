"""Adam (Kingma and Ba): steps divided by the root of the mean squared gradient, element by element.

g ← g + weight_decay p                          decay through the gradient; AdamW's does not pass the division
m ← β1 m + (1 - β1) g
v ← β2 v + (1 - β2) g²
p ← p - lr (m / (1 - β1^t)) / (sqrt(v / (1 - β2^t)) + eps)
"""

from __future__ import annotations

from typing import Any

from minitf.optim.adamw import AdamW
from minitf.optim.optimizer import Params, Row


class Adam(AdamW):
    """Adam as in PyTorch."""

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def _update_all(self, rows: list[Row], **options: Any) -> None:
        if decay := options["weight_decay"]:
            rows = [(p, g + decay * p, state) for p, g, state in rows]
        super()._update_all(rows, **{**options, "weight_decay": 0.0})
