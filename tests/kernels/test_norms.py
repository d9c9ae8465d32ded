"""Normalization kernels: their twins, with and without weight and bias, any number of threads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_twins import agree

import minitf as mt
from minitf.kernels import norms as kernels
from minitf.nn import functional as F

AFFINE = pytest.mark.parametrize("affine", ["none", "weight", "bias", "both"])


def factors(rng, affine, n):
    weight, bias = rng.standard_normal((2, n))
    return weight if affine in ("weight", "both") else None, bias if affine in ("bias", "both") else None


@given(st.integers(0, 10**6), st.integers(0, 70), st.integers(2, 9), st.booleans())
@AFFINE
def test_rows(affine, seed, N, D, center):
    rng = np.random.default_rng(seed)
    g, x = rng.normal(1, 2, (2, N, D))
    weight, bias = factors(rng, affine, D)
    options = {"eps": 0.1, "center": center, "offset": 0.5}
    agree(kernels.norm, kernels.norm_twin, x, weight, bias, **options)
    agree(kernels.norm_vjp, kernels.norm_vjp_twin, g, x, weight, **options, bias=bias is not None, scale=8)


@given(st.integers(0, 10**6), st.integers(0, 4), st.sampled_from([(), (1,), (5,), (3, 4)]), st.integers(1, 3))
@AFFINE
def test_groups(affine, seed, B, positions, groups):
    rng = np.random.default_rng(seed)
    g, x = rng.normal(1, 2, (2, B, 6, *positions))
    weight, bias = factors(rng, affine, 6)
    options = {"eps": 0.1, "groups": groups}
    agree(kernels.group_norm, kernels.group_norm_twin, x, weight, bias, **options)
    agree(kernels.group_norm_vjp, kernels.group_norm_vjp_twin, g, x, weight, **options, bias=bias is not None, scale=8)


def test_when_threads_share_the_rows():
    rng = np.random.default_rng(0)
    g, x = rng.standard_normal((2, 130, 513))
    weight, bias = rng.standard_normal((2, 513))
    for center in (True, False):
        options = {"eps": 1e-5, "center": center, "offset": 0.0}
        agree(kernels.norm, kernels.norm_twin, x, weight, bias, **options)
        agree(kernels.norm_vjp, kernels.norm_vjp_twin, g, x, weight, **options, bias=True, scale=4)
    g, x = rng.standard_normal((2, 13, 12, 20, 25))
    agree(kernels.group_norm, kernels.group_norm_twin, x, weight[:12], bias[:12], groups=4, eps=1e-5)
    agree(
        kernels.group_norm_vjp, kernels.group_norm_vjp_twin, g, x, weight[:12], groups=4, eps=1e-5, bias=True, scale=8
    )


def test_rows_of_one_value_and_rows_that_are_not_finite():
    x = np.zeros((4, 5), np.float32)
    x[1], x[2, 1], x[3, 2] = 3, np.inf, np.nan
    for name in ("norm", "norm_twin"):
        options = {"eps": 1e-5, "center": True, "offset": 0.0} | ({} if name == "norm_twin" else {"threads": 2})
        with np.errstate(invalid="ignore"):
            out = getattr(kernels, name)(x, None, **options)
        np.testing.assert_array_equal(out[:2], 0)
        assert np.isnan(out[2:]).all()


def test_variance_of_large_numbers_close_together():
    """The mean is taken off before squares are: 1e4 + noise of 1 loses 4 digits, not 8."""
    noise = np.random.default_rng(0).standard_normal((3, 400))
    x = (1e4 + noise).astype(np.float32)
    want = kernels.norm_twin(x.astype(np.float64), None, eps=0.0, center=True, offset=0.0)
    out = kernels.norm(x, None, eps=0.0, center=True, offset=0.0, threads=1)
    np.testing.assert_allclose(out, want, atol=2e-3)


CASES = {
    "layer_norm": (lambda x, w, b: F.layer_norm(x, w, b), (40, 120), 120),
    "rms_norm": (lambda x, w, b: F.rms_norm(x, w, offset=0.5) + b, (40, 120), 120),
    "group_norm": (lambda x, w, b: F.group_norm(x, 3, w, b), (8, 6, 100), 6),
}


@pytest.mark.parametrize("name", CASES)
def test_the_primitive_runs_the_kernel_and_its_derivatives(name):
    function, shape, n = CASES[name]
    rng = np.random.default_rng(0)
    x, (weight, bias) = rng.standard_normal(shape), rng.standard_normal((2, n))
    fast = function(*(a.astype(np.float32) for a in (x, weight, bias))).data
    with mt.config(kernels="numpy"):
        slow = function(*(a.astype(np.float32) for a in (x, weight, bias))).data
    np.testing.assert_allclose(fast, slow, atol=1e-5)
    assert (fast != slow).any()  # otherwise one of them ran twice
    mt.check_grads(function, x, weight, bias, rtol=1e-5)
