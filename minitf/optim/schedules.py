"""Learning rates over time: functions of the step ``t``, which counts from 0, for a run of ``total`` steps.

All warm up linearly, peak (t + 1) / warmup, so that the first step is not lost and step ``warmup`` - 1 is at the peak;
then they fall to ``floor``, which step ``total`` would have. With ``peak=1`` they are factors of an optimizer's lr.
"""

from __future__ import annotations

import math
from collections.abc import Callable


def linear(t: float, total: int, peak: float = 1.0, floor: float = 0.0, warmup: int = 0) -> float:
    """Down along a straight line."""
    return _after_warmup("linear", t, total, peak, floor, warmup, lambda progress: 1 - progress)


def cosine(t: float, total: int, peak: float = 1.0, floor: float = 0.0, warmup: int = 0) -> float:
    """Down along half a cosine."""
    return _after_warmup("cosine", t, total, peak, floor, warmup, lambda x: (1 + math.cos(math.pi * x)) / 2)


def _after_warmup(
    name: str, t: float, total: int, peak: float, floor: float, warmup: int, height: Callable[[float], float]
) -> float:
    if not 0 <= warmup <= total or total < 1:
        raise ValueError(f"{name}: needs 0 <= warmup <= total and total >= 1, got warmup={warmup}, total={total}")
    if t < 0:
        raise ValueError(f"{name}: the step counts from 0, got {t}")
    if t < warmup:
        return peak * (t + 1) / warmup
    progress = min((t - warmup) / (total - warmup), 1.0) if total > warmup else 1.0
    return floor + (peak - floor) * height(progress)
