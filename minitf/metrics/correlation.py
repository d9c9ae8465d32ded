"""How well two series agree.

    pearson        = cov(x, y) / (σ_x σ_y)                          on a line
    concordance_cc = 2 cov(x, y) / (σ_x² + σ_y² + (μ_x - μ_y)²)     on the line x = y: pearson, unless mean or scale differ

Population moments; a constant series is correlated with nothing: 0, not NaN.
"""

from __future__ import annotations

import math

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import ArrayLike


def _moments(what: str, x: ArrayLike, y: ArrayLike) -> tuple[float, float, float, float]:
    """var x, var y, cov and mean x - mean y of two series, after the checks."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 1 or x.shape != y.shape or not x.size:
        raise ShapeError(f"{what}: needs two series (N,) of one length, at least 1, got {x.shape} and {y.shape}")
    # the rounded mean of a constant may differ from it
    mean_x, mean_y = (values[0] if np.ptp(values) == 0 else values.mean() for values in (x, y))
    dx, dy = x - mean_x, y - mean_y
    return float(np.mean(dx * dx)), float(np.mean(dy * dy)), float(np.mean(dx * dy)), float(mean_x - mean_y)


def pearson(x: ArrayLike, y: ArrayLike) -> float:
    """The correlation coefficient of two series ``(N,)``, between -1 and 1; 0 if one is constant."""
    var_x, var_y, cov, _ = _moments("pearson", x, y)
    spread = math.sqrt(var_x) * math.sqrt(var_y)
    return min(max(cov / spread, -1.0), 1.0) if spread else 0.0


def concordance_cc(x: ArrayLike, y: ArrayLike) -> float:
    """Lin's concordance correlation coefficient of two series ``(N,)``, between -1 and 1; 0 if one is constant.

    ``minitf.nn.functional.ccc_loss`` is 1 minus this, differentiable and for batches.
    """
    var_x, var_y, cov, shift = _moments("concordance_cc", x, y)
    spread = var_x + var_y + shift**2
    return 2 * cov / spread if spread else 0.0
