"""The kernels of a training step against PyTorch, on arrays large enough that kernels run: values, gradients, steps."""

import numpy as np
import pytest

import minitf as mt
from minitf import nn, optim
from minitf.nn import functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional
pytestmark = pytest.mark.cross

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((2, 3, 50, 120)) * 2
W, B = RNG.standard_normal((2, 120))
IMAGE = RNG.standard_normal((4, 12, 9, 13))
TARGET = RNG.integers(0, 120, (3, 50))
TARGET[0, :7] = -100
IDS = RNG.integers(0, 40, (3, 60))

CASES = {
    "layer_norm": (F.layer_norm, lambda x, w, b: TF.layer_norm(x, (120,), w, b), (X, W, B)),
    "rms_norm": (F.rms_norm, lambda x, w: TF.rms_norm(x, (120,), w, 1e-6), (X, W)),
    "group_norm": (
        lambda x, w, b: F.group_norm(x, 3, w, b),
        lambda x, w, b: TF.group_norm(x, 3, w, b),
        (IMAGE, W[:12], B[:12]),
    ),
    "silu": (F.silu, TF.silu, (X,)),
    "gelu": (F.gelu, TF.gelu, (X,)),
    "gelu_tanh": (lambda x: F.gelu(x, "tanh"), lambda x: TF.gelu(x, approximate="tanh"), (X,)),
    "squared_relu": (F.squared_relu, lambda x: TF.relu(x) ** 2, (X,)),
    "swiglu": (F.swiglu, lambda x, y: TF.silu(x) * y, (X, Y)),
    "geglu": (F.geglu, lambda x, y: TF.gelu(x) * y, (X, Y)),
    "geglu_tanh": (
        lambda x, y: F.geglu(x, y, approximate="tanh"),
        lambda x, y: TF.gelu(x, approximate="tanh") * y,
        (X, Y),
    ),
    "reglu": (F.reglu, lambda x, y: TF.relu(x) * y, (X, Y)),
    "glu": (F.glu, TF.glu, (X,)),
    "embedding": (lambda w: F.embedding(IDS, w), lambda w: TF.embedding(torch.tensor(IDS), w), (X[0, :40],)),
}
for smoothing in (0.0, 0.1):
    CASES[f"cross_entropy_{smoothing}"] = (
        lambda x, s=smoothing: F.cross_entropy(x, TARGET, label_smoothing=s),
        lambda x, s=smoothing: TF.cross_entropy(
            torch.movedim(x, -1, 1), torch.tensor(TARGET), label_smoothing=s
        ),
        (X,),
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name, dtype):
    ours, theirs, inputs = CASES[name]
    tolerance = {"rtol": 1e-12, "atol": 1e-12} if dtype == "float64" else {"rtol": 1e-5, "atol": 2e-5}
    arrays = [x.astype(dtype) for x in inputs]
    leaves = [torch.tensor(x, requires_grad=True) for x in arrays]
    expected = theirs(*leaves)
    out, pullback = mt.vjp(ours, *arrays)
    assert out.dtype == dtype
    np.testing.assert_allclose(out, expected.detach(), **tolerance)
    g = np.random.default_rng(1).standard_normal(out.shape).astype(dtype)
    for got, want in zip(pullback(g), torch.autograd.grad(expected, leaves, torch.tensor(g)), strict=True):
        np.testing.assert_allclose(got, want, **tolerance)


@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        (optim.AdamW, torch.optim.AdamW, {"lr": 0.03, "betas": (0.8, 0.95), "weight_decay": 0.2}),
        (optim.SGD, torch.optim.SGD, {"lr": 0.05, "weight_decay": 0.1}),
        (optim.SGD, torch.optim.SGD, {"lr": 0.02, "momentum": 0.9}),
        (optim.SGD, torch.optim.SGD, {"lr": 0.02, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
    ],
)
def test_ten_steps(ours, theirs, options):
    rng = np.random.default_rng(0)
    shapes = [(70, 1000), (3,), (40, 5)]
    start = [rng.standard_normal(shape) for shape in shapes]
    p, q = [nn.Parameter(a) for a in start], [torch.tensor(a, requires_grad=True) for a in start]
    mine, other = ours(p, **options), theirs(q, **options)
    for _ in range(10):
        for a, b in zip(p, q, strict=True):
            g = rng.standard_normal(a.shape)
            a.grad, b.grad = mt.tensor(g), torch.tensor(g)
        mine.step()
        other.step()
    for a, b in zip(p, q, strict=True):
        np.testing.assert_allclose(a.data, b.detach(), rtol=1e-12, atol=1e-12)
