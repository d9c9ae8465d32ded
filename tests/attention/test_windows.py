"""Window attention: its equation one number at a time, ragged windows, the rolled mask, gradients, cost, errors."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.attention.windows import window_attention
from minitf.autodiff.cost import saved_bytes
from minitf.kernels.windows import visible
from minitf.nn.functional import scaled_dot_product_attention

#: side of a window, windows, shift
AXIS = st.integers(1, 3).flatmap(lambda M: st.tuples(st.just(M), st.integers(1, 3), st.integers(0, M - 1)))


def draw(seed, lead, E=3, W=2):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(*lead, E)), rng.normal(size=(*lead, E)), rng.normal(size=(*lead, W))


def loops(q, k, v, window, shift, bias):
    """Pixels attend within the cells of a grid cut on the map as it is, ragged at its borders."""
    B, H, Y, X, E = q.shape
    cell = lambda y, x: ((y + window[0] - shift[0]) // window[0], (x + window[1] - shift[1]) // window[1])
    out = np.zeros((B, H, Y, X, v.shape[-1]))
    for b, h, y, x in np.ndindex(B, H, Y, X):
        scores = {}
        for i, j in np.ndindex(Y, X):
            if cell(i, j) == cell(y, x):
                scores[i, j] = sum(q[b, h, y, x, e] * k[b, h, i, j, e] for e in range(E)) / math.sqrt(E)
                if bias is not None:
                    scores[i, j] += bias[h, y - i + window[0] - 1, x - j + window[1] - 1]
        total = sum(math.exp(s) for s in scores.values())
        for at, s in scores.items():
            out[b, h, y, x] += math.exp(s) / total * v[(b, h, *at)]
    return out


class TestTranscription:
    @given(st.integers(0, 10**6), st.integers(1, 2), st.tuples(AXIS, AXIS), st.booleans())
    def test_equals_the_equation_in_loops(self, seed, H, axes, biased):
        window, counts, shift = zip(*axes, strict=True)
        q, k, v = draw(seed, (1, H, *(M * n for M, n in zip(window, counts, strict=True))))
        bias = np.random.default_rng(seed).normal(size=(H, *(2 * M - 1 for M in window))) if biased else None
        got = window_attention(q, k, v, window, shift=shift, bias=bias)
        np.testing.assert_allclose(got.data, loops(q, k, v, window, shift, bias), rtol=0, atol=1e-12)


class TestInvariants:
    @pytest.mark.parametrize("M", [2, 3, 5])
    def test_who_sees_whom_is_what_slices_of_the_rolled_map_say(self, M):
        for t in range(M):
            Y, X = 3 * M, 2 * M
            label = np.zeros((Y, X))
            if t:
                slices = slice(0, -M), slice(-M, -t), slice(-t, None)
                for i, rows in enumerate(slices):
                    for j, columns in enumerate(slices):
                        label[rows, columns] = 3 * i + j
            label = label.reshape(3, M, 2, M).swapaxes(1, 2).reshape(3, 2, M * M)
            np.testing.assert_array_equal(visible(Y, X, (M, M), (t, t)), label[..., None] == label[..., None, :])

    def test_one_window_is_full_attention(self):
        q, k, v = draw(0, (2, 2, 4, 5))
        want = scaled_dot_product_attention(*(a.reshape(2, 2, 20, -1) for a in (q, k, v)))
        got = window_attention(q, k, v, (4, 5))
        np.testing.assert_allclose(got.data.reshape(want.shape), want.data, rtol=0, atol=1e-14)

    def test_nothing_passes_from_one_window_to_another(self):
        q, k, v = draw(0, (1, 1, 6, 6))
        before = window_attention(q, k, v, 3, shift=1).data
        v[0, 0, 2, 2] += 1  # the cell of rows and columns 1 .. 3
        changed = (window_attention(q, k, v, 3, shift=1).data != before).any(-1)[0, 0]
        want = np.zeros((6, 6), bool)
        want[1:4, 1:4] = True
        np.testing.assert_array_equal(changed, want)

    def test_scale_leading_axes_and_dtype(self):
        q, k, v = draw(0, (2, 3, 2, 4, 6))
        got = window_attention(q, k, v, 2, shift=1, scale=0.7).data
        want = window_attention(q[1] * 0.7 * math.sqrt(3), k[1], v[1], 2, shift=1).data
        np.testing.assert_allclose(got[1], want, rtol=0, atol=1e-14)
        assert window_attention(*(x.astype(np.float32) for x in (q, k, v)), 2).dtype == np.float32


class TestGradients:
    @pytest.mark.parametrize("kernels", ["numba", "numpy"])
    def test_small_maps(self, kernels):
        q, k, v = draw(0, (1, 2, 4, 6))
        bias = np.random.default_rng(1).normal(size=(2, 3, 5))
        with mt.config(kernels=kernels):
            mt.check_grads(lambda q, k, v, b: window_attention(q, k, v, (2, 3), shift=(1, 2), bias=b), q, k, v, bias)

    def test_through_the_kernel(self):
        q, k, v = draw(0, (1, 1, 24, 30), E=6, W=6)  # above dispatch.SMALL
        bias = np.random.default_rng(1).normal(size=(1, 5, 5))
        mt.check_grads(lambda q, k, v, b: window_attention(q, k, v, 3, shift=1, bias=b), q, k, v, bias)


class TestCost:
    def test_doubling_the_sides_takes_four_times_the_work(self):
        macs = []
        for side in (8, 16):
            q, k, v = (x.astype(np.float32) for x in draw(0, (1, 2, side, side), E=8, W=8))
            with mt.cost() as c:
                window_attention(q, k, v, 4, shift=2)
            assert c.macs == 2 * 16 * 2 * side**2 * 8
            macs.append(c.macs)
        assert macs[1] == 4 * macs[0]
        attend = lambda q, k, v: mt.sum(window_attention(q, k, v, 4, shift=2))
        assert saved_bytes(attend, q, k, v) <= 4 * (4 * q.size + q.size // 8) + 64


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"window": 4}, mt.ShapeError, "must be multiples of the window 4 x 4, got a map of 6 x 9"),
        ({"window": 0}, ValueError, "window must be an integer >= 1"),
        ({"window": 3, "shift": 3}, ValueError, "shift must be smaller than the window"),
        ({"window": 3, "shift": -1}, ValueError, "shift must be an integer >= 0"),
        ({"window": 3, "bias": np.zeros((2, 3, 3))}, mt.ShapeError, r"bias must be \(2, 5, 5\)"),
    ],
)
def test_errors_say_what_is_allowed(options, error, message):
    with pytest.raises(error, match=message):
        window_attention(*draw(0, (1, 2, 6, 9)), **options)
