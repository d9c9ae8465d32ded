"""Several texts, diverse texts, texts from a set: against all texts there are, and a search written out in loops."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.inference.decoding import TokenTrie, beam_search, diverse_beam_search, greedy
from minitf.inference.next_token import log_probabilities
from minitf.inference.scoring import sequence_logprob
from minitf.models.transformer import Decoder

V = 5


def model(seed):
    made = Decoder(V, 8, 1, 2, max_length=32, rng=np.random.default_rng(seed))
    made.embedding.weight.data *= 60
    return made.eval()


def next_logp(m, text):
    return log_probabilities(m(np.array([text])).data[0, -1])


class TestReturned:
    def test_enough_beams_rank_all_texts(self):
        m, steps = model(0), 2
        ids, scores = beam_search(m, [[1, 3]], steps, beams=V**steps, returned=V**steps, length_penalty=0.0)
        ranked = sorted(itertools.product(range(V), repeat=steps), key=lambda text: -sequence_logprob(m, [1, 3], text))
        assert [tuple(text[2:]) for text in ids[0].tolist()] == ranked
        np.testing.assert_allclose(scores[0], [sequence_logprob(m, [1, 3], text) for text in ranked], atol=1e-10)

    def test_the_first_is_the_only_one_without_it(self):
        m, prompts = model(1), [[1, 2], [0, 4]]
        many, scores = beam_search(m, prompts, 5, beams=4, eos=2, returned=3)
        one, score = beam_search(m, prompts, 5, beams=4, eos=2)
        assert (np.diff(scores, axis=1) <= 0).all()
        assert many.shape[:2] == scores.shape == (2, 3)
        for b in range(2):
            assert [t for t in many[b, 0, 2:] if t != 0] == [t for t in one[b, 2:] if t != 0]
            assert scores[b, 0] == score[b]

    def test_what_does_not_exist_is_padding(self):
        ids, scores = beam_search(
            model(0), [[1]], 4, beams=3, eos=2, pad=4, returned=3, prefix_allowed=TokenTrie([[3, 2], [0, 0, 2]]).allowed
        )
        assert sorted(text[1:] for text in ids[0].tolist()) == [[0, 0, 2], [3, 2, 4], [4, 4, 4]]
        assert scores[0, 2] == -np.inf
        assert np.isfinite(scores[0, :2]).all()

    def test_refuses(self):
        with pytest.raises(ValueError, match="returned must be from 1 to beams = 2, got 3"):
            beam_search(model(0), [[1]], 2, beams=2, returned=3)

    def test_a_prompt_is_read_once_not_once_a_beam(self):
        m, prompt = model(0), [[1, 2, 3, 4] * 4]
        costs = []
        for beams in (1, 4):
            with mt.cost() as c:
                beam_search(m, prompt, 1, beams=beams)
            costs.append(c.macs)
        assert costs[0] == costs[1]


class TestTrie:
    def test_says_what_follows(self):
        trie = TokenTrie([[1, 2, 0], [1, 3], np.array([4, 0])])
        assert trie.allowed([]) == [1, 4]
        assert trie.allowed((1,)) == [2, 3]
        assert trie.allowed([1, 2, 0]) == trie.allowed([2]) == []

    @given(st.integers(0, 10**6))
    def test_a_search_as_wide_as_the_set_ranks_it(self, seed):
        rng = np.random.default_rng(seed)
        eos = 0
        names = {(*rng.integers(1, V, rng.integers(1, 4)).tolist(), eos) for _ in range(6)}
        m = model(seed % 7)
        ids, scores = beam_search(
            m,
            [[1, 2]],
            4,
            beams=len(names),
            eos=eos,
            pad=eos,
            length_penalty=0.0,
            early_stopping="never",
            returned=len(names),
            prefix_allowed=TokenTrie(names).allowed,
        )
        ranked = sorted(names, key=lambda text: -sequence_logprob(m, [1, 2], text))
        found = [(*itertools.takewhile(lambda t: t != eos, text), eos) for text in ids[0, :, 2:].tolist()]
        assert found == ranked
        np.testing.assert_allclose(scores[0], [sequence_logprob(m, [1, 2], text) for text in ranked], atol=1e-10)

    def test_even_the_least_probable_text_is_found_if_it_is_the_only_one(self):
        m = model(0)
        worst = np.argsort(next_logp(m, [1]))[:2].tolist()
        ids, _ = beam_search(m, [[1]], 2, beams=2, prefix_allowed=TokenTrie([worst]).allowed)
        assert ids[0, 1:].tolist() == worst


def diverse_in_loops(m, prompt, steps, group_size, groups, strength):
    """Lists of (text, score), texts of equal length; one group after the other at each step."""
    beams = [[(list(prompt), 0.0)] for _ in range(groups)]
    for _ in range(steps):
        used = []
        for g in range(groups):
            options = []
            for text, score in beams[g]:
                logp = next_logp(m, text)
                options += [(text + [v], score + logp[v] - strength * used.count(v)) for v in range(V)]
            beams[g] = sorted(options, key=lambda option: -option[1])[:group_size]
            used += [text[-1] for text, _ in beams[g]]
    return [group[0] for group in beams]


class TestDiverse:
    @pytest.mark.parametrize("strength", [0.0, 0.7, 50.0])
    @pytest.mark.parametrize(("group_size", "groups"), [(1, 3), (2, 2), (3, 1)])
    def test_in_loops(self, strength, group_size, groups):
        prompts = np.array([[1, 2], [3, 0]])
        for seed in range(3):
            m = model(seed)
            ids, scores = diverse_beam_search(
                m, prompts, 4, beams=group_size * groups, groups=groups, strength=strength, length_penalty=0.0
            )
            for b, prompt in enumerate(prompts.tolist()):
                want = diverse_in_loops(m, prompt, 4, group_size, groups, strength)
                assert ids[b].tolist() == [text for text, _ in want]
                np.testing.assert_allclose(scores[b], [score for _, score in want], atol=1e-10)

    def test_one_group_is_beam_search_and_without_strength_all_groups_are(self):
        m, prompts = model(3), [[1, 2], [4, 0]]
        ids, scores = beam_search(m, prompts, 6, beams=3, eos=2)
        one = diverse_beam_search(m, prompts, 6, beams=3, groups=1, eos=2)
        np.testing.assert_array_equal(one[0][:, 0], ids)
        np.testing.assert_array_equal(one[1][:, 0], scores)
        three = diverse_beam_search(m, prompts, 6, beams=9, groups=3, strength=0.0, eos=2)
        for g in range(3):
            np.testing.assert_array_equal(three[0][:, g], ids)

    def test_a_large_strength_makes_every_group_say_something_else_at_every_place(self):
        ids, _ = diverse_beam_search(model(0), [[1]], 6, beams=4, groups=4, strength=1e6)
        for place in ids[0, :, 1:].T:
            assert len(set(place.tolist())) == 4
        assert ids[0, 0].tolist() == greedy(model(0), [[1]], 6)[0].tolist()

    def test_refuses(self):
        with pytest.raises(ValueError, match="groups must divide beams = 4, got 3"):
            diverse_beam_search(model(0), [[1]], 2, beams=4, groups=3)
        with pytest.raises(ValueError, match="strength must not be negative, got -1"):
            diverse_beam_search(model(0), [[1]], 2, beams=4, groups=2, strength=-1)
