"""WordPiece: greedy cuts and training, each against a literal transcription."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitf.tokens import WordPieceTokenizer
from minitf.tokens.normalizers import BertNormalizer
from minitf.tokens.pretokenize import BertPreTokenizer
from minitf.tokens.wordpiece import SPECIALS, train_wordpiece

PIECES = st.sets(st.text("abc", min_size=1, max_size=3)).map(sorted)


@given(st.text("abc", max_size=10), PIECES, PIECES)
def test_greedy_longest_match(word, heads, tails):
    vocab = ["[UNK]", *heads, *("##" + tail for tail in tails)]
    cut, rest = [], word
    while rest and cut != ["[UNK]"]:
        fits = [p for p in (tails if cut else heads) if rest.startswith(p)]
        if fits:
            longest = max(fits, key=len)
            cut, rest = [*cut, ("##" if cut else "") + longest], rest[len(longest) :]
        else:
            cut = ["[UNK]"]
    assert WordPieceTokenizer(vocab).tokens(word) == cut


def literal(words, size, score):
    """Everything counted again before every merge."""
    cuts = {word: [word[0], *("##" + c for c in word[1:])] for word in words}
    pieces = sorted({s for cut in cuts.values() for s in cut})
    while len(pieces) < size:
        single, pairs = Counter(), Counter()
        for word, cut in cuts.items():
            for symbol in cut:
                single[symbol] += words[word]
            for pair in itertools.pairwise(cut):
                pairs[pair] += words[word]
        if not pairs:
            break
        value = lambda p: pairs[p] / (single[p[0]] * single[p[1]]) if score == "likelihood" else pairs[p]  # noqa: B023
        a, b = min(pairs, key=lambda p: (-value(p), p))
        new = a + b[2:]
        if new not in pieces:
            pieces.append(new)
        for cut in cuts.values():
            i = 0
            while i < len(cut) - 1:
                if (cut[i], cut[i + 1]) == (a, b):
                    cut[i : i + 2] = [new]
                i += 1
    return pieces


@pytest.mark.parametrize("score", ["likelihood", "count"])
@given(
    words=st.dictionaries(st.text("abc", min_size=1, max_size=7), st.integers(1, 9), min_size=1, max_size=8),
    more=st.integers(0, 30),
)
def test_training_counts_again(score, words, more):
    size = len(literal(words, 0, score)) + more
    assert train_wordpiece(words, size, score=score, specials=()) == literal(words, size, score)


def test_scores_differ():
    words = {"the": 50, "then": 20, "qx": 3, "ten": 10}
    merges = {s: train_wordpiece(words, 9, score=s, specials=())[6] for s in ("likelihood", "count")}
    assert merges == {"likelihood": "qx", "count": "##he"}


def test_counters_that_wrap():
    words = {"the": 200, "fox": 3, "cat": 256 + 5}
    assert train_wordpiece(words, 99, specials=()) == train_wordpiece(words, 99, specials=(), count_dtype=np.int32)
    narrow = train_wordpiece(words, 99, specials=(), count_dtype=np.int8)
    assert "the" not in narrow  # 200 is -56 in 8 bits
    assert narrow == train_wordpiece({"fox": 3, "cat": 5}, 99, specials=())


def test_bert_normalization():
    assert BertNormalizer()("Ärger\x00\ufffd\u200d \tÉ漢字ΣΑΣ") == "arger  e 漢  字 σασ"
    assert BertNormalizer(lowercase=False)("É") == "É"
    assert BertNormalizer(lowercase=False, strip_accents=True)("É") == "E"
    cut = [word for word in BertPreTokenizer()("a,b $5\u3000“x”") if word]
    assert cut == ["a", ",", "b", "$", "5", "“", "x", "”"]


def test_frame_and_unknown_words():
    tokenizer = WordPieceTokenizer.train("low lower lowest newest " * 3, 40)
    ids = tokenizer.encode("Lowest [MASK] ☃", "new")
    assert [tokenizer.token(id) for id in ids] == ["[CLS]", *tokenizer.tokens("lowest"), "[MASK]", "[UNK]", "[SEP]",
                                                   *tokenizer.tokens("new"), "[SEP]"]  # fmt: skip
    assert tokenizer.decode(ids) == "lowest new"
    assert list(tokenizer.special_ids) == list(SPECIALS)
    assert tokenizer.tokens("l" * 101) == ["[UNK]"]
    assert tokenizer.encode("", add_special_tokens=False).shape == (0,)


def test_wrong_calls():
    with pytest.raises(ValueError, match=r"unk = '\[UNK\]' is no piece of vocab"):
        WordPieceTokenizer(["a"])
    with pytest.raises(ValueError, match="score must be one of likelihood, count, got 'bpe'"):
        train_wordpiece({"a": 1}, 10, score="bpe")
    with pytest.raises(ValueError, match="3 pieces are too few: special tokens and characters take 6"):
        train_wordpiece({"a": 1}, 3)
