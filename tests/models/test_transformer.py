"""The decoder skeleton: its equations in NumPy, the cache, causality, what can be exchanged, and what is refused."""

import copy
import math

import numpy as np
import pytest

import minitf as mt
from minitf.attention.dot_product import MultiHeadAttention
from minitf.feedforward.mlp import FeedForward, GatedFeedForward
from minitf.models.transformer import Block, Decoder
from minitf.nn.functional import cross_entropy
from minitf.nn.layers import Dropout, LayerNorm
from minitf.nn.module import Module

V, D, L, H, T = 19, 16, 2, 2, 6

every_position = pytest.mark.parametrize("position", ["none", "learned", "sinusoidal", "rotary"])
every_place = pytest.mark.parametrize("norm_place", ["pre", "post"])


def build(seed=0, **options):
    """A decoder with weights that matter: everything random, positions as large as tokens."""
    rng = np.random.default_rng(seed)
    model = Decoder(V, D, L, H, rng=rng, **({"max_length": 9} | options))
    for p in model.parameters():
        p.data[...] = rng.normal(0, 0.5, p.shape) + (p.ndim == 1)
    return model


def draw_ids(B=2, n=T, seed=1):
    return np.random.default_rng(seed).integers(0, V, (B, n))


# -- the equations in NumPy -------------------------------------------------------------------------------------------


def normalized(x, state, name, eps):
    """A layer norm if there is a bias, a root-mean-square norm otherwise."""
    centered = x - x.mean(-1, keepdims=True) if f"{name}.bias" in state else x
    y = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + eps) * state[f"{name}.weight"]
    return y + state.get(f"{name}.bias", 0)


def turned(x, positions):
    """(T, E) as E/2 complex numbers, each turned by its position times its frequency."""
    half = x.shape[-1] // 2
    frequencies = [10000 ** (-j / half) for j in range(half)]
    z = (x[:, :half] + 1j * x[:, half:]) * np.exp(1j * np.outer(positions, frequencies))
    return np.concatenate([z.real, z.imag], -1)


def attended(x, state, name, rotate, positions):
    """Causal multi-head attention of one sequence (T, D), one query at a time."""
    q, k, v = (x @ state[f"{name}.{part}.weight"] + state[f"{name}.{part}.bias"] for part in "qkv")
    E, out = D // H, np.zeros(x.shape)
    for h in range(H):
        head = slice(h * E, (h + 1) * E)
        queries, keys = (turned(part[:, head], positions) if rotate else part[:, head] for part in (q, k))
        for t in range(len(x)):
            weights = np.exp(keys[: t + 1] @ queries[t] / math.sqrt(E))
            out[t, head] = weights @ v[: t + 1, head] / weights.sum()
    return out @ state[f"{name}.out.weight"] + state[f"{name}.out.bias"]


def fed_forward(x, state, name):
    hidden = x @ state[f"{name}.up.weight"] + state[f"{name}.up.bias"]
    hidden = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    return hidden @ state[f"{name}.down.weight"] + state[f"{name}.down.bias"]


def in_numpy(model, ids, norm_place, eps, positions=None, drop=lambda x: x):
    """The logits (B, T, V); ``drop`` is applied where dropout is."""
    state = model.state_dict()
    positions = np.broadcast_to(np.arange(ids.shape[1]), ids.shape) if positions is None else positions
    x = np.stack([[state["embedding.weight"][i] for i in row] for row in ids])
    if model.position == "learned":
        x = x + state["positions.weight"][positions]
    elif model.position == "sinusoidal":
        for j in range(D // 2):
            angle = positions / 10000 ** (2 * j / D)
            x[..., j] += np.sin(angle)
            x[..., D // 2 + j] += np.cos(angle)
    x = drop(x)
    for layer in range(L):
        for part in ("attention", "feed_forward"):
            name, norm = f"blocks.{layer}.{part}", f"blocks.{layer}.{part}_norm"
            y = normalized(x, state, norm, eps) if norm_place == "pre" else x
            if part == "attention":
                rows = zip(y, positions, strict=True)
                y = np.stack([attended(row, state, name, model.position == "rotary", at) for row, at in rows])
            else:
                y = fed_forward(y, state, name)
            x = x + drop(y)
            if norm_place == "post":
                x = normalized(x, state, norm, eps)
    if norm_place == "pre":
        x = normalized(x, state, "norm", eps)
    return x @ (state["head.weight"] if "head.weight" in state else state["embedding.weight"].T)


@every_position
@every_place
@pytest.mark.parametrize(("norm", "tied", "eps"), [("layer", True, 1e-5), ("rms", False, 0.1)])
def test_equals_its_equations(position, norm_place, norm, tied, eps):
    model = build(position=position, norm_place=norm_place, norm=norm, tied=tied, eps=eps)
    assert (model.head is None) == tied
    ids = draw_ids()
    np.testing.assert_allclose(model(ids), in_numpy(model, ids, norm_place, eps), rtol=0, atol=1e-11)


@every_position
@every_place
def test_positions_can_be_given(position, norm_place):
    model, ids = build(position=position, norm_place=norm_place), draw_ids()
    positions = np.array([[0, 1, 2, 3, 4, 5], [2, 3, 4, 6, 7, 8]])
    want = in_numpy(model, ids, norm_place, 1e-5, positions)
    np.testing.assert_allclose(model(ids, positions=positions), want, rtol=0, atol=1e-11)
    counted = model(ids, positions=np.arange(T)).data
    np.testing.assert_array_equal(counted, model(ids).data)


@every_place
def test_a_block_is_two_sub_layers_with_a_norm_and_a_residual_connection(norm_place):
    rng = np.random.default_rng(0)
    parts = (MultiHeadAttention(D, H, rng=rng), FeedForward(D, 3 * D, rng=rng))
    norms = iter((LayerNorm(D), LayerNorm(D, eps=0.1)))
    block = Block(*parts, lambda: next(norms), norm_place, Dropout(0.0))
    for p in block.parameters():
        p.data[...] = rng.normal(0, 0.5, p.shape)
    state, x = block.state_dict(), rng.normal(size=(T, D))
    attend = lambda y: attended(y, state, "attention", False, None)
    if norm_place == "pre":
        y = x + attend(normalized(x, state, "attention_norm", 1e-5))
        want = y + fed_forward(normalized(y, state, "feed_forward_norm", 0.1), state, "feed_forward")
    else:
        y = normalized(x + attend(x), state, "attention_norm", 1e-5)
        want = normalized(y + fed_forward(y, state, "feed_forward"), state, "feed_forward_norm", 0.1)
    np.testing.assert_allclose(block(x[None], causal=True)[0], want, rtol=0, atol=1e-12)


def test_hidden_states_are_what_the_output_matrix_reads():
    ids = draw_ids()
    for tied in (True, False):
        model = build(tied=tied)
        W = model.embedding.weight.data.T if tied else model.head.weight.data
        np.testing.assert_allclose(model(ids), model.hidden(ids).data @ W, rtol=0, atol=1e-12)


@pytest.mark.parametrize("tied", [True, False])
def test_number_of_parameters(tied):
    model = Decoder(V, D, L, H, 24, max_length=9, tied=tied, rng=np.random.default_rng(0))
    a_layer = 4 * (D * D + D) + (2 * D * 24 + 24 + D) + 4 * D
    assert mt.nn.count_parameters(model) == V * D + 9 * D + L * a_layer + 2 * D + (0 if tied else V * D)
    assert ("head.weight" in model.state_dict()) != tied


@every_place
@pytest.mark.parametrize("tied", [True, False])
def test_gradients(norm_place, tied):
    """With respect to all parameters at once; the tied matrix is used at both ends."""
    model, ids = build(norm_place=norm_place, tied=tied, norm="rms"), draw_ids(1, 4)
    weights = {name: p.data for name, p in model.named_parameters()}

    def loss(*values):
        logits = mt.nn.functional_call(model, dict(zip(weights, values, strict=True)), ids[:, :-1])
        return cross_entropy(logits, ids[:, 1:])

    mt.check_grads(loss, *weights.values(), order=1)


# -- dropout ----------------------------------------------------------------------------------------------------------


@every_place
def test_dropout_is_on_the_embedding_and_on_both_branches(norm_place):
    rng = np.random.default_rng(0)
    model, ids = Decoder(V, D, L, H, max_length=9, norm_place=norm_place, dropout=0.4, rng=rng), draw_ids()
    twin = copy.deepcopy(rng)
    drop = lambda x: mt.nn.functional.dropout(x, 0.4, rng=twin).data
    for _ in range(2):  # the second call goes on with the generator
        want = in_numpy(model, ids, norm_place, 1e-5, drop=drop)
        np.testing.assert_allclose(model(ids), want, rtol=0, atol=1e-12)


def test_dropout_happens_while_training_and_can_be_repeated():
    ids = draw_ids()
    make = lambda p, seed=0: Decoder(V, D, L, H, max_length=9, dropout=p, rng=np.random.default_rng(seed))
    model, again, without = make(0.4), make(0.4), make(0.0)
    first, second = model(ids).data, model(ids).data
    assert np.abs(first - second).max() > 0.01
    np.testing.assert_array_equal(first, again(ids).data)
    np.testing.assert_array_equal(second, again(ids).data)
    np.testing.assert_array_equal(model.eval()(ids).data, without(ids).data)


# -- causality and the cache ------------------------------------------------------------------------------------------


@every_position
@every_place
def test_later_tokens_leave_the_logits_before_them_bit_identical(position, norm_place):
    model, ids = build(position=position, norm_place=norm_place), draw_ids()
    whole = model(ids).data
    for t in range(T):
        changed = ids.copy()
        changed[:, t:] = (changed[:, t:] + 1) % V
        after = model(changed).data
        np.testing.assert_array_equal(after[:, :t], whole[:, :t])
        assert (after[:, t] != whole[:, t]).any(axis=-1).all()


@every_position
@every_place
@pytest.mark.parametrize("cuts", [[1] * T, [3, 1, 2], [1, 5], [T]])
def test_decoding_in_steps_and_in_chunks_is_the_parallel_form(position, norm_place, cuts):
    model, ids = build(position=position, norm_place=norm_place), draw_ids()
    cache = model.new_cache(2)
    parts = [model(chunk, cache=cache).data for chunk in np.split(ids, np.cumsum(cuts)[:-1], axis=1)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), model(ids), rtol=0, atol=1e-12)
    assert cache.length == T
    assert cache.nbytes() == 2 * L * 2 * T * D * 8


@every_position
def test_a_reordered_cache_continues_the_chosen_rows(position):
    model, ids, more = build(position=position), draw_ids(3, 4), draw_ids(4, 2, seed=2)
    cache, rows = model.new_cache(), [2, 0, 0, 1]
    model(ids, cache=cache)
    cache.reorder(rows)
    want = model(np.concatenate([ids[rows], more], axis=1)).data[:, 4:]
    np.testing.assert_allclose(model(more, cache=cache), want, rtol=0, atol=1e-12)


@every_position
@pytest.mark.parametrize("length", [0, 2, 4])
def test_a_cropped_cache_forgets_what_it_saw(position, length):
    model, ids, more = build(position=position), draw_ids(2, 4), draw_ids(2, 3, seed=2)
    cache = model.new_cache()
    model(ids, cache=cache)
    cache.crop(length)
    want = model(np.concatenate([ids[:, :length], more], axis=1)).data[:, length:]
    np.testing.assert_allclose(model(more, cache=cache), want, rtol=0, atol=1e-12)


@every_position
def test_a_left_padded_row_is_the_row_alone(position):
    model, ids = build(position=position), draw_ids()
    valid = np.ones((2, T), bool)
    valid[0, :2] = False
    positions = np.maximum(np.cumsum(valid, axis=1) - 1, 0)
    padded = model(ids, mask=valid[:, None, None, :], positions=positions).data
    np.testing.assert_allclose(padded[0, 2:], model(ids[:1, 2:]).data[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(padded[1], model(ids[1:]).data[0], rtol=0, atol=1e-12)


# -- sub-layers of one's own ------------------------------------------------------------------------------------------


def test_factories_make_the_sub_layers_layer_by_layer():
    """Those that make the default sub-layers make the default model."""
    called = []

    def attention(layer, rng):
        called.append(("attention", layer, rng))
        return MultiHeadAttention(D, H, rng=rng)

    def feed_forward(layer, rng):
        called.append(("feed_forward", layer, rng))
        return FeedForward(D, 4 * D, rng=rng)

    rng, ids = np.random.default_rng(0), draw_ids()
    own = Decoder(V, D, L, H, attention=attention, feed_forward=feed_forward, max_length=9, rng=rng)
    assert called == [(kind, layer, rng) for layer in range(L) for kind in ("attention", "feed_forward")]
    default = Decoder(V, D, L, H, max_length=9, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(own(ids).data, default(ids).data)


def test_an_attention_of_ones_own_is_told_everything():
    class Attention(Module):
        def forward(self, x, **options):
            heard.append(options)
            return 0 * x

    class Doubling(Module):
        def forward(self, x):
            return 2 * x

    heard = []
    model = Decoder(
        V, D, L, H, attention=lambda layer, rng: Attention(), feed_forward=lambda layer, rng: Doubling(),
        position="none", norm="rms", eps=1e-14, tied=False, rng=np.random.default_rng(0),
    )  # fmt: skip
    ids, mask, positions = draw_ids(), np.ones((2, 1, 1, T), bool), np.arange(T)
    cache = model.new_cache()
    hidden = model.hidden(ids, mask=mask, positions=positions, cache=cache).data
    assert [options["cache"] for options in heard] == cache.slots
    for options in heard:
        assert options["mask"] is mask
        assert options["positions"] is positions
        assert options["causal"] is True
    x = model.embedding.weight.data[ids]  # x + 2 x / rms keeps the direction, and the last norm has rms 1
    np.testing.assert_allclose(hidden, x / np.sqrt((x**2).mean(-1, keepdims=True)), rtol=0, atol=1e-9)


def test_grouped_heads_and_gated_layers_decode_as_they_train():
    rng = np.random.default_rng(0)
    model = Decoder(
        V, D, L, H, attention=lambda layer, rng: MultiHeadAttention(D, H, 1, bias=False, rng=rng),
        feed_forward=lambda layer, rng: GatedFeedForward(D, 24, rng=rng), norm="rms", tied=False, max_length=9, rng=rng,
    )  # fmt: skip
    ids, cache = draw_ids(), model.new_cache()
    parts = [model(ids[:, t : t + 1], cache=cache).data for t in range(T)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), model(ids), rtol=0, atol=1e-12)
    assert cache.nbytes() == 2 * L * 2 * T * (D // H) * 8


def test_float32_stays_float32():
    with mt.config(dtype="float32"):
        for position in ("learned", "sinusoidal", "rotary"):
            model = Decoder(V, D, L, H, position=position, max_length=9, rng=np.random.default_rng(0))
            assert model(draw_ids()).dtype == np.float32


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"position": "alibi"}, ValueError, "position must be one of none, learned, sinusoidal, rotary, got 'alibi'"),
        ({"norm": "batch"}, ValueError, "norm must be one of layer, rms, or make one; got 'batch'"),
        ({"norm_place": "middle"}, ValueError, "place must be 'pre', 'post' or 'sandwich', got 'middle'"),
        ({"max_length": None}, ValueError, "learned positions need max_length"),
        ({"H": 3}, mt.ShapeError, "H = 3 .* D = 16"),
        ({"D": 6, "position": "rotary"}, mt.ShapeError, "E must be even and positive, got 3"),
        ({"dropout": 1.5}, ValueError, "p must be between 0 and 1, got 1.5"),
        (
            {"position": "rotary", "attention": lambda layer, rng: MultiHeadAttention(D, H, rng=rng)},
            ValueError,
            "'rotary' positions.* are for the default attention",
        ),
    ],
)
def test_choices_that_make_no_model(options, error, message):
    options = {"D": D, "H": H, "max_length": 9} | options
    with pytest.raises(error, match=message):
        Decoder(V, L=L, rng=np.random.default_rng(0), **options)


@pytest.mark.parametrize(
    ("ids", "options", "error", "message"),
    [
        (np.zeros(4, int), {}, mt.ShapeError, r"ids must be \(B, T\), got shape \(4,\)"),
        (np.zeros((1, 10), int), {}, mt.ShapeError, "10 positions, but max_length is 9"),
        (np.zeros((1, 2)), {}, TypeError, "ids must be integers, got float64"),
        (np.full((1, 2), V), {}, ValueError, "ids must be between 0 and 18"),
        (np.zeros((1, 2), int), {"positions": [[8, 9]]}, ValueError, "ids must be between 0 and 8"),
        (np.zeros((1, 2), int), {"positions": [0, 1, 2]}, mt.ShapeError, r"\(1, 2, 16\) and \(3, 16\)"),
        (np.zeros((1, 2), int), {"mask": np.ones((1, 1, 1, 2))}, TypeError, "mask must be boolean"),
    ],
)
def test_inputs_that_do_not_fit(ids, options, error, message):
    with pytest.raises(error, match=message):
        build()(ids, **options)


def test_a_cache_that_does_not_fit_is_left_as_it_is():
    model, cache = build(), build().new_cache()
    model(draw_ids(2, 8), cache=cache)
    for ids, error, message in (
        (draw_ids(2, 2), mt.ShapeError, "10 positions, but max_length is 9"),
        (np.full((2, 1), V), ValueError, "ids must be between"),
        (draw_ids(1, 1), mt.ShapeError, "the cache holds"),
    ):
        with pytest.raises(error, match=message):
            model(ids, cache=cache)
        assert [slot.length for slot in cache.slots] == [8, 8]
    other = Decoder(V, D, 3, H, max_length=9, rng=np.random.default_rng(0)).new_cache()
    with pytest.raises(ValueError, match="the cache is for 3 layers, not for 2"):
        model(draw_ids(), cache=other)
    assert other.length == 0
