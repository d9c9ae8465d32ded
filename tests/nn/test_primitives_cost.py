"""Fused primitives are charged what their decompositions cost, and ``precision`` sees inside them."""

import numpy as np
import pytest

import minitf as mt
from minitf import nn
from minitf.autodiff.tensor import bind, plain
from minitf.nn import activations, functional, losses, norms, softmax

RNG = np.random.default_rng(0)
X, G = RNG.standard_normal((2, 4, 6))
W, B = RNG.standard_normal((2, 6))
ROWS = np.array([0, 5, 2, 3])
G1, G2, LSE = RNG.standard_normal((3, 4))
LAYER, RMS = {"eps": 1e-5, "center": True, "offset": 0.0}, {"eps": 1e-5, "center": False, "offset": 0.0}

CASES = {
    "softmax": (softmax.softmax_p, (X,), {"axis": -1}),
    "log_softmax": (softmax.log_softmax_p, (X,), {"axis": 0}),
    "softmax_vjp": (softmax.softmax_vjp_p, (G, X), {"axis": -1}),
    "log_softmax_vjp": (softmax.log_softmax_vjp_p, (G, X), {"axis": -1}),
    "layer_norm": (norms.norm_p, (X, W, B), LAYER),
    "layer_norm_plain": (norms.norm_p, (X, None), LAYER),
    "rms_norm": (norms.norm_p, (X, W), RMS),
    "rms_norm_offset": (norms.norm_p, (X, W), {**RMS, "offset": 1.0}),
    "layer_norm_vjp": (norms.norm_vjp_p, (G, X, W), LAYER),
    "layer_norm_plain_vjp": (norms.norm_vjp_p, (G, X, None), LAYER),
    "rms_norm_vjp": (norms.norm_vjp_p, (G, X, W), RMS),
    "rms_norm_offset_vjp": (norms.norm_vjp_p, (G, X, W), {**RMS, "offset": 1.0}),
    "linear": (functional.linear_p, (X, RNG.standard_normal((6, 3)), np.ones(3)), {}),
    "cross_entropy": (losses.class_losses_p, (X, ROWS), {"smoothing": 0.0}),
    "cross_entropy_smooth": (losses.class_losses_p, (X, ROWS), {"smoothing": 0.1}),
    "cross_entropy_vjp": (losses.class_losses_vjp_p, (G1, G2, X, LSE, ROWS), {"smoothing": 0.1}),
}
GROUPS = {"groups": 2, "eps": 1e-5}
for bias in (False, True):
    CASES[f"layer_norm_vjp_bias_{bias}"] = (norms.norm_vjp_p, (G, X, W), {**LAYER, "bias": bias})
    CASES[f"group_norm_vjp_bias_{bias}"] = (norms.group_norm_vjp_p, (G, X, W), {**GROUPS, "bias": bias})
CASES["group_norm"] = (norms.group_norm_p, (X, W, B), GROUPS)
CASES["group_norm_plain"] = (norms.group_norm_p, (X, None), GROUPS)
CASES["group_norm_plain_vjp"] = (norms.group_norm_vjp_p, (G, X, None), GROUPS)
for name in ("swiglu", "geglu", "geglu_tanh", "reglu", "glu"):
    primitive = getattr(activations, f"{name}_p")
    CASES[name] = (primitive, (X, G), {})
    with mt.cost() as seen:
        mt.vjp(lambda x, y, p=primitive: bind(p, x, y), X, G)[1](G)
    assert set(seen.by_primitive) == {name, f"{name}_vjp"}
    CASES[f"{name}_vjp"] = (getattr(activations, f"{name}_vjp_p"), (G, X, G), {})
for name in ("silu", "gelu", "gelu_tanh", "squared_relu"):
    primitive = getattr(activations, f"{name}_p")
    CASES[name] = (primitive, (X,), {})
    with mt.cost() as seen:
        mt.vjp(lambda x, p=primitive: bind(p, x), X)[1](G)
    assert set(seen.by_primitive) == {name, f"{name}_vjp"}
    CASES[f"{name}_vjp"] = (getattr(activations, f"{name}_vjp_p"), (G, X), {})


@pytest.mark.parametrize("name", [name for name in CASES if name != "cross_entropy_vjp"])  # which adds no zeros of q
def test_costs_what_its_decomposition_costs(name):
    primitive, arrays, params = CASES[name]
    operands = [plain(a) if isinstance(a, np.ndarray) else a for a in arrays]
    with mt.cost() as fused:
        bind(primitive, *operands, **params)
    with mt.cost() as apart:
        primitive.decomposition(*operands, **params)
    assert fused.calls == 1
    assert (fused.flops, fused.macs) == (apart.flops, apart.macs)


@pytest.mark.parametrize("name", CASES)
def test_precision_evaluates_the_decomposition(name):
    primitive, arrays, params = CASES[name]
    operands = [plain(a) if isinstance(a, np.ndarray) else a for a in arrays]
    run = lambda *a: bind(primitive, *a, **params)
    exact = run(*operands)
    with mt.precision("bfloat16", accumulate="float32", profile="eager") as p:
        rounded = p.run(run, *operands)
    many = primitive.many
    for a, b in zip(exact if many else [exact], rounded if many else [rounded], strict=True):
        error = np.abs(a.data - b.data).max()
        assert 0 < error < 0.3 * np.abs(a.data).max()


def test_modules_are_scopes():
    class Block(nn.Module):
        def __init__(self, rng):
            self.norm = nn.LayerNorm(4)
            self.parts = [nn.Linear(4, 8, rng=rng), nn.Linear(8, 4, rng=rng)]

        def forward(self, x):
            return x + self.parts[1](nn.functional.gelu(self.parts[0](self.norm(x))))

    block = Block(np.random.default_rng(0))
    with mt.cost() as c:
        block(np.ones((2, 3, 4)))
    assert c.by_scope["parts.0"].macs == 2 * 3 * 4 * 8
    assert c.by_scope[""].macs == 2 * c.by_scope["parts.1"].macs == 2 * 2 * 3 * 32
    assert list(c.by_scope) == ["", "norm", "parts.0", "parts.1"]
    assert c.parameters == nn.count_parameters(block)
