"""Tied weights: two modules that hold one Parameter have one, in every list, count, state, optimizer and gradient."""

import numpy as np

import minitf as mt
from minitf import nn, optim
from minitf.nn import functional as F


class Tied(nn.Module):
    """An autoencoder whose layers back share their weights with the layers there, and a block that is run twice."""

    def __init__(self, rng):
        self.there = nn.ConvTranspose1d(2, 3, 3, rng=rng)
        self.back = nn.Conv1d(3, 2, 3, rng=rng)
        self.back.weight = self.there.weight
        block = nn.Linear(5, 5, rng=rng)
        self.blocks = [block, block]

    def forward(self, x):
        for block in self.blocks:
            x = F.gelu(block(x))
        return self.back(F.gelu(self.there(x)))


def test_is_listed_counted_and_kept_once():
    model = Tied(np.random.default_rng(0))
    names = ["there.weight", "there.bias", "back.bias", "blocks.0.weight", "blocks.0.bias"]
    assert [name for name, _ in model.named_parameters()] == names
    assert nn.count_parameters(model) == 18 + 3 + 2 + 25 + 5
    state = model.state_dict()
    assert list(state) == names
    other = Tied(np.random.default_rng(1)).load_state_dict(state)
    assert other.back.weight is other.there.weight
    x = np.random.default_rng(2).standard_normal((4, 2, 5))
    np.testing.assert_array_equal(other(x), model(x))


def test_the_gradient_is_the_sum_over_all_places_and_is_followed_once():
    """One step of SGD on the tied model, against the sum of the gradients of an untied one."""
    model, untied = Tied(np.random.default_rng(0)), Tied(np.random.default_rng(0))
    untied.back.weight = nn.Parameter(untied.there.weight)
    untied.blocks[1] = nn.Linear(5, 5, rng=np.random.default_rng(0))
    untied.blocks[1].load_state_dict(untied.blocks[0].state_dict())
    x = np.random.default_rng(2).standard_normal((4, 2, 5))
    for m in (model, untied):
        mt.sum(m(x) ** 2).backward()
    both = untied.there.weight.grad.data + untied.back.weight.grad.data
    np.testing.assert_allclose(model.there.weight.grad, both, rtol=1e-12)
    twice = untied.blocks[0].weight.grad.data + untied.blocks[1].weight.grad.data
    np.testing.assert_allclose(model.blocks[0].weight.grad, twice, rtol=1e-12)
    before = model.there.weight.data.copy()
    optim.SGD(model.parameters(), lr=0.1).step()
    np.testing.assert_allclose(model.back.weight, before - 0.1 * both, rtol=1e-12)
    assert model.back.weight is model.there.weight


def test_casting_and_replacing_keep_the_tie():
    model = Tied(np.random.default_rng(0)).astype("float32")
    assert model.back.weight is model.there.weight
    x = np.random.default_rng(2).standard_normal((1, 2, 5)).astype("float32")
    values = {"back.weight": np.zeros((2, 3, 3), "float32")}  # by its second name
    silent = nn.functional_call(model, values, x).data
    np.testing.assert_array_equal(silent, np.broadcast_to(model.back.bias.data[:, None], silent.shape))
    assert model.back.weight is model.there.weight
