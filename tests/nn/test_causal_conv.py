"""The causal depthwise convolution: its equation in loops, against conv1d, cuts, gradients, exact cost, the layer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recurrences import continues, on_grid

import minitf as mt
from minitf import nn
from minitf.autodiff.cost import saved_bytes
from minitf.nn.causal_conv import convolve_p, correlate_p, spread_p
from minitf.nn.functional import causal_conv1d, conv1d

LEADING = st.sampled_from([(), (2,), (2, 3), (0,)])


def draw(rng, lead, T, C, W):
    x, state = rng.standard_normal((*lead, T, C)), rng.standard_normal((*lead, W - 1, C))
    return x, rng.standard_normal((C, W)), rng.standard_normal(C), state


@given(st.integers(0, 10**6), LEADING, st.integers(0, 6), st.integers(1, 3), st.integers(1, 5))
def test_equals_its_equation_in_loops(seed, lead, T, C, W):
    x, weight, bias, state = draw(np.random.default_rng(seed), lead, T, C, W)
    y, last = causal_conv1d(x, weight, bias, state=state, return_state=True)
    seen = np.concatenate([state, x], -2)
    want = np.zeros(x.shape)
    for *i, t, c in np.ndindex(x.shape):
        want[(*i, t, c)] = bias[c] + sum(weight[c, j] * seen[(*i, t + j, c)] for j in range(W))
    np.testing.assert_allclose(y.data, want, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(last.data, seen[..., T:, :])


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 4), st.integers(1, 5))
def test_is_conv1d_with_a_group_a_channel_and_zeros_in_front(seed, T, C, W):
    x, weight, bias, _ = draw(np.random.default_rng(seed), (2,), T, C, W)
    padded = np.pad(x, ((0, 0), (W - 1, 0), (0, 0))).swapaxes(1, 2)
    want = conv1d(padded, weight[:, None], bias, groups=C).data.swapaxes(1, 2)
    np.testing.assert_allclose(causal_conv1d(x, weight, bias).data, want, rtol=0, atol=1e-13)


@given(st.integers(0, 10**6), st.integers(0, 9), st.integers(1, 5), st.data())
def test_cut_anywhere_and_continued(seed, T, W, data):
    x, weight, bias, _ = draw(np.random.default_rng(seed), (2,), T, 3, W)
    cuts = data.draw(st.lists(st.integers(0, T), max_size=3))
    continues(lambda x, state: causal_conv1d(x, weight, bias, state=state, return_state=True), (x,), axis=-2, cuts=cuts)


def test_gradients():
    run = lambda x, weight, bias, state: causal_conv1d(x, weight, bias, state=state, return_state=True)
    mt.check_grads(run, *draw(np.random.default_rng(0), (2,), 4, 3, 3), order=3)


@pytest.mark.parametrize("primitive", [convolve_p, spread_p, correlate_p], ids=lambda p: p.name)
def test_decompositions(primitive):
    x, weight, _, _ = draw(np.random.default_rng(0), (2,), 8, 3, 4)
    y = np.random.default_rng(1).standard_normal((2, 5, 3))
    arrays = {convolve_p: (x, weight), spread_p: (y, weight), correlate_p: (x, y)}[primitive]
    np.testing.assert_allclose(primitive.decomposition(*arrays), primitive.impl(*arrays), rtol=0, atol=1e-13)


def test_cost_is_exact_and_linear_in_time():
    for T in (4, 8):
        x, weight, bias, _ = draw(np.random.default_rng(0), (2,), T, 3, 4)
        out, pullback = mt.vjp(causal_conv1d, x, weight)
        with mt.cost() as c:
            causal_conv1d(x, weight)
        assert (c.flops, c.macs) == (2 * 4 * x.size, 4 * x.size)
        with mt.cost() as c:
            causal_conv1d(x, weight, bias)
        assert (c.flops, c.macs) == (2 * 4 * x.size + x.size, 4 * x.size)
        with mt.cost() as c:
            pullback(np.ones(out.shape))
        assert (c.flops, c.macs) == (2 * 2 * 4 * x.size, 2 * 4 * x.size)
        assert saved_bytes(causal_conv1d, x, weight) == x.nbytes + 2 * 3 * 3 * 8 + weight.nbytes


def test_y_is_stored():
    x, weight, bias, _ = draw(np.random.default_rng(0), (2,), 6, 3, 4)
    with mt.precision("bfloat16"):
        assert on_grid(causal_conv1d(x, weight, bias), "bfloat16")


def test_dtypes():
    x, weight, bias, _ = draw(np.random.default_rng(0), (2,), 6, 3, 4)
    assert causal_conv1d(x.astype("f"), weight.astype("f")).dtype == np.float32
    assert causal_conv1d(x.astype("f"), weight.astype("f"), bias).dtype == np.float64
    gradient = mt.grad(lambda w: mt.sum(causal_conv1d(x, w, bias)))(weight.astype("f"))
    assert gradient.dtype == np.float32


def test_the_layer():
    rng = np.random.default_rng(0)
    layer, x = nn.CausalConv1d(3, 4, rng=rng), rng.standard_normal((2, 6, 3))
    assert repr(layer) == "CausalConv1d(3, 4)"
    assert max(abs(p.data).max() for p in layer.parameters()) <= 0.5
    y, state = layer(x)
    np.testing.assert_array_equal(y.data, causal_conv1d(x, layer.weight, layer.bias).data)
    first, middle = layer(x[:, :1])
    rest, last = layer(x[:, 1:], middle)
    np.testing.assert_allclose(np.concatenate([first.data, rest.data], 1), y.data, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(last.data, state.data)
    np.testing.assert_array_equal(state.data, x[:, 3:])
    assert nn.count_parameters(layer) == 3 * 4 + 3
    assert nn.CausalConv1d(3, 4, bias=False, rng=rng).bias is None


def test_wrong_calls():
    x, weight, bias, state = draw(np.random.default_rng(0), (2,), 6, 3, 4)
    with pytest.raises(mt.ShapeError, match=r"weight has shape \(2, 4\), expected .* C = 3 \(from x \(2, 6, 3\)\)"):
        causal_conv1d(x, weight[:2])
    with pytest.raises(mt.ShapeError, match=r"bias has shape \(2,\), expected"):
        causal_conv1d(x, weight, bias[:2])
    with pytest.raises(mt.ShapeError, match=r"state has shape \(2, 2, 3\), expected .* W-1 = 3 \(W = 4\)"):
        causal_conv1d(x, weight, state=state[:, :2])
    with pytest.raises(mt.ShapeError, match="W at least 1"):
        causal_conv1d(x, weight[:, :0])
    with pytest.raises(mt.ShapeError, match="C and W must be positive integers, got C = 3, W = 0"):
        nn.CausalConv1d(3, 0, rng=np.random.default_rng(0))
