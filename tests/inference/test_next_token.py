"""Penalties and bans, token by token in loops, and as the processor of a decoder."""

import collections

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.inference.decoding import (
    beam_search,
    greedy,
    no_repeat_ngram,
    occurrence_penalty,
    repetition_penalty,
    sample,
)
from minitf.inference.next_token import log_probabilities
from minitf.models.transformer import Decoder

V = 4


def model(seed=0):
    made = Decoder(V, 8, 1, 2, max_length=40, rng=np.random.default_rng(seed))
    made.embedding.weight.data *= 30
    return made.eval()


class TestOccurrence:
    @given(st.integers(0, 10**6), st.integers(0, 8), st.floats(-2, 2), st.floats(-2, 2))
    def test_in_loops(self, seed, T, presence, frequency):
        rng = np.random.default_rng(seed)
        logits, ids = rng.normal(size=(3, V)), rng.integers(0, V, (3, T))
        got = occurrence_penalty(logits, ids, presence=presence, frequency=frequency)
        for b in range(3):
            times = collections.Counter(ids[b].tolist())
            want = [z - (presence if times[v] else 0) - frequency * times[v] for v, z in enumerate(logits[b])]
            np.testing.assert_allclose(got[b], want, atol=1e-14)

    def test_keeps_the_dtype_and_the_callers_logits(self):
        logits = np.zeros((1, V), np.float32)
        got = occurrence_penalty(logits, [[1, 1]], presence=1.0, frequency=0.5)
        assert got.dtype == np.float32
        assert got.tolist() == [[0, -2, 0, 0]]
        assert not logits.any()

    def test_refuses(self):
        with pytest.raises(mt.ShapeError, match=r"occurrence_penalty: needs logits \(B, V\) and ids \(B, T\)"):
            occurrence_penalty(np.zeros(V), [[1]])
        with pytest.raises(ValueError, match="occurrence_penalty: frequency must be finite, got nan"):
            occurrence_penalty(np.zeros((1, V)), [[1]], frequency=np.nan)


class TestNgrams:
    @given(st.integers(0, 10**6), st.integers(0, 12), st.integers(1, 4))
    def test_in_loops(self, seed, T, n):
        rng = np.random.default_rng(seed)
        logits, ids = rng.normal(size=(2, V)), rng.integers(0, V, (2, T))
        got = no_repeat_ngram(logits, ids, n)
        for b, text in enumerate(ids.tolist()):
            seen = {tuple(text[i : i + n]) for i in range(T - n + 1)}
            for v in range(V):
                banned = tuple([*text, v][-n:]) in seen
                assert got[b, v] == (-np.inf if banned else logits[b, v])

    def test_a_text_that_never_says_two_tokens_twice(self):
        once = lambda logits, ids: no_repeat_ngram(logits, ids, 2)
        for text in (
            greedy(model(), [[0]], 12, process=once)[0],
            sample(model(), [[0]], 12, rng=np.random.default_rng(0), process=once)[0],
            beam_search(model(), [[0]], 12, beams=3, process=once)[0][0],
        ):
            pairs = list(zip(text[:-1].tolist(), text[1:].tolist(), strict=True))
            assert len(set(pairs)) == len(pairs) == 12
        pairs = greedy(model(), [[0]], 12)[0]
        assert len(set(zip(pairs[:-1].tolist(), pairs[1:].tolist(), strict=True))) < 12

    def test_refuses(self):
        with pytest.raises(ValueError, match="n must be an integer of at least 1, got 0"):
            no_repeat_ngram(np.zeros((1, V)), [[1]], 0)


class TestProcess:
    def test_sees_the_whole_text_before_every_token(self):
        seen = []

        def process(logits, ids):
            seen.append(ids.tolist())
            return logits

        ids = greedy(model(), [[1, 2], [3, 0]], 3, process=process)
        assert seen == [ids[:, : 2 + n].tolist() for n in range(3)]

    def test_greedy_takes_the_largest_of_what_it_returns(self):
        m, ids = model(), np.array([[1, 2]])
        got = greedy(m, ids, 6, process=lambda logits, text: repetition_penalty(logits, text, 3.0))
        for _ in range(6):
            logits = repetition_penalty(m(ids).data[:, -1], ids, 3.0)
            ids = np.append(ids, [[logits.argmax()]], axis=1)
        assert got.tolist() == ids.tolist()


class TestEnd:
    def test_a_text_stops_at_eos_and_is_padded(self):
        prompts = np.array([[1, 2], [3, 0], [2, 2]])
        whole = greedy(model(1), prompts, 8)
        eos = int(whole[0, 4])
        pad = (eos + 1) % V
        got = greedy(model(1), prompts, 8, eos=eos, pad=pad)
        ends = []
        for free, text in zip(whole[:, 2:].tolist(), got[:, 2:].tolist(), strict=True):
            ends.append(free.index(eos) + 1 if eos in free else 8)
            assert text == free[: ends[-1]][: len(text)] + [pad] * (len(text) - ends[-1])
        assert got.shape[1] == 2 + max(ends)

    def test_decoding_ends_with_the_last_text(self):
        eos = int(greedy(model(1), [[1, 2]], 1)[0, -1])
        assert greedy(model(1), [[1, 2]], 8, eos=eos).tolist() == [[1, 2, eos]]
        only = lambda logits, ids: np.where(np.arange(V) == 3, logits, -np.inf)
        got = sample(model(1), [[1, 2]], 8, rng=np.random.default_rng(0), process=only, eos=3)
        assert got.tolist() == [[1, 2, 3]]


@given(st.integers(0, 10**6))
def test_log_probabilities_are_those_of_a_softmax_whatever_the_size(seed):
    z = np.random.default_rng(seed).normal(size=(3, V)).astype(np.float32)
    np.testing.assert_allclose(np.exp(log_probabilities(z)).sum(-1), 1, atol=1e-14)
    np.testing.assert_allclose(log_probabilities(z + np.float32(2**10)), log_probabilities(z), atol=1e-3)
    z[:, 1] = -np.inf
    assert (log_probabilities(z)[:, 1] == -np.inf).all()
