"""Convolution kernels: their twins for every geometry and way, tiles and lines of any length, and all derivatives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_twins import agree, close, extreme

import minitf as mt
from minitf.autodiff.ops import convolution as twins
from minitf.autodiff.ops.convolution import Windows, conv1d, conv2d, conv3d, conv_transpose2d, lay_windows
from minitf.kernels import conv2d as kernels


def integers(rng, *shape):
    """Values whose sums are exact in any order."""
    return rng.integers(-9, 9, shape).astype(float)


def operands(rng, B, G, C, O, windows, draw=integers):
    """x, w and y."""
    shapes = (B, G, C, *windows.size), (G, O, C, *windows.kernel), (B, G, O, *windows.count)
    return [draw(rng, *shape) for shape in shapes]


def all_agree(x, w, y, windows, **options):
    for kernel, twin, a, b in (
        (kernels.convolve, twins._convolve, x, w),
        (kernels.spread, twins._spread, y, w),
        (kernels.correlate, twins._correlate, x, y),
    ):
        agree(kernel, twin, a, b, windows=windows, **options)


@st.composite
def geometries(draw):
    """Windows that fit, with a padding that may be larger than they are."""
    n = draw(st.integers(1, 2))
    each = lambda low, high: draw(st.tuples(*[st.integers(low, high)] * n))
    kernel, stride, dilation, padding = each(1, 4), each(1, 3), each(1, 3), each(0, 3)
    size = tuple(
        draw(st.integers(max(0, (k - 1) * d + 1 - 2 * p), 13))
        for k, d, p in zip(kernel, dilation, padding, strict=True)
    )
    return lay_windows("drawn", size, kernel, stride, padding, dilation)


@st.composite
def patches(draw):
    n = draw(st.integers(1, 2))
    kernel, count = (draw(st.tuples(*[st.integers(1, high)] * n)) for high in (4, 3))
    size = tuple(k * t for k, t in zip(kernel, count, strict=True))
    return lay_windows("drawn", size, kernel, kernel)


@given(
    st.integers(0, 10**6), st.one_of(geometries(), patches()),
    st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(0, 3), st.integers(0, 2)),
    st.sampled_from([(512, 2048, 32, 16), (3, 8, 1, 1), (7, 30, 2, 5)]),
)  # fmt: skip
def test_twins(seed, windows, sizes, cuts):
    """Tiles, lines, blocks of channels and parts of the sum as they are, and so small that all arrays have many."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in zip(("TILE", "LINE", "CHANNELS", "PARTS"), cuts, strict=True):
            patch.setattr(kernels, name, value)
        patch.setattr(kernels, "WORTH", 1)
        all_agree(*operands(np.random.default_rng(seed), *sizes, windows), windows)


LARGE = {
    "dense, tiles of lines": (2, 1, 40, 33, lay_windows("", (30, 29), (3, 3), 1, 1)),
    "dense, parts of lines": (1, 2, 3, 5, lay_windows("", (4, 1100), (2, 5), (1, 2), (0, 3), (1, 2))),
    "dense, one sample": (1, 1, 3, 40, lay_windows("", (61, 60), (7, 7), 2, 3)),
    "one channel a group": (2, 40, 1, 1, lay_windows("", (33, 61), (7, 7), 1, 3)),
    "two outputs a channel": (2, 20, 1, 2, lay_windows("", (40, 31), (3, 5), (2, 3), (1, 2), (2, 1))),
    "one axis": (3, 30, 1, 1, lay_windows("", (500,), (4,), 1, 3)),
}


@pytest.mark.parametrize("case", LARGE)
def test_twins_when_threads_share_the_rows(case):
    *sizes, windows = LARGE[case]
    normal = lambda rng, *shape: rng.standard_normal(shape)
    all_agree(*operands(np.random.default_rng(0), *sizes, windows, draw=normal), windows, scale=2)


@pytest.mark.parametrize("case", LARGE)
def test_extreme_values(case):
    *sizes, windows = LARGE[case]
    rng = np.random.default_rng(1)
    x, w, y = operands(rng, *sizes, windows, draw=lambda rng, *shape: rng.standard_normal(shape))
    far_x, far_y = (np.where(rng.random(v.shape) < 0.01, extreme(rng, v.shape), v) for v in (x, y))
    agree(kernels.convolve, twins._convolve, far_x, w, windows=windows, scale=2)
    agree(kernels.spread, twins._spread, far_y, w, windows=windows, scale=2)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("windows", [lay_windows("", (96, 64), (8, 16), (8, 16)), lay_windows("", (40, 30), 2 * (1,))])
def test_patches_are_one_product(windows, threads, monkeypatch):
    """BLAS cuts its sums as it likes, so only exact ones are the same for any number of threads."""
    x, w, y = operands(np.random.default_rng(0), 3, 2, 6, 50, windows)
    assert kernels.tiles_whole(windows)
    for name in ("_convolve_tiles", "_spread_tiles", "_correlate_tiles"):
        monkeypatch.setattr(kernels, name, None)
    options = dict(windows=windows, threads=threads)
    close(kernels.convolve(x, w, **options), twins._convolve(x, w, windows), 0)
    close(kernels.spread(y, w, **options), twins._spread(y, w, windows), 0)
    close(kernels.correlate(x, y, **options), twins._correlate(x, y, windows), 0)


@pytest.mark.parametrize(
    ("options", "whole"),
    [
        (dict(), True), (dict(stride=(2, 1)), False), (dict(padding=(0, 1)), False), (dict(dilation=(2, 1)), False),
        (dict(size=(7, 9)), False), (dict(count=(2, 3)), False),
        (dict(kernel=(1, 3), stride=(1, 3), size=(3, 9), dilation=(5, 1)), True),
    ],
)  # fmt: skip
def test_what_patches_are(options, whole):
    """A dilation without a second value changes nothing."""
    plain = dict(size=(6, 9), kernel=(2, 3), count=(3, 3), stride=(2, 3), dilation=(1, 1), padding=(0, 0))
    assert kernels.tiles_whole(Windows(**(plain | options))) is whole


def test_columns_of_a_whole_image_are_never_made(monkeypatch):
    made = []
    of_tiles = kernels._convolve_tiles
    monkeypatch.setattr(kernels, "_convolve_tiles", lambda *a: (made.append(a[-1]), of_tiles(*a)))
    conv2d(np.ones((1, 8, 64, 64), np.float32), np.ones((4, 8, 3, 3), np.float32), padding=1)
    assert made
    assert max(made) <= kernels.TILE == 512


# -- the primitives -----------------------------------------------------------------------------------------------

CASES = {
    "dense": (lambda x, w: conv2d(x, w, stride=2, padding=1), (2, 3, 27, 27), (4, 3, 3, 3)),
    "groups": (lambda x, w: conv2d(x, w, dilation=2, groups=2), (2, 4, 25, 25), (4, 2, 2, 3)),
    "depthwise": (lambda x, w: conv2d(x, w, padding="same", groups=5), (2, 5, 21, 22), (5, 1, 4, 3)),
    "patches": (lambda x, w: conv2d(x, w, stride=5), (2, 3, 30, 25), (6, 3, 5, 5)),
    "single values": (lambda x, w: conv2d(x, w), (2, 3, 27, 27), (4, 3, 1, 1)),
    "transposed": (lambda x, w: conv_transpose2d(x, w, stride=2, output_padding=1), (2, 3, 27, 27), (3, 2, 3, 2)),
    "one axis": (lambda x, w: conv1d(x, w, padding=2, groups=4), (3, 4, 400), (8, 1, 3)),
}


@pytest.mark.parametrize("case", CASES)
def test_derivatives_through_the_kernels(case):
    function, *shapes = CASES[case]
    rng = np.random.default_rng(0)
    mt.check_grads(function, *(rng.standard_normal(shape) for shape in shapes))


@pytest.mark.parametrize("case", CASES)
def test_the_primitive_runs_the_kernel_or_its_twin(case, monkeypatch):
    function, *shapes = CASES[case]
    x, w = (np.random.default_rng(i).standard_normal(shape).astype(np.float32) for i, shape in enumerate(shapes))
    ran = []
    over_rows, matmul = kernels.over_rows, kernels.product.matmul
    monkeypatch.setattr(kernels, "over_rows", lambda *a, **options: (ran.append(1), over_rows(*a, **options)))
    monkeypatch.setattr(kernels.product, "matmul", lambda *a, **options: (ran.append(1), matmul(*a, **options))[1])
    fast = function(x, w).data
    assert len(ran) == 1
    with mt.config(kernels="numpy"):
        slow = function(x, w).data
    assert len(ran) == 1
    close(fast, slow, 2e-6)


def test_three_axes_run_the_twin():
    x, w = (np.random.default_rng(0).standard_normal(shape) for shape in ((1, 2, 9, 17, 16), (3, 2, 2, 3, 3)))
    fast = conv3d(x, w).data
    with mt.config(kernels="numpy"):
        np.testing.assert_array_equal(fast, conv3d(x, w).data)
