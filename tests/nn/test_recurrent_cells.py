"""Recurrent cells: one step in loops over single numbers, forgetting, gradients, cost."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf import nn

CELLS = {"RNN": (nn.RNNCell, 1), "LSTM": (nn.LSTMCell, 4), "GRU": (nn.GRUCell, 3)}


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def loops(kind, cell, x, h, c):
    """The next h and c of one sample, unit by unit."""
    D = len(h)
    W, U, b, d = (p.data for p in cell.parameters())

    def reads(gate, j):
        """What unit j of a gate gets from the input, and from the state."""
        column = gate * D + j
        return (
            sum(v * W[i, column] for i, v in enumerate(x)) + b[column],
            sum(v * U[i, column] for i, v in enumerate(h)) + d[column],
        )

    new_h, new_c = np.zeros(D), np.zeros(D)
    for j in range(D):
        if kind == "RNN":
            new_h[j] = math.tanh(sum(reads(0, j)))
        elif kind == "LSTM":
            i, f, g, o = (sum(reads(gate, j)) for gate in range(4))
            new_c[j] = sigmoid(f) * c[j] + sigmoid(i) * math.tanh(g)
            new_h[j] = sigmoid(o) * math.tanh(new_c[j])
        else:
            reset, update = sigmoid(sum(reads(0, j))), sigmoid(sum(reads(1, j)))
            of_x, of_h = reads(2, j)
            new_h[j] = (1 - update) * math.tanh(of_x + reset * of_h) + update * h[j]
    return new_h, new_c


@pytest.mark.parametrize("kind", CELLS)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 3))
def test_transcription(kind, seed, D_in, D):
    rng = np.random.default_rng(seed)
    cell = CELLS[kind][0](D_in, D, rng=rng)
    x, (h, c) = rng.standard_normal((2, D_in)), rng.standard_normal((2, 2, D))
    y, state = cell(x, (h, c) if kind == "LSTM" else h)
    for b in range(2):
        new_h, new_c = loops(kind, cell, x[b], h[b], c[b])
        np.testing.assert_allclose(y[b], new_h, rtol=1e-12, atol=1e-13)
        if kind == "LSTM":
            np.testing.assert_allclose(state[0][b], new_h, rtol=1e-12, atol=1e-13)
            np.testing.assert_allclose(state[1][b], new_c, rtol=1e-12, atol=1e-13)
    zero = cell(x, (0 * h, 0 * c) if kind == "LSTM" else 0 * h)
    np.testing.assert_array_equal(cell(x)[0], zero[0])


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_gates_that_are_shut_keep_the_memory(kind):
    """The state passes unchanged, and its gradient is exactly 1, however many steps there are."""
    cell = CELLS[kind][0](2, 3, rng=np.random.default_rng(0))
    for p in cell.parameters():
        p.data[:] = 0
    gates = cell.bias_ih.data.reshape(-1, 3)
    if kind == "LSTM":
        gates[0], gates[1] = -1000, 1000  # no input, all memory
    else:
        gates[1] = 1000  # no update
    memory = np.random.default_rng(1).standard_normal(3)

    def after(steps, memory):
        state = (mt.zeros(3), memory) if kind == "LSTM" else memory
        for _ in range(steps):
            _, state = cell(np.ones(2), state)
        return state[1] if kind == "LSTM" else state

    np.testing.assert_array_equal(after(20, mt.tensor(memory)), memory)
    np.testing.assert_array_equal(mt.jacobian(lambda m: after(20, m))(memory), np.eye(3))


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("bias", [True, False])
def test_gradients(kind, bias):
    cell = CELLS[kind][0](2, 3, bias, rng=np.random.default_rng(0))
    values = {name: p.data for name, p in cell.named_parameters()}
    state = np.random.default_rng(1).standard_normal((cell.parts, 2, 3))

    def step(x, state, *parameters):
        call = dict(zip(values, parameters, strict=True))
        return nn.functional_call(cell, call, x, mt.unstack(state) if kind == "LSTM" else state[0])[1]

    mt.check_grads(step, np.random.default_rng(2).standard_normal((2, 2)), state, *values.values())


@pytest.mark.parametrize("kind", CELLS)
def test_cost_and_parameters(kind):
    make, gates = CELLS[kind]
    cell = make(5, 7, rng=np.random.default_rng(0))
    with mt.cost() as c:
        cell(np.ones((3, 5)))
    assert c.macs == 3 * gates * 7 * (5 + 7)
    assert nn.count_parameters(cell) == gates * 7 * (5 + 7 + 2)
    assert nn.count_parameters(make(5, 7, bias=False, rng=np.random.default_rng(0))) == gates * 7 * (5 + 7)
    assert repr(cell) == f"{kind}Cell(5, 7)"
