"""layer_norm, rms_norm and group_norm against loops."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minitf as mt
from minitf.nn import functional as F
from minitf.nn import norms


def loop_layer_norm(x, w, b, eps):
    out = np.zeros(x.shape)
    for index in np.ndindex(x.shape[:-1]):
        row = x[index]
        mean = sum(row) / len(row)
        variance = sum((v - mean) ** 2 for v in row) / len(row)
        for i, v in enumerate(row):
            out[(*index, i)] = (v - mean) / math.sqrt(variance + eps) * w[i] + b[i]
    return out


def loop_rms_norm(x, w, eps, offset):
    out = np.zeros(x.shape)
    for index in np.ndindex(x.shape[:-1]):
        scale = math.sqrt(sum(v * v for v in x[index]) / x.shape[-1] + eps)
        for i, v in enumerate(x[index]):
            out[(*index, i)] = v / scale * (offset + w[i])
    return out


def loop_group_norm(x, groups, w, b, eps):
    """One number at a time, its group looked up every time."""
    out = np.zeros(x.shape)
    size = x.shape[1] // groups
    for image, channel, *place in np.ndindex(x.shape):
        first = channel // size * size
        group = [v for c in range(first, first + size) for v in np.ravel(x[image, c])]
        mean = sum(group) / len(group)
        variance = sum((v - mean) ** 2 for v in group) / len(group)
        index = (image, channel, *place)
        out[index] = (x[index] - mean) / math.sqrt(variance + eps) * w[channel] + b[channel]
    return out


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 3), st.integers(1, 7))
def test_transcription(seed, T, D):
    rng = np.random.default_rng(seed)
    x, w, b = rng.normal(1, 2, (2, T, D)), rng.standard_normal(D), rng.standard_normal(D)
    np.testing.assert_allclose(F.layer_norm(x, w, b, eps=0.1), loop_layer_norm(x, w, b, 0.1), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(F.rms_norm(x, w, 0.1, offset=1.0), loop_rms_norm(x, w, 0.1, 1.0), rtol=1e-12)
    np.testing.assert_array_equal(F.layer_norm(x, w, eps=0.1), F.layer_norm(x, w, np.zeros(D), eps=0.1))
    np.testing.assert_array_equal(F.rms_norm(x, eps=0.1), F.rms_norm(x, np.ones(D), eps=0.1))


@given(st.integers(0, 10**6), st.integers(0, 2), st.sampled_from([(4,), (2, 2), (1,)]), st.sampled_from([1, 2, 3, 6]))
def test_group_norm_transcription(seed, B, place, groups):
    rng = np.random.default_rng(seed)
    x, (w, b) = rng.normal(1, 2, (B, 6, *place)), rng.standard_normal((2, 6))
    expected = loop_group_norm(x, groups, w, b, 0.1)
    np.testing.assert_allclose(F.group_norm(x, groups, w, b, eps=0.1), expected, rtol=1e-11, atol=1e-13)
    np.testing.assert_array_equal(F.group_norm(x, groups), F.group_norm(x, groups, np.ones(6), np.zeros(6)))


def test_one_group_is_layer_norm_of_the_image():
    x = np.random.default_rng(3).standard_normal((3, 4, 2, 5))
    np.testing.assert_allclose(F.group_norm(x, 1), F.layer_norm(x.reshape(3, 40)).data.reshape(x.shape), rtol=1e-12)


@pytest.mark.parametrize("affine", ["none", "weight", "bias", "both"])
def test_group_norm_gradients(affine):
    rng = np.random.default_rng(0)
    x, (w, b) = rng.standard_normal((2, 4, 3, 2)), rng.standard_normal((2, 4))
    function = {
        "none": lambda x: F.group_norm(x, 2, eps=1e-3),
        "weight": lambda x, w: F.group_norm(x, 2, w, eps=1e-3),
        "bias": lambda x, b: F.group_norm(x, 2, None, b, eps=1e-3),
        "both": lambda x, w, b: F.group_norm(x, 2, w, b, eps=1e-3),
    }[affine]
    given = {"none": [], "weight": [w], "bias": [b], "both": [w, b]}[affine]
    mt.check_grads(function, x, *given, rtol=1e-5)


def test_group_norm_decompositions_agree():
    rng = np.random.default_rng(1)
    g, x = rng.standard_normal((2, 3, 4, 2, 3))
    w, b = rng.standard_normal((2, 4))
    options = {"groups": 2, "eps": 1e-5}
    for operands in [(x, None, None), (x, w, None), (x, None, b), (x, w, b)]:
        got = norms.group_norm_p.impl(*operands, **options)
        np.testing.assert_allclose(norms.group_norm_p.decomposition(*operands, **options), got, rtol=1e-12, atol=1e-14)
        bias = operands[2] is not None
        pulled = norms.group_norm_vjp_p.impl(g, *operands[:2], **options, bias=bias)
        by_parts = norms.group_norm_vjp_p.decomposition(g, *operands[:2], **options, bias=bias)
        for a, c in zip(pulled, by_parts, strict=True):
            np.testing.assert_allclose(a, c, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("affine", ["none", "weight", "both"])
def test_gradients(center, affine):
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((2, 3, 5)), rng.standard_normal(5), rng.standard_normal(5)
    if not center:
        function = lambda *a: F.rms_norm(*a, eps=1e-3, offset=0.5)
        arguments = [x] if affine == "none" else [x, w]
    else:
        function = lambda *a: F.layer_norm(*a, eps=1e-3)
        arguments = {"none": [x], "weight": [x, w], "both": [x, w, b]}[affine]
    mt.check_grads(function, *arguments, rtol=1e-5)


@pytest.mark.parametrize("center", [True, False])
def test_decompositions_agree(center):
    rng = np.random.default_rng(1)
    g, x = rng.standard_normal((2, 4, 3, 6))
    w, b = rng.standard_normal((2, 6))
    options = {"eps": 1e-5, "center": center, "offset": 0.5}
    for operands in [(x, None, None), (x, w, None), (x, w, b)]:
        got = norms.norm_p.impl(*operands, **options)
        np.testing.assert_allclose(norms.norm_p.decomposition(*operands, **options), got, rtol=1e-12, atol=1e-14)
        pulled = norms.norm_vjp_p.impl(g, *operands[:2], **options)
        by_parts = norms.norm_vjp_p.decomposition(g, *operands[:2], **options)
        for a, c in zip(pulled, by_parts, strict=True):
            np.testing.assert_allclose(a, c, rtol=1e-11, atol=1e-13)


def test_layer_norm_ignores_shift_and_rms_norm_ignores_scale():
    x = np.random.default_rng(2).standard_normal((3, 8))
    np.testing.assert_allclose(F.layer_norm(5 * x + 3, eps=0.0), F.layer_norm(x, eps=0.0), rtol=1e-12)
    np.testing.assert_allclose(F.rms_norm(5 * x, eps=0.0), F.rms_norm(x, eps=0.0), rtol=1e-13)


def test_dtypes():
    x = mt.tensor(np.ones((2, 3)), dtype="float32", requires_grad=True)
    w = mt.tensor(np.ones(3), dtype="float32", requires_grad=True)
    out = F.rms_norm(x, w)
    mt.sum(out).backward()
    assert out.dtype == x.grad.dtype == w.grad.dtype == np.float32
    x.zero_grad()
    mixed = F.layer_norm(x, np.ones(3))
    mt.sum(mixed).backward()
    assert mixed.dtype == np.float64
    assert x.grad.dtype == np.float32
    small = mt.tensor(np.ones((2, 4)), dtype="bfloat16", requires_grad=True)
    for out in (F.layer_norm(small, small[0], small[0]), F.group_norm(small, 2, small[0])):
        assert out.dtype.name == "bfloat16"
        small.zero_grad()
        mt.sum(out).backward()
        assert small.grad.dtype.name == "bfloat16"


def test_wrong_calls():
    with pytest.raises(
        mt.ShapeError, match=r"weight must have the shape of the last axis of x \(2, 3\), \(3,\), not \(2,\)"
    ):
        F.layer_norm(np.ones((2, 3)), np.ones(2))
    with pytest.raises(TypeError, match="rms_norm: needs real floating values"):
        F.rms_norm([1, 2])
    with pytest.raises(mt.ShapeError, match="something to normalize"):
        F.layer_norm(1.0)
    with pytest.raises(mt.ShapeError, match=r"group_norm: needs \(B, C, \*\) with something to normalize.*\(3,\)"):
        F.group_norm(np.ones(3), 1)
    with pytest.raises(mt.ShapeError, match=r"the 6 channels of x \(2, 6\) cannot form 4 equal groups"):
        F.group_norm(np.ones((2, 6)), 4)
    with pytest.raises(
        mt.ShapeError, match=r"weight must have the shape of axis 1 of x \(2, 6, 3\), \(6,\), not \(3,\)"
    ):
        F.group_norm(np.ones((2, 6, 3)), 2, np.ones(3))
