"""Byte-pair encoding of words and of bytes: literal transcriptions, and what must hold for any text."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minitf.data.text import python_documentation
from minitf.tokens import BPETokenizer, ByteBPETokenizer
from minitf.tokens.bpe import bpe_dropout, learn_merges, merge_by_rank, segment_with_merges
from minitf.tokens.pretokenize import PATTERNS, as_byte_characters, byte_characters, cut_by

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates too
TRAINING = python_documentation()[:20_000]
BYTES = ByteBPETokenizer.train(TRAINING, 400, specials=["<|end|>"])
WORDS = BPETokenizer.train(TRAINING, 300)


def replaced(symbols, pair):
    """Every occurrence of ``pair`` made one, by position, from the left."""
    out, i = [], 0
    while i < len(symbols):
        if tuple(symbols[i : i + 2]) == pair:
            out.append(symbols[i] + symbols[i + 1])
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return out


def recounted_merges(words, order):
    """All merges, with every pair counted again after each."""
    words = {tuple(word): times for word, times in words.items()}
    merges = []
    while True:
        counts = Counter()
        for word, times in words.items():
            for pair in itertools.pairwise(word):
                counts[pair] += times
        if not counts:
            return merges
        merges.append(min(counts, key=lambda pair: (-counts[pair], order(pair))))
        joined = Counter()
        for word, times in words.items():
            joined[tuple(replaced(list(word), merges[-1]))] += times
        words = joined


@given(st.dictionaries(st.text("abc", min_size=1, max_size=9).map(tuple), st.integers(1, 5), max_size=8))
@example({tuple("aaaa"): 1, tuple("aaa"): 2})
@example({tuple("abab"): 1, tuple("ba"): 3})
def test_training_counts_again(words):
    assert list(learn_merges(words)) == recounted_merges(words, lambda pair: pair)


def test_training_on_text_counts_again():
    words = Counter(tuple(word) for word in TRAINING[:3000].split())
    merges = list(itertools.islice(learn_merges(words), 150))
    assert merges == recounted_merges(words, lambda pair: pair)[:150]


def test_ties_by_number():
    words = {("z", "y"): 1, ("a", "b"): 1}
    assert next(iter(learn_merges(words))) == ("a", "b")
    assert next(iter(learn_merges(words, {"z": 0, "y": 1, "a": 2, "b": 3}))) == ("z", "y")


def test_example_of_the_paper():
    words = {"low": 5, "lower": 2, "newest": 6, "widest": 3}
    tokenizer = BPETokenizer.train(words, 28 + 10, specials=["<unk>"])
    assert tokenizer.merges[:4] == [("e", "s"), ("es", "t</w>"), ("l", "o"), ("e", "w")]
    assert tokenizer.tokens("lowest newest") == ["low", "est</w>", "newest</w>"]
    assert tokenizer.decode(tokenizer.encode("lowest newest")) == "lowest newest"
    assert tokenizer.tokens("low!") == ["low", "<unk>"]


def by_rank(symbols, ranks):
    symbols = list(symbols)
    while True:
        known = [(ranks[p], i) for i, p in enumerate(itertools.pairwise(symbols)) if p in ranks]
        if not known:
            return symbols
        i = min(known)[1]
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]


@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=2, max_size=5), max_size=12), st.randoms())
def test_merging_by_rank(word, merges, random):
    """Ranks in any order, such as training never gives."""
    pairs = {(m[:cut], m[cut:]) for m in merges for cut in range(1, len(m))}
    ranks = {pair: rank for rank, pair in enumerate(random.sample(sorted(pairs), len(pairs)))}
    assert merge_by_rank(word, ranks) == by_rank(word, ranks)


@given(st.sampled_from(TRAINING.split()))
def test_encoding_repeats_the_training(word):
    """Applying the merges one after the other to all occurrences is the same, for merges that were learned."""
    symbols = [*word[:-1], word[-1] + "</w>"]
    for pair in WORDS.merges:
        symbols = replaced(symbols, pair)
    assert WORDS.tokens(word) == symbols


# -- dropout and fewer merges


def test_dropout_ends():
    rng = np.random.default_rng(0)
    for word in TRAINING.split()[:50]:
        assert bpe_dropout(word, WORDS.merges, 0.0, rng) == merge_by_rank(word, WORDS.ranks)
        assert bpe_dropout(word, WORDS.merges, 1.0, rng) == list(word)


def test_dropout_probabilities():
    """ "abc" with ab before bc: ab with 1 - p; else bc with p (1 - p); else nothing. Five standard deviations."""
    rng, p, n = np.random.default_rng(1), 0.3, 4000
    found = Counter(tuple(bpe_dropout("abc", [("a", "b"), ("b", "c")], p, rng)) for _ in range(n))
    for cut, q in ((("ab", "c"), 1 - p), (("a", "bc"), p * (1 - p)), (("a", "b", "c"), p * p)):
        assert abs(found[cut] - n * q) < 5 * np.sqrt(n * q * (1 - q))


def test_dropout_decodes_to_the_same_text():
    text, rng = TRAINING[:500], np.random.default_rng(2)
    drawn = [BYTES.encode(text, dropout=0.5, rng=rng) for _ in range(3)]
    assert len({ids.tobytes() for ids in drawn}) == 3
    assert {BYTES.decode(ids) for ids in drawn} == {text}
    again = BYTES.encode(text, dropout=0.5, rng=np.random.default_rng(2))
    np.testing.assert_array_equal(again, drawn[0])


def test_segment_with_merges():
    assert segment_with_merges("low", [("l", "o")], 0) == ["l", "o", "w</w>"]
    assert segment_with_merges("low", [("l", "o"), ("lo", "w</w>")], 1) == ["lo", "w</w>"]
    text = TRAINING[:300]
    assert WORDS.segment_with_merges(text, len(WORDS.merges)) == WORDS.tokens(text)
    assert "".join(WORDS.segment_with_merges(text, 0)) == "".join(w + "</w>" for w in text.split())
    lengths = [len(WORDS.segment_with_merges(text, n)) for n in range(len(WORDS.merges) + 1)]
    assert lengths == sorted(lengths, reverse=True)
    assert all(piece in WORDS.vocab for n in (0, 9) for piece in WORDS.segment_with_merges(text, n))


# -- bytes


@given(ANY_TEXT)
@example("\ud83d\ude00 \ud800")
@example("\x00\x1c\x85\u3000 e\u0301 👩‍👩‍👧 ﷽")
@example("<|end|>")
def test_bytes_come_back(text):
    ids = BYTES.encode(text)
    assert ids.dtype == np.int64
    assert BYTES.decode(ids, specials=True) == text
    if "<|end|>" not in text:
        assert BYTES.decode(ids) == text
        assert BYTES.tokens(text) == [BYTES.token(id) for id in ids]


@pytest.mark.parametrize("pattern", PATTERNS)
@given(text=ANY_TEXT)
def test_patterns_cover_every_text(pattern, text):
    assert "".join(cut_by(pattern, text)) == text


def test_cutting():
    assert cut_by("gpt2", "it's 12 a\n\n  b, don'T") == ["it", "'s", " 12", " a", "\n\n ", " b", ",", " don", "'", "T"]
    assert cut_by("llama3", "it'S 1234 a\n\n  b,") == ["it", "'S", " ", "123", "4", " a", "\n\n", " ", " b", ","]
    assert cut_by("gpt2", "\x1c\x85") == ["\x1c", "\x85"]  # a control character and white space
    with pytest.raises(ValueError, match="pattern must be one of gpt2, llama3, qwen2, got 'bert'"):
        cut_by("bert", "")


def test_byte_characters():
    table = byte_characters()
    assert len(set(table)) == 256
    assert not any(c.isspace() or not c.isprintable() for c in table)
    assert as_byte_characters(" a\né") == "ĠaĊÃ©"


def test_long_words():
    """A word of 50,000 characters, whose merging must not be quadratic."""
    text = "ab" * 25_000
    assert BYTES.decode(BYTES.encode(text)) == text
    assert WORDS.decode(WORDS.encode(text)) == text


def test_special_tokens():
    ids = BYTES.encode("a<|end|>b", after="<|end|>")
    assert BYTES.special_ids == {"<|end|>": 0}
    assert (ids == 0).tolist() == [False, True, False, True]
    assert BYTES.decode(ids) == "ab"
    with pytest.raises(ValueError, match=r"'<s>' is no special token; there are: <\|end\|>"):
        BYTES.encode("a", before=["<s>"])


def test_wrong_calls():
    with pytest.raises(TypeError, match="encode: needs a str, got bytes"):
        BYTES.encode(b"a")
    with pytest.raises(ValueError, match="decode: 400 at position 1 is no token; ids are 0 to 399"):
        BYTES.decode([1, 400])
    with pytest.raises(ValueError, match="p is a probability, got 2"):
        BYTES.encode("a", dropout=2, rng=np.random.default_rng(0))
    with pytest.raises(TypeError, match=r"rng must be a numpy.random.Generator"):
        BYTES.encode("a", dropout=0.5)
    with pytest.raises(ValueError, match="100 pieces are too few: bytes and specials take 256"):
        ByteBPETokenizer.train("a", 100)
    with pytest.raises(ValueError, match="must hold all 256 bytes; it lacks '!' for byte 0x21"):
        ByteBPETokenizer([c for c in byte_characters() if c != "!"], [])
    with pytest.raises(ValueError, match=r"merge 0, \('a', 'c'\), needs 'c', no piece of vocab"):
        BPETokenizer(["<unk>", "a"], [("a", "c")])
    with pytest.raises(ValueError, match="vocab has 'a' twice"):
        BPETokenizer(["<unk>", "a", "a"], [])
    with pytest.raises(ValueError, match="no piece has the id 1"):
        BPETokenizer({"<unk>": 0, "a": 2}, [])
    with pytest.raises(ValueError, match="n_merges must be 0 to"):
        WORDS.segment_with_merges("a", -1)
