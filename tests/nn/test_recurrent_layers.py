"""Recurrent layers: whole, cut anywhere and step by step alike; directions, depth, dropout, gradients."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf import nn

KINDS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}


def arrays(state):
    return [s.data for s in (state if isinstance(state, tuple) else (state,))]


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 6), st.sampled_from([(), (2,), (2, 1)]), st.data())
def test_whole_is_cut_anywhere_is_step_by_step(kind, seed, L, T, lead, data):
    rng = np.random.default_rng(seed)
    layer = KINDS[kind](3, 2, L, rng=rng)
    x = rng.standard_normal((*lead, T, 3))
    whole, end = layer(x)
    assert [s.shape for s in arrays(end)] == [(L, *lead, 2)] * len(arrays(end))
    for cuts in ([data.draw(st.integers(1, T))], range(1, T)):
        pieces, state = [], None
        for piece in np.split(x, [c for c in cuts if c < T], axis=-2):
            y, state = layer(piece, state)
            pieces.append(y.data)
        close(np.concatenate(pieces, -2), whole)
        for got, want in zip(arrays(state), arrays(end), strict=True):
            close(got, want)


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_its_cells_one_step_after_another(kind):
    """Two layers of two directions, by hand from the cells; the state is h after the last step of each."""
    rng = np.random.default_rng(0)
    layer = KINDS[kind](3, 2, 2, bidirectional=True, rng=rng)
    x = rng.standard_normal((4, 5, 3))
    below, ends = x, []
    for cells in layer.layers:
        sides = []
        for cell, order in zip(cells, (range(5), range(4, -1, -1)), strict=True):
            state, hs = None, {}
            for t in order:
                h, state = cell(below[:, t], state)
                hs[t] = h.data
            sides.append(np.stack([hs[t] for t in range(5)], 1))
            ends.append(arrays(state)[0])
        below = np.concatenate(sides, -1)
    y, state = layer(x)
    close(y, below)
    close(arrays(state)[0], np.stack(ends))


def test_reading_backwards_is_reading_the_reversed_sequence():
    rng = np.random.default_rng(0)
    layer = nn.GRU(3, 2, bidirectional=True, rng=rng)
    layer.layers[0][1] = layer.layers[0][0]
    x = rng.standard_normal((4, 5, 3))
    y, state = layer(x)
    z, _ = layer(x[:, ::-1])
    np.testing.assert_array_equal(y.data[..., 2:], z.data[:, ::-1, :2])
    np.testing.assert_array_equal(state.data[1], y.data[:, 0, 2:])
    assert nn.count_parameters(layer) == 3 * 2 * (3 + 2 + 2)  # shared by both directions


def test_dropout_lies_between_layers_and_only_while_training():
    layer = nn.LSTM(3, 4, 2, dropout=1.0, rng=np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((2, 5, 3))
    silent, _ = layer(x)
    upper = nn.LSTM(4, 4, rng=np.random.default_rng(0))
    upper.layers = layer.layers[1:]
    close(silent, upper(np.zeros((2, 5, 4)))[0])
    assert np.abs(layer.eval()(x)[0].data - silent.data).max() > 1e-3
    alone = nn.LSTM(3, 4, 1, dropout=1.0, rng=np.random.default_rng(0))
    close(alone(x)[0], alone.eval()(x)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind):
    layer = KINDS[kind](2, 2, 2, bidirectional=True, rng=np.random.default_rng(0))
    values = {name: p.data for name, p in layer.named_parameters()}
    assert next(iter(values)) == "layers.0.0.weight_ih"
    x = np.random.default_rng(1).standard_normal((1, 3, 2))

    def run(x, *parameters):
        return nn.functional_call(layer, dict(zip(values, parameters, strict=True)), x)

    mt.check_grads(run, x, *values.values(), modes=("vjp",))
    mt.check_grads(run, x, *values.values(), order=1, modes=("jvp",))


@pytest.mark.parametrize(("kind", "gates"), [("RNN", 1), ("LSTM", 4), ("GRU", 3)])
def test_cost(kind, gates):
    B, T, D_in, D = 2, 5, 3, 4
    layer = KINDS[kind](D_in, D, 2, bidirectional=True, rng=np.random.default_rng(0))
    with mt.cost() as c:
        layer(np.ones((B, T, D_in)))
    assert c.macs == sum(2 * B * T * gates * D * (width + D) for width in (D_in, 2 * D))


def test_what_it_looks_like():
    layer = nn.RNN(3, 4, 2, bidirectional=True, nonlinearity="relu", rng=np.random.default_rng(0))
    assert repr(layer).splitlines()[1] == "  3, 4, L=2, bidirectional=True"
    assert (layer(np.random.default_rng(1).standard_normal((1, 2, 3)))[0].data >= 0).all()
