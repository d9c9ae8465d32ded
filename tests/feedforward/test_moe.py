"""The mixture of experts: token by token, its gates and capacities, its losses, its gradients."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.feedforward.moe import (
    MixtureOfExperts,
    load_balancing_loss,
    mixture_of_experts,
    router_z_loss,
    top_k_gate,
)
from minitf.optim import Adam


def silu(x):
    return x / (1 + np.exp(-x))


def draw(N, D, F, E, seed=0, gated=True):
    rng = np.random.default_rng(seed)
    x, router = rng.normal(size=(N, D)), rng.normal(size=(D, E))
    return x, router, *(rng.normal(size=s) for s in [(E, D, F), (E, F, D)] + ([(E, D, F)] if gated else []))


def literal(x, router, w_up, w_down, w_gate=None, *, k=2, normalize=True, capacity=math.inf):
    """One token after another; with a capacity, all first choices before all second ones."""
    N, E = len(x), router.shape[1]
    taken, y, plan = [0] * E, np.zeros_like(x), []
    for n in range(N):
        logits = x[n] @ router
        p = [math.exp(a - max(logits)) for a in logits]
        p = [a / sum(p) for a in p]
        best = sorted(range(E), key=lambda e: (-p[e], e))[:k]
        total = sum(p[e] for e in best) if normalize else 1.0
        plan.append([(e, p[e] / total) for e in best])
    for choice in range(k):
        for n in range(N):
            e, weight = plan[n][choice]
            if taken[e] >= capacity:
                continue
            taken[e] += 1
            up = x[n] @ w_up[e]
            h = silu(up) if w_gate is None else silu(x[n] @ w_gate[e]) * up
            y[n] += weight * (h @ w_down[e])
    return y


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("capacity", [None, 2, 0])
def test_token_by_token(gated, normalize, k, capacity):
    arrays = draw(9, 5, 6, 4, gated=gated)
    got = mixture_of_experts(*arrays, k=k, normalize=normalize, capacity=capacity)
    want = literal(*arrays, k=k, normalize=normalize, capacity=math.inf if capacity is None else capacity)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


@given(N=st.integers(0, 6), D=st.integers(1, 4), E=st.integers(1, 5), seed=st.integers(0, 99), data=st.data())
def test_the_weights_add_up_and_the_choice_is_the_largest(N, D, E, seed, data):
    k = data.draw(st.integers(1, E))
    logits = np.random.default_rng(seed).normal(size=(N, D, E)) * 3
    weights, experts = top_k_gate(logits, k=k)
    np.testing.assert_allclose(weights.data.sum(-1), 1, atol=1e-14)
    np.testing.assert_array_equal(experts, np.argsort(-logits, axis=-1, kind="stable")[..., :k])
    whole, same = top_k_gate(logits, k=k, normalize=False)
    np.testing.assert_array_equal(same, experts)
    np.testing.assert_allclose(whole.data / np.maximum(whole.data.sum(-1, keepdims=True), 1e-300), weights, atol=1e-13)


def test_equal_experts_are_one_feed_forward_layer_and_all_of_them_a_soft_mixture():
    x, router, w_up, w_down, w_gate = draw(7, 4, 5, 3)
    alike = [np.broadcast_to(w[:1], w.shape).copy() for w in (w_up, w_down, w_gate)]
    one = (silu(x @ w_gate[0]) * (x @ w_up[0])) @ w_down[0]
    np.testing.assert_allclose(mixture_of_experts(x, router, *alike, k=2), one, atol=1e-12)
    p = np.exp(x @ router) / np.exp(x @ router).sum(-1, keepdims=True)
    every = [(silu(x @ w_gate[e]) * (x @ w_up[e])) @ w_down[e] for e in range(3)]
    soft = sum(p[:, [e]] * every[e] for e in range(3))
    for normalize in (True, False):
        np.testing.assert_allclose(mixture_of_experts(x, router, w_up, w_down, w_gate, k=3, normalize=normalize), soft,
                                   atol=1e-12)  # fmt: skip


def test_ties_go_to_the_lowest_index_and_a_choice_can_be_imposed():
    _, experts = top_k_gate(np.zeros((2, 4)), k=2)
    assert experts.data.tolist() == [[0, 1], [0, 1]]
    x, router, *weights = draw(5, 4, 5, 3)
    free, chosen = mixture_of_experts(x, router, *weights, return_experts=True)
    np.testing.assert_array_equal(mixture_of_experts(x, router, *weights, experts=chosen.data), free)
    other = (chosen.data + 1) % 3
    assert np.abs(mixture_of_experts(x, router, *weights, experts=other).data - free.data).max() > 0.1


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("gated", [True, False])
def test_gradients(k, gated):
    x, router, *weights = draw(6, 3, 4, 3, gated=gated)
    f = lambda *arrays: mixture_of_experts(*arrays, k=k, normalize=k > 1)
    mt.check_grads(f, x, router, *weights, order=2)


def test_no_tokens_and_leading_axes():
    x, router, *weights = draw(6, 3, 4, 3)
    whole = mixture_of_experts(x, router, *weights)
    np.testing.assert_array_equal(mixture_of_experts(x.reshape(2, 3, 3), router, *weights), whole.data.reshape(2, 3, 3))
    assert mixture_of_experts(x[:0], router, *weights).shape == (0, 3)


def test_cost_does_not_grow_with_the_number_of_experts():
    flops = []
    for E in (4, 64):
        arrays = draw(32, 8, 16, E)
        with mt.cost() as cost:
            mixture_of_experts(*arrays, k=2)
        flops.append(cost.flops - 32 * (2 * 8 * E))  # without the router
    experts = 32 * 2 * 3 * 2 * 8 * 16
    assert experts < flops[0] < 1.2 * experts
    assert flops[1] - flops[0] < 32 * 20 * (64 - 4)  # the choice among them


def test_losses():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 10, 4))
    experts = np.argsort(-logits, axis=-1)[..., :2]
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    want = 4 * sum((experts == e).sum() / 20 * p[..., e].mean() for e in range(4))
    np.testing.assert_allclose(load_balancing_loss(logits, experts), want, atol=1e-14)
    even = np.arange(20).reshape(2, 10, 1) % 4
    np.testing.assert_allclose(load_balancing_loss(np.zeros((2, 10, 4)), even), 1.0, atol=1e-14)
    np.testing.assert_allclose(load_balancing_loss(np.array([[99.0, 0, 0, 0]] * 3), np.zeros((3, 1), int)), 4.0)
    np.testing.assert_allclose(router_z_loss(logits), np.mean(np.log(np.exp(logits).sum(-1)) ** 2), atol=1e-14)
    mt.check_grads(lambda z: load_balancing_loss(z, experts), logits, order=2)
    mt.check_grads(router_z_loss, logits, order=2)


def test_the_module_trains_its_router_and_balances_it():
    rng = np.random.default_rng(0)
    layer = MixtureOfExperts(6, 8, experts=4, k=1, normalize=False, capacity_factor=1.5, rng=rng)
    x = rng.normal(size=(64, 6)) + np.array([3.0, 0, 0, 0, 0, 0])  # a common direction, which one expert attracts
    optimizer = Adam(layer.parameters(), lr=0.02)
    y = layer(x)
    assert y.shape == (64, 6)
    before = np.bincount(layer.experts.ravel(), minlength=4)
    for _ in range(60):
        optimizer.zero_grad()
        layer(x)
        load_balancing_loss(layer.logits, layer.experts).backward()
        optimizer.step()
    after = np.bincount(layer.experts.ravel(), minlength=4)
    assert after.max() < before.max()
    assert after.max() <= 24


def test_errors():
    x, router, *weights = draw(5, 4, 5, 3)
    with pytest.raises(ValueError, match="k must be from 1 to the 3 experts, got 4"):
        mixture_of_experts(x, router, *weights, k=4)
    with pytest.raises(ValueError, match="experts are from 0 to 2"):
        mixture_of_experts(x, router, *weights, k=1, experts=np.full((5, 1), 3))
    with pytest.raises(mt.ShapeError, match="mixture_of_experts"):
        mixture_of_experts(x, router[:3], *weights)
    with pytest.raises(ValueError, match="k must be from 1 to the 2 experts, got 3"):
        MixtureOfExperts(4, 4, experts=2, k=3, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="capacity_factor must be positive"):
        MixtureOfExperts(4, 4, experts=2, capacity_factor=0, rng=np.random.default_rng(0))
