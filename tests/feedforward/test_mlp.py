"""Feed-forward layers: token by token in loops, every activation, gradients, cost."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.feedforward.mlp import (
    ACTIVATIONS,
    FeedForward,
    GatedFeedForward,
    activation,
    feed_forward,
    gated_feed_forward,
)

#: one number at a time
FORMULAS = {
    "relu": lambda x: max(x, 0.0),
    "gelu": lambda x: x * 0.5 * math.erfc(-x / math.sqrt(2)),
    "gelu_tanh": lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "squared_relu": lambda x: max(x, 0.0) ** 2,
}


def loops(token, w1, w2, b1, b2, act):
    """One neuron at a time writes its row of w2, as strongly as its column of w1 fits the token."""
    out = np.array(b2)
    for f in range(w1.shape[1]):
        out += act(sum(token * w1[:, f]) + b1[f]) * w2[f]
    return out


def draw(D=3, F=5, lead=(2, 4)):
    rng = np.random.default_rng(0)
    shapes = {"x": (*lead, D), "w1": (D, F), "w2": (F, D), "b1": (F,), "b2": (D,)}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("act", ACTIVATIONS)
@given(st.integers(1, 4), st.integers(1, 6), st.lists(st.integers(0, 3), max_size=2))
def test_feed_forward_in_loops(act, D, F, lead):
    x, w1, w2, b1, b2 = draw(D, F, lead).values()
    got = feed_forward(x, w1, w2, b1, b2, act=act).data
    bare = feed_forward(x, w1, w2, act=act).data
    assert got.shape == bare.shape == (*lead, D)
    for index in np.ndindex(*lead):
        np.testing.assert_allclose(got[index], loops(x[index], w1, w2, b1, b2, FORMULAS[act]), rtol=0, atol=1e-12)
        np.testing.assert_allclose(
            bare[index], loops(x[index], w1, w2, 0 * b1, 0 * b2, FORMULAS[act]), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_gated_feed_forward_in_loops(act):
    x, gate, down, *_ = draw().values()
    up = np.random.default_rng(1).normal(size=gate.shape)
    got = gated_feed_forward(x, gate, up, down, act=act).data
    for index in np.ndindex(2, 4):
        want = sum(FORMULAS[act](x[index] @ gate[:, f]) * (x[index] @ up[:, f]) * down[f] for f in range(5))
        np.testing.assert_allclose(got[index], want, rtol=0, atol=1e-12)


def test_the_modules_are_the_functions_and_their_defaults():
    rng, x = np.random.default_rng(0), draw()["x"]
    plain, gated, bare = (
        FeedForward(3, 5, rng=rng),
        GatedFeedForward(3, 5, rng=rng),
        FeedForward(3, 5, bias=False, rng=rng),
    )
    weights = plain.up.weight, plain.down.weight, plain.up.bias, plain.down.bias
    np.testing.assert_array_equal(plain(x).data, feed_forward(x, *weights, act="gelu").data)
    np.testing.assert_array_equal(bare(x).data, feed_forward(x, bare.up.weight, bare.down.weight).data)
    weights = gated.gate.weight, gated.up.weight, gated.down.weight
    np.testing.assert_array_equal(gated(x).data, gated_feed_forward(x, *weights, act="silu").data)
    count = mt.nn.count_parameters
    assert (count(plain), count(bare), count(gated)) == (2 * 3 * 5 + 5 + 3, 2 * 3 * 5, 3 * 3 * 5)
    assert [name for name, _ in gated.named_parameters()] == ["gate.weight", "up.weight", "down.weight"]


def test_any_function_is_an_activation():
    assert activation(mt.tanh) is mt.tanh
    x, w1, w2, *_ = draw().values()
    np.testing.assert_allclose(feed_forward(x, w1, w2, act=mt.tanh).data, np.tanh(x @ w1) @ w2, rtol=0, atol=1e-14)
    layer = GatedFeedForward(3, 5, mt.sigmoid, rng=np.random.default_rng(0))
    assert layer(x).shape == x.shape


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_gradients(act):
    x, w1, w2, b1, b2 = draw(lead=(3,)).values()
    mt.check_grads(lambda *xs: feed_forward(*xs, act=act), x, w1, w2, b1, b2)
    mt.check_grads(lambda *xs: gated_feed_forward(*xs, act=act), x, w1, w1[::-1].copy(), w2)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
def test_cost(D, F, tokens):
    rng, x = np.random.default_rng(0), np.zeros((1, tokens, D))
    for layer, products in ((FeedForward(D, F, rng=rng), 2), (GatedFeedForward(D, F, rng=rng), 3)):
        with mt.cost() as c:
            layer(x)
        assert c.macs == products * tokens * D * F


@pytest.mark.parametrize("layer", [FeedForward, GatedFeedForward])
def test_an_unknown_activation_is_refused_when_the_layer_is_made(layer):
    with pytest.raises(ValueError, match=r"act must be a function or one of relu, gelu, .*, got 'swish'"):
        layer(3, 5, "swish", rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("act", "fused"), [("silu", "swiglu"), ("gelu", "geglu"), ("gelu_tanh", "geglu_tanh"), ("relu", "reglu")]
)
def test_a_gate_is_one_pass(act, fused):
    with mt.cost() as c:
        GatedFeedForward(3, 5, act, rng=np.random.default_rng(0))(np.ones((2, 3)))
    assert c.by_primitive.keys() == {"matmul", fused}
