"""Activation kernels and their gated forms: twins, extreme values, any number of threads, derivatives."""

import platform

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_twins import agree, extreme

import minitf as mt
from minitf.kernels import activations as kernels
from minitf.nn import functional as F

ALONE = ("silu", "gelu", "gelu_tanh", "squared_relu")
GATED = ("swiglu", "geglu", "geglu_tanh", "reglu", "glu")
SHAPES = st.lists(st.integers(0, 9), max_size=3).map(tuple)


def both_ways(name, rng, x):
    """f(x) or f(x, y), and its vjp, up to a few roundings of numbers near 1, of which there is one at least."""
    if x.size:
        x.flat[-1] = 1.0
    operands = (x,) if name in ALONE else (x, rng.standard_normal(x.shape))
    agree(getattr(kernels, name), getattr(kernels, f"{name}_twin"), *operands, scale=4)
    g = rng.standard_normal(x.shape)
    agree(getattr(kernels, f"{name}_vjp"), getattr(kernels, f"{name}_vjp_twin"), g, *operands, scale=4)


@given(st.integers(0, 10**6), SHAPES)
@pytest.mark.parametrize("name", [*ALONE, *GATED])
def test_twins(name, seed, shape):
    rng = np.random.default_rng(seed)
    both_ways(name, rng, rng.normal(0, 3, shape))


@pytest.mark.parametrize("name", [*ALONE, *GATED])
def test_extreme_values(name):
    rng = np.random.default_rng(0)
    x = extreme(rng, (400,), infinite=False)
    x[:3] = np.nan, np.inf, 88.5
    both_ways(name, rng, x)


@pytest.mark.parametrize("name", ["gelu", "swiglu"])
def test_twins_when_threads_share_the_work(name):
    rng = np.random.default_rng(0)
    both_ways(name, rng, rng.normal(0, 3, (5, 20_001)))


CASES = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "squared_relu": F.squared_relu,
    "swiglu": F.swiglu,
    "geglu": F.geglu,
    "geglu_tanh": lambda x, y: F.geglu(x, y, approximate="tanh"),
    "reglu": F.reglu,
    "glu": lambda x, y: F.glu(mt.concatenate([y, x], -1)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_primitive_runs_the_kernel_and_its_derivatives(name, monkeypatch):
    rng = np.random.default_rng(0)
    operands = rng.normal(0, 2, (2, 5, 900))[: 1 if name in ALONE else 2]
    operands[0][np.abs(operands[0]) < 0.01] = 1.0  # away from the kink of relu
    mt.check_grads(CASES[name], *operands)
    pulled = lambda: mt.vjp(CASES[name], *operands)[1](np.ones((5, 900)))[0].data
    fast = pulled()
    with mt.config(kernels="numpy"):
        np.testing.assert_allclose(fast, pulled(), rtol=1e-12, atol=1e-14)

    def sevens(*arrays):
        for a in arrays[1 + len(operands) :]:
            a[:] = 7

    monkeypatch.setattr(getattr(kernels, f"{name}_vjp").args[0], "_dispatcher", sevens)
    assert (pulled() == 7).all()


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads the assembly of another processor")
@pytest.mark.parametrize("name", ["gelu_vjp", "geglu_vjp", "geglu_tanh_vjp"])  # the longest
def test_loops_over_float32_become_vectors(name):
    kernel = getattr(kernels, name).args[0]
    kernel.dispatcher()
    fresh = numba.njit(error_model="numpy", fastmath=set(kernel.arithmetic))(kernel.function)
    fresh(*np.ones((5 if name.startswith("geglu") else 3, 1), np.float32))
    assembly = "".join(fresh.inspect_asm().values())
    assert "mulps" in assembly or "fmadd213ps" in assembly or "fmadd231ps" in assembly
