"""Pearson and concordance against loops, SciPy and each other."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import minitf as mt
from minitf.metrics import concordance_cc, pearson
from minitf.nn.functional import ccc_loss


def moments(x, y):
    n = len(x)
    mx, my = sum(x) / n, sum(y) / n
    vx, vy = (sum((a - m) ** 2 for a in s) / n for s, m in ((x, mx), (y, my)))
    return mx, my, vx, vy, sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / n


@given(st.integers(0, 10**6), st.integers(2, 8))
def test_transcription(seed, n):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(1, 2, (2, n))
    mx, my, vx, vy, cov = moments(x, y)
    assert math.isclose(pearson(x, y), cov / math.sqrt(vx * vy), rel_tol=1e-11)
    assert math.isclose(pearson(x, y), stats.pearsonr(x, y).statistic, rel_tol=1e-11)
    assert math.isclose(concordance_cc(x, y), 2 * cov / (vx + vy + (mx - my) ** 2), rel_tol=1e-11)
    assert math.isclose(concordance_cc(x, y), 1 - ccc_loss(x, y).item(), rel_tol=1e-11, abs_tol=1e-12)


def test_invariants():
    x, y = np.random.default_rng(0).normal(size=(2, 9))
    assert math.isclose(pearson(x, 3 * x + 5), 1, rel_tol=1e-14)
    assert math.isclose(pearson(2 - y, x), -pearson(x, y), rel_tol=1e-12)
    assert concordance_cc(x, x) == 1
    assert math.isclose(concordance_cc(x, 2 * x.mean() - x), -1, rel_tol=1e-14)
    for other in (x + 1, 2 * x, y):
        assert abs(concordance_cc(x, other)) < abs(pearson(x, other))
    constant = np.full(3, 0.1)
    for pair in ((constant, constant), (constant, x[:3]), (x[:3], constant)):
        assert pearson(*pair) == concordance_cc(*pair) == 0


def test_wrong_calls():
    for metric in (pearson, concordance_cc):
        with pytest.raises(
            mt.ShapeError, match=rf"{metric.__name__}: needs two series \(N,\) .* got \(2,\) and \(3,\)"
        ):
            metric([1, 2], [1, 2, 3])
        with pytest.raises(mt.ShapeError, match=r"at least 1, got \(0,\)"):
            metric([], [])
