"""``mt.fft``, one line a transform: against the sums that define them, in all layouts, and its derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from operation_table import CHECKS, Operation, normal

import minitf as mt

LINES = (((3, 4),), ((5,),), ((1,),), ((0, 3),), ((2, 1, 2),))
PLANES = (((3, 4),), ((2, 3, 2),), ((0, 2, 3),), ((2, 1),))


# -- the definitions ----------------------------------------------------------------------------------------------


def scale(n, sign, norm):
    """A transform and its inverse are scaled by 1/n together."""
    divided = {"backward": sign > 0, "ortho": None, "forward": sign < 0}[norm or "backward"]
    return n**-0.5 if divided is None else 1 / n if divided else 1.0


def sized(x, n, axis):
    """The first ``n`` values, and zeros after those that there are."""
    out = np.zeros((*x.shape[:axis], n, *x.shape[axis + 1 :]), x.dtype)
    kept = (slice(None),) * axis + (slice(min(n, x.shape[axis])),)
    out[kept] = x[kept]
    return out


def transform(x, n=None, axis=-1, norm=None, *, sign=-1):
    """out_k = Σ_j x_j exp(sign 2πi jk/n)."""
    axis %= x.ndim
    n = n or x.shape[axis]
    x = sized(x, n, axis)
    out = np.zeros(x.shape, complex)
    for k in range(n):
        for j in range(n):
            at = (slice(None),) * axis
            out[(*at, k)] += x[(*at, j)] * np.exp(sign * 2j * np.pi * j * k / n)
    return out * scale(n, sign, norm)


def inverse(x, n=None, axis=-1, norm=None):
    return transform(x, n, axis, norm, sign=1)


def of_real(x, n=None, axis=-1, norm=None):
    axis %= x.ndim
    n = n or x.shape[axis]
    return transform(x, n, axis, norm)[(slice(None),) * axis + (slice(n // 2 + 1),)]


def to_real(x, n=None, axis=-1, norm=None):
    """The inverse of the spectrum whose other half is the conjugate of this one; only real parts where there is none."""
    axis %= x.ndim
    n = n or 2 * (x.shape[axis] - 1)
    half = np.moveaxis(sized(x, n // 2 + 1, axis), axis, -1)
    full = np.zeros((*half.shape[:-1], n), complex)
    for k in range(n // 2 + 1):
        single = k in (0, n - k)
        full[..., k] = half[..., k].real if single else half[..., k]
        if not single:
            full[..., n - k] = half[..., k].conj()
    return np.moveaxis(inverse(full, norm=norm).real, -1, axis)


def over(first, others):
    """The transform ``first`` along the last of several axes, and ``others`` along the rest."""

    def several(x, s=None, axes=(-2, -1), norm=None):
        sizes = [None] * len(axes) if s is None else s
        steps = [(others, n, a) for n, a in zip(sizes[:-1], axes[:-1], strict=True)]
        steps.insert(len(steps) if first is to_real else 0, (first, sizes[-1], axes[-1]))
        for of, n, axis in steps:
            x = of(x, n, axis, norm)
        return x

    return several


# -- one line each ------------------------------------------------------------------------------------------------

OF_LINES = {"fft": transform, "ifft": inverse, "rfft": of_real, "irfft": to_real}
OF_PLANES = {"fft": over(transform, transform), "ifft": over(inverse, inverse), "rfft": over(of_real, transform),
             "irfft": over(to_real, inverse)}  # fmt: skip
OPTIONS = [dict(norm="ortho"), dict(norm="forward"), dict(n=3), dict(n=6, axis=0), dict(n=1)]
SOME = [dict(s=(4, 3)), dict(s=(2, 2), axes=(1, 0)), dict(axes=(0,), norm="ortho")]


def line(name, options, reference, shapes, text=""):
    ours = getattr(mt.fft, name)
    return Operation(f"{name} {text}", lambda x: ours(x, **options), lambda x: reference(x, **options), normal,
                     shapes=shapes, complex=not name.startswith("rfft"))  # fmt: skip


def along_all(reference):
    return lambda x, **options: reference(x, axes=tuple(range(x.ndim)), **options)


TABLE = [
    *(line(n, {}, r, LINES if n != "irfft" else [s for s in LINES if s[0][-1] > 1]) for n, r in OF_LINES.items()),
    *(line(n, o, r, [((3, 4),)], str(o)) for n, r in OF_LINES.items() for o in OPTIONS),
    *(line(f"{n}2", {}, r, PLANES[: -1 if n == "irfft" else None]) for n, r in OF_PLANES.items()),
    *(line(f"{n}n", {}, along_all(r), [((2, 3, 2),), ((4,),)]) for n, r in OF_PLANES.items()),
    *(line(f"{n}n", o, r, [((3, 4),)], str(o)) for n, r in OF_PLANES.items() for o in SOME),
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("operation", TABLE, ids=str)
def test_operation(operation, check):
    check(operation)


def test_no_transform_is_missing():
    assert {operation.public_name for operation in TABLE} == set(mt.fft.__all__)


# -- what is refused ----------------------------------------------------------------------------------------------

R23 = np.ones((2, 3))
LENGTH = "the signal's length must be a positive integer, got"

ERRORS = [
    (lambda: mt.fft.fft(R23, axis=2), mt.ShapeError, "fft: axis 2 is out of range for an array of 2 dimensions"),
    (lambda: mt.fft.fft(1.0), mt.ShapeError, "fft: axis -1 is out of range for an array of 0 dimensions"),
    (lambda: mt.fft.ifft(R23, 0), mt.ShapeError, f"ifft: {LENGTH} 0 (axis 1 of (2, 3))"),
    (lambda: mt.fft.fft(R23, 2.0), mt.ShapeError, f"fft: {LENGTH} 2.0 (axis 1 of (2, 3))"),
    (lambda: mt.fft.fft(np.ones((2, 0))), mt.ShapeError, f"fft: {LENGTH} 0 (axis 1 of (2, 0))"),
    (lambda: mt.fft.irfft(np.ones((2, 1))), mt.ShapeError, f"irfft: {LENGTH} 0 (axis 1 of (2, 1))"),
    (lambda: mt.fft.rfft(R23, norm="unitary"), ValueError,
     "rfft: norm must be 'backward', 'ortho' or 'forward', got 'unitary'"),
    (lambda: mt.fft.rfft(R23 + 1j), TypeError, "rfft: needs real values, got complex128 (2, 3); use fft"),
    (lambda: mt.fft.rfft2(R23 + 1j), TypeError, "rfft2: needs real values, got complex128 (2, 3); use fft2"),
    (lambda: mt.fft.fftn(R23, s=(2, 3, 4)), mt.ShapeError, "fftn: 3 sizes for an array of 2 dimensions"),
    (lambda: mt.fft.fft2(R23, s=(2,)), mt.ShapeError, "fft2: 1 sizes for 2 axes"),
    (lambda: mt.fft.ifft2(R23, axes=(0, -2)), mt.ShapeError,
     "ifft2: axes must name at least one axis, and each once, got (0, -2)"),
    (lambda: mt.fft.rfftn(R23, axes=()), mt.ShapeError,
     "rfftn: axes must name at least one axis, and each once, got ()"),
    (lambda: mt.fft.irfft2(np.ones(3)), mt.ShapeError, "irfft2: axis -2 is out of range for an array of 1 dimensions"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=[message for _, _, message in ERRORS])
def test_refuses(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
