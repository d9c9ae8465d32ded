"""The unigram model against enumeration of all cuts."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitf.data.text import python_documentation
from minitf.tokens import UnigramTokenizer
from minitf.tokens.unigram import Lattice, best_cut, sample_cut, seed_pieces, train_unigram

SCORES = st.dictionaries(st.text("ab", min_size=2, max_size=4), st.integers(-40, -1), max_size=10).map(
    lambda found: {"a": -3.25, "b": -5.5, **{piece: score / 4 for piece, score in found.items()}}
)
WORD = st.text("ab", min_size=1, max_size=8)


def cuts(word, pieces):
    """Every way to write ``word`` as pieces."""
    if not word:
        return [[]]
    ends = range(1, len(word) + 1)
    return [[word[:i], *rest] for i in ends if word[:i] in pieces for rest in cuts(word[i:], pieces)]


def total(cut, score):
    return sum(score[piece] for piece in cut)


@given(WORD, SCORES)
def test_best_cut_is_the_argmax(word, score):
    found = best_cut(word, score, -math.inf)
    assert "".join(found) == word
    assert total(found, score) == max(total(cut, score) for cut in cuts(word, score))  # quarters add exactly


@given(st.lists(WORD, min_size=1, max_size=4, unique=True), SCORES)
def test_expected_counts_are_those_of_enumeration(words, score):
    times = np.arange(1.0, len(words) + 1)
    want, likelihood = Counter(), 0.0
    for word, n in zip(words, times, strict=True):
        every = cuts(word, score)
        weight = [math.exp(total(cut, score)) for cut in every]
        likelihood += n * math.log(sum(weight))
        for cut, w in zip(every, weight, strict=True):
            for piece in cut:
                want[piece] += n * w / sum(weight)
    numbers = {piece: i for i, piece in enumerate(score)}
    counts, found = Lattice(words, numbers).expected_counts(np.array(list(score.values())), times)
    np.testing.assert_allclose(counts, [want[piece] for piece in score], rtol=1e-12, atol=1e-12)
    assert found == pytest.approx(likelihood, rel=1e-12)
    best = Lattice(words, numbers).best_counts(np.array(list(score.values())), times)
    used = Counter()
    for word, n in zip(words, times, strict=True):
        for piece in best_cut(word, score, -math.inf):
            used[piece] += n
    assert best.tolist() == [used[piece] for piece in score]


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_sampling_frequencies(alpha):
    """Within five standard deviations of P ** alpha, normalized over all cuts."""
    score = {"a": -2.0, "b": -2.5, "ab": -2.2, "ba": -3.0, "aba": -4.0}
    every = cuts("abab", score)
    p = np.exp([alpha * total(cut, score) for cut in every])
    p /= p.sum()
    rng, n = np.random.default_rng(0), 3000
    found = Counter(tuple(sample_cut("abab", score, -20.0, alpha, rng)) for _ in range(n))
    assert sum(found[tuple(cut)] for cut in every) == n
    for cut, q in zip(every, p, strict=True):
        assert abs(found[tuple(cut)] - n * q) < 5 * math.sqrt(n * q * (1 - q))


def test_expectation_maximization_raises_the_likelihood():
    """Plain EM steps (log of the shares, without digamma) never lower it."""
    words = ["abab", "abba", "ab", "baab"]
    names = ["a", "b", "ab", "ba", "aba"]
    lattice, times = Lattice(words, {n: i for i, n in enumerate(names)}), np.array([3.0, 1.0, 5.0, 2.0])
    score, last = np.log(np.full(5, 0.2)), -math.inf
    for _ in range(10):
        counts, likelihood = lattice.expected_counts(score, times)
        assert likelihood >= last - 1e-12
        score, last = np.log(np.maximum(counts, 1e-300) / counts.sum()), likelihood


def test_training_finds_the_pieces():
    rng = np.random.default_rng(0)
    pieces = ["koma", "tiru", "sen", "ba"]
    words = Counter("".join(rng.choice(pieces, 8)) for _ in range(300))
    learned = train_unigram(words, len({c for w in words for c in w}) + 4)
    assert set(list(learned)[:4]) == set(pieces)
    assert all(c in learned for c in "komatirusenba")
    assert list(learned.values()) == sorted(learned.values(), reverse=True)


def test_seeds():
    pieces = seed_pieces({"abab": 2, "c": 1}, 2)
    assert list(pieces)[:3] == ["a", "b", "c"]
    assert list(pieces)[3:] == ["ab", "abab"]  # 4 x 2, then 2 x 4 before aba's 2 x 3
    assert sum(map(math.exp, pieces.values())) == pytest.approx(1)


TOKENIZER = UnigramTokenizer.train(python_documentation()[:15_000], 600, byte_fallback=True, seed_size=1500)
ANY_TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="▁"))


@given(ANY_TEXT)
def test_byte_fallback_loses_nothing(text):
    text = "x" + text.replace("<unk>", "")  # a leading space is taken for the one that is put there
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text
    assert TOKENIZER.decode(TOKENIZER.encode(text, alpha=0.5, rng=np.random.default_rng(0))) == text


def test_unknown():
    tokenizer = UnigramTokenizer([("<unk>", 0.0), ("▁", -1.0), ("a", -1.0)])
    assert tokenizer.tokens("a☃☃a ☃") == ["▁", "a", "<unk>", "a", "▁", "<unk>"]
    strict = UnigramTokenizer([("▁", -1.0)], unk=None)
    with pytest.raises(ValueError, match="'☃' is unknown"):
        strict.encode("☃")


def test_long_words():
    text = "ab" * 20_000
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_wrong_calls():
    with pytest.raises(ValueError, match=r"scores finite, got \('a', nan\)"):
        UnigramTokenizer([("a", math.nan)], unk=None)
    with pytest.raises(ValueError, match="unk = '<unk>' is no piece"):
        UnigramTokenizer([("a", 0.0)])
    with pytest.raises(ValueError, match="needs the piece '<0x00>'"):
        UnigramTokenizer([("a", 0.0)], unk=None, byte_fallback=True)
    with pytest.raises(ValueError, match="alpha must be finite and not negative"):
        TOKENIZER.encode("a", alpha=-1.0, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="1 pieces are too few for 2 characters"):
        train_unigram({"ab": 1}, 1)
