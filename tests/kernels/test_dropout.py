"""The dropout kernel and its twin."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from kernel_twins import agree, extreme

import minitf as mt
from minitf.kernels import dropout as kernels
from minitf.nn import functional as F


@given(st.integers(0, 10**6), st.lists(st.integers(0, 9), max_size=3).map(tuple), st.sampled_from([0.0, 1.25]))
def test_twins(seed, shape, factor):
    rng = np.random.default_rng(seed)
    keep = rng.random(shape) < 0.7 if factor else np.zeros(shape, bool)
    agree(kernels.dropout, kernels.dropout_twin, extreme(rng, shape), keep=keep, factor=factor)


def test_twins_when_threads_share_the_work():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 20_001))
    agree(kernels.dropout, kernels.dropout_twin, x, keep=rng.random(x.shape) < 0.7, factor=1.25)


def test_what_is_dropped_is_not_read():
    x = np.array([np.nan, np.inf, 2.0])
    out = kernels.dropout(x, keep=np.array([False, False, True]), factor=2.0, threads=1)
    np.testing.assert_array_equal(out, [0, 0, 4])


def test_derivatives_through_the_kernel():
    x = np.random.default_rng(0).standard_normal((3, 2000))
    mask = np.random.default_rng(1).random((3, 2000)) < 0.5
    mt.check_grads(lambda x: F.dropout(x, 0.2, mask=mask) ** 2, x)
    broadcast = F.dropout(x, 0.2, mask=mask[:1]).data
    np.testing.assert_array_equal(broadcast, np.where(mask[:1], x * 1.25, 0))
