"""Cross-entropy kernels: their twins, rows that do not count, extreme logits, any number of threads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_twins import agree, extreme

import minitf as mt
from minitf.kernels import cross_entropy as kernels
from minitf.nn import functional as F


def draw(rng, N, V):
    target = rng.integers(0, V, N)
    return np.where(rng.random(N) < 0.2, -1, target)


def both_ways(rng, logits, target, smoothing, scale=1.0):
    agree(kernels.class_losses, kernels.class_losses_twin, logits, target, smoothing=smoothing, scale=scale)
    with np.errstate(all="ignore"):
        _, lse = kernels.class_losses_twin(logits, target, smoothing=smoothing)
    g, h = rng.standard_normal((2, len(target)))
    operands = (g, h, logits, lse, target)
    agree(kernels.class_losses_vjp, kernels.class_losses_vjp_twin, *operands, smoothing=smoothing, scale=scale)


@given(st.integers(0, 10**6), st.integers(0, 9), st.integers(1, 70), st.sampled_from([0.0, 0.1, 1.0]))
def test_twins(seed, N, V, smoothing):
    rng = np.random.default_rng(seed)
    both_ways(rng, rng.normal(0, 3, (N, V)), draw(rng, N, V), smoothing, scale=4)


@given(st.integers(0, 10**6), st.integers(1, 9))
def test_extreme_logits(seed, V):
    """Whole numbers have no rounding errors that exp could blow up."""
    rng = np.random.default_rng(seed)
    both_ways(rng, np.rint(extreme(rng, (8, V))), draw(rng, 8, V), 0.0)


def test_large_vocabularies_and_threads():
    rng = np.random.default_rng(0)
    both_ways(rng, rng.normal(0, 3, (11, 5003)), draw(rng, 11, 5003), 0.1, scale=8)


def test_a_row_that_does_not_count_is_not_read():
    logits = np.array([[0.0, 1.0], [np.nan, np.inf]])
    target = np.array([1, -1])
    losses, lse = kernels.class_losses(logits, target, smoothing=0.1, threads=1)
    assert losses[1] == lse[1] == 0
    ones = np.ones(2)
    out = kernels.class_losses_vjp(ones, ones, logits, lse, target, smoothing=0.1, threads=1)
    np.testing.assert_array_equal(out[1], 0)
    assert np.isfinite(out[0]).all()


def test_a_class_that_is_impossible():
    logits = np.array([[0.0, -np.inf], [-np.inf, -np.inf]], np.float32)
    losses, lse = kernels.class_losses(logits, np.array([1, 0]), smoothing=0.0, threads=1)
    assert losses[0] == np.inf
    assert np.isnan(losses[1])
    np.testing.assert_array_equal(lse, [0, -np.inf])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_primitive_runs_the_kernel_and_its_derivatives(smoothing):
    rng = np.random.default_rng(0)
    logits, target = rng.standard_normal((6, 900)), np.array([0, 899, -100, 5, 6, 7])
    loss = lambda x: F.cross_entropy(x, target, label_smoothing=smoothing, z_loss=0.01)
    mt.check_grads(loss, logits)
    narrow = logits.astype(np.float32)
    fast = mt.grad(loss)(narrow).data
    with mt.config(kernels="numpy"):
        slow = mt.grad(loss)(narrow).data
    np.testing.assert_allclose(fast, slow, atol=1e-8)
    assert (fast != slow).any()  # otherwise one of them ran twice


def test_one_array_of_the_size_of_the_logits_is_kept_and_one_is_written():
    logits = np.random.default_rng(0).standard_normal((64, 1000)).astype(np.float32)
    target = np.arange(64)
    assert mt.cost.saved_bytes(lambda x: F.cross_entropy(x, target), logits) < 1.02 * logits.nbytes
    with mt.cost() as c:
        mt.grad(lambda x: F.cross_entropy(x, target))(logits)
    assert logits.nbytes < c.bytes_written < 1.02 * logits.nbytes
