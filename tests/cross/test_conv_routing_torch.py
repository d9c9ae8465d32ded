"""Convolutions, the largest entries and routing against PyTorch, on arrays large enough that kernels run."""

import numpy as np
import pytest

import minitf as mt
from minitf.feedforward.routing import assign, combine, dispatch
from minitf.nn import functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional
pytestmark = pytest.mark.cross

RNG = np.random.default_rng(0)
EXPERTS = RNG.random((90, 8)).argsort(axis=1)[:, :2]
ROUTES = assign(EXPERTS, 8)


def convolution(name, x, w, **options):
    ours, theirs = getattr(F, name), getattr(TF, name)
    return lambda x, w: ours(x, w, **options), lambda x, w: theirs(x, w, **options), (x, w)


def experts(x, weights):
    """The tokens of expert e times e, and back."""
    scale = np.repeat(np.arange(8), ROUTES.counts)[:, None]
    rows = dispatch(x, ROUTES.tokens) * scale
    return combine(rows, ROUTES.tokens, ROUTES.of_rows(weights), len(EXPERTS))


def experts_torch(x, weights):
    flat = torch.tensor(EXPERTS).reshape(-1)
    order = flat.argsort(stable=True)
    rows = x.index_select(0, order // 2) * flat[order][:, None]
    return torch.zeros_like(x).index_add_(0, order // 2, rows * weights.reshape(-1)[order][:, None])


normal = RNG.standard_normal
CASES = {
    "dense": convolution("conv2d", normal((2, 5, 33, 35)), normal((7, 5, 3, 3)), padding=1),
    "strides": convolution("conv2d", normal((2, 4, 33, 35)), normal((6, 2, 3, 5)), stride=(2, 3), padding=(0, 2),
                           dilation=(2, 1), groups=2),
    "depthwise": convolution("conv2d", normal((2, 9, 25, 26)), normal((9, 1, 7, 7)), padding=3, groups=9),
    "depthwise, strides": convolution("conv2d", normal((2, 9, 25, 26)), normal((18, 1, 3, 4)), stride=2, padding=1,
                                      dilation=(1, 3), groups=9),
    "patches": convolution("conv2d", normal((2, 3, 48, 64)), normal((20, 3, 16, 16)), stride=16),
    "single values": convolution("conv2d", normal((2, 6, 25, 27)), normal((5, 6, 1, 1))),
    "transposed": convolution("conv_transpose2d", normal((2, 6, 20, 21)), normal((6, 4, 3, 3)), stride=2, padding=1,
                              output_padding=1),
    "one axis": convolution("conv1d", normal((3, 8, 300)), normal((8, 1, 5)), padding=2, groups=8),
    "top_k": (lambda x: mt.top_k(x, 9)[0], lambda x: torch.topk(x, 9)[0], (normal((30, 400)),)),
    "experts": (experts, experts_torch, (normal((90, 64)), normal((90, 2)))),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name, dtype):
    ours, theirs, inputs = CASES[name]
    arrays = [x.astype(dtype) for x in inputs]
    leaves = [torch.tensor(x, requires_grad=True) for x in arrays]
    expected = theirs(*leaves)
    out, pullback = mt.vjp(ours, *arrays)
    assert out.dtype == dtype
    g = np.random.default_rng(1).standard_normal(out.shape).astype(dtype)
    pairs = zip(
        (out, *pullback(g)), (expected.detach(), *torch.autograd.grad(expected, leaves, torch.tensor(g))), strict=True
    )
    for got, want in pairs:
        largest = np.abs(want.numpy()).max()
        np.testing.assert_allclose(got.data, want, rtol=0, atol=largest * (1e-13 if dtype == "float64" else 2e-6))


def test_places_of_the_largest():
    x = normal((30, 400)).astype(np.float32)
    np.testing.assert_array_equal(mt.top_k(x, 9)[1].data, torch.topk(torch.tensor(x), 9)[1])
