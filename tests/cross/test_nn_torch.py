"""Layers, activations, norms and losses against PyTorch: values and gradients, float64."""

import numpy as np
import pytest

import minitf as mt
from minitf import nn
from minitf.nn import functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional
pytestmark = pytest.mark.cross

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4, 6)) * 2
W, B = RNG.standard_normal((2, 6))
TARGET = RNG.integers(0, 6, (3, 4))
TARGET[0, 1] = TARGET[2, 2] = -100
PROBABILITIES = RNG.dirichlet(np.ones(6), (3, 4))


def classes_second(x):
    return torch.movedim(x, -1, 1)


def torch_rms_norm(x, w):
    return TF.rms_norm(x, (6,), w, eps=1e-6)


CASES = {
    "relu": (F.relu, TF.relu, (X,)),
    "gelu": (F.gelu, TF.gelu, (X,)),
    "gelu_tanh": (lambda x: F.gelu(x, "tanh"), lambda x: TF.gelu(x, approximate="tanh"), (X,)),
    "silu": (F.silu, TF.silu, (X,)),
    "glu": (F.glu, TF.glu, (X,)),
    "softplus": (F.softplus, TF.softplus, (X,)),
    "softmax": (F.softmax, lambda x: TF.softmax(x, -1), (X,)),
    "softmax_axis": (lambda x: F.softmax(x, 1), lambda x: TF.softmax(x, 1), (X,)),
    "log_softmax": (F.log_softmax, lambda x: TF.log_softmax(x, -1), (X,)),
    "layer_norm": (F.layer_norm, lambda x, w, b: TF.layer_norm(x, (6,), w, b), (X, W, B)),
    "layer_norm_plain": (F.layer_norm, lambda x: TF.layer_norm(x, (6,)), (X,)),
    "rms_norm": (F.rms_norm, torch_rms_norm, (X, W)),
    "rms_norm_offset": (lambda x, w: F.rms_norm(x, w, offset=1.0), lambda x, w: torch_rms_norm(x, 1 + w), (X, W)),
    "group_norm": (
        lambda x, w, b: F.group_norm(x, 2, w, b),
        lambda x, w, b: TF.group_norm(x, 2, w, b),
        (X, W[:4], B[:4]),
    ),
    "group_norm_plain": (lambda x: F.group_norm(x, 4), lambda x: TF.group_norm(x, 4), (X,)),
    "group_norm_of_vectors": (lambda x: F.group_norm(x, 2), lambda x: TF.group_norm(x, 2), (X[0],)),
    "swiglu": (F.swiglu, lambda x, y: TF.silu(x) * y, (X, X[::-1].copy())),
    "geglu": (F.geglu, lambda x, y: TF.gelu(x) * y, (X, X[::-1].copy())),
    "reglu": (F.reglu, lambda x, y: TF.relu(x) * y, (X, X[::-1].copy())),
    "squared_relu": (F.squared_relu, lambda x: TF.relu(x) ** 2, (X,)),
    "linear": (
        F.linear,
        lambda x, w, b: TF.linear(x, w.T, b),
        (X, RNG.standard_normal((6, 5)), RNG.standard_normal(5)),
    ),
    "embedding": (
        lambda w: F.embedding(np.abs(TARGET) % 7, w),
        lambda w: TF.embedding(torch.tensor(np.abs(TARGET) % 7), w),
        (RNG.standard_normal((7, 5)),),
    ),
    "mse_loss": (F.mse_loss, TF.mse_loss, (X, RNG.standard_normal(X.shape))),
    "nll_loss": (
        lambda x: F.nll_loss(x, TARGET),
        lambda x: TF.nll_loss(classes_second(x), torch.tensor(TARGET)),
        (X,),
    ),
}
for smoothing in (0.0, 0.1):
    for reduction in ("mean", "sum", "none"):
        CASES[f"cross_entropy_{smoothing}_{reduction}"] = (
            lambda x, s=smoothing, r=reduction: F.cross_entropy(x, TARGET, label_smoothing=s, reduction=r),
            lambda x, s=smoothing, r=reduction: TF.cross_entropy(
                classes_second(x), torch.tensor(TARGET), label_smoothing=s, reduction=r
            ),
            (X,),
        )
    CASES[f"cross_entropy_probabilities_{smoothing}"] = (
        lambda x, q, s=smoothing: F.cross_entropy(x, q, label_smoothing=s),
        lambda x, q, s=smoothing: TF.cross_entropy(classes_second(x), classes_second(q), label_smoothing=s),
        (X, PROBABILITIES),
    )


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name):
    ours, theirs, inputs = CASES[name]
    leaves = [torch.tensor(x, requires_grad=True) for x in inputs]
    expected = theirs(*leaves)
    out, pullback = mt.vjp(ours, *inputs)
    np.testing.assert_allclose(out, expected.detach(), rtol=1e-12, atol=1e-12)
    g = np.random.default_rng(1).standard_normal(out.shape)
    for got, want in zip(pullback(g), torch.autograd.grad(expected, leaves, torch.tensor(g)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_feed_forward_block_and_its_hessian():
    """A pre-norm block with cross-entropy: gradients to 1e-12, Hessian-vector products to 1e-9."""

    class Block(nn.Module):
        def __init__(self, rng):
            self.norm = nn.LayerNorm(6)
            self.up = nn.Linear(6, 16, rng=rng)
            self.down = nn.Linear(16, 6, rng=rng)
            self.final = nn.RMSNorm(6)

        def forward(self, x):
            return self.final(x + self.down(F.gelu(self.up(self.norm(x)))))

    block = Block(np.random.default_rng(2))
    values = {name: p.data for name, p in block.named_parameters()}
    rng = np.random.default_rng(3)
    direction = {name: rng.standard_normal(v.shape) for name, v in values.items()}

    def theirs(p):
        h = TF.layer_norm(torch.tensor(X), (6,), p["norm.weight"], p["norm.bias"])
        h = TF.gelu(h @ p["up.weight"] + p["up.bias"]) @ p["down.weight"] + p["down.bias"]
        h = TF.rms_norm(torch.tensor(X) + h, (6,), p["final.weight"], eps=1e-6)
        return TF.cross_entropy(classes_second(h), torch.tensor(TARGET), label_smoothing=0.1)

    leaves = {name: torch.tensor(v, requires_grad=True) for name, v in values.items()}
    gradients = torch.autograd.grad(theirs(leaves), list(leaves.values()), create_graph=True)
    along = sum((g * torch.tensor(direction[n])).sum() for g, n in zip(gradients, leaves, strict=True))
    products = torch.autograd.grad(along, list(leaves.values()))

    def ours(p):
        return F.cross_entropy(nn.functional_call(block, p, X), TARGET, label_smoothing=0.1)

    got = mt.grad(ours)(values)
    second = mt.hvp(ours, (values,), (direction,))
    for name, want, product in zip(leaves, gradients, products, strict=True):
        np.testing.assert_allclose(got[name], want.detach(), rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(second[name], product, rtol=1e-9, atol=1e-10)
