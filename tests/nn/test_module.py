"""Modules: finding their parts, their state, replacing parameters."""

import copy
import pickle
from typing import NamedTuple

import numpy as np
import pytest

import minitf as mt
from minitf import nn
from minitf.nn import functional as F


class Block(nn.Module):
    def __init__(self, D, rng):
        self.norm = nn.LayerNorm(D)
        self.up = nn.Linear(D, 2 * D, rng=rng)
        self.down = nn.Linear(2 * D, D, bias=False, rng=rng)

    def forward(self, x):
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Model(nn.Module):
    """Ids -> logits, with everything a module can hold: lists, dicts, tuples, a tied weight, a buffer."""

    def __init__(self, V=7, D=4, rng=None):
        rng = rng or np.random.default_rng(0)
        self.embed = nn.Embedding(V, D, rng=rng)
        self.blocks = [Block(D, rng), Block(D, rng)]
        self.heads = {"main": nn.Linear(D, V, rng=rng)}
        self.scales = (nn.Parameter(np.ones(D)), nn.Parameter(np.full(D, 2.0)))
        self.positions = nn.Buffer(np.arange(3))
        self.heads["main"].weight_of_embedding = self.embed.weight

    def forward(self, ids):
        x = self.embed(ids)
        for block, scale in zip(self.blocks, self.scales, strict=True):
            x = block(x) * scale
        return self.heads["main"](x)


NAMES = [
    *("scales.0", "scales.1", "embed.weight"),
    *(f"blocks.{i}.{n}" for i in range(2) for n in ("norm.weight", "norm.bias", "up.weight", "up.bias", "down.weight")),
    *("heads.main.weight", "heads.main.bias"),
]
IDS, TARGET = np.array([[0, 1, 2], [6, 5, 4]]), np.array([[1, 2, 3], [5, 4, 0]])


def loss_of(model, values):
    return F.cross_entropy(nn.functional_call(model, values, IDS), TARGET)


def values_of(model):
    return {name: p.data.copy() for name, p in model.named_parameters()}


def test_finds_its_parts_in_order():
    model = Model()
    assert [name for name, _ in model.named_parameters()] == NAMES
    assert [name for name, _ in model.named_buffers()] == ["positions"]
    assert [name for name, _ in model.named_modules()] == [
        *("", "embed", "blocks.0", "blocks.0.norm", "blocks.0.up", "blocks.0.down"),
        *("blocks.1", "blocks.1.norm", "blocks.1.up", "blocks.1.down", "heads.main"),
    ]
    assert nn.count_parameters(model) == sum(p.size for p in model.parameters())
    model.blocks[0].requires_grad_(False)
    frozen = nn.count_parameters(model.blocks[0])
    assert nn.count_parameters(model, trainable=True) == nn.count_parameters(model) - frozen
    shared = Model()
    shared.blocks[1] = shared.blocks[0]
    assert len(list(shared.modules())) == 7


def test_state_round_trip():
    model, other = Model(), Model(rng=np.random.default_rng(1))
    state = model.state_dict()
    assert list(state) == [*NAMES[:2], "positions", *NAMES[2:]]
    assert not np.shares_memory(state["embed.weight"], model.embed.weight.data)
    assert other.load_state_dict(state) is other
    np.testing.assert_array_equal(model(IDS), other(IDS))
    small = Model().astype("float32")
    assert small.embed.weight.dtype == np.float32
    assert small.positions.dtype == np.int64
    assert small(IDS).dtype == np.float32
    small.load_state_dict(state)
    assert small.embed.weight.dtype == np.float32


def test_a_state_that_does_not_fit_loads_nothing():
    model = Model()
    before, state = model.state_dict(), model.state_dict()
    state["blocks.0.up.wieght"] = state.pop("blocks.0.up.weight")
    state["scales.0"] = np.zeros((2, 2))
    state["positions"] = np.zeros(3)
    state["embed.weight"] = np.zeros((7, 4))
    state["heads.main.weight_of_embedding"] = np.zeros((7, 4))
    with pytest.raises(ValueError, match="nothing was loaded") as error:
        model.load_state_dict(state)
    assert str(error.value).splitlines()[1:] == [
        "  missing: blocks.0.up.weight (4, 8)",
        "  unexpected: blocks.0.up.wieght; did you mean blocks.0.up.weight?",
        "  unexpected: heads.main.weight_of_embedding is tied to embed.weight, which holds its value; leave it out",
        "  shape: scales.0 is (4,) here, (2, 2) in the state",
        "  dtype: positions is int64 here, float64 in the state",
    ]
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    with pytest.raises(TypeError, match="needs a mapping from names to arrays, got str"):
        model.load_state_dict("model.npz")
    model.load_state_dict({"scales.1": np.zeros(4), "other": 3}, strict=False)
    assert model.scales[1].tolist() == [0] * 4


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_are_models_of_their_own(duplicate):
    model = Model()
    model.blocks[0].requires_grad_(False)
    other = duplicate(model)
    assert other.heads["main"].weight_of_embedding is other.embed.weight
    assert [p.requires_grad for p in other.parameters()] == [p.requires_grad for p in model.parameters()]
    F.cross_entropy(other(IDS), TARGET).backward()
    assert other.embed.weight.grad is not None
    assert model.embed.weight.grad is None
    other.embed.weight.data[:] = 0
    assert (model.embed.weight.data != 0).any()


def test_modes_gradients_and_freezing():
    model = Model()
    assert model.training
    assert not model.eval().blocks[1].down.training
    assert model.train().blocks[1].down.training
    F.cross_entropy(model(IDS), TARGET).backward()
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    model.requires_grad_(False)
    assert not model(IDS).requires_grad
    model.requires_grad_()
    assert model(IDS).requires_grad


def test_functional_call_gives_the_gradients_of_backward():
    model = Model()
    F.cross_entropy(model(IDS), TARGET).backward()
    gradients = mt.grad(lambda values: loss_of(model, values))(values_of(model))
    for name, p in model.named_parameters():
        np.testing.assert_allclose(gradients[name], p.grad, rtol=1e-13, atol=1e-16)


def test_functional_call_restores_and_replaces_tied_weights_everywhere():
    class Tied(nn.Module):
        def __init__(self):
            self.pair = (nn.Parameter([1.0, 2.0]),)
            self.inner = [{"again": self.pair[0]}]

        def forward(self, fail=False):
            if fail:
                raise RuntimeError("inside")
            return mt.sum(self.pair[0] * self.inner[0]["again"])

    model = Tied()
    weight, pair, inner = model.pair[0], model.pair, model.inner
    assert nn.functional_call(model, {"pair.0": [3.0, 4.0]}).item() == 25
    assert nn.functional_call(model, {"inner.0.again": [3.0, 4.0]}).item() == 25
    with pytest.raises(RuntimeError, match="inside"):
        nn.functional_call(model, {"pair.0": [3.0, 4.0]}, fail=True)
    assert model.pair is pair
    assert model.inner is inner
    assert model.pair[0] is weight
    assert model().item() == 5
    with pytest.raises(ValueError, match=r"no parameter 'pair.1'; did you mean pair.0\?"):
        nn.functional_call(model, {"pair.1": [3.0, 4.0]})
    with pytest.raises(ValueError, match=r"pair.0 has shape \(2,\), got a value of \(3,\)"):
        nn.functional_call(model, {"pair.0": np.zeros(3)})


def test_second_derivatives_through_a_module():
    model = Model()
    rng = np.random.default_rng(3)
    values = values_of(model)
    direction = {name: rng.standard_normal(v.shape) for name, v in values.items()}
    product = mt.hvp(lambda v: loss_of(model, v), (values,), (direction,))
    gradient = mt.grad(lambda v: loss_of(model, v))
    h = 1e-5
    moved = [gradient({n: v + s * h * direction[n] for n, v in values.items()}) for s in (1, -1)]
    for name in values:
        np.testing.assert_allclose(product[name], (moved[0][name].data - moved[1][name].data) / (2 * h), atol=1e-6)


def test_gradients_inside_and_outside_do_not_mix():
    """d/dx of a function that itself takes the gradient of a module's loss."""
    layer = nn.Linear(3, 1, rng=np.random.default_rng(0))

    def penalty(x):
        g = mt.grad(lambda w: mt.sum(mt.tanh(nn.functional_call(layer, {"weight": w}, x))))(layer.weight.data)
        return mt.sum(g * g)

    mt.check_grads(penalty, np.random.default_rng(1).standard_normal((2, 3)), order=1)


def test_parameters_have_the_configured_dtype_and_own_their_data():
    data = np.ones(3, np.float32)
    assert nn.Parameter(data).dtype == np.float64
    assert nn.Parameter(data + 1j).dtype == np.complex128
    with mt.config(dtype="float32"):
        parameter = nn.Parameter(data)
        assert parameter.dtype == np.float32
        assert nn.Parameter([1j]).dtype == np.complex64
        assert nn.Parameter([1], dtype="float64").dtype == np.float64
        assert all(p.dtype == np.float32 for p in Model().parameters())
    assert not np.shares_memory(parameter.data, data)
    assert parameter.requires_grad
    assert not nn.Buffer(data).requires_grad
    assert repr(nn.Parameter([1.0])) == "Parameter([1.], requires_grad=True)"
    assert repr(nn.Buffer([1.0])) == "Buffer([1.])"


def test_what_it_looks_like():
    model = Model()
    assert repr(model.blocks[0]) == (
        "Block(\n  norm: LayerNorm(4, eps=1e-05)\n  up: Linear(4, 8)\n  down: Linear(8, 4, bias=False)\n)"
    )
    lines = model.summary().splitlines()
    assert lines[0].split() == ["module", "class", "parameters", "shapes"]
    assert lines[5].split() == ["blocks.0.norm", "LayerNorm", "8", "weight", "(4,),", "bias", "(4,)"]
    assert lines[-3].endswith("weight (4, 7), bias (7,), weight_of_embedding tied")
    assert lines[-1].split() == ["total", str(nn.count_parameters(model))]


def test_wrong_calls():
    class Empty(nn.Module):
        pass

    with pytest.raises(NotImplementedError, match="Empty has no forward method"):
        Empty()()
    with pytest.raises(TypeError, match="parameters need a floating dtype such as 'float32', got int64"):
        Model().astype("int64")
    with pytest.raises(TypeError, match="only floating and complex"):
        nn.Parameter([1], dtype="int64")


class Pair(NamedTuple):
    left: nn.Module
    right: nn.Module


def test_named_tuples_hold_modules():
    class Siamese(nn.Module):
        def __init__(self):
            rng = np.random.default_rng(0)
            self.towers = Pair(nn.Linear(2, 1, rng=rng), nn.RMSNorm(2))

        def forward(self, x):
            return self.towers.left(self.towers.right(x))

    model = Siamese()
    zero = {"towers.0.weight": np.zeros((2, 1)), "towers.0.bias": np.zeros(1)}
    assert nn.functional_call(model, zero, np.ones((1, 2))).item() == 0
    assert isinstance(model.towers, Pair)
