"""``interpolate``, one line a mode: against loops over every output value and its neighbours, and its derivatives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from operation_table import CHECKS, Operation, normal

import minitf as mt
from minitf.autodiff.ops import resample
from minitf.autodiff.ops.resample import interpolate

# -- the definitions, for a line of values ------------------------------------------------------------------------


def nearest(line, count, step, align_corners):
    return [line[min(math.floor(i * step), len(line) - 1)] for i in range(count)]


def nearest_exact(line, count, step, align_corners):
    return [line[min(math.floor((i + 0.5) * step), len(line) - 1)] for i in range(count)]


def place(i, n, count, step, align_corners):
    """Where output value i lies among n values."""
    if align_corners:
        return i * (n - 1) / (count - 1) if count > 1 else 0.0
    return (i + 0.5) * step - 0.5


def linear(line, count, step, align_corners):
    out = []
    for i in range(count):
        at = max(place(i, len(line), count, step, align_corners), 0.0)
        low = min(math.floor(at), len(line) - 1)
        high = min(low + 1, len(line) - 1)
        out.append((1 - (at - low)) * line[low] + (at - low) * line[high])
    return out


def keys(d, a):
    """The cubic convolution filter."""
    d = abs(d)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def cubic(line, count, step, align_corners):
    out = []
    for i in range(count):
        at = place(i, len(line), count, step, align_corners)
        taps = range(math.floor(at) - 1, math.floor(at) + 3)
        out.append(sum(keys(at - j, -0.75) * line[min(max(j, 0), len(line) - 1)] for j in taps))
    return out


def antialiased(width, filter):
    """A filter as wide as ``step`` input values, cut at the ends, its weights made to sum to 1."""

    def line_of(line, count, step, align_corners):
        out, stretch = [], max(step, 1.0)
        for i in range(count):
            center = (i + 0.5) * step
            taps = [j for j in range(len(line)) if abs(j + 0.5 - center) < width * stretch]
            weights = [filter((j + 0.5 - center) / stretch) for j in taps]
            out.append(sum(w * line[j] for w, j in zip(weights, taps, strict=True)) / sum(weights))
        return out

    return line_of


def resized(of, x, size=None, scale_factor=None, align_corners=False, recompute_scale_factor=False):
    for axis in range(2, x.ndim):
        n, i = x.shape[axis], axis - 2
        if size is not None:
            count = size[i] if isinstance(size, tuple) else size
            step = n / count
        else:
            factor = scale_factor[i] if isinstance(scale_factor, tuple) else scale_factor
            count = math.floor(n * factor)
            step = n / count if recompute_scale_factor else 1 / factor
        x = np.apply_along_axis(lambda line, c=count, s=step: np.stack(of(line, c, s, align_corners)), axis, x)
    return x


# -- one line each ------------------------------------------------------------------------------------------------

FILTERS = {
    "nearest": nearest, "nearest-exact": nearest_exact, "linear": linear, "bilinear": linear, "trilinear": linear,
    "bicubic": cubic,
}  # fmt: skip
ANTIALIASED = {"bilinear": antialiased(1, lambda d: 1 - abs(d)), "bicubic": antialiased(2, lambda d: keys(d, -0.5))}


def line(mode, *shapes, antialias=False, **options):
    of = (ANTIALIASED if antialias else FILTERS)[mode]
    text = f"interpolate {mode} {options}{' antialias' if antialias else ''}"
    return Operation(text, lambda x: interpolate(x, mode=mode, antialias=antialias, **options),
                     lambda x: resized(of, x, **options), normal, shapes=[(shape,) for shape in shapes])  # fmt: skip


EXTENTS = [dict(size=7), dict(size=3), dict(size=1), dict(scale_factor=1.7), dict(scale_factor=0.6)]
TABLE = [
    *(line(mode, (1, 2, 5), **extent) for mode in ("nearest", "nearest-exact") for extent in EXTENTS),
    *(line("linear", (1, 2, 5), align_corners=c, **extent) for c in (True, False) for extent in EXTENTS),
    line("nearest", (1, 2, 3, 2), (2, 1, 1, 1), size=(2, 4)),
    line("bilinear", (1, 2, 3, 4), (2, 1, 1, 1), size=(5, 2)),
    line("bilinear", (1, 1, 3, 4), scale_factor=(2, 0.6), align_corners=True),
    line("bilinear", (1, 1, 3, 4), scale_factor=1.7, recompute_scale_factor=True),
    line("bicubic", (1, 1, 4, 5), (2, 1, 1, 1), size=(6, 3)),
    line("bicubic", (1, 1, 4, 5), scale_factor=(1.3, 2), align_corners=True),
    line("trilinear", (1, 1, 2, 3, 2), size=(3, 2, 4)),
    *(line(mode, (1, 1, 7, 6), size=(3, 8), antialias=True) for mode in ANTIALIASED),
    *(line(mode, (1, 1, 7, 6), scale_factor=0.45, antialias=True) for mode in ANTIALIASED),
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("operation", TABLE, ids=str)
def test_operation(operation, check):
    check(operation)


@pytest.mark.parametrize("mode", FILTERS)
@pytest.mark.parametrize("lead", [(0, 2), (2, 0)])
def test_no_images_and_no_channels(mode, lead):
    axes = {"linear": 1, "trilinear": 3}.get(mode, 2)
    out, pullback = mt.vjp(lambda x: interpolate(x, 3, mode=mode), np.zeros((*lead, *(2,) * axes)))
    assert out.shape == (*lead, *(3,) * axes)
    assert pullback(out)[0].shape == (*lead, *(2,) * axes)


def test_no_mode_is_missing():
    assert set(FILTERS) == set(resample._MODES)
    assert resample.__all__ == ["interpolate"]


def test_the_same_size_is_the_same_image():
    x = normal(np.random.default_rng(0), (1, 1, 4, 5))
    for mode in ("nearest", "bilinear", "bicubic"):
        np.testing.assert_array_equal(interpolate(x, (4, 5), mode=mode).data, x)


def test_a_mean_is_kept_in_bfloat16():
    """Weights are not rounded: thirds of equal values add up to that value."""
    x = mt.astype(np.full((1, 1, 5, 5), 1.5), "bfloat16")
    out = interpolate(x, 3, mode="bilinear", antialias=True)
    assert out.dtype == x.dtype
    assert (out == 1.5).data.all()


# -- what is refused ----------------------------------------------------------------------------------------------

X, IMAGE = np.ones((1, 2, 5)), np.ones((1, 2, 4, 5))

ERRORS = [
    (lambda: interpolate(X, 3, mode="lanczos"), ValueError,
     "interpolate: mode must be one of nearest, nearest-exact, linear, bilinear, trilinear, bicubic, got 'lanczos'"),
    (lambda: interpolate(np.ones((2, 5)), 3), mt.ShapeError,
     "interpolate: mode 'nearest' needs x (B, C, ...) with at least one spatial axis, got shape (2, 5)"),
    (lambda: interpolate(X, 3, mode="bicubic"), mt.ShapeError,
     "interpolate: mode 'bicubic' needs x (B, C, ...) with 2 spatial axes, got shape (1, 2, 5)"),
    (lambda: interpolate(IMAGE, 3, mode="linear"), mt.ShapeError,
     "interpolate: mode 'linear' needs x (B, C, ...) with one spatial axis, got shape (1, 2, 4, 5)"),
    (lambda: interpolate(X, 3, align_corners=False), ValueError,
     "interpolate: align_corners has no meaning for mode 'nearest'; leave it out"),
    (lambda: interpolate(X, 3, mode="linear", antialias=True), ValueError,
     "interpolate: antialias is for modes bilinear and bicubic without align_corners"),
    (lambda: interpolate(IMAGE, 3, mode="bilinear", antialias=True, align_corners=True), ValueError,
     "interpolate: antialias is for modes bilinear and bicubic without align_corners"),
    (lambda: interpolate(X[..., :0], 3), mt.ShapeError,
     "interpolate: the spatial axes must not be empty, got shape (1, 2, 0)"),
    (lambda: interpolate(X), ValueError, "interpolate: give either size or scale_factor"),
    (lambda: interpolate(X, 3, 2.0), ValueError, "interpolate: give either size or scale_factor"),
    (lambda: interpolate(X, 2.5), ValueError, "interpolate: size must be a positive integer or 1 of them, got 2.5"),
    (lambda: interpolate(IMAGE, (3, 0)), ValueError,
     "interpolate: size must be a positive integer or 2 of them, got (3, 0)"),
    (lambda: interpolate(IMAGE, (3, 3, 3)), ValueError,
     "interpolate: size must be a positive integer or 2 of them, got (3, 3, 3)"),
    (lambda: interpolate(X, scale_factor=-1.0), ValueError,
     "interpolate: scale_factor must be a positive number or 1 of them, got -1.0"),
    (lambda: interpolate(X, scale_factor=0.1), mt.ShapeError,
     "interpolate: scale_factor 0.1 leaves nothing of the spatial shape (5,)"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=[message for _, _, message in ERRORS])
def test_refuses(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
