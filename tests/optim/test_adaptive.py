"""Adam, Adafactor, LAMB and 8-bit AdamW step by step; what their state costs; averages of weights."""

import copy
import math
import sys
from pathlib import Path

import numpy as np
import pytest

import minitf as mt
from minitf import nn, optim
from minitf.optim.adamw_8bit import decode, dynamic_codes, encode

sys.path.insert(0, str(Path(__file__).parent))
from record_optimizers import HYPER, drawn, drawn_for_8_bits

RECORDED = np.load(Path(__file__).with_name("optimizers.npz"))
rng = np.random.default_rng(0)


def run(make, shape, steps, **options):
    """The parameter after each of ``steps`` steps along drawn gradients, and the gradients."""
    draws = np.random.default_rng(1)
    p = nn.Parameter(draws.standard_normal(shape))
    start, optimizer, gradients, values = p.data.copy(), make([p], **options), [], []
    for _ in range(steps):
        p.grad = mt.tensor(draws.standard_normal(shape))
        gradients.append(p.grad.data.copy())
        optimizer.step()
        values.append(p.data.copy())
    return start, gradients, values, optimizer


def test_adam_one_element_at_a_time():
    start, gradients, values, _ = run(optim.Adam, (5,), 7, lr=0.1, betas=(0.7, 0.9), eps=1e-3, weight_decay=0.2)
    for i in range(5):
        p, m, v = start[i], 0.0, 0.0
        for t, (g, value) in enumerate(zip(gradients, values, strict=True), 1):
            slope = g[i] + 0.2 * p
            m, v = 0.7 * m + 0.3 * slope, 0.9 * v + 0.1 * slope**2
            p -= 0.1 * (m / (1 - 0.7**t)) / (math.sqrt(v / (1 - 0.9**t)) + 1e-3)
            assert value[i] == pytest.approx(p, abs=1e-13)


def test_lamb_moves_by_lr_of_its_length():
    start, gradients, values, _ = run(optim.LAMB, (3, 4), 6, lr=0.1, betas=(0.7, 0.9), eps=1e-3, weight_decay=0.2)
    p, m, v = start.copy(), np.zeros((3, 4)), np.zeros((3, 4))
    for t, (g, value) in enumerate(zip(gradients, values, strict=True), 1):
        before = p
        for i, j in np.ndindex(3, 4):
            m[i, j], v[i, j] = 0.7 * m[i, j] + 0.3 * g[i, j], 0.9 * v[i, j] + 0.1 * g[i, j] ** 2
        r = np.array([
            [m[i, j] / (1 - 0.7**t) / (math.sqrt(v[i, j] / (1 - 0.9**t)) + 1e-3) + 0.2 * p[i, j] for j in range(4)]
            for i in range(3)
        ])  # fmt: skip
        p = p - 0.1 * math.sqrt((p**2).sum() / (r**2).sum()) * r
        np.testing.assert_allclose(value, p, atol=1e-13)
        assert np.linalg.norm(value - before) == pytest.approx(0.1 * np.linalg.norm(before))


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
def test_lamb_is_that_of_timm_over_fifty_steps(weight_decay):
    start, gradients = drawn()
    parameters = [nn.Parameter(x) for x in start]
    lamb = optim.LAMB(parameters, **HYPER, weight_decay=weight_decay)
    for step in gradients:
        for p, g in zip(parameters, step, strict=True):
            p.grad = mt.tensor(g)
        lamb.step()
    for i, p in enumerate(parameters):
        np.testing.assert_allclose(p.data, RECORDED[f"lamb_{weight_decay}_{i}"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("signed", [True, False])
def test_codes_of_8_bits_are_those_of_bitsandbytes(signed):
    np.testing.assert_allclose(dynamic_codes(signed), RECORDED[f"codes_{signed}"], rtol=0, atol=6e-8)  # kept in float32


def test_8_bit_adamw_is_that_of_bitsandbytes():
    start, gradients = drawn_for_8_bits()
    p = nn.Parameter(start)
    adamw = optim.AdamW8bit([p], **HYPER, weight_decay=0.05, block=256, min_size=1)
    for g in gradients:
        p.grad = mt.tensor(g)
        adamw.step()
    np.testing.assert_allclose(p.data, RECORDED["adamw_8bit"], rtol=0, atol=1e-12)


def test_lamb_leaves_zero_with_a_plain_step():
    p = nn.Parameter(np.zeros(3))
    p.grad = mt.tensor(np.array([1.0, -2.0, 3.0]))
    optim.LAMB([p], lr=0.1, eps=0.0).step()
    np.testing.assert_allclose(p.data, [-0.1, 0.1, -0.1])


def test_adafactor_is_exact_for_rank_one_squares():
    """Gradients u vᵀ have squares of rank one: the factors say as much as the whole matrix does."""
    u, v = rng.uniform(0.5, 2, (4, 1)), rng.uniform(0.5, 2, (1, 3))
    p, q = nn.Parameter(np.ones((4, 3))), nn.Parameter(np.ones(12))
    factored, whole = optim.Adafactor([p], lr=0.1, eps=(0.0, 1e-3)), optim.Adafactor([q], lr=0.1, eps=(0.0, 1e-3))
    for t in range(5):
        g = u * v * (t + 1)
        p.grad, q.grad = mt.tensor(g), mt.tensor(g.reshape(-1))
        factored.step()
        whole.step()
        np.testing.assert_allclose(p.data.reshape(-1), q.data, rtol=1e-13)
    assert sum(x.size for x in factored.state[id(p)].values() if isinstance(x, np.ndarray)) == 4 + 3


@pytest.mark.parametrize("make", [optim.Adafactor, optim.LAMB, optim.AdamW8bit, optim.Adam])
def test_state_comes_back(make):
    draws = np.random.default_rng(2)
    p, q = (nn.Parameter(draws.standard_normal((80, 64))) for _ in range(2))
    one, other = make([p], lr=0.01), make([q], lr=0.5)
    gradients = draws.standard_normal((6, 80, 64))
    for g in gradients[:3]:
        p.grad = mt.tensor(g)
        one.step()
    q.data[...] = p.data
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for g in gradients[3:]:
        p.grad, q.grad = mt.tensor(g), mt.tensor(g)
        one.step()
        other.step()
        np.testing.assert_array_equal(p.data, q.data)
    small = make([nn.Parameter(np.zeros((2, 64)))])
    with pytest.raises(ValueError, match="in the state, needed is"):
        small.load_state_dict(one.state_dict())


# -- eight bits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signed", [True, False])
def test_codes(signed):
    numbers = dynamic_codes(signed)
    assert numbers.size == 256
    assert (np.diff(numbers) > 0).all()
    assert numbers[-1] == 1
    assert 0 in numbers
    assert (numbers.min() < -0.99) == signed
    x = numbers * 3.0
    codes, largest = encode(x, 256, signed)
    np.testing.assert_array_equal(codes, np.arange(256))
    np.testing.assert_allclose(decode(codes, largest, 256, signed), x)


def test_encoding_takes_the_nearest_number_of_each_block():
    x = rng.standard_normal(1000) * np.repeat(10.0 ** np.arange(-5, 5), 100)
    codes, largest = encode(x, 100, True)
    got = decode(codes, largest, 100, True)
    for i in range(0, 1000, 37):
        scale = np.abs(x[i // 100 * 100 : i // 100 * 100 + 100]).max()
        nearest = min(abs(x[i] - scale * n) for n in dynamic_codes(True))
        assert abs(got[i] - x[i]) == pytest.approx(nearest, abs=1e-12 * scale)
    np.testing.assert_array_equal(decode(*encode(np.zeros(5), 2, False), 2, False), np.zeros(5))


def test_a_byte_a_moment_and_nearly_the_same_way():
    """A quadratic is descended as by AdamW; the state is a quarter of its in float32."""
    scales = np.exp(rng.uniform(-3, 3, (64, 64))).astype(np.float32)
    with mt.config(dtype="float32"):
        p, q = nn.Parameter(np.ones((64, 64))), nn.Parameter(np.ones((64, 64)))
    eight, whole = optim.AdamW8bit([p], lr=0.02), optim.AdamW([q], lr=0.02)
    for _ in range(100):
        for x, optimizer in ((p, eight), (q, whole)):
            optimizer.zero_grad()
            mt.sum(scales * x * x).backward()
            optimizer.step()
    assert np.abs(p.data - q.data).max() < 0.05
    assert np.abs(q.data).max() < 0.2
    blocks = 64 * 64 // 256
    assert eight.state_bytes() == 2 * (64 * 64 + 4 * blocks)


# -- averages -----------------------------------------------------------------------------------------------------


def test_ema_is_the_weighted_sum_of_all_steps():
    model = nn.Linear(3, 2, rng=rng)
    ema, seen = optim.EMA(model, 0.9), [model.weight.data.copy()]
    for _ in range(5):
        model.weight.data += rng.standard_normal((3, 2))
        seen.append(model.weight.data.copy())
        ema.update(model)
    weights = np.array([0.9**5, *(0.1 * 0.9 ** np.arange(4, -1, -1))])
    np.testing.assert_allclose(ema.state_dict()["weight"], np.tensordot(weights, np.array(seen), 1))
    assert not ema.module.training
    assert not any(p.requires_grad for p in ema.module.parameters())


def test_ema_update_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\], got 2"):
        optim.ema_update(nn.Linear(2, 2, rng=rng), nn.Linear(2, 2, rng=rng), 2)
    with pytest.raises(ValueError, match="only one of them has bias"):
        optim.ema_update(nn.Linear(2, 2, rng=rng), nn.Linear(2, 2, bias=False, rng=rng), 0.5)
    with pytest.raises(ValueError, match="their shapes differ"):
        optim.ema_update(nn.Linear(2, 2, rng=rng), nn.Linear(3, 2, rng=rng), 0.5)


# -- schedules, options -------------------------------------------------------------------------------------------


def test_schedules():
    wsd = [optim.schedules.wsd(t, 20, peak=2.0, warmup=4, decay=4) for t in range(21)]
    np.testing.assert_allclose(wsd, [0.5, 1, 1.5, 2, *[2] * 13, 1.5, 1, 0.5, 0])
    assert optim.schedules.wsd(19, 20, decay=0) == 1
    rsqrt = [optim.schedules.rsqrt(t, peak=3.0, warmup=4, floor=0.1) for t in (0, 3, 15, 10**6)]
    np.testing.assert_allclose(rsqrt, [0.75, 3, 1.5, 0.1])
    assert [optim.schedules.constant(t, warmup=2) for t in range(4)] == [0.5, 1, 1, 1]
    with pytest.raises(ValueError, match="decay must be from 0 to the 5 steps after the warm-up, got 6"):
        optim.schedules.wsd(0, 9, warmup=4, decay=6)
    with pytest.raises(ValueError, match="needs warmup >= 1"):
        optim.schedules.rsqrt(0, warmup=0)


@pytest.mark.parametrize(
    ("make", "options", "told"),
    [
        (optim.Adam, {"betas": (0.9, 1.0)}, "betas must be two numbers"),
        (optim.LAMB, {"betas": 0.9}, "betas must be two numbers"),
        (optim.Adafactor, {"eps": (None, None)}, "eps must be two numbers"),
        (optim.Adafactor, {"d": 0}, "d must be positive"),
        (optim.Adafactor, {"beta2_decay": 0.8}, "beta2_decay, an exponent, must not be positive"),
        (optim.AdamW8bit, {"block": 0}, "block must be at least 1"),
    ],
)
def test_wrong_options(make, options, told):
    with pytest.raises(ValueError, match=told):
        make([nn.Parameter(np.ones(2))], **options)
