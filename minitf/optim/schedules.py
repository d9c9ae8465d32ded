"""Learning rates over time: functions of the step ``t``, which counts from 0, for a run of ``total`` steps.

All warm up linearly, peak (t + 1) / warmup, so that the first step is not lost and step ``warmup`` - 1 is at the peak;
then they fall to ``floor``, which step ``total`` would have (``constant`` and ``rsqrt`` know no end). With ``peak=1`` they
are factors of an optimizer's lr.
"""

from __future__ import annotations

import math
from collections.abc import Callable


def constant(t: float, peak: float = 1.0, warmup: int = 0) -> float:
    """Stays at the peak."""
    return _after_warmup("constant", t, max(1, warmup), peak, peak, warmup, lambda progress: 1.0)


def linear(t: float, total: int, peak: float = 1.0, floor: float = 0.0, warmup: int = 0) -> float:
    """Down along a straight line."""
    return _after_warmup("linear", t, total, peak, floor, warmup, lambda progress: 1 - progress)


def cosine(t: float, total: int, peak: float = 1.0, floor: float = 0.0, warmup: int = 0) -> float:
    """Down along half a cosine."""
    return _after_warmup("cosine", t, total, peak, floor, warmup, lambda x: (1 + math.cos(math.pi * x)) / 2)


def rsqrt(t: float, peak: float = 1.0, warmup: int = 1, floor: float = 0.0) -> float:
    """Down like 1 / sqrt(t + 1), so that the curve leaves the warm-up at its peak; for runs without an end."""
    if warmup < 1 or t < 0:
        raise ValueError(f"rsqrt: needs warmup >= 1 and t >= 0, got warmup={warmup}, t={t}")
    return max(floor, peak * min((t + 1) / warmup, math.sqrt(warmup / (t + 1))))


def wsd(
    t: float, total: int, peak: float = 1.0, floor: float = 0.0, warmup: int = 0, decay: int | None = None
) -> float:
    """Warm-up, stable, decay: at the peak until the last ``decay`` steps (default: a tenth), then down along a line."""
    decay = total // 10 if decay is None else decay
    if not 0 <= decay <= total - warmup:
        raise ValueError(
            f"wsd: decay must be from 0 to the {total - warmup} steps after the warm-up, got {decay} of total={total}"
        )
    stable = total - warmup - decay
    fall = lambda progress: min(1.0, (1 - progress) * (stable + decay) / decay) if decay else float(progress < 1)
    return _after_warmup("wsd", t, total, peak, floor, warmup, fall)


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
