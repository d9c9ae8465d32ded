"""Operations against PyTorch in float64: values, and gradients along one random cotangent."""

from __future__ import annotations

import numpy as np
import pytest

import minitf as mt
from minitf.autodiff.ops import convolution, pooling, resample

torch = pytest.importorskip("torch")
F = torch.nn.functional

pytestmark = pytest.mark.cross


def agree(ours, theirs, *arrays, tolerance=1e-11):
    """Both functions on the same arrays: equal outputs and, for one cotangent, equal gradients."""
    rng = np.random.default_rng(0)
    out, pullback = mt.vjp(ours, *arrays)
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
    expected = theirs(*leaves)
    np.testing.assert_allclose(out.data, expected.detach().numpy(), rtol=tolerance, atol=tolerance)
    g = rng.standard_normal(out.shape)
    if out.dtype.kind == "c":
        g = g + 1j * rng.standard_normal(out.shape)
    expected.backward(torch.tensor(g))
    for i, (got, leaf) in enumerate(zip(pullback(g), leaves, strict=True)):
        np.testing.assert_allclose(got.data, leaf.grad.numpy(), rtol=tolerance, atol=tolerance, err_msg=f"argument {i}")


def normal(*shape, dtype=float):
    rng = np.random.default_rng(len(shape) + sum(shape))
    x = rng.standard_normal(shape)
    return x + 1j * rng.standard_normal(shape) if dtype is complex else x


CONVOLUTIONS = [
    # x, weight, options
    ((2, 4, 9), (6, 4, 3), {}),
    ((2, 4, 9), (6, 2, 3), dict(stride=2, padding=1, groups=2)),
    ((2, 4, 9), (4, 1, 4), dict(padding="same", groups=4)),
    ((4, 9), (6, 4, 3), dict(padding="valid", dilation=2)),
    ((2, 3, 8, 7), (5, 3, 3, 2), {}),
    ((2, 4, 8, 7), (6, 2, 3, 2), dict(stride=(2, 3), padding=(1, 2), dilation=(2, 1), groups=2)),
    ((2, 4, 8, 7), (8, 1, 3, 3), dict(padding="same", groups=4)),
    ((2, 3, 8, 7), (5, 3, 1, 1), {}),
    ((1, 2, 4, 5, 6), (3, 2, 2, 3, 2), dict(stride=2, padding=1)),
    ((1, 2, 4, 5, 6), (4, 1, 2, 3, 2), dict(padding=(0, 1, 1), dilation=(1, 2, 1), groups=2)),
]


@pytest.mark.parametrize(("x", "w", "options"), CONVOLUTIONS)
@pytest.mark.parametrize("parts", [1 << 22, 100])
def test_convolution(x, w, options, parts, monkeypatch):
    monkeypatch.setattr(convolution, "COLUMN_VALUES", parts)
    name = f"conv{len(w) - 2}d"
    agree(
        lambda a, b, c: getattr(convolution, name)(a, b, c, **options),
        lambda a, b, c: getattr(F, name)(a, b, c, **options),
        normal(*x), normal(*w), normal(w[0]),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("x", "w", "options"),
    [
        ((2, 4, 5), (4, 3, 3), {}),
        ((2, 4, 5), (4, 3, 3), dict(stride=3, padding=1, output_padding=2, dilation=2, groups=2)),
        ((2, 4, 5), (4, 3, 3), dict(stride=1, padding=1, output_padding=2, dilation=3)),
        ((2, 3, 4, 5), (3, 2, 3, 2), dict(stride=2)),
        ((2, 4, 4, 5), (4, 3, 3, 3), dict(stride=(2, 3), padding=(1, 0), output_padding=(1, 2), groups=2)),
        ((2, 4, 4, 5), (4, 3, 2, 3), dict(stride=(2, 1), padding=2, dilation=(3, 2))),
        ((1, 2, 3, 2, 3), (2, 2, 2, 3, 2), dict(stride=2, padding=1, output_padding=1)),
    ],
)
def test_transposed_convolution(x, w, options):
    name = f"conv_transpose{len(w) - 2}d"
    agree(
        lambda a, b, c: getattr(convolution, name)(a, b, c, **options),
        lambda a, b, c: getattr(F, name)(a, b, c, **options),
        normal(*x), normal(*w), normal(w[1] * options.get("groups", 1)),
    )  # fmt: skip


def test_complex_convolution():
    x, w = normal(2, 4, 7, dtype=complex), normal(6, 2, 3, dtype=complex)
    options = dict(stride=2, padding=1, groups=2)
    agree(lambda a, b: convolution.conv1d(a, b, **options), lambda a, b: F.conv1d(a, b, **options), x, w)


POOLS = [
    ("max_pool1d", (2, 3, 10), (3,), dict(stride=2, padding=1)),
    ("max_pool1d", (2, 3, 10), (3,), dict(stride=2, ceil_mode=True)),
    ("max_pool2d", (2, 3, 7, 9), (2,), {}),
    ("max_pool2d", (2, 3, 7, 9), ((3, 2),), dict(stride=(2, 1), padding=(1, 1), dilation=(2, 1))),
    ("max_pool2d", (2, 3, 8, 9), (3,), dict(stride=2, padding=1, ceil_mode=True)),
    ("avg_pool1d", (2, 3, 10), (3,), dict(stride=2, padding=1, count_include_pad=False)),
    ("avg_pool1d", (2, 3, 10), (4,), dict(stride=3, padding=2, ceil_mode=True)),
    ("avg_pool2d", (2, 3, 7, 9), (2,), {}),
    ("avg_pool2d", (2, 3, 8, 9), (3,), dict(stride=2, padding=1, ceil_mode=True)),
    ("avg_pool2d", (2, 3, 8, 9), (3,), dict(stride=2, padding=1, ceil_mode=True, count_include_pad=False)),
    ("avg_pool2d", (2, 3, 8, 9), ((3, 2),), dict(stride=(1, 2), padding=(1, 0), divisor_override=5)),
    ("adaptive_avg_pool1d", (2, 3, 10), (4,), {}),
    ("adaptive_avg_pool2d", (2, 3, 7, 9), (3,), {}),
    ("adaptive_avg_pool2d", (2, 3, 7, 9), ((None, 5),), {}),
    ("adaptive_avg_pool2d", (2, 3, 4, 3), ((6, 7),), {}),
]


@pytest.mark.parametrize(("name", "shape", "positional", "options"), POOLS)
def test_pooling(name, shape, positional, options):
    agree(
        lambda x: getattr(pooling, name)(x, *positional, **options),
        lambda x: getattr(F, name)(x, *positional, **options),
        normal(*shape),
    )


@pytest.mark.parametrize("options", [{}, dict(dilation=2, padding=1), dict(stride=(2, 3), padding=(1, 0))])
def test_unfold_and_fold(options):
    x = normal(2, 3, 6, 7)
    agree(lambda a: convolution.unfold(a, (3, 2), **options), lambda a: F.unfold(a, (3, 2), **options), x)
    columns = convolution.unfold(x, (3, 2), **options).data
    agree(
        lambda a: convolution.fold(a, (6, 7), (3, 2), **options),
        lambda a: F.fold(a, (6, 7), (3, 2), **options),
        normal(*columns.shape),
    )


RESIZES = [
    (shape, dict(mode=mode, **extent, **corners))
    for modes, shape, extents in [
        (("nearest", "nearest-exact", "linear"), (2, 3, 7), [dict(size=11), dict(size=4), dict(scale_factor=1.7)]),
        (
            ("nearest", "bilinear", "bicubic"),
            (2, 2, 5, 6),
            [dict(size=(8, 3)), dict(size=1), dict(scale_factor=(2, 0.6)), dict(scale_factor=2.0)],
        ),
        (("trilinear",), (1, 2, 3, 4, 5), [dict(size=(4, 2, 7))]),
    ]
    for mode in modes
    for extent in extents
    for corners in ([{}] if "nearest" in mode else [dict(align_corners=True), dict(align_corners=False)])
]


@pytest.mark.parametrize(("shape", "options"), RESIZES, ids=str)
def test_interpolate(shape, options):
    agree(lambda x: resample.interpolate(x, **options), lambda x: F.interpolate(x, **options), normal(*shape))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("extent", [dict(size=(3, 4)), dict(size=(13, 5)), dict(scale_factor=0.45)], ids=str)
def test_interpolate_antialias(mode, extent):
    options = dict(mode=mode, antialias=True, **extent)
    agree(lambda x: resample.interpolate(x, **options), lambda x: F.interpolate(x, **options), normal(1, 2, 9, 10))


def test_interpolate_recomputes_its_scale():
    options = dict(mode="bilinear", scale_factor=1.7, recompute_scale_factor=True, align_corners=False)
    agree(lambda x: resample.interpolate(x, **options), lambda x: F.interpolate(x, **options), normal(1, 2, 5, 6))


@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
@pytest.mark.parametrize("n", [None, 5, 8, 9])
@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft"])
def test_fourier_transforms(name, n, norm):
    x = normal(3, 7, 2, dtype=float if name == "rfft" else complex)
    agree(
        lambda a: getattr(mt.fft, name)(a, n, 1, norm),
        lambda a: getattr(torch.fft, name)(a, n, 1, norm),
        x,
    )


@pytest.mark.parametrize("name", ["fft2", "ifft2", "rfft2", "irfft2", "fftn", "ifftn", "rfftn", "irfftn"])
@pytest.mark.parametrize("s", [None, (4, 7)])
def test_fourier_transforms_over_several_axes(name, s):
    x = normal(3, 6, 5, dtype=float if name.startswith("rfft") else complex)
    agree(lambda a: getattr(mt.fft, name)(a, s), lambda a: getattr(torch.fft, name)(a, s), x)


def spd(n, dtype=float):
    a = normal(2, n, n, dtype=dtype)
    return a @ a.conj().swapaxes(-1, -2) + n * np.eye(n)


@pytest.mark.parametrize("dtype", [float, complex])
class TestLinearAlgebra:
    def test_solve(self, dtype):
        a, b = normal(2, 1, 4, 4, dtype=dtype) + 3 * np.eye(4), normal(3, 4, 2, dtype=dtype)
        agree(mt.linalg.solve, torch.linalg.solve, a, b)
        agree(mt.linalg.solve, torch.linalg.solve, a[0, 0], b[0, :, 0])

    @pytest.mark.parametrize("lower", [True, False])
    @pytest.mark.parametrize("unit", [True, False])
    def test_solve_triangular(self, dtype, lower, unit):
        a, b = normal(2, 4, 4, dtype=dtype) + 3 * np.eye(4), normal(4, 3, dtype=dtype)
        agree(
            lambda a, b: mt.linalg.solve_triangular(a, b, lower=lower, unit_diagonal=unit),
            lambda a, b: torch.linalg.solve_triangular(a, b, upper=not lower, unitriangular=unit),
            a, b,
        )  # fmt: skip

    def test_inverse_and_determinants(self, dtype):
        a = normal(2, 4, 4, dtype=dtype)
        agree(mt.linalg.inv, torch.linalg.inv, a)
        agree(mt.linalg.det, torch.linalg.det, a)
        agree(lambda a: mt.linalg.slogdet(a)[1], lambda a: torch.linalg.slogdet(a)[1], a)
        if dtype is complex:
            agree(lambda a: mt.linalg.slogdet(a)[0], lambda a: torch.linalg.slogdet(a)[0], a)

    def test_cholesky(self, dtype):
        # PyTorch lets an imaginary cotangent of the real diagonal leak into a gradient that is not Hermitian
        agree(mt.linalg.cholesky, lambda a: torch.linalg.cholesky((a + a.mH) / 2), spd(4, dtype))

    def test_eigh(self, dtype):
        def ours(a):
            w, v = mt.linalg.eigh(a)
            return w, (v * mt.exp(w * 0.1)[:, None]) @ mt.conj(v).mT

        def theirs(a):
            w, v = torch.linalg.eigh(a)
            return w, (v * torch.exp(w * 0.1)[:, None]) @ v.conj().mT

        for i in range(2):
            agree(lambda a, i=i: ours(a)[i], lambda a, i=i: theirs(a)[i], spd(4, dtype), tolerance=1e-10)
        agree(mt.linalg.eigvalsh, torch.linalg.eigvalsh, spd(4, dtype))

    @pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5)])
    def test_svd(self, dtype, shape):
        def ours(a):
            u, s, vh = mt.linalg.svd(a)
            return (u * mt.sin(s)[:, None]) @ vh

        def theirs(a):
            u, s, vh = torch.linalg.svd(a, full_matrices=False)
            return (u * torch.sin(s)[:, None]) @ vh

        a = normal(2, *shape, dtype=dtype)
        agree(ours, theirs, a, tolerance=1e-10)
        agree(mt.linalg.svdvals, torch.linalg.svdvals, a)
        agree(lambda a: mt.linalg.svd(a)[1], lambda a: torch.linalg.svd(a)[1], a)

    @pytest.mark.parametrize("order", [None, 0.5, 1, 2, 3, np.inf, -np.inf])
    def test_vector_norms(self, dtype, order):
        if order is None:
            agree(mt.linalg.norm, torch.linalg.norm, normal(2, 4, dtype=dtype))
        else:
            agree(
                lambda x: mt.linalg.norm(x, order, axis=1, keepdims=True),
                lambda x: torch.linalg.vector_norm(x, order, dim=1, keepdim=True),
                normal(2, 4, 3, dtype=dtype),
            )

    @pytest.mark.parametrize("order", ["fro", "nuc", 2, -2, 1, -1, np.inf, -np.inf])
    def test_matrix_norms(self, dtype, order):
        agree(
            lambda x: mt.linalg.norm(x, order, axis=(2, 0)),
            lambda x: torch.linalg.matrix_norm(x, order, dim=(2, 0)),
            normal(3, 2, 4, dtype=dtype),
        )
