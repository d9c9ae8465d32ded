"""Convolution layers: edges of every kind in loops, groups, transposes, gradients, and what they cost."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf import nn
from minitf.nn import functional as F


def outside(i, n, mode):
    """The place inside an axis of ``n`` that is read instead of place ``i``; None for a zero."""
    if 0 <= i < n:
        return i
    if mode == "zeros":
        return None
    if mode == "replicate":
        return 0 if i < 0 else n - 1
    if mode == "circular":
        return i % n
    return -i if i < 0 else 2 * (n - 1) - i


def loops(x, weight, bias, stride, padding, dilation, groups, mode):
    """One number at a time, each looked up where it comes from."""
    C_out, own, *kernel = weight.shape
    size = x.shape[2:]
    counts = [(n + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for n, k in zip(size, kernel, strict=True)]
    out = np.zeros((len(x), C_out, *counts))
    for b, o, *t in np.ndindex(out.shape):
        total = bias[o]
        for c, *k in np.ndindex(own, *kernel):
            places = [outside(i * stride + j * dilation - padding, n, mode) for i, j, n in zip(t, k, size, strict=True)]
            if None not in places:
                total += weight[(o, c, *k)] * x[(b, o // (C_out // groups) * own + c, *places)]
        out[(b, o, *t)] = total
    return out


@given(
    st.integers(0, 10**6), st.sampled_from([1, 2]), st.integers(1, 3), st.integers(1, 2), st.integers(0, 2),
    st.integers(1, 2), st.sampled_from([1, 2]), st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
)  # fmt: skip
def test_transcription(seed, axes, kernel, stride, padding, dilation, groups, mode):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, 2, 5, 6)[: axes + 2])
    layer = (nn.Conv1d, nn.Conv2d)[axes - 1](
        2, 4, kernel, stride, padding, dilation, groups, padding_mode=mode, rng=rng
    )
    expected = loops(x, layer.weight.data, layer.bias.data, stride, padding, dilation, groups, mode)
    np.testing.assert_allclose(layer(x), expected, atol=1e-13)
    np.testing.assert_allclose(layer(x[0]), expected[0], atol=1e-13)  # leading axes are free


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_same_keeps_every_stride_th_place_and_puts_the_odd_value_behind(mode, stride):
    rng = np.random.default_rng(0)
    layer = nn.Conv1d(1, 1, 4, stride, "same", bias=False, padding_mode=mode, rng=rng)
    x = rng.standard_normal((1, 1, 8))
    total = max((-(-8 // stride) - 1) * stride + 4 - 8, 0)
    low, high = total // 2, total - total // 2
    edges = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    wide = np.pad(x, ((0, 0), (0, 0), (low, high)), mode=edges[mode])
    np.testing.assert_allclose(layer(x), F.conv1d(wide, layer.weight, stride=stride), atol=1e-14)
    assert layer(x).shape == (1, 1, -(-8 // stride))


@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 2))
def test_a_depthwise_convolution_is_one_of_each_channel(seed, kernel, stride):
    rng = np.random.default_rng(seed)
    layer = nn.Conv2d(3, 3, kernel, stride, padding=1, groups=3, rng=rng)
    x = rng.standard_normal((2, 3, 5, 4))
    whole = layer(x).data
    for c in range(3):
        alone = F.conv2d(x[:, c : c + 1], layer.weight[c : c + 1], layer.bias[c : c + 1], stride, 1)
        np.testing.assert_allclose(whole[:, c : c + 1], alone, atol=1e-13)


@given(
    st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 3), st.integers(0, 1), st.integers(1, 2), st.sampled_from([1, 2])
)  # fmt: skip
def test_the_transpose_is_the_adjoint(seed, kernel, stride, padding, dilation, groups):
    """<conv(x), y> = <x, transposed(y)> with the same weight, for the input size that output_padding names."""
    rng = np.random.default_rng(seed)
    conv = nn.Conv1d(2, 4, kernel, stride, padding, dilation, groups, bias=False, rng=rng)
    x = rng.standard_normal((1, 2, 8))
    y = rng.standard_normal(conv(x).shape)
    extra = (8 + 2 * padding - dilation * (kernel - 1) - 1) % stride
    if extra >= max(stride, dilation):
        return
    back = nn.ConvTranspose1d(4, 2, kernel, stride, padding, extra, groups, bias=False, dilation=dilation, rng=rng)
    back.weight = conv.weight
    assert back(y).shape == x.shape
    np.testing.assert_allclose(np.sum(conv(x).data * y), np.sum(x * back(y).data), atol=1e-12)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_gradients(mode):
    layer = nn.Conv2d(2, 4, (3, 2), (2, 1), 2, groups=2, padding_mode=mode, rng=np.random.default_rng(0))
    values = {name: p.data for name, p in layer.named_parameters()}
    x = np.random.default_rng(1).standard_normal((1, 2, 4, 3))
    mt.check_grads(lambda x, w, b: nn.functional_call(layer, {"weight": w, "bias": b}, x), x, *values.values())


def test_gradients_of_the_transpose():
    layer = nn.ConvTranspose2d(2, 4, 3, 2, 1, 1, groups=2, rng=np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((1, 2, 3, 2))
    values = [p.data for p in layer.parameters()]
    mt.check_grads(lambda x, w, b: nn.functional_call(layer, {"weight": w, "bias": b}, x), x, *values)


def test_multiply_adds_are_windows_times_outputs():
    rng = np.random.default_rng(0)
    for axes, layer in itertools.product([1, 2, 3], [nn.Conv1d, nn.Conv2d, nn.Conv3d]):
        if layer.axes != axes:
            continue
        for groups in (1, 2, 4):
            made = layer(4, 8, 3, padding=1, groups=groups, rng=rng)
            x = rng.standard_normal((2, 4, *(5,) * axes))
            with mt.cost() as c:
                out = made(x)
            assert c.macs == out.size * (4 // groups) * 3**axes
            assert nn.count_parameters(made) == 8 * (4 // groups) * 3**axes + 8


def test_options_are_shown_and_initial_values_chosen():
    rng = np.random.default_rng(0)
    assert repr(nn.Conv1d(3, 4, 3, rng=rng)) == "Conv1d(3, 4, kernel_size=(3,))"
    told = (
        "Conv2d(4, 4, kernel_size=(3, 3), stride=(2, 2), padding='same', groups=2, padding_mode='circular', bias=False)"
    )
    layer = nn.Conv2d(4, 4, 3, 2, "same", 1, 2, False, "circular", rng=rng)
    assert repr(layer) == told
    told = "ConvTranspose2d(4, 6, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), output_padding=(1, 1))"
    assert repr(nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, rng=rng)) == told
    layer = nn.Conv2d(3, 4, 3, rng=rng, init=nn.init.ones)
    assert (layer.weight.data == 1).all()
    assert (layer.bias.data == 0).all()
