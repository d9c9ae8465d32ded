"""SGD, AdamW and Lion against their update rules, one number at a time; groups, state, messages."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf import nn, optim


def run(make, gradients, start):
    """The values of one parameter after each of the given gradients."""
    p = nn.Parameter(start)
    optimizer = make([p])
    path = []
    for g in gradients:
        p.grad = mt.tensor(g)
        optimizer.step()
        path.append(p.data.copy())
    return np.array(path)


@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.9]), st.booleans(), st.sampled_from([0.0, 0.1]))
def test_sgd_transcription(seed, momentum, nesterov, decay):
    nesterov = nesterov and momentum > 0
    rng = np.random.default_rng(seed)
    gradients, start = rng.standard_normal((6, 3)), rng.standard_normal(3)
    make = lambda ps: optim.SGD(ps, 0.1, momentum=momentum, nesterov=nesterov, weight_decay=decay)
    path = run(make, gradients, start)
    for i in range(3):
        p, u = start[i], 0.0
        for t in range(6):
            g = gradients[t, i] + decay * p
            u = momentum * u + g
            p -= 0.1 * (g + momentum * u if nesterov else u)
            assert math.isclose(path[t, i], p, rel_tol=1e-12, abs_tol=1e-14)


@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.1]))
def test_adamw_transcription(seed, decay):
    rng = np.random.default_rng(seed)
    gradients, start = rng.standard_normal((6, 3)), rng.standard_normal(3)
    path = run(lambda ps: optim.AdamW(ps, 0.1, betas=(0.8, 0.95), eps=1e-6, weight_decay=decay), gradients, start)
    for i in range(3):
        p, m, v = start[i], 0.0, 0.0
        for t in range(6):
            g = gradients[t, i]
            p -= 0.1 * decay * p
            m = 0.8 * m + 0.2 * g
            v = 0.95 * v + 0.05 * g * g
            p -= 0.1 * (m / (1 - 0.8 ** (t + 1))) / (math.sqrt(v / (1 - 0.95 ** (t + 1))) + 1e-6)
            assert math.isclose(path[t, i], p, rel_tol=1e-11, abs_tol=1e-13)


@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.1]))
def test_lion_transcription(seed, decay):
    rng = np.random.default_rng(seed)
    gradients, start = rng.standard_normal((6, 3)), rng.standard_normal(3)
    path = run(lambda ps: optim.Lion(ps, 0.1, betas=(0.8, 0.95), weight_decay=decay), gradients, start)
    for i in range(3):
        p, m = start[i], 0.0
        for t in range(6):
            p -= 0.1 * decay * p
            p -= math.copysign(0.1, 0.8 * m + 0.2 * gradients[t, i])
            m = 0.95 * m + 0.05 * gradients[t, i]
            assert math.isclose(path[t, i], p, rel_tol=1e-12, abs_tol=1e-14)


def test_lion_stands_still_where_nothing_ever_pulled():
    path = run(optim.Lion, [[0.0, 1e-30, -5.0]], np.zeros(3))
    np.testing.assert_array_equal(path[0], [0, -1e-4, 1e-4])


def test_first_step_of_adamw_is_lr_times_the_sign():
    path = run(lambda ps: optim.AdamW(ps, 0.01, weight_decay=0.0), [[5.0, -1e-3, 0.0]], np.zeros(3))
    np.testing.assert_allclose(path[0], [-0.01, 0.01, 0.0], rtol=1e-4)


def make(kind, params, **options):
    more = {"momentum": 0.9} if kind == "SGD" else {}
    return getattr(optim, kind)(params, 0.1, **more, **options)


ALL = pytest.mark.parametrize("kind", ["SGD", "AdamW", "Lion"])


@ALL
def test_updates_in_place_in_its_own_dtype(kind):
    p = nn.Parameter(np.ones(4), dtype="float32")
    array, g = p.data, mt.tensor(np.arange(4.0), dtype="float32")
    kept = g.data.copy()
    optimizer = make(kind, [p], weight_decay=0.1)
    for _ in range(3):
        p.grad = g
        optimizer.step()
    assert p.data is array
    assert p.dtype == np.float32
    np.testing.assert_array_equal(g.data, kept)
    for entry in optimizer.state.values():
        assert all(v.dtype == np.float32 for v in entry.values() if isinstance(v, np.ndarray))
    assert p.requires_grad
    mt.sum(p * p).backward()


@ALL
def test_shared_gradients_are_not_changed(kind):
    """The gradients of a and b in a + b are one array."""
    a, b = nn.Parameter(np.ones(3)), nn.Parameter(np.full(3, 2.0))
    optimizer = make(kind, [a, b], weight_decay=0.1)
    mt.sum((a + b) ** 2).backward()
    assert optim.clip_grad_norm([a, b], 0.5) == pytest.approx(math.sqrt(6 * 36))
    assert optim.grad_norm([a, b]) == pytest.approx(0.5, rel=1e-6)
    np.testing.assert_array_equal(a.grad, b.grad)
    kept = a.grad.data.copy()
    optimizer.step()
    np.testing.assert_array_equal(b.grad, kept)
    optimizer.zero_grad()
    assert a.grad is None
    assert b.grad is None


@ALL
def test_complex_parameters_are_pairs_of_reals(kind):
    rng = np.random.default_rng(0)
    start = np.asfortranarray(rng.standard_normal((3, 2)) + 1j * rng.standard_normal((3, 2)))
    gradients = rng.standard_normal((4, 3, 2)) + 1j * rng.standard_normal((4, 3, 2))
    pairs = np.stack([gradients.real, gradients.imag], -1)
    path = run(lambda ps: make(kind, ps), gradients, start)
    expected = run(lambda ps: make(kind, ps), pairs, np.stack([start.real, start.imag], -1))
    np.testing.assert_array_equal(np.stack([path.real, path.imag], -1), expected)


@ALL
def test_groups(kind):
    a, b = nn.Parameter(np.ones(2)), nn.Parameter(np.ones(2))
    optimizer = make(kind, [{"params": [a], "lr": 0.0}, {"params": b}])
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.1]
    a.grad = b.grad = mt.tensor([1.0, 1.0])
    optimizer.step()
    assert (a.data == 1).all()
    assert (b.data != 1).all()


@ALL
def test_state_continues_exactly(kind):
    rng = np.random.default_rng(1)
    gradients = rng.standard_normal((8, 3))
    whole = run(lambda ps: make(kind, ps), gradients, np.zeros(3))

    p = nn.Parameter(np.zeros(3))
    first = make(kind, [p])
    for g in gradients[:4]:
        p.grad = mt.tensor(g)
        first.step()
    state = first.state_dict()
    p.grad = mt.tensor(gradients[0])
    q = nn.Parameter(p.data)
    first.step()  # the state is a copy: this changes nothing there
    second = make(kind, [q])
    second.param_groups[0]["lr"] = 77.0
    second.load_state_dict(state)
    for g in gradients[4:]:
        q.grad = mt.tensor(g)
        second.step()
    np.testing.assert_array_equal(q.data, whole[-1])


def test_parameters_without_a_gradient_stay():
    a, b = nn.Parameter([1.0]), nn.Parameter([1.0])
    optimizer = optim.AdamW([a, b], 0.1)
    a.grad = mt.tensor([1.0])
    optimizer.step()
    assert b.data == 1
    assert len(optimizer.state) == 1


def test_wrong_calls():
    p, q = nn.Parameter([1.0]), nn.Parameter([1.0, 2.0])
    with pytest.raises(RuntimeError, match=r"AdamW: no parameter has a gradient; call loss.backward\(\) before step"):
        optim.AdamW([p]).step()
    with pytest.raises(ValueError, match="SGD: lr must be a number that is not negative, got -1"):
        optim.SGD([p], -1)
    with pytest.raises(ValueError, match=r"betas must be two numbers in \[0, 1\), got \(0.9, 1.0\)"):
        optim.AdamW([p], betas=(0.9, 1.0))
    with pytest.raises(ValueError, match="betas must be two numbers"):
        optim.AdamW([p], betas=0.9)
    with pytest.raises(ValueError, match=r"Lion: betas must be two numbers in \[0, 1\), got \(1.0, 0.9\)"):
        optim.Lion([p], betas=(1.0, 0.9))
    with pytest.raises(ValueError, match="eps must be a number"):
        optim.AdamW([p], eps=math.nan)
    with pytest.raises(ValueError, match="nesterov needs a momentum"):
        optim.SGD([p], 0.1, nesterov=True)
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\)"):
        optim.SGD([p], 0.1, momentum=1.0)
    with pytest.raises(ValueError, match=r"a parameter of shape \(2,\) was given twice"):
        optim.AdamW([p, q, q])
    with pytest.raises(ValueError, match=r"a parameter of shape \(1,\) was given twice"):
        optim.AdamW([{"params": [p]}, {"params": [q, p]}])
    with pytest.raises(ValueError, match="there are no parameters to optimize"):
        optim.AdamW([])
    with pytest.raises(TypeError, match=r"such as model.parameters\(\), or a list of groups, got Linear"):
        optim.AdamW(nn.Linear(2, 2, rng=np.random.default_rng(0)))
    with pytest.raises(TypeError, match=r"parameters \(leaf Tensors\) only, got the result of an operation"):
        optim.AdamW([p * 2])
    with pytest.raises(TypeError, match="leaf Tensors"):
        optim.AdamW([np.ones(3)])
    with pytest.raises(ValueError, match="unknown option 'momentum'; a group may set lr, betas, eps, weight_decay"):
        optim.AdamW([{"params": [p], "momentum": 0.9}])
    with pytest.raises(ValueError, match=r"the groups here have \[1\] parameters, those of the state \[2\]"):
        optim.AdamW([p]).load_state_dict(optim.AdamW([p, q]).state_dict())
    with pytest.raises(TypeError, match="needs what state_dict"):
        optim.AdamW([p]).load_state_dict({})
    other = optim.AdamW([q])
    q.grad = mt.tensor([1.0, 1.0])
    other.step()
    with pytest.raises(ValueError, match=r"'exp_avg' of parameter 0 has shape \(2,\) in the state"):
        optim.AdamW([p]).load_state_dict(other.state_dict())
    with pytest.raises(RuntimeError, match="no parameter has a gradient"):
        optim.clip_grad_norm([p], 1.0)
    with pytest.raises(ValueError, match="max_norm must be positive"):
        optim.clip_grad_norm([q], 0)
