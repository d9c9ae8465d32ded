"""Optimizer kernels: their twins, step after step; any sizes together, any number of threads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_twins import DTYPES, TOLERANCES, close, extreme, same_bits

import minitf as mt
from minitf import nn, optim
from minitf.kernels import optimizers as kernels

#: the kernel's options and how many arrays of state a parameter has
RULES = {
    "adamw": (2, {"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": 0.1}),
    "lion": (1, {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.1}),
    "sgd": (0, {"lr": 0.01, "momentum": 0.0, "nesterov": False, "weight_decay": 0.1}),
    "momentum": (1, {"lr": 0.01, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0}),
    "nesterov": (1, {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
}
EACH = pytest.mark.parametrize("rule", RULES)


def run(update, rule, start, gradients, dtype, **more):
    """What is in the parameters and their states after a step with each of the ``gradients``."""
    states, options = RULES[rule]
    arrays = [[p.astype(dtype), *(np.zeros_like(p, dtype) for _ in range(states))] for p in start]
    for t, gs in enumerate(gradients, 1):
        rows = [(p, g, *state) for (p, *state), g in zip(arrays, gs, strict=True)]
        with np.errstate(all="ignore"):
            update([(*row, t) for row in rows] if rule == "adamw" else rows, **options, **more)
    return [a for of_one in arrays for a in of_one]


def agreement(rule, start, gradients, scale=4):
    name = rule if rule in ("adamw", "lion") else "sgd"
    kernel, twin = getattr(kernels, name), getattr(kernels, f"{name}_twin")
    for dtype in DTYPES:
        gs = [[g.astype(dtype) for g in step] for step in gradients]
        got = run(kernel, rule, start, gs, dtype, threads=1)
        for a, b in zip(got, run(twin, rule, start, gs, dtype), strict=True):
            close(a, b, TOLERANCES[dtype] * scale)
        for threads in (2, 7):
            same_bits(run(kernel, rule, start, gs, dtype, threads=threads), got)


@EACH
@given(st.integers(0, 10**6), st.lists(st.integers(0, 70), max_size=4))
def test_twins(rule, seed, sizes):
    rng = np.random.default_rng(seed)
    agreement(
        rule, [rng.standard_normal(n) for n in sizes], [[rng.standard_normal(n) for n in sizes] for _ in range(3)]
    )


@EACH
def test_one_large_among_small_ones(rule):
    rng = np.random.default_rng(0)
    shapes = [(3,), (700, 211), (), (40, 2, 3)]
    start, *gradients = [[rng.standard_normal(shape) for shape in shapes] for _ in range(3)]
    agreement(rule, start, gradients)
    gradients[0][1] = np.asfortranarray(gradients[0][1])
    agreement(rule, start, gradients)


@EACH
def test_extreme_gradients(rule):
    rng = np.random.default_rng(0)
    gradient = extreme(rng, (300,))
    gradient[7] = np.nan
    agreement(rule, [rng.standard_normal(300)], [[gradient]])


OPTIMIZERS = {
    "AdamW": lambda ps: optim.AdamW(ps, 0.01),
    "Lion": lambda ps: optim.Lion(ps, 0.01, weight_decay=0.1),
    "SGD": lambda ps: optim.SGD(ps, 0.01, momentum=0.9, nesterov=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_optimizer_runs_the_kernel_where_there_is_one(name):
    """A large parameter in float32 and a small one in half precision: the kernel for the one, its twin for the other."""
    rng = np.random.default_rng(0)
    start, g = rng.standard_normal((2, 5000))

    def train(**settings):
        ps = [nn.Parameter(start.astype(np.float32)), nn.Parameter(start[:5], dtype="float16")]
        optimizer = OPTIMIZERS[name](ps)
        with mt.config(**settings):
            for _ in range(3):
                for p in ps:
                    p.grad = mt.tensor(g[: p.size], dtype=p.dtype)
                optimizer.step()
        return [p.data for p in ps]

    fast, slow = train(threads=2), train(kernels="numpy")
    np.testing.assert_allclose(fast[0], slow[0], atol=1e-6)
    np.testing.assert_array_equal(fast[1], slow[1])
    assert fast[1].dtype == np.float16
    assert (fast[0] != slow[0]).any()  # otherwise one of them ran twice


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_small_does_not_load_the_compiler(name, monkeypatch):
    for kernel in ("adamw", "lion", "sgd"):
        monkeypatch.setattr(kernels, kernel, lambda *_, **__: pytest.fail("the kernel ran"))
    p = nn.Parameter(np.ones(3))
    p.grad = mt.tensor(np.ones(3))
    OPTIMIZERS[name]([p]).step()
    assert (p.data < 1).all()
