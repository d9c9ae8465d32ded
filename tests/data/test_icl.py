"""In-context prompts: the functions are of the class they are said to be of, and least squares finds them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.data.icl import (
    HeteroLinearTasks,
    LogisticRegressionTasks,
    SlidingWindowFunctionClass,
    interleave,
    randomize_labels,
)


def test_interleave():
    x, y = np.arange(12.0).reshape(1, 3, 4), np.array([[7.0, 8.0, 9.0]])
    tokens = interleave(x, y)
    np.testing.assert_array_equal(tokens[:, ::2], x)
    np.testing.assert_array_equal(tokens[0, 1::2], [[7, 0, 0, 0], [8, 0, 0, 0], [9, 0, 0, 0]])
    with pytest.raises(mt.ShapeError, match=r"needs x \(B, T, d\) and y \(B, T\)"):
        interleave(x, y[:, :2])


@given(d=st.integers(1, 3), k=st.integers(1, 3), seed=st.integers(0, 99))
def test_the_window_is_exactly_k(d, k, seed):
    task = SlidingWindowFunctionClass(d, k)
    T = d * k + 4
    x, y = task.sample(2, T, rng=np.random.default_rng(seed))
    for b in range(2):
        rows = [np.concatenate([x[b, t - j] if t >= j else np.zeros(d) for j in range(k)]) for t in range(T)]
        np.testing.assert_array_equal(task.windows(x)[b], rows)
        w, *_ = np.linalg.lstsq(np.array(rows), y[b], rcond=None)
        np.testing.assert_allclose(np.array(rows) @ w, y[b], atol=1e-9)
        if k > 1:  # and no shorter one does
            short = np.array(rows)[:, : d * (k - 1)]
            w, *_ = np.linalg.lstsq(short, y[b], rcond=None)
            assert np.abs(short @ w - y[b]).max() > 1e-6


def test_sizes():
    rng = np.random.default_rng(0)
    x, y = SlidingWindowFunctionClass(4, 3).sample(4000, 5, rng=rng)
    assert np.var(x) == pytest.approx(1, abs=0.03)
    assert np.mean(y[:, 0] ** 2) == pytest.approx(4 / 3, rel=0.1)  # one input is there, each of d parts 1 / k
    assert np.mean(y[:, -1] ** 2) == pytest.approx(4, rel=0.1)
    _, noisy = SlidingWindowFunctionClass(1, noise=3.0).sample(4000, 1, rng=rng)
    assert np.var(noisy) == pytest.approx(1 + 9, rel=0.1)
    _, nonlinear = SlidingWindowFunctionClass(2, 2, hidden=16).sample(4000, 3, rng=rng)
    assert np.mean(nonlinear[:, -1] ** 2) == pytest.approx(0.5, rel=0.15)  # half of a variance passes a ReLU


def test_hetero_linear_tasks():
    rng = np.random.default_rng(0)
    x, y = HeteroLinearTasks(3, (0.1, 2.0)).sample(400, 60, rng=rng)
    residuals = []
    for prompt, labels in zip(x, y, strict=True):
        rss = np.linalg.lstsq(prompt, labels, rcond=None)[1]
        residuals.append(float(np.sqrt(rss[0] / 57)))
    low = np.array(residuals) < 0.5
    assert abs(low.sum() - 200) < 45
    np.testing.assert_allclose(np.array(residuals)[low], 0.1, rtol=0.5)
    np.testing.assert_allclose(np.array(residuals)[~low], 2.0, rtol=0.5)
    pool = HeteroLinearTasks(2, (0.0,), pool=3, scale=5.0, rng=rng)
    x, y = pool.sample(60, 4, rng=rng)
    found = {tuple(np.round(np.linalg.lstsq(a, b, rcond=None)[0], 6)) for a, b in zip(x, y, strict=True)}
    assert found == {tuple(np.round(w, 6)) for w in pool.pool}
    assert np.std(x) == pytest.approx(5, rel=0.1)


def test_logistic_regression_tasks():
    x, y = LogisticRegressionTasks(3, weight=0.0).sample(100, 100, rng=np.random.default_rng(0))
    assert abs(y.mean() - 0.5) < 0.03
    x, y = LogisticRegressionTasks(5, active=2).sample(300, 50, rng=np.random.default_rng(0))
    assert set(np.unique(y)) == {0.0, 1.0}
    assert not x[..., 2:].any()
    assert x[..., :2].all()
    # with one coordinate, P(y = 1) at x is the sigmoid of w x: tested at many prompts of known w
    rng = np.random.default_rng(1)
    x, y = LogisticRegressionTasks(1, weight=2.0).sample(1, 40_000, rng=rng)
    w = 2.0 * np.random.default_rng(1).normal(size=40_001)[-1]
    for low, high in ((-1.0, -0.8), (0.4, 0.6)):
        here = (x[0, :, 0] > low) & (x[0, :, 0] < high)
        assert y[0, here].mean() == pytest.approx(np.mean(1 / (1 + np.exp(-w * x[0, here, 0]))), abs=0.04)


def test_randomize_labels():
    rng = np.random.default_rng(0)
    y = np.arange(40.0).reshape(4, 10)
    for rate in (0.0, 0.3, 1.0):
        changed = np.mean([randomize_labels(y, rate, rng=rng) != y for _ in range(300)], axis=0)
        assert not changed[:, -1].any()
        np.testing.assert_allclose(changed[:, :-1], rate, atol=0.14)
    new = randomize_labels(y, 1.0, rng=rng)
    assert (new[:, :-1] // 10 != np.arange(4)[:, None]).all()
    mixed = randomize_labels(y, permute=True, rng=rng)
    np.testing.assert_array_equal(np.sort(mixed, axis=1), y)
    np.testing.assert_array_equal(mixed[:, -1], y[:, -1])
    with pytest.raises(ValueError, match=r"at least 2 prompts, got 0\.5 and 1"):
        randomize_labels(y[:1], 0.5, rng=rng)
