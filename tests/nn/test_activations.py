"""Activations against their definitions, one number at a time."""

import math

import numpy as np
import pytest

import minitf as mt
from minitf.autodiff.tensor import bind
from minitf.nn import activations
from minitf.nn import functional as F

DEFINITIONS = {
    "relu": (F.relu, lambda x: x if x > 0 else 0.0),
    "squared_relu": (F.squared_relu, lambda x: x * x if x > 0 else 0.0),
    "silu": (F.silu, lambda x: x / (1 + math.exp(-x))),
    "gelu": (F.gelu, lambda x: x * 0.5 * math.erfc(-x / math.sqrt(2))),
    "gelu_tanh": (
        lambda x: F.gelu(x, approximate="tanh"),
        lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
    "softcap": (lambda x: F.softcap(x, 3.0), lambda x: 3 * math.tanh(x / 3)),
    "softplus": (F.softplus, lambda x: math.log1p(math.exp(x))),
    "sigmoid": (F.sigmoid, lambda x: 1 / (1 + math.exp(-x))),
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_transcription(name):
    function, definition = DEFINITIONS[name]
    x = np.linspace(-30, 30, 61)
    np.testing.assert_allclose(function(x), [definition(v) for v in x], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_gradients(name):
    x = np.array([[-3.1, -0.7, 0.4], [0.9, 2.2, 5.0]])
    mt.check_grads(DEFINITIONS[name][0], x, order=3)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_float32_stays(name):
    x = mt.tensor(np.linspace(-100, 100, 21), dtype="float32", requires_grad=True)
    out = DEFINITIONS[name][0](x)
    mt.sum(out).backward()
    assert out.dtype == x.grad.dtype == np.float32
    assert np.isfinite(out.data).all()
    assert np.isfinite(x.grad.data).all()


@pytest.mark.parametrize("name", ["silu", "gelu", "gelu_tanh", "squared_relu"])
def test_decompositions_agree(name):
    primitive = getattr(activations, f"{name}_p")
    x, g = np.random.default_rng(0).normal(0, 2, (2, 50))
    np.testing.assert_allclose(primitive.decomposition(x), primitive.impl(x), rtol=1e-14, atol=1e-17)
    slope = mt.vjp(lambda x: bind(primitive, x), x)[1](g)[0]
    by_parts = mt.vjp(primitive.decomposition, x)[1](g)[0]
    np.testing.assert_allclose(slope, by_parts, rtol=1e-12, atol=1e-15)


def test_relu_is_flat_at_zero():
    for function in (F.relu, F.squared_relu):
        assert mt.grad(lambda x, f=function: mt.sum(f(x)))(np.zeros(3)).tolist() == [0, 0, 0]


GATED = {
    "swiglu": (F.swiglu, "silu"),
    "geglu": (F.geglu, "gelu"),
    "geglu_tanh": (lambda x, y: F.geglu(x, y, approximate="tanh"), "gelu_tanh"),
    "reglu": (F.reglu, "relu"),
}


@pytest.mark.parametrize("name", GATED)
def test_gates(name):
    function, alone = GATED[name]
    value, definition = DEFINITIONS[alone]
    x, y = np.random.default_rng(0).normal(0, 3, (2, 3, 7))
    expected = [[definition(a) * b for a, b in zip(*rows, strict=True)] for rows in zip(x, y, strict=True)]
    np.testing.assert_allclose(function(x, y), expected, rtol=1e-12, atol=1e-15)
    mt.check_grads(function, x, y, order=3)
    primitive = getattr(activations, f"{name}_p")
    np.testing.assert_allclose(
        primitive.decomposition(mt.tensor(x), mt.tensor(y)), function(x, y), rtol=1e-14, atol=1e-16
    )
    g = np.random.default_rng(1).standard_normal((3, 7))
    fused, parts = mt.vjp(function, x, y)[1](g), mt.vjp(lambda x, y: value(x) * y, x, y)[1](g)
    for a, b in zip(fused, parts, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


def test_a_gate_keeps_both_inputs_and_nothing_else():
    x, y = np.ones((50, 200)), np.ones((50, 200))
    assert mt.cost.saved_bytes(F.swiglu, x, y) == x.nbytes + y.nbytes
    narrow = F.swiglu(x.astype(np.float32), y.astype(np.float32))
    assert narrow.dtype == np.float32
    assert F.swiglu(x.astype(np.float32), y).dtype == np.float64


def test_glu():
    x = np.random.default_rng(0).standard_normal((2, 6))
    np.testing.assert_allclose(F.glu(x), x[:, :3] / (1 + np.exp(-x[:, 3:])), rtol=1e-14)
    mt.check_grads(F.glu, x)


def test_empty_and_scalar():
    for function, definition in DEFINITIONS.values():
        assert function(np.zeros((0, 3))).shape == (0, 3)
        assert math.isclose(function(0.5).item(), definition(0.5), rel_tol=1e-14)


def test_wrong_calls():
    with pytest.raises(ValueError, match="approximate must be 'none' or 'tanh', got 'quick'"):
        F.gelu([1.0], approximate="quick")
    with pytest.raises(TypeError, match="relu: needs real floating values, got int64"):
        F.relu([1])
    with pytest.raises(ValueError, match="geglu: approximate must be 'none' or 'tanh', got 'erf'"):
        F.geglu([1.0], [1.0], approximate="erf")
    with pytest.raises(mt.ShapeError, match=r"swiglu: gate and up must have the same shape, got \(3,\) and \(1, 3\)"):
        F.swiglu(np.ones(3), np.ones((1, 3)))
    with pytest.raises(mt.ShapeError, match="even size"):
        F.glu(np.ones(3))
    with pytest.raises(ValueError, match="cap must be positive"):
        F.softcap([1.0], 0)
