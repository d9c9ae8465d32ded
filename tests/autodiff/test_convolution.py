"""Convolutions and windows, one line an operation: against loops over every product, and their derivatives."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from operation_table import CHECKS, Operation, normal

import minitf as mt
from minitf.autodiff.ops import convolution
from minitf.autodiff.ops.convolution import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    fold,
    unfold,
)

# -- the definitions ----------------------------------------------------------------------------------------------


def per_axis(value, axes):
    return tuple(value) if isinstance(value, tuple) else (value,) * axes


def same_padding(size, kernel, stride, dilation):
    """TensorFlow's: ceil(size / stride) outputs, the smaller half of the zeros in front."""
    count = -(-size // stride)
    return max((count - 1) * stride + (kernel - 1) * dilation + 1 - size, 0) // 2, count


def places(size, kernel, stride=1, padding=0, dilation=1):
    """For every position and place in the window, where they meet on the array: (t, k, source), over all axes."""
    axes = len(size)
    stride, dilation = per_axis(stride, axes), per_axis(dilation, axes)
    if padding == "same":
        pairs = [same_padding(*each) for each in zip(size, kernel, stride, dilation, strict=True)]
        padding, counts = zip(*pairs, strict=True)
    else:
        padding = per_axis(0 if padding == "valid" else padding, axes)
        counts = [
            max((n + 2 * p - (k - 1) * d - 1) // s + 1, 0)
            for n, p, k, d, s in zip(size, padding, kernel, dilation, stride, strict=True)
        ]
    met = []
    for t in np.ndindex(*counts):
        for k in np.ndindex(*kernel):
            source = tuple(a * s + b * d - p for a, s, b, d, p in zip(t, stride, k, dilation, padding, strict=True))
            if all(0 <= i < n for i, n in zip(source, size, strict=True)):
                met.append((t, k, source))
    return tuple(counts), met


def convolve(x, w, bias=None, groups=1, **options):
    axes = w.ndim - 2
    counts, met = places(x.shape[-axes:], w.shape[2:], **options)
    outs, channels = w.shape[0] // groups, w.shape[1]
    y = np.zeros((*x.shape[: -axes - 1], w.shape[0], *counts), np.result_type(x, w))
    for g, o, c in itertools.product(range(groups), range(outs), range(channels)):
        out, channel = g * outs + o, g * channels + c
        for t, k, source in met:
            y[(..., out, *t)] += w[(out, c, *k)] * x[(..., channel, *source)]
    return y if bias is None else y + bias.reshape(-1, *(1,) * axes)


def convolve_transposed(x, w, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """What every value of x adds to the output: w, at its position."""
    axes = w.ndim - 2
    options = [per_axis(v, axes) for v in (stride, padding, dilation, output_padding)]
    size = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + e + 1
        for n, k, s, p, d, e in zip(x.shape[-axes:], w.shape[2:], *options, strict=True)
    )
    channels, outs = w.shape[0] // groups, w.shape[1]
    y = np.zeros((*x.shape[: -axes - 1], outs * groups, *size), np.result_type(x, w))
    for t in np.ndindex(*x.shape[-axes:]):
        for k in np.ndindex(*w.shape[2:]):
            target = tuple(a * s + b * d - p for a, b, s, p, d in zip(t, k, *options[:3], strict=True))
            if all(0 <= i < n for i, n in zip(target, size, strict=True)):
                for g, o, c in itertools.product(range(groups), range(outs), range(channels)):
                    channel = g * channels + c
                    y[(..., g * outs + o, *target)] += w[(channel, o, *k)] * x[(..., channel, *t)]
    return y if bias is None else y + bias.reshape(-1, *(1,) * axes)


def unfolded(x, kernel, **options):
    counts, met = places(x.shape[-2:], kernel, **options)
    out = np.zeros((*x.shape[:-2], *kernel, *counts), x.dtype)
    for t, k, source in met:
        out[(..., *k, *t)] = x[(..., *source)]
    return out.reshape(*x.shape[:-3], x.shape[-3] * np.prod(kernel), np.prod(counts))


def folded(columns, size, kernel, **options):
    counts, met = places(size, kernel, **options)
    columns = columns.reshape(*columns.shape[:-2], columns.shape[-2] // np.prod(kernel), *kernel, *counts)
    out = np.zeros((*columns.shape[:-4], *size), columns.dtype)
    for t, k, target in met:
        out[(..., *target)] += columns[(..., *k, *t)]
    return out


# -- one line each ------------------------------------------------------------------------------------------------


def line(function, reference, *shapes, text="", complex=False, **options):
    return Operation(f"{function.__name__} {text or options}", lambda *a: function(*a, **options),
                     lambda *a: reference(*a, **options), *(normal,) * len(shapes[0]), shapes=shapes,
                     complex=complex)  # fmt: skip


def windows(function, reference, *arguments, shapes, **options):
    return Operation(f"{function.__name__} {arguments} {options}", lambda x: function(x, *arguments, **options),
                     lambda x: reference(x, *arguments, **options), normal, shapes=shapes)  # fmt: skip


TABLE = [
    line(conv1d, convolve, ((2, 2, 5), (3, 2, 2), (3,)), ((2, 4), (1, 2, 3), (1,)), ((2, 3, 1, 4), (2, 1, 4), (2,)),
         ((0, 1, 4), (2, 1, 2), (2,)), ((2, 1, 4), (0, 1, 2), (0,)), ((1, 0, 3), (2, 0, 2), (2,)), ((1, 2, 0), (3, 2, 2), (3,)),
         text="with a bias"),
    line(conv1d, convolve, ((2, 2, 5), (2, 1, 2)), stride=2, padding=1, groups=2, complex=True),
    line(conv1d, convolve, ((1, 2, 6), (4, 1, 3)), dilation=2, groups=2, padding="valid"),
    line(conv1d, convolve, ((2, 5), (1, 2, 4)), ((1, 1, 1), (2, 1, 2)), padding="same"),
    line(conv1d, convolve, ((2, 7), (1, 2, 3)), padding="same", stride=3),
    line(conv2d, convolve, ((2, 3, 4), (2, 2, 2, 3), (2,)), text="with a bias"),
    line(conv2d, convolve, ((1, 2, 3, 4), (2, 1, 2, 2)), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2),
    line(conv2d, convolve, ((2, 4, 3), (2, 1, 3, 2)), padding="same", stride=(1, 2), groups=2),
    line(conv2d, convolve, ((2, 3, 2), (3, 2, 1, 1)), text="of single values"),
    line(conv3d, convolve, ((1, 2, 2, 3, 2), (2, 1, 2, 2, 1)), stride=(1, 2, 1), padding=(0, 1, 0), groups=2),
    line(conv_transpose1d, convolve_transposed, ((2, 2, 3), (2, 3, 2), (3,)), ((2, 3), (2, 1, 2), (1,)),
         ((0, 1, 3), (1, 2, 2), (2,)), ((1, 0, 3), (0, 2, 2), (2,)), text="with a bias"),
    line(conv_transpose1d, convolve_transposed, ((2, 2, 3), (2, 1, 3)), stride=3, padding=1, output_padding=2, groups=2,
         complex=True),
    line(conv_transpose1d, convolve_transposed, ((1, 3), (1, 2, 2)), dilation=3, output_padding=1),
    line(conv_transpose2d, convolve_transposed, ((1, 2, 2, 3), (2, 1, 2, 3)), stride=(2, 1), padding=(0, 1),
         output_padding=(1, 0), groups=2),
    line(conv_transpose3d, convolve_transposed, ((1, 2, 1, 2), (1, 2, 2, 1, 2)), stride=2, padding=(1, 0, 0)),
    windows(unfold, unfolded, (2, 2), shapes=[((2, 2, 3, 3),), ((1, 2, 4),), ((0, 1, 2, 2),), ((2, 0, 2, 2),)]),
    windows(unfold, unfolded, (2, 3), dilation=(2, 1), padding=(1, 0), stride=(2, 1), shapes=[((2, 4, 4),)]),
    windows(fold, folded, (3, 3), (2, 2), shapes=[((2, 8, 4),), ((4, 4),), ((0, 4, 4),), ((0, 4),)]),
    windows(fold, folded, (4, 4), (2, 3), dilation=(2, 1), padding=(1, 0), stride=(2, 1), shapes=[((12, 4),)]),
]  # fmt: skip


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("operation", TABLE, ids=str)
def test_operation(operation, check):
    check(operation)


def test_no_operation_is_missing():
    assert {operation.public_name for operation in TABLE} == set(convolution.__all__)


@pytest.mark.parametrize("operation", TABLE[:1] + TABLE[10:11], ids=str)
def test_columns_made_in_parts_are_the_same(operation, monkeypatch):
    x, w, bias = operation.arguments()
    out, pullback = mt.vjp(operation.function, x, w, bias)
    gradients = pullback(out)
    monkeypatch.setattr(convolution, "COLUMN_VALUES", 1)
    in_parts, pullback = mt.vjp(operation.function, x, w, bias)
    np.testing.assert_array_equal(in_parts.data, out.data)
    for got, want in zip(pullback(out), gradients, strict=True):
        np.testing.assert_allclose(got.data, want.data, rtol=1e-13)


def test_one_number_means_every_axis():
    x, w = normal(np.random.default_rng(0), (1, 5, 5)), np.ones((1, 1, 2, 2))
    for option in (dict(stride=2), dict(padding=1), dict(dilation=2)):
        ((name, value),) = option.items()
        np.testing.assert_array_equal(conv2d(x, w, **option).data, conv2d(x, w, **{name: (value, value)}).data)
    np.testing.assert_array_equal(fold(unfold(x, 2), 5, 2).data, fold(unfold(x, (2, 2)), (5, 5), (2, 2)).data)


# -- what is refused ----------------------------------------------------------------------------------------------

X, W = np.ones((2, 4, 5)), np.ones((6, 4, 3))
IMAGE = np.ones((2, 4, 5, 5))

ERRORS = [
    (lambda: conv1d(np.ones(5), W), mt.ShapeError, "conv1d: needs an array (..., C, X), got shape (5,)"),
    (lambda: conv2d(np.ones((4, 5)), W), mt.ShapeError, "conv2d: needs an array (..., C, Y, X), got shape (4, 5)"),
    (lambda: conv3d(X, W), mt.ShapeError, "conv3d: needs an array (..., C, Z, Y, X), got shape (2, 4, 5)"),
    (lambda: conv2d(IMAGE, W), mt.ShapeError,
     "conv2d: the weight needs 4 axes, (C_out, C_in/groups, ky, kx), got (6, 4, 3)"),
    (lambda: conv_transpose1d(X, IMAGE), mt.ShapeError,
     "conv_transpose1d: the weight needs 3 axes, (C_in, C_out/groups, kx), got (2, 4, 5, 5)"),
    (lambda: conv1d(X, np.ones((6, 4, 0))), mt.ShapeError,
     "conv1d: the kernel must not be empty, the weight has shape (6, 4, 0)"),
    (lambda: conv1d(X, W[:, :3]), mt.ShapeError,
     ("conv1d: x has 4 channels (shape (2, 4, 5)), the weight (6, 3, 3) with groups=1 takes 3; "
     "its layout is (C_out, C_in/groups, kx)")),
    (lambda: conv_transpose1d(X, W), mt.ShapeError,
     ("conv_transpose1d: x has 4 channels (shape (2, 4, 5)), the weight (6, 4, 3) with groups=1 takes 6; "
     "its layout is (C_in, C_out/groups, kx)")),
    (lambda: conv1d(X, W[:5, :1], groups=4), mt.ShapeError,
     "conv1d: 5 channels of the weight (5, 1, 3) do not divide into 4 groups"),
    (lambda: conv_transpose1d(X, W[:4], groups=3), mt.ShapeError,
     "conv_transpose1d: 4 channels of the weight (4, 4, 3) do not divide into 3 groups"),
    (lambda: conv1d(X, W, np.ones(4)), mt.ShapeError,
     "conv1d: the bias needs shape (6,), one value an output channel, got (4,)"),
    (lambda: conv1d(X, W, dilation=3), mt.ShapeError,
     "conv1d: a kernel of 3 (spanning 7 with dilation 3) does not fit on spatial axis 0 of 5 values with padding 0 + 0"),
    (lambda: conv1d(X, W, stride=0), ValueError, "conv1d: stride must be an integer >= 1 or 1 of them, got 0"),
    (lambda: conv2d(IMAGE, np.ones((1, 4, 2, 2)), dilation=(1, 2, 3)), ValueError,
     "conv2d: dilation must be an integer >= 1 or 2 of them, got (1, 2, 3)"),
    (lambda: conv1d(X, W, padding=-1), ValueError, "conv1d: padding must be an integer >= 0 or 1 of them, got -1"),
    (lambda: conv1d(X, W, padding=0.5), ValueError, "conv1d: padding must be an integer >= 0 or 1 of them, got 0.5"),
    (lambda: conv1d(X, W, padding="full"), ValueError,
     "conv1d: padding must be 'same', 'valid', an integer or 1 of them, got 'full'"),
    (lambda: conv1d(X, W, groups=True), ValueError, "conv1d: groups must be an integer >= 1 or 1 of them, got True"),
    (lambda: conv_transpose1d(X, W[:4], stride=2, output_padding=2), ValueError,
     "conv_transpose1d: output_padding (2,) must be below the stride (2,) or the dilation (1,)"),
    (lambda: conv_transpose1d(X, W[:4], padding=4), mt.ShapeError,
     "conv_transpose1d: the output would have the spatial shape (-1,); less padding, or a larger input"),
    (lambda: unfold(np.ones((5, 5)), 2), mt.ShapeError, "unfold: needs an array (..., C, Y, X), got shape (5, 5)"),
    (lambda: unfold(IMAGE, 6), mt.ShapeError,
     "unfold: a kernel of 6 (spanning 6 with dilation 1) does not fit on spatial axis 0 of 5 values with padding 0 + 0"),
    (lambda: fold(np.ones((2, 8, 5)), 3, 2), mt.ShapeError,
     ("fold: images of (3, 3) have 4 windows of 4 values a channel, so x must have the shape (..., C·4, 4), "
     "got (2, 8, 5)")),
    (lambda: fold(np.ones((2, 8, 4)), (3, 3, 3), 2), ValueError,
     "fold: output_size must be an integer >= 1 or 2 of them, got (3, 3, 3)"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=[message for _, _, message in ERRORS])
def test_refuses(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
