"""Gumbel-softmax: the formula, the distribution of its samples, straight-through gradients."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.nn import functional as F


@given(st.integers(0, 10**6), st.sampled_from([0.1, 1.0, 5.0]))
def test_transcription(seed, tau):
    rng = np.random.default_rng(seed)
    logits, u = rng.normal(size=(3, 4)), rng.random((3, 4))
    g = [[-math.log(-math.log(v)) for v in row] for row in u]
    want = []
    for row, noise in zip(logits, g, strict=True):
        powers = [math.exp((a + b - max(row)) / tau) for a, b in zip(row, noise, strict=True)]
        want.append([p / sum(powers) for p in powers])
    np.testing.assert_allclose(F.gumbel_softmax(logits, tau, noise=g), want, rtol=1e-10, atol=1e-14)
    hard = F.gumbel_softmax(logits, tau, True, noise=g).data
    np.testing.assert_array_equal(hard, np.eye(4)[np.argmax(want, -1)])
    across = F.gumbel_softmax(logits.T, tau, axis=0, noise=np.transpose(g))
    np.testing.assert_allclose(across.data.T, want, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("tau", [0.3, 3.0])
def test_samples_follow_the_softmax(tau):
    """Whatever the temperature; the deviation allowed is five standard errors."""
    p, N = np.array([0.5, 0.3, 0.2, 0.0]), 20000
    with np.errstate(divide="ignore"):
        logits = np.broadcast_to(np.log(p), (N, 4))
    counts = F.gumbel_softmax(logits, tau, True, rng=np.random.default_rng(0)).data.sum(0)
    assert (np.abs(counts - N * p) <= 5 * np.sqrt(N * p * (1 - p))).all()
    assert counts[3] == 0


def test_the_hard_sample_has_the_gradient_of_the_soft_one():
    rng = np.random.default_rng(1)
    logits, noise, w = rng.normal(size=(3, 2, 4))
    mt.check_grads(lambda x: F.gumbel_softmax(x, 0.7, noise=noise), logits)
    soft, hard = (mt.grad(lambda x, h=h: mt.sum(w * F.gumbel_softmax(x, 0.7, h, noise=noise)))(logits) for h in (0, 1))
    np.testing.assert_array_equal(hard, soft)
    again = [F.gumbel_softmax(logits, rng=np.random.default_rng(3)).data for _ in range(2)]
    np.testing.assert_array_equal(*again)


def test_ties_go_to_the_first_and_dtypes_stay():
    hard = F.gumbel_softmax(np.zeros((1, 3), "f"), hard=True, noise=np.zeros((1, 3)))
    assert hard.data.tolist() == [[1, 0, 0]]
    assert hard.dtype == np.float32
