"""Decoding: probabilities one token at a time, cuts and ties, and the cache against decoding without one."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.inference.decoding import greedy, next_token_probabilities, sample
from minitf.models.transformer import Decoder
from minitf.nn import Dropout, Module


def loops(logits, temperature=1.0, top_k=None, top_p=None):
    """One row, by sorting a list of (token, probability)."""
    weight = {token: math.exp((z - max(logits)) / temperature) for token, z in enumerate(logits)}
    best_first = sorted(weight, key=lambda token: (-logits[token], token))[:top_k]
    total = sum(weight[token] for token in best_first)
    chosen, so_far = [], 0.0
    for token in best_first:
        if top_p is not None and so_far >= top_p:
            break
        chosen.append(token)
        so_far += weight[token] / total
    total = sum(weight[token] for token in chosen)
    return [weight[token] / total if token in chosen else 0.0 for token in range(len(logits))]


class Said(Module):
    """A model whose logits (V,) after any text are given, and which has a dropout that must stay off."""

    def __init__(self, logits):
        super().__init__()
        self.logits, self.dropout = np.asarray(logits, float), Dropout(0.5, rng=np.random.default_rng(0))
        self.seen = []

    def new_cache(self, B):
        return None

    def forward(self, ids, cache):
        self.seen.append(np.array(ids))
        return self.dropout(mt.broadcast_to(self.logits, (*ids.shape, len(self.logits))))


class Always(np.random.Generator):
    """Draws the same number, whatever is asked for."""

    def __init__(self, value):
        super().__init__(np.random.PCG64(0))
        self.value = value

    def random(self, size):
        return np.full(size, self.value)


class TestProbabilities:
    @given(
        st.integers(0, 10**6),
        st.integers(1, 8),
        st.floats(0.1, 5),
        st.one_of(st.none(), st.integers(1, 8)),
        st.one_of(st.none(), st.floats(0.05, 1)),
    )
    def test_in_loops(self, seed, V, temperature, top_k, top_p):
        logits = np.random.default_rng(seed).normal(size=(3, V)).round(1)  # with ties
        top_k = None if top_k is None else min(top_k, V)
        options = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        got = next_token_probabilities(logits, **options)
        np.testing.assert_allclose(got, [loops(row, **options) for row in logits], rtol=0, atol=1e-14)
        np.testing.assert_array_equal(next_token_probabilities(logits[0], **options), got[0])

    def test_ties_go_to_the_lowest_id(self):
        np.testing.assert_array_equal(next_token_probabilities(np.zeros(5), top_k=2), [0.5, 0.5, 0, 0, 0])
        np.testing.assert_array_equal(next_token_probabilities(np.zeros(4), top_p=0.5), [0.5, 0.5, 0, 0])
        np.testing.assert_array_equal(next_token_probabilities(np.array([1.0, 2.0, 2.0]), top_k=1), [0, 1, 0])

    def test_the_smallest_set_that_reaches_top_p(self):
        logits = np.log([0.125, 0.5, 0.25, 0.125])
        for top_p, want in ((0.5, [0, 1, 0, 0]), (0.51, [0, 2, 1, 0]), (0.75, [0, 2, 1, 0]), (0.76, [1, 4, 2, 0])):
            got = next_token_probabilities(logits, top_p=top_p)
            np.testing.assert_allclose(got, np.array(want) / sum(want), rtol=1e-14)

    def test_top_p_one_keeps_what_rounding_would_lose(self):
        got = next_token_probabilities(np.array([0.0, -50.0]), top_p=1.0)
        assert got[1] == pytest.approx(math.exp(-50), rel=1e-14, abs=0)

    def test_top_p_counts_after_top_k(self):
        logits = np.log([0.4, 0.2, 0.2, 0.2])
        np.testing.assert_allclose(next_token_probabilities(logits, top_k=2, top_p=0.6), [1, 0, 0, 0], rtol=1e-15)

    def test_temperature_near_zero_is_the_most_probable_token(self):
        np.testing.assert_array_equal(
            next_token_probabilities(np.array([1.0, 3.0, 2.0]), temperature=1e-310), [0, 1, 0]
        )

    def test_minus_infinity_is_a_token_that_cannot_be(self):
        got = next_token_probabilities(np.array([-np.inf, 0.0, 1e30, -1e30]))
        np.testing.assert_array_equal(got, [0, 0, 1, 0])
        assert next_token_probabilities(np.array([0.0, -np.inf]), top_k=2)[1] == 0

    def test_low_precision_logits_are_summed_in_float64(self):
        logits = np.zeros(4096, np.float16)
        assert next_token_probabilities(logits).sum() == pytest.approx(1, abs=1e-12)


class TestSampling:
    @given(st.integers(0, 10**6))
    def test_is_the_inverse_of_the_distribution_function(self, seed):
        logits = np.random.default_rng(seed).normal(size=6)
        got = sample(Said(logits), np.zeros((4, 1), int), 3, rng=np.random.default_rng(seed), top_k=4)
        again, p = np.random.default_rng(seed), next_token_probabilities(logits, top_k=4)
        for step in range(3):
            for row, u in enumerate(again.random(4)):
                token = next(i for i in range(6) if sum(p[: i + 1]) > u)
                assert got[row, 1 + step] == token

    @pytest.mark.parametrize("draw", [0.0, math.nextafter(1.0, 0.0)])
    @pytest.mark.parametrize("possible", [[1, 4], [3], list(range(1, 7))])
    def test_the_ends_of_the_distribution_are_possible_tokens(self, draw, possible):
        """0.1 seven times is less than 0.7: the last sum must not leave room for an impossible token."""
        logits = np.full(8, -np.inf)
        logits[possible] = 0.0
        got = sample(Said(logits), np.zeros((1, 1), int), 1, rng=Always(draw))[0, 1]
        assert got == (possible[0] if draw == 0 else possible[-1])

    def test_one_token_to_choose_from_is_greedy(self):
        model, prompt = tiny(), np.array([[1, 2], [3, 4]])
        got = sample(model, prompt, 5, rng=np.random.default_rng(0), top_k=1)
        np.testing.assert_array_equal(got, greedy(model, prompt, 5))


def tiny(**options):
    rng = np.random.default_rng(0)
    model = Decoder(11, 8, 2, 2, max_length=12, dropout=0.5, rng=rng, **options)
    for p in model.parameters():
        p.data[...] = rng.normal(0, 0.5, p.shape)
    return model


class TestDecoding:
    @pytest.mark.parametrize("position", ["none", "learned", "sinusoidal", "rotary"])
    def test_greedy_is_arg_max_of_the_whole_text(self, position):
        model, ids = tiny(position=position).eval(), np.array([[1, 2, 3], [4, 5, 6]])
        got = greedy(model, ids, 6)
        for _ in range(6):
            ids = np.concatenate([ids, model(ids).data[:, -1].argmax(-1)[:, None]], 1)
        np.testing.assert_array_equal(got, ids)

    def test_ties_go_to_the_lowest_id(self):
        assert greedy(Said([0.0, 1.0, 1.0]), [[0]], 1).tolist() == [[0, 1]]

    def test_the_model_sees_the_prompt_and_then_one_token_at_a_time(self):
        model = Said([0.0, 1.0])
        greedy(model, [[0, 0, 0]], 3)
        assert [ids.shape for ids in model.seen] == [(1, 3), (1, 1), (1, 1)]

    def test_no_steps_give_a_copy_of_the_prompt(self):
        prompt = np.array([[1, 2]])
        got = greedy(tiny(), prompt, 0)
        np.testing.assert_array_equal(got, prompt)
        got[0, 0] = 7
        assert prompt[0, 0] == 1

    def test_modes_are_as_before_also_after_an_error(self):
        model = tiny()
        model.blocks[0].eval()
        before = [module.training for module in model.modules()]
        assert True in before
        assert False in before
        greedy(model, [[1]], 2)
        assert [module.training for module in model.modules()] == before
        with pytest.raises(ValueError, match="max_length is 12"):
            greedy(model, [[1]], 50)
        assert [module.training for module in model.modules()] == before

    def test_records_nothing_and_dropout_is_off(self):
        model = tiny()
        np.testing.assert_array_equal(greedy(model, [[1]], 4), greedy(model, [[1]], 4))
        assert all(p.grad is None for p in model.parameters())

    def test_costs_one_position_a_token(self):
        model = tiny()
        with mt.cost() as c:
            greedy(model, [[1, 2, 3, 4]], 5)
        D, L, V, passes = 8, 2, 11, [4, 1, 1, 1, 1]
        positions, pairs = sum(passes), 4 * 4 + 5 + 6 + 7 + 8
        assert c.macs == positions * (L * 12 * D * D + D * V) + L * 2 * pairs * D

    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (
                lambda m: greedy(m, [1, 2], 1),
                mt.ShapeError,
                r"greedy: the prompt must be ids \(B, T\).*got shape \(2,\)",
            ),
            (lambda m: greedy(m, np.zeros((1, 0), int), 1), mt.ShapeError, r"T at least 1, got shape \(1, 0\)"),
            (lambda m: greedy(m, [[1]], -1), ValueError, "greedy: steps must be an integer of at least 0, got -1"),
            (lambda m: greedy(m, [[1]], 1.5), ValueError, "greedy: steps must be an integer of at least 0, got 1.5"),
            (lambda m: sample(m, [[1]], 1, rng=0), TypeError, r"rng must be a numpy\.random\.Generator.*got 0"),
        ],
    )
    def test_refuses(self, call, error, message):
        with pytest.raises(error, match=message):
            call(tiny())

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"temperature": 0}, "temperature must be positive, got 0; greedy is the limit 0"),
            ({"temperature": math.nan}, "temperature must be positive, got nan"),
            ({"top_k": 0}, "top_k must be an integer from 1 to V = 3, or None, got 0"),
            ({"top_k": 4}, "top_k must be an integer from 1 to V = 3, or None, got 4"),
            ({"top_k": 1.5}, r"top_k must be an integer from 1 to V = 3, or None, got 1\.5"),
            ({"top_p": 0}, r"top_p must be in \(0, 1\], or None, got 0"),
            ({"top_p": 90}, r"top_p must be in \(0, 1\], or None, got 90"),
        ],
    )
    def test_options_out_of_range(self, options, message):
        with pytest.raises(ValueError, match=message):
            next_token_probabilities(np.zeros((2, 3)), **options)

    def test_logits_without_a_token_to_choose(self):
        with pytest.raises(ValueError, match="needs a largest entry that is finite"):
            next_token_probabilities(np.full((2, 3), -np.inf))
        with pytest.raises(mt.ShapeError, match=r"logits must be \(\*, V\) with V at least 1"):
            next_token_probabilities(np.zeros((2, 0)))
