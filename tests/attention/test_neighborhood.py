"""Neighborhood attention: its equation one number at a time, what it becomes at both ends of k, gradients, cost, errors."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.attention.neighborhood import (
    neighborhood_attention_1d,
    neighborhood_attention_2d,
    neighborhood_start,
)
from minitf.autodiff.cost import saved_bytes
from minitf.nn.functional import scaled_dot_product_attention

#: kernel size, dilation and pixels in excess of their product, along one axis
AXIS = st.tuples(st.sampled_from([1, 3, 5]), st.integers(1, 3), st.integers(0, 4))


def nearest(i, length, k, d):
    """The keys of query i: of the pixels a multiple of d away, the k nearest; the border only moves the middle."""
    own = list(range(i % d, length, d))
    middle = min(max(own.index(i), k // 2), len(own) - 1 - k // 2)
    return own[middle - k // 2 : middle + k // 2 + 1]


def loops(q, k, v, size, dilation, bias):
    B, H, Y, X, E = q.shape
    out = np.zeros((B, H, Y, X, v.shape[-1]))
    for b, h, y, x in np.ndindex(B, H, Y, X):
        scores = {}
        for i in nearest(y, Y, size[0], dilation[0]):
            for j in nearest(x, X, size[1], dilation[1]):
                scores[i, j] = sum(q[b, h, y, x, e] * k[b, h, i, j, e] for e in range(E)) / math.sqrt(E)
                if bias is not None:
                    offset = (i - y) // dilation[0] + size[0] - 1, (j - x) // dilation[1] + size[1] - 1
                    scores[i, j] += bias[(h, *offset)]
        total = sum(math.exp(s) for s in scores.values())
        for at, s in scores.items():
            out[b, h, y, x] += math.exp(s) / total * v[(b, h, *at)]
    return out


def draw(seed, lead, E=3, W=2):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(*lead, E)), rng.normal(size=(*lead, E)), rng.normal(size=(*lead, W))


class TestTranscription:
    @given(st.integers(0, 10**6), st.integers(1, 2), st.tuples(AXIS, AXIS), st.booleans())
    def test_equals_the_equation_in_loops(self, seed, H, axes, biased):
        size, dilation, _ = zip(*axes, strict=True)
        q, k, v = draw(seed, (1, H, *(s * d + more for s, d, more in axes)))
        bias = np.random.default_rng(seed).normal(size=(H, *(2 * s - 1 for s in size))) if biased else None
        got = neighborhood_attention_2d(q, k, v, size, dilation=dilation, bias=bias)
        np.testing.assert_allclose(got.data, loops(q, k, v, size, dilation, bias), rtol=0, atol=1e-12)

    @given(st.integers(0, 10**6), AXIS, st.booleans())
    def test_a_sequence_is_a_map_of_one_column(self, seed, axis, biased):
        size, dilation, more = axis
        q, k, v = draw(seed, (2, 2, size * dilation + more))
        bias = np.random.default_rng(seed).normal(size=(2, 2 * size - 1)) if biased else None
        got = neighborhood_attention_1d(q, k, v, size, dilation=dilation, bias=bias).data
        maps = (x[:, :, None] for x in (q, k, v))
        want = loops(*maps, (1, size), (1, dilation), None if bias is None else bias[:, None])
        np.testing.assert_allclose(got, want[:, :, 0], rtol=0, atol=1e-12)

    def test_starts_for_every_length_size_and_dilation(self):
        for length in range(1, 21):
            for k in range(1, length + 1, 2):
                for d in range(1, length // k + 1):
                    want = [nearest(i, length, k, d)[0] for i in range(length)]
                    np.testing.assert_array_equal(neighborhood_start(length, k, d), want)


class TestInvariants:
    def test_the_whole_map_is_full_attention_with_a_relative_bias(self):
        q, k, v = draw(0, (2, 2, 5, 7))
        bias = np.random.default_rng(1).normal(size=(2, 9, 13))
        y, x = np.divmod(np.arange(35), 7)
        full = bias[:, y - y[:, None] + 4, x - x[:, None] + 6]
        want = scaled_dot_product_attention(*(a.reshape(2, 2, 35, -1) for a in (q, k, v)), bias=full)
        got = neighborhood_attention_2d(q, k, v, (5, 7), bias=bias)
        np.testing.assert_allclose(got.data.reshape(want.shape), want.data, rtol=0, atol=1e-13)

    def test_one_neighbor_returns_v(self):
        q, k, v = draw(0, (2, 2, 4, 5))
        np.testing.assert_array_equal(neighborhood_attention_2d(q, k, v, 1, dilation=2).data, v)

    def test_dilation_that_fills_the_map_is_attention_on_a_grid(self):
        q, k, v = draw(0, (1, 2, 6, 6))
        got = neighborhood_attention_2d(q, k, v, 3, dilation=2).data
        for i, j in np.ndindex(2, 2):
            group = [a[:, :, i::2, j::2].reshape(1, 2, 9, -1) for a in (q, k, v)]
            want = scaled_dot_product_attention(*group).data.reshape(1, 2, 3, 3, 2)
            np.testing.assert_allclose(got[:, :, i::2, j::2], want, rtol=0, atol=1e-14)

    def test_the_interior_of_a_shifted_map_is_shifted_exactly(self):
        q, k, v = draw(0, (1, 2, 12, 11))
        bias = np.random.default_rng(1).normal(size=(2, 9, 9))
        attend = lambda *maps: neighborhood_attention_2d(*maps, 5, bias=bias).data
        moved = attend(*(np.roll(a, (1, 1), (2, 3)) for a in (q, k, v)))
        np.testing.assert_array_equal(moved[:, :, 3:-2, 3:-2], attend(q, k, v)[:, :, 2:-3, 2:-3])

    def test_a_mean_where_all_logits_are_equal(self):
        q, k, v = draw(0, (1, 1, 6, 7))
        got = neighborhood_attention_2d(np.zeros_like(q), k, v, 3).data[0, 0]
        np.testing.assert_allclose(got[0, 0], v[0, 0, :3, :3].mean((0, 1)), rtol=0, atol=1e-15)
        np.testing.assert_allclose(got[5, 3], v[0, 0, 3:, 2:5].mean((0, 1)), rtol=0, atol=1e-15)

    def test_scale_leading_axes_and_dtype(self):
        q, k, v = draw(0, (2, 3, 2, 4, 5))
        got = neighborhood_attention_2d(q, k, v, 3, scale=0.7).data
        want = neighborhood_attention_2d(q[1] * 0.7 * math.sqrt(3), k[1], v[1], 3).data
        np.testing.assert_allclose(got[1], want, rtol=0, atol=1e-14)
        assert neighborhood_attention_2d(*(x.astype(np.float32) for x in (q, k, v)), 3).dtype == np.float32

    def test_float64_sums_of_float16(self):
        half = [x.astype(np.float16) for x in draw(0, (1, 1, 5, 5))]
        want = neighborhood_attention_2d(*(x.astype(np.float64) for x in half), 3).data
        got = neighborhood_attention_2d(*half, 3)
        assert got.dtype == np.float16
        np.testing.assert_allclose(got.data, want, rtol=2**-10, atol=2**-14)


class TestGradients:
    @pytest.mark.parametrize("kernels", ["numba", "numpy"])
    def test_small_maps(self, kernels):
        q, k, v = draw(0, (1, 2, 4, 7))
        bias = np.random.default_rng(1).normal(size=(2, 5, 5))
        with mt.config(kernels=kernels):
            f = lambda q, k, v, bias: neighborhood_attention_2d(q, k, v, 3, dilation=(1, 2), bias=bias)
            mt.check_grads(f, q, k, v, bias)

    def test_through_the_kernel(self):
        q, k, v = draw(0, (1, 1, 23, 31), E=6, W=6)  # above dispatch.SMALL
        bias = np.random.default_rng(1).normal(size=(1, 5, 5))
        f = lambda q, k, v, bias: neighborhood_attention_2d(q, k, v, 3, bias=bias)
        mt.check_grads(f, q, k, v, bias)

    def test_a_sequence(self):
        q, k, v = draw(0, (1, 1, 7))
        mt.check_grads(
            lambda q, k, v, b: neighborhood_attention_1d(q, k, v, 3, dilation=2, bias=b), q, k, v, np.ones((1, 5))
        )


class TestCost:
    def test_multiply_adds_are_those_of_the_neighborhood(self):
        q, k, v = (x.astype(np.float32) for x in draw(0, (2, 3, 10, 11), E=8, W=8))
        with mt.cost() as c:
            neighborhood_attention_2d(q, k, v, 5)
        assert c.macs == 2 * 25 * (2 * 3) * (10 * 11) * 8
        attend = lambda q, k, v: mt.sum(neighborhood_attention_2d(q, k, v, 5))
        assert saved_bytes(attend, q, k, v) <= 4 * (4 * q.size + q.size // 8) + 64


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kernel_size": 4}, ValueError, "kernel_size must be odd"),
        ({"kernel_size": 0}, ValueError, "kernel_size must be an integer >= 1"),
        ({"kernel_size": 3, "dilation": 0}, ValueError, "dilation must be an integer >= 1"),
        ({"kernel_size": 3, "dilation": 2}, mt.ShapeError, "5 x 6 pixels are too few"),
        ({"kernel_size": 3, "bias": np.zeros((2, 3, 3))}, mt.ShapeError, r"bias must be \(2, 5, 5\)"),
    ],
)
def test_errors_say_what_is_allowed(options, error, message):
    with pytest.raises(error, match=message):
        neighborhood_attention_2d(*draw(0, (1, 2, 5, 6)), **options)
