"""Softmax kernels: their twins, any axis and shape, extreme values, any number of threads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_twins import agree, extreme

import minitf as mt
from minitf.kernels import softmax as kernels

SHAPES = st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple)


@given(st.integers(0, 10**6), SHAPES, st.integers(0, 2))
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_twins(name, seed, shape, axis):
    rng, axis = np.random.default_rng(seed), axis % len(shape)
    x = extreme(rng, shape)
    agree(getattr(kernels, name), getattr(kernels, f"{name}_twin"), x, axis=axis)
    with np.errstate(all="ignore"):
        out = getattr(kernels, f"{name}_twin")(x, axis=axis)
    g = rng.standard_normal(shape)
    agree(getattr(kernels, f"{name}_vjp"), getattr(kernels, f"{name}_vjp_twin"), g, out, axis=axis)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_twins_when_threads_share_the_rows(name):
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((2, 130, 513))
    agree(getattr(kernels, name), getattr(kernels, f"{name}_twin"), x, axis=-1)
    out = getattr(kernels, f"{name}_twin")(x, axis=-1)
    agree(getattr(kernels, f"{name}_vjp"), getattr(kernels, f"{name}_vjp_twin"), g, out, axis=-1, scale=4)


def test_nan_stays_and_rows_do_not_touch_each_other():
    x = np.zeros((3, 5), np.float32)
    x[1, 2], x[2, 1] = np.nan, np.inf
    out = kernels.softmax(x, axis=-1, threads=1)
    assert np.isnan(out[1:]).all()
    np.testing.assert_array_equal(out[0], np.float32(0.2))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_the_primitive_runs_the_kernel_or_its_twin(name):
    function = getattr(mt.nn.functional, name)
    x = np.random.default_rng(0).standard_normal((64, 100)).astype(np.float32)
    fast = function(x).data
    with mt.config(kernels="numpy"):
        slow = function(x).data
    np.testing.assert_array_equal(slow, getattr(kernels, f"{name}_twin")(x, axis=-1))
    np.testing.assert_array_equal(fast, getattr(kernels, name)(x, axis=-1, threads=1))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_derivatives_through_the_kernels(name):
    x = np.random.default_rng(0).standard_normal((5, 900))
    mask = np.random.default_rng(1).random((5, 900)) < 0.8
    function = getattr(mt.nn.functional, name)
    mt.check_grads(lambda x: mt.where(mask, function(x, where=mask), 0.0), x)
