"""What is hidden is in the labels, what is not is in the inputs, and as much is hidden as was asked for."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.data import corruption as c

SENTINELS = range(1000, 1100)
RNG = st.integers(0, 1000).map(np.random.default_rng)


def close(count, n, p, sigmas=4.5):
    """A count of n trials is as it may be for probability p."""
    return abs(count - n * p) <= sigmas * math.sqrt(n * p * (1 - p)) + 1e-9


def uniform(outcomes, kinds):
    counts = Counter(outcomes)
    assert len(counts) == kinds
    return all(close(n, len(outcomes), 1 / kinds) for n in counts.values())


def test_masked_lm_mask():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 50, (400, 100))
    inputs, labels = c.masked_lm_mask(ids, 0.15, V=50, mask_id=99, special_ids=(0, 1), rng=rng)
    chosen = labels != c.IGNORED
    np.testing.assert_array_equal(labels[chosen], ids[chosen])
    np.testing.assert_array_equal(inputs[~chosen], ids[~chosen])
    assert not chosen[ids < 2].any()
    assert close(chosen.sum(), (ids >= 2).sum(), 0.15)
    n = chosen.sum()
    assert close((inputs[chosen] == 99).sum(), n, 0.8)
    assert close((inputs == ids)[chosen].sum(), n, 0.1 + 0.1 / 50)
    other = inputs[chosen & (inputs != 99) & (inputs != ids)]
    assert set(other) == set(range(50))  # any id, special ones too
    same, _ = c.masked_lm_mask(ids, 0.0, V=50, mask_id=99, rng=rng)
    np.testing.assert_array_equal(same, ids)
    assert (c.masked_lm_mask(ids, 1.0, V=50, mask_id=99, rng=rng)[1] == ids).all()


@given(rng=RNG, sizes=st.lists(st.integers(1, 4), min_size=1, max_size=20), rate=st.floats(0, 1))
def test_whole_word_mask(rng, sizes, rate):
    words = np.concatenate([[-1], np.repeat(np.arange(len(sizes)), sizes), [-1]])
    ids = np.arange(len(words))
    _, labels = c.whole_word_mask(ids, words, rate, V=50, mask_id=99, rng=rng)
    chosen = labels != c.IGNORED
    assert not chosen[[0, -1]].any()
    taken = [i for i in range(len(sizes)) if chosen[words == i].any()]
    assert all(chosen[words == i].all() for i in taken)
    budget = max(1, round(rate * sum(sizes)))
    assert chosen.sum() <= budget
    # no word that was left would have fitted, had it come last
    assert all(chosen.sum() + size > budget for i, size in enumerate(sizes) if i not in taken)


@given(rng=RNG, T=st.integers(2, 200), rate=st.floats(0, 1), mean=st.floats(1, 20))
def test_lengths_of_spans_are_exact(rng, T, rate, mean):
    mask = c.random_spans_noise_mask(T, rate, mean, rng=rng)
    noise = min(max(round(T * rate), 1), T - 1)
    spans = min(max(round(noise / mean), 1), noise, T - noise)
    assert (len(mask), mask.sum(), not mask[0], mask[-1]) == (T, noise, True, True)
    assert np.sum(np.diff(mask.astype(int)) == 1) == spans


def test_all_choices_of_spans_are_alike():
    """Against all masks with these counts: 9 tokens, 4 hidden in 2 spans, 5 in 2 parts: 3 * 4 ways."""
    rng = np.random.default_rng(0)
    draws = [tuple(c.random_spans_noise_mask(9, 0.45, 2, rng=rng).tolist()) for _ in range(1500)]
    ways = [
        mask
        for mask in itertools.product([False, True], repeat=9)
        if sum(mask) == 4 and not mask[0] and mask[-1] and sum(b > a for a, b in itertools.pairwise(mask)) == 2
    ]
    assert set(draws) == set(ways)
    assert uniform(draws, 12)


def test_is_t5s_algorithm_in_distribution():
    """The published procedure, step by step: shuffle which items begin a part."""
    rng = np.random.default_rng(0)

    def segmentation(items, parts):
        first = np.pad(rng.permutation((np.arange(items - 1) < parts - 1).astype(int)), [[1, 0]])
        return np.bincount(np.cumsum(first))

    def t5(T, rate, mean):
        noise = int(np.clip(round(T * rate), 1, T - 1))
        spans = max(round(noise / mean), 1)
        lengths = np.stack([segmentation(T - noise, spans), segmentation(noise, spans)], axis=1).reshape(-1)
        starts = np.zeros(T, int)
        starts[np.cumsum(lengths)[:-1]] = 1
        return np.cumsum(starts) % 2 == 1

    draw = lambda f: Counter(tuple(f().tolist()) for _ in range(2000))
    theirs = draw(lambda: t5(8, 0.4, 1.5))
    ours = draw(lambda: c.random_spans_noise_mask(8, 0.4, 1.5, rng=rng))
    assert theirs.keys() == ours.keys()
    assert all(abs(theirs[mask] - ours[mask]) < 4.5 * math.sqrt(2 * 2000 / len(theirs)) for mask in theirs)


@given(rng=RNG, ids=st.lists(st.integers(0, 9), min_size=2, max_size=80), rate=st.floats(0, 1), mean=st.floats(1, 9))
def test_span_corruption_is_undone(rng, ids, rate, mean):
    inputs, targets = c.span_corruption(ids, rate, mean, sentinels=SENTINELS, eos=10, rng=rng)
    assert targets[-1] == 10
    np.testing.assert_array_equal(c.join_spans(inputs, targets, SENTINELS, eos=10), ids)
    marks = [token for token in inputs.tolist() if token >= 1000]
    assert marks == [token for token in targets.tolist() if token >= 1000] == list(SENTINELS[: len(marks)])
    assert len(inputs) + len(targets) == len(ids) + 2 * len(marks) + 1


def test_span_corruption_by_hand():
    mask = np.array([False, True, True, False, True])
    ids = np.array([5, 6, 7, 8, 9])
    for seed in range(50):
        if (c.random_spans_noise_mask(5, 0.6, 1.5, rng=np.random.default_rng(seed)) == mask).all():
            break
    inputs, targets = c.span_corruption(ids, 0.6, 1.5, sentinels=[99, 98], rng=np.random.default_rng(seed))
    assert inputs.tolist() == [5, 99, 8, 98]
    assert targets.tolist() == [99, 6, 7, 98, 9]


def test_mixture_of_denoisers():
    rng = np.random.default_rng(0)
    ids = np.arange(40)
    prefixes = {mode: 500 + i for i, mode in enumerate(c.DENOISERS)}
    modes, lengths = [], []
    for _ in range(1000):
        inputs, targets = c.mixture_of_denoisers(ids, sentinels=SENTINELS, prefixes=prefixes, rng=rng)
        modes.append(list(c.DENOISERS)[inputs[0] - 500])
        if modes[-1] == "LM":
            np.testing.assert_array_equal(np.concatenate([inputs[1:], targets]), ids)
            lengths.append(len(targets))
        else:
            np.testing.assert_array_equal(c.join_spans(inputs[1:], targets, SENTINELS), ids)
            mean, rate = c.DENOISERS[modes[-1]]
            hidden = (targets < 1000).sum()
            assert hidden == round(40 * rate)
            assert (targets >= 1000).sum() == max(1, round(hidden / mean))
    assert uniform(modes, 7)
    assert set(lengths) == set(range(1, 20))
    assert np.mean(lengths) == pytest.approx(10, abs=2)
    only = {"weights": {"SC4": 2.0}, "sentinels": SENTINELS, "eos": 3}
    inputs, targets = c.mixture_of_denoisers(ids, rng=np.random.default_rng(1), **only)
    assert (targets < 1000).sum() == 21
    assert targets[-1] == 3
    with pytest.raises(ValueError, match="weights and prefixes for some of LM, SC1"):
        c.mixture_of_denoisers(ids, sentinels=SENTINELS, weights={"SC9": 1.0}, rng=rng)


@given(rng=RNG, T=st.integers(1, 60), rate=st.floats(0, 1), mean=st.floats(0.5, 6))
def test_text_infilling(rng, T, rate, mean):
    inputs, labels = c.text_infilling(np.arange(T), rate, mean, mask_id=99, rng=rng)
    np.testing.assert_array_equal(labels, np.arange(T))
    kept = inputs[inputs != 99]
    assert len(kept) == T - round(rate * T)
    assert (np.diff(kept) > 0).all()
    assert not ((inputs[1:] == 99) & (inputs[:-1] == 99)).any()  # spans do not touch


@given(rng=RNG, doc=st.lists(st.integers(0, 9), max_size=30), spm=st.sampled_from([0.0, 1.0]))
def test_fill_in_the_middle(rng, doc, spm):
    out = c.fill_in_the_middle(np.array(doc, int), 1.0, spm, prefix_id=100, suffix_id=101, middle_id=102, rng=rng)
    assert len(out) == len(doc)
    if 100 not in out:
        return
    text = out.tolist()
    p, s, m = (text.index(mark) for mark in (100, 101, 102))
    if spm:
        assert (p, s) == (0, 1)
        suffix, start = text[s + 1 : m], text[m + 1 :]
    else:
        assert p == 0
        suffix, start = text[s + 1 : m], text[1:s] + text[m + 1 :]
    assert start + suffix == doc[: len(doc) - 3]


def test_fill_in_the_middle_of_text():
    marks = {"prefix_id": 100, "suffix_id": 101, "middle_id": 102}
    pairs = lambda text: [
        ord(text[i]) % 50 for i in range(0, len(text), 2)
    ]  # pieces may have more tokens than the whole
    rng = np.random.default_rng(0)
    text = "abcdefghijklmnopqrst" * 20
    whole = pairs(text)
    moved = 0
    for _ in range(400):
        out = c.fill_in_the_middle(text, 0.5, 0.5, encode=pairs, rng=rng, **marks)
        assert len(out) == len(whole)
        moved += out.tolist() != whole
    assert close(moved, 400, 0.5 * (1 - 2 * 8 / 400))  # but not if the last 8 characters or so are cut
    assert c.fill_in_the_middle("abcdef", 0.0, encode=pairs, rng=rng, **marks).tolist() == pairs("abcdef")
    # an encoder whose pieces are shorter: one token however long the text
    outs = {
        tuple(
            c.fill_in_the_middle(
                "abc", 1, 0, encode=lambda t: [7] * (9 if t == "abc" else 1), rng=rng, **marks
            ).tolist()
        )
        for _ in range(40)
    }
    assert (100, 7, 101, 7, 0, 0, 0, 102, 7) in outs


def test_pairs_of_sentences():
    docs = [[f"{d}{i}" for i in range(n)] for d, n in zip("abc", (60, 40, 1), strict=True)]
    rng = np.random.default_rng(0)
    follows = lambda x, y: x[0] == y[0] and int(x[1:]) + 1 == int(y[1:])
    labels = []
    for _ in range(20):
        pairs = c.next_sentence_pairs(docs, rng=rng)
        assert [first for first, _, _ in pairs] == docs[0][:-1] + docs[1][:-1]
        for first, second, label in pairs:
            assert follows(first, second) if label else first[0] != second[0]
            labels.append(label)
    assert uniform(labels, 2)
    labels, elsewhere = [], []
    for _ in range(20):
        for first, second, label in c.structural_pairs(docs, rng=rng):
            assert (follows(first, second), follows(second, first), first[0] != second[0])[label]
            labels.append(label)
            elsewhere += [second[0]] if label == 2 and first[0] == "a" else []
    assert uniform(labels, 3)
    assert uniform(elsewhere, 2)  # documents are alike, however long
    with pytest.raises(ValueError, match="next_sentence_pairs: sentences of other documents need at least 2"):
        c.next_sentence_pairs([["a", "b"], []], rng=rng)


def test_segment_reordering():
    rng = np.random.default_rng(0)
    classes = []
    orders = [order for k in range(1, 4) for order in itertools.permutations(range(k))]
    for _ in range(1500):
        inputs, number = c.segment_reordering(np.arange(10), 3, rng=rng)
        order = orders[number]
        starts = [0, *(np.flatnonzero(np.diff(inputs) != 1) + 1).tolist()]
        assert sorted(inputs.tolist()) == list(range(10))
        pieces = np.split(inputs, starts[1:])
        # pieces that stay together look like one; what is seen must be the order with these joined
        joins = sum(b == a + 1 for a, b in itertools.pairwise(order))
        assert len(pieces) == len(order) - joins
        classes.append(len(order))
        if not joins:
            assert np.argsort(np.argsort([piece[0] for piece in pieces])).tolist() == list(order)
    assert uniform(classes, 3)
    numbers = {c.segment_reordering(np.arange(10), 4, rng=rng)[1] for _ in range(1500)}
    assert numbers == set(range(33))


def test_gap_sentence_generation():
    sentences = [np.arange(10 * i, 10 * i + i + 1) for i in range(5)]
    inputs, targets = c.gap_sentence_generation(sentences, 0.4, mask_id=99, scores=[1, 3, 0, 3, 3])
    assert inputs.tolist() == [0, 99, 20, 21, 22, 99, 40, 41, 42, 43, 44]
    assert targets.tolist() == [10, 11, 30, 31, 32, 33]
    rng = np.random.default_rng(0)
    hidden = [c.gap_sentence_generation(sentences, 0.0, mask_id=99, rng=rng)[1][0] for _ in range(1000)]
    assert uniform(hidden, 5)
    with pytest.raises(ValueError, match="either a score for each of the 5 or rng"):
        c.gap_sentence_generation(sentences, mask_id=99)


def test_wrong_calls():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"masked_lm_mask: a rate is between 0 and 1, got 15"):
        c.masked_lm_mask([1], 15, V=2, mask_id=0, rng=rng)
    with pytest.raises(mt.ShapeError, match=r"span_corruption: needs integer ids \(T,\), got float64 \(2,\)"):
        c.span_corruption([0.5, 1.5], sentinels=SENTINELS, rng=rng)
    with pytest.raises(ValueError, match="10 spans need as many sentinels, there are 3"):
        c.span_corruption(np.arange(20), 0.5, 1, sentinels=[1, 2, 3], rng=rng)
    with pytest.raises(mt.ShapeError, match=r"ids and word_ids must be \(T,\), got \(3,\) and \(2,\)"):
        c.whole_word_mask([1, 2, 3], [0, 0], V=5, mask_id=4, rng=rng)
    with pytest.raises(ValueError, match="needs T >= 2 and mean_length >= 1, got T=1"):
        c.random_spans_noise_mask(1, 0.5, 3, rng=rng)
    with pytest.raises(ValueError, match="chunks must be from 1 to the 2 ids, got 4"):
        c.segment_reordering([1, 2], rng=rng)
    with pytest.raises(TypeError, match=r"rng must be a numpy.random.Generator"):
        c.masked_lm_mask([1], V=2, mask_id=0, rng=0)
