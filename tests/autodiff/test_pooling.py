"""Pooling, one line an operation: against loops over every window, and its derivatives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from operation_table import CHECKS, Operation, apart, normal

import minitf as mt
from minitf.autodiff.ops import pooling
from minitf.autodiff.ops.pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)

# -- the definitions ----------------------------------------------------------------------------------------------


def stretches(size, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """For each window of one axis the places inside that it covers, and how many it covers of the padded axis."""
    stride = kernel_size if stride is None else stride
    windows, start = [], -padding
    while size:
        last = start + (kernel_size - 1) * dilation
        fits = last < size + padding
        overhangs = ceil_mode and start < size and last - (stride - 1) < size + padding
        if not fits and not overhangs:
            break
        covered = [i for i in range(start, last + 1, dilation) if i < size + padding]
        windows.append(([i for i in covered if 0 <= i < size], len(covered)))
        start += stride
    return windows


def pooled(x, axes, options, of):
    """``of(values, count)`` of every window: its values, and how many with those of the padding."""
    lead, size = x.shape[: x.ndim - axes], x.shape[x.ndim - axes :]
    each = [{k: v[i] if isinstance(v, tuple) else v for k, v in options.items()} for i in range(axes)]
    lines = [stretches(n, **own) for n, own in zip(size, each, strict=True)]
    out = np.zeros((*lead, *map(len, lines)))
    for t in np.ndindex(*map(len, lines)):
        inside, counts = zip(*(line[i] for line, i in zip(lines, t, strict=True)), strict=True)
        for i in np.ndindex(*lead):
            out[(*i, *t)] = of(x[i][np.ix_(*inside)], math.prod(counts))
    return out


def max_pool(axes):
    return lambda x, **options: pooled(x, axes, options, lambda values, count: values.max())


def avg_pool(axes):
    def average(x, count_include_pad=True, divisor_override=None, **options):
        def mean(values, count):
            return values.sum() / (divisor_override or (count if count_include_pad else values.size))

        return pooled(x, axes, options, mean)

    return average


def adaptive(axes):
    def average(x, output_size):
        for i in range(x.ndim - axes, x.ndim):
            size = x.shape[i]
            count = output_size[i - x.ndim] if isinstance(output_size, tuple) else output_size
            count = size if count is None else count
            lines = np.moveaxis(x, i, 0)
            parts = [lines[j * size // count : math.ceil((j + 1) * size / count)].mean(0) for j in range(count)]
            x = np.moveaxis(np.stack(parts), 0, i)
        return x

    return average


# -- one line each ------------------------------------------------------------------------------------------------


def line(function, reference, *shapes, domain=normal, **options):
    return Operation(f"{function.__name__} {options}", lambda x: function(x, **options),
                     lambda x: reference(x, **options), domain, shapes=[(shape,) for shape in shapes])  # fmt: skip


TABLE = [
    line(max_pool1d, max_pool(1), (2, 3, 5), (1, 4), (0, 2, 3), (2, 0, 3), (2, 1, 0), kernel_size=2, domain=apart),
    line(max_pool1d, max_pool(1), (2, 8), kernel_size=3, stride=2, padding=1, dilation=2, domain=apart),
    line(max_pool1d, max_pool(1), (2, 6), (2, 7), kernel_size=3, stride=2, ceil_mode=True, domain=apart),
    line(max_pool2d, max_pool(2), (2, 4, 5), (1, 2, 2, 3), (0, 2, 3), kernel_size=2, domain=apart),
    line(max_pool2d, max_pool(2), (2, 4, 6), kernel_size=(3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), domain=apart),
    line(max_pool2d, max_pool(2), (1, 4, 6), kernel_size=3, stride=(2, 3), padding=1, ceil_mode=True, domain=apart),
    line(max_pool3d, max_pool(3), (2, 2, 3, 4), (1, 0, 2, 2, 3), kernel_size=2, domain=apart),
    line(max_pool3d, max_pool(3), (1, 4, 3, 5), kernel_size=(3, 2, 2), stride=2, padding=(1, 0, 1), ceil_mode=True, domain=apart),
    line(avg_pool1d, avg_pool(1), (2, 3, 5), (1, 4), (0, 2, 3), (2, 0, 3), (2, 1, 0), kernel_size=2),
    line(avg_pool1d, avg_pool(1), (2, 8), (1, 2), kernel_size=3, stride=2, padding=1, count_include_pad=False),
    line(avg_pool1d, avg_pool(1), (2, 6), (2, 8), kernel_size=4, stride=3, padding=2, ceil_mode=True),
    line(avg_pool2d, avg_pool(2), (2, 4, 5), (1, 2, 2, 3), (0, 2, 3), kernel_size=2),
    line(avg_pool2d, avg_pool(2), (1, 4, 6), kernel_size=3, stride=2, padding=1, ceil_mode=True),
    line(avg_pool2d, avg_pool(2), (1, 4, 6), kernel_size=(3, 2), stride=2, padding=1, ceil_mode=True, count_include_pad=False),
    line(avg_pool2d, avg_pool(2), (1, 3, 4), kernel_size=(2, 3), stride=(1, 2), padding=(1, 0), divisor_override=5),
    line(avg_pool3d, avg_pool(3), (2, 2, 3, 4), (1, 0, 2, 2, 3), kernel_size=2),
    line(avg_pool3d, avg_pool(3), (1, 4, 3, 5), kernel_size=2, stride=(2, 1, 2), padding=(1, 0, 1), count_include_pad=False),
    line(avg_pool3d, avg_pool(3), (1, 2, 3, 4), kernel_size=(1, 2, 3), divisor_override=5),
    line(adaptive_avg_pool1d, adaptive(1), (2, 3, 7), (1, 2), (0, 2, 3), (2, 0, 5), output_size=3),
    line(adaptive_avg_pool1d, adaptive(1), (2, 4), output_size=None),
    line(adaptive_avg_pool2d, adaptive(2), (2, 4, 5), (0, 1, 2, 3), output_size=3),
    line(adaptive_avg_pool2d, adaptive(2), (2, 3, 5), output_size=(None, 2)),
    line(adaptive_avg_pool3d, adaptive(3), (2, 3, 2, 5), output_size=(2, None, 3)),
]  # fmt: skip


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("operation", TABLE, ids=str)
def test_operation(operation, check):
    check(operation)


def test_no_operation_is_missing():
    assert {operation.public_name for operation in TABLE} == set(pooling.__all__)


# -- ties, infinities, other dtypes -------------------------------------------------------------------------------


def test_a_tie_sends_the_gradient_to_the_first():
    g = mt.grad(lambda x: mt.sum(max_pool2d(x, 2)))(np.ones((1, 4, 2)))
    np.testing.assert_array_equal(g.data, [[[1, 0], [0, 0], [1, 0], [0, 0]]])


def test_padding_is_never_chosen():
    x = np.full((1, 3), -np.inf)
    out, pullback = mt.vjp(lambda x: max_pool1d(x, 3, 2, 1), x)
    np.testing.assert_array_equal(out.data, [[-np.inf, -np.inf]])
    np.testing.assert_array_equal(pullback(np.array([[1.0, 10.0]]))[0].data, [[1, 10, 0]])


def test_nan_is_the_largest():
    np.testing.assert_array_equal(max_pool1d(np.array([[1.0, np.nan, 2.0, 3.0]]), 2).data, [[np.nan, 3.0]])


@pytest.mark.parametrize(
    ("dtype", "smallest"), [("int8", -128), ("uint8", 0), ("bool", False), ("float8_e4m3fn", -448), ("float16", -65504)]
)
def test_the_smallest_value_is_chosen_before_padding(dtype, smallest):
    x = mt.astype(np.full((1, 4), smallest, float), dtype)
    out = max_pool1d(x, 3, 2, 1)
    assert out.dtype == x.dtype
    assert out.tolist() == [[smallest, smallest]]


# -- what is refused ----------------------------------------------------------------------------------------------

X, IMAGE = np.ones((2, 5)), np.ones((2, 4, 5))
EMPTY = "the spatial axes must not be empty, got shape"

ERRORS = [
    (lambda: max_pool1d(np.ones(5), 2), mt.ShapeError, "max_pool1d: needs an array (..., C, X), got shape (5,)"),
    (lambda: avg_pool2d(X, 2), mt.ShapeError, "avg_pool2d: needs an array (..., C, Y, X), got shape (2, 5)"),
    (lambda: max_pool1d(X, 6), mt.ShapeError,
     "max_pool1d: a kernel of 6 (spanning 6 with dilation 1) does not fit on spatial axis 0 of 5 values with padding 0 + 0"),
    (lambda: max_pool1d(X, 0), ValueError, "max_pool1d: kernel_size must be an integer >= 1 or 1 of them, got 0"),
    (lambda: max_pool2d(IMAGE, (2, 2, 2)), ValueError,
     "max_pool2d: kernel_size must be an integer >= 1 or 2 of them, got (2, 2, 2)"),
    (lambda: avg_pool1d(X, 2, 0), ValueError, "avg_pool1d: stride must be an integer >= 1 or 1 of them, got 0"),
    (lambda: max_pool1d(X, 2, dilation=0), ValueError, "max_pool1d: dilation must be an integer >= 1 or 1 of them, got 0"),
    (lambda: avg_pool1d(X, 2, padding=-1), ValueError, "avg_pool1d: padding must be an integer >= 0 or 1 of them, got -1"),
    (lambda: avg_pool2d(IMAGE, 3, padding=(1, 2)), ValueError,
     "avg_pool2d: padding (1, 2) must be at most half the kernel (3, 3), or windows would be empty"),
    (lambda: avg_pool2d(IMAGE, 2, divisor_override=0), ValueError,
     "avg_pool2d: divisor_override must be a number other than 0, got 0"),
    (lambda: adaptive_avg_pool1d(X, 0), ValueError,
     "adaptive_avg_pool1d: output_size must be an integer >= 1 or 1 of them, got 0"),
    (lambda: adaptive_avg_pool2d(IMAGE, (2, 3, 4)), ValueError,
     "adaptive_avg_pool2d: output_size must be an integer or 2 of them, got (2, 3, 4)"),
    (lambda: adaptive_avg_pool1d(X[:, :0], 2), mt.ShapeError, f"adaptive_avg_pool1d: {EMPTY} (2, 0)"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=[message for _, _, message in ERRORS])
def test_refuses(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
