"""The byte tokenizer: exact for any text."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import minitf as mt
from minitf.tokens import ByteTokenizer

TOKENIZER = ByteTokenizer()
ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates too


@given(ANY_TEXT)
@example("")
@example("\ud83d\ude00 \ud800")
@example("naïve 𝔘 \x00\x7f")
def test_round_trip(text):
    ids = TOKENIZER.encode(text)
    assert ids.dtype == np.int64
    assert ids.tolist() == [byte + 1 for byte in text.encode("utf-8", "surrogatepass")]
    assert TOKENIZER.decode(ids) == text
    framed = TOKENIZER.encode(text, before=["<bos>"], after=["<eos>", "<eos>"])
    assert framed[0] == 257
    assert framed[-2:].tolist() == [258, 258]
    assert TOKENIZER.decode([0, *framed, 0]) == text
    assert TOKENIZER.decode([0, *framed, 0], specials=True) == f"<bos>{text}<eos><eos>"


@given(st.lists(st.integers(0, 258)))
def test_any_ids_decode(ids):
    assert isinstance(TOKENIZER.decode(ids), str)
    assert isinstance(TOKENIZER.decode(mt.tensor(np.array(ids, int)), specials=True), str)


def test_special_tokens_are_not_found_in_text():
    assert TOKENIZER.encode("<eos>").max() < 257
    assert TOKENIZER.vocab_size == 259
    assert ByteTokenizer(()).vocab_size == 257


def test_invalid_utf8_is_replaced():
    assert TOKENIZER.decode([0x61 + 1, 0xFF + 1, 0x62 + 1]) == "a\ufffdb"


def test_names_of_tokens():
    assert [TOKENIZER.token(i) for i in (0, 1, 11, 98, 200, 258)] == ["<pad>", "\\x00", "\\x0a", "a", "\\xc7", "<eos>"]


def test_wrong_calls():
    with pytest.raises(TypeError, match="encode: needs a str, got bytes"):
        TOKENIZER.encode(b"abc")
    with pytest.raises(ValueError, match="decode: 259 at position 1 is no token; ids are 0 to 258"):
        TOKENIZER.decode([1, 259])
    with pytest.raises(ValueError, match="decode: -1 at position 0"):
        TOKENIZER.decode([-1])
    with pytest.raises(TypeError, match=r"one sequence of integer ids, got float64 \(1,\)"):
        TOKENIZER.decode([1.5])
    with pytest.raises(TypeError, match="one sequence"):
        TOKENIZER.decode(np.zeros((2, 2), int))
    with pytest.raises(ValueError, match="'<sep>' is no special token; there are: <bos>, <eos>"):
        TOKENIZER.encode("a", after="<sep>")
    with pytest.raises(ValueError, match="no UTF-8 text"):
        TOKENIZER.decode([256], errors="strict")
    with pytest.raises(ValueError, match="errors must be 'replace' or 'strict'"):
        TOKENIZER.decode([1], errors="ignore")
    with pytest.raises(ValueError, match="named twice"):
        ByteTokenizer(["<a>", "<a>"])
    with pytest.raises(TypeError, match="a sequence of names"):
        ByteTokenizer("<pad>")
