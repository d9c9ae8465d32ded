"""DropPath and DropConnect: what is dropped, expectations over the draws, evaluation, gradients."""

import itertools

import numpy as np
import pytest

import minitf as mt
from minitf import nn
from minitf.nn import functional as F


def test_drop_path_drops_whole_samples_and_rescales_the_others():
    x = np.random.default_rng(0).standard_normal((200, 2, 3))
    layer = nn.DropPath(0.25, rng=np.random.default_rng(1))
    y = layer(x).data
    kept = (y != 0).any((1, 2))
    np.testing.assert_allclose(y[kept], x[kept] / 0.75, rtol=1e-15)
    assert (y[~kept] == 0).all()
    assert 30 <= (~kept).sum() <= 70  # 50 expected, standard deviation 6
    assert (layer(x).data != y).any()  # drawn anew
    again = nn.DropPath(0.25, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(again(x), y)
    tensor = mt.tensor(x)
    assert layer.eval()(tensor) is tensor
    assert nn.DropPath(0.0)(tensor) is tensor
    assert (nn.DropPath(1.0, rng=np.random.default_rng(0))(x).data == 0).all()


def test_the_expectation_over_all_masks_is_the_identity():
    """Exactly: every mask with its probability."""
    x, p = np.random.default_rng(0).standard_normal((3, 2)), 0.3
    mean = np.zeros(x.shape)
    for mask in itertools.product([True, False], repeat=3):
        probability = np.prod([1 - p if kept else p for kept in mask])
        mean += probability * F.drop_path(x, p, mask=np.array(mask)).data
    np.testing.assert_allclose(mean, x, rtol=1e-14)


def test_the_expectation_of_a_linear_layer_with_missing_weights_is_the_layer():
    rng = np.random.default_rng(0)
    layer = nn.Linear(2, 2, rng=rng)
    x, p = rng.standard_normal((3, 2)), 0.25
    mean = np.zeros((3, 2))
    for mask in itertools.product([True, False], repeat=4):
        keep = np.array(mask).reshape(2, 2)
        probability = np.prod(np.where(keep, 1 - p, p))
        mean += probability * F.linear(x, F.dropout(layer.weight, p, mask=keep), layer.bias).data
    np.testing.assert_allclose(mean, layer(x), rtol=1e-13)


@pytest.mark.parametrize("make", [
    lambda rng: nn.Linear(30, 20, rng=rng), lambda rng: nn.Conv1d(30, 20, 1, rng=rng),
], ids=["Linear", "Conv1d"])  # fmt: skip
def test_drop_connect_leaves_out_weights_for_the_whole_batch(make):
    inner = make(np.random.default_rng(0))
    layer = nn.DropConnect(inner, 0.5, rng=np.random.default_rng(1))
    assert [name for name, _ in layer.named_parameters()] == ["layer.weight", "layer.bias"]
    x = np.eye(30)[:, :, None] if isinstance(inner, nn.Conv1d) else np.eye(30)  # reads the weights off
    weight = inner.weight
    before = weight.data.copy()
    zero = inner(np.zeros_like(x)).data
    used = np.squeeze(layer.train()(x).data - zero)
    full = np.squeeze(layer.eval()(x).data - zero)
    dropped = np.abs(used) < 1e-12
    np.testing.assert_allclose(used[~dropped], 2 * full[~dropped], rtol=1e-9)
    assert 240 <= dropped.sum() <= 360  # 300 expected, standard deviation 12
    assert inner.weight is weight
    np.testing.assert_array_equal(weight.data, before)
    twice = layer.train()(np.concatenate([x, x])).data
    np.testing.assert_array_equal(twice[:30], twice[30:])


def test_drop_connect_in_transformations_and_after_an_error():
    layer = nn.DropConnect(nn.Linear(3, 2, rng=np.random.default_rng(0)), 0.5, rng=np.random.default_rng(1))
    weight = layer.layer.weight
    x = np.ones((1, 3))

    def loss(values):
        layer.rng = np.random.default_rng(2)
        return mt.sum(nn.functional_call(layer, values, x))

    g = mt.grad(loss)({name: p.data for name, p in layer.named_parameters()})["layer.weight"].data
    assert set(np.unique(g)) == {0.0, 2.0}
    with pytest.raises(mt.ShapeError):
        layer(np.ones((1, 4)))
    assert layer.layer.weight is weight


def test_gradients():
    x, mask = np.random.default_rng(0).standard_normal((3, 2)), np.array([True, False, True])
    mt.check_grads(lambda x: F.drop_path(x, 0.5, mask=mask) ** 2, x)


def test_rates_rise_in_equal_steps():
    np.testing.assert_allclose(nn.drop_path_rates(0.3, 4), [0, 0.1, 0.2, 0.3], rtol=1e-15)
    assert nn.drop_path_rates(0.3, 1) == [0.0]
