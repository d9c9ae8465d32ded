"""Beam and speculative decoding, repetition, and the cuts of a distribution: by enumeration of all texts."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.autodiff.errors import ShapeError
from minitf.inference.decoding import beam_search, greedy, next_token_probabilities, repetition_penalty
from minitf.inference.speculative import speculative_decode
from minitf.models.transformer import Decoder

V = 4


def model(seed, scale=6.0, V=V):
    """A decoder whose distributions are far from flat."""
    made = Decoder(V, 8, 1, 2, max_length=32, rng=np.random.default_rng(seed))
    made.embedding.weight.data *= scale * 10
    return made.eval()


def log_probability(model, text, T):
    logits = model(np.array(text)[None, :-1]).data[0]
    logp = (
        logits
        - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
        - logits.max(-1, keepdims=True)
    )
    return float(sum(logp[i - 1, text[i]] for i in range(T, len(text))))


def all_texts(steps, eos):
    """Every continuation: of ``steps`` tokens, or shorter ones that end with eos."""
    for tokens in itertools.product(range(V), repeat=steps):
        if eos in tokens:
            if tokens.index(eos) == steps - 1:
                yield tokens
        else:
            yield tokens
    if eos is not None:
        for n in range(1, steps):
            for tokens in itertools.product([t for t in range(V) if t != eos], repeat=n - 1):
                yield (*tokens, eos)


class TestBeams:
    @pytest.mark.parametrize("eos", [None, 2])
    @pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
    def test_enough_beams_find_the_best_of_all_texts(self, eos, length_penalty):
        prompts = np.array([[1, 3], [0, 2]])
        for seed in range(3):
            m = model(seed)
            ids, scores = beam_search(
                m, prompts, 3, beams=V**3, eos=eos, pad=0, length_penalty=length_penalty, early_stopping="never"
            )
            for b, prompt in enumerate(prompts.tolist()):
                scored = {
                    text: log_probability(m, [*prompt, *text], 2) / len(text) ** length_penalty
                    for text in all_texts(3, eos)
                }
                best = max(scored, key=scored.get)
                assert tuple(ids[b, 2 : 2 + len(best)]) == best
                assert (ids[b, 2 + len(best) :] == 0).all()
                assert scores[b] == pytest.approx(scored[best], abs=1e-10)

    def test_one_beam_is_greedy(self):
        for seed in range(5):
            m, prompts = model(seed), np.array([[1], [2], [3]])
            ids, _ = beam_search(m, prompts, 7, beams=1)
            np.testing.assert_array_equal(ids, greedy(m, prompts, 7))

    def test_more_beams_are_never_worse_here_and_rows_do_not_meet(self):
        m, prompts = model(7), np.array([[1, 2], [3, 0]])
        together, scores = beam_search(m, prompts, 6, beams=5)
        for b in range(2):
            alone, score = beam_search(m, prompts[b : b + 1], 6, beams=5)
            np.testing.assert_array_equal(alone[0], together[b])
            assert score[0] == pytest.approx(scores[b], abs=1e-12)
            assert score[0] >= beam_search(m, prompts[b : b + 1], 6, beams=1)[1][0] - 1e-12

    def test_early_stopping_takes_what_is_complete(self):
        m = model(1)
        _, hasty = beam_search(m, [[1]], 8, beams=2, eos=2, early_stopping=True)
        _, patient = beam_search(m, [[1]], 8, beams=2, eos=2, early_stopping="never")
        assert patient[0] >= hasty[0]

    def test_no_steps(self):
        ids, scores = beam_search(model(0), [[1, 2]], 0, beams=3)
        assert ids.tolist() == [[1, 2]]
        assert scores.tolist() == [0.0]

    def test_wrong_calls(self):
        with pytest.raises(ValueError, match="beams must be at least 1, got 0"):
            beam_search(model(0), [[1]], 2, beams=0)
        with pytest.raises(ValueError, match="early_stopping must be True, False or 'never'"):
            beam_search(model(0), [[1]], 2, beams=2, early_stopping="soon")


class Markov(mt.nn.Module):
    """A model whose next token depends on the last one only; quick to ask."""

    def __init__(self, seed):
        super().__init__()
        self.logits = 2 * np.random.default_rng(seed).standard_normal((V, V))

    def new_cache(self, B):
        return Counted()

    def forward(self, ids, cache=None):
        if cache is not None:
            cache.length += ids.shape[1]
        return mt.tensor(self.logits[np.asarray(ids)])


class Counted:
    length = 0

    def crop(self, length):
        self.length = length


class TestSpeculation:
    def test_the_distribution_of_whole_texts_is_the_targets(self):
        """All 64 texts of 3 tokens: their frequencies in 3,000 draws against their probabilities."""
        target, draft = Markov(0), Markov(1)
        rng, n = np.random.default_rng(0), 3000
        counts = dict.fromkeys(itertools.product(range(V), repeat=3), 0)
        for _ in range(n):
            ids, _ = speculative_decode(target, draft, [[1, 3]], 3, rng=rng, guesses=2)
            counts[tuple(ids[0, 2:].tolist())] += 1
        expected = {text: n * math.exp(log_probability(target, [1, 3, *text], 2)) for text in counts}
        assert sum(expected.values()) == pytest.approx(n)
        of_draft = {text: n * math.exp(log_probability(draft, [1, 3, *text], 2)) for text in counts}
        common = [text for text in counts if expected[text] > 5]
        chi = lambda e: sum((counts[text] - e[text]) ** 2 / e[text] for text in common)
        assert chi(expected) < len(common) + 4 * math.sqrt(2 * len(common))
        assert chi(of_draft) > 100 * len(common)  # the draft's own distribution is another one

    def test_a_perfect_draft_is_always_believed(self):
        target = model(3)
        ids, passes = speculative_decode(target, target, [[1]], 10, rng=np.random.default_rng(0), guesses=4)
        assert ids.shape == (1, 11)
        assert passes == 2

    def test_a_near_greedy_target_writes_what_greedy_does(self):
        target, draft = model(2), model(4)
        for guesses in (1, 3, 20):
            ids, passes = speculative_decode(
                target, draft, [[1, 2]], 9, rng=np.random.default_rng(1), guesses=guesses, temperature=1e-6
            )
            np.testing.assert_array_equal(ids, greedy(target, [[1, 2]], 9))
            assert 1 <= passes <= 9

    def test_wrong_calls(self):
        rng = np.random.default_rng(0)
        with pytest.raises(ShapeError, match=r"one text at a time, ids \(1, T\)"):
            speculative_decode(model(0), model(1), [[1], [2]], 3, rng=rng)
        with pytest.raises(ValueError, match="guesses must be at least 1"):
            speculative_decode(model(0), model(1), [[1]], 3, rng=rng, guesses=0)


class TestCuts:
    @given(st.integers(0, 10**6), st.floats(0.01, 1))
    def test_min_p(self, seed, min_p):
        p = next_token_probabilities(np.random.default_rng(seed).standard_normal(9) * 3)
        cut = next_token_probabilities(np.log(p), min_p=min_p)
        kept = p >= min_p * p.max() * (1 - 1e-12)
        np.testing.assert_allclose(cut, np.where(kept, p, 0) / p[kept].sum(), atol=1e-12)

    @given(st.integers(0, 10**6), st.floats(0.05, 0.99))
    def test_typical_one_by_one(self, seed, mass):
        p = next_token_probabilities(np.random.default_rng(seed).standard_normal(9) * 2)
        entropy = -sum(q * math.log(q) for q in p)
        kept, total = [], 0.0
        for i in sorted(range(9), key=lambda i: abs(-math.log(p[i]) - entropy)):
            if total >= mass:
                break
            kept.append(i)
            total += p[i]
        want = [p[i] / total if i in kept else 0 for i in range(9)]
        np.testing.assert_allclose(next_token_probabilities(np.log(p), typical_p=mass), want, atol=1e-12)

    @pytest.mark.parametrize("options", [{"min_p": 1.5}, {"typical_p": 0.0}])
    def test_out_of_range(self, options):
        with pytest.raises(ValueError, match=f"{next(iter(options))} must be in"):
            next_token_probabilities(np.zeros(3), **options)


class TestRepetition:
    def test_both_modes(self):
        logits = np.array([[2.0, -2.0, 4.0, -4.0]])
        ids = [[0, 1, 1]]
        assert repetition_penalty(logits, ids, 2.0).tolist() == [[1.0, -4.0, 4.0, -4.0]]
        assert repetition_penalty(logits, ids, 2.0, mode="paper").tolist() == [[1.0, -1.0, 4.0, -4.0]]
        assert repetition_penalty(logits, ids, 1.0).tolist() == logits.tolist()

    def test_wrong_calls(self):
        with pytest.raises(ValueError, match="penalty must be positive"):
            repetition_penalty(np.zeros((1, 2)), [[0]], 0.0)
        with pytest.raises(ValueError, match="mode must be 'signed' or 'paper'"):
            repetition_penalty(np.zeros((1, 2)), [[0]], 2.0, mode="other")
        with pytest.raises(ShapeError, match=r"needs logits \(B, V\) and ids \(B, T\)"):
            repetition_penalty(np.zeros(2), [[0]], 2.0)


def test_caches_are_reordered_with_their_beams():
    """Decoding without a cache, from scratch at every step, finds the same texts."""
    m, prompts = model(11), np.array([[1, 2, 3]])

    class Forgetful(mt.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = m

        def new_cache(self, B):
            return Text()

        def forward(self, ids, cache):
            cache.text = ids if cache.text is None else np.concatenate([cache.text, ids], axis=1)
            return self.inner(cache.text)

    class Text:
        text = None

        def reorder(self, rows):
            self.text = self.text[rows]

    for beams in (2, 5):
        fast, slow = (beam_search(x, prompts, 6, beams=beams, eos=0) for x in (m, Forgetful()))
        np.testing.assert_array_equal(fast[0], slow[0])
        np.testing.assert_allclose(fast[1], slow[1], atol=1e-12)
