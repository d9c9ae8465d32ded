"""Characters as tokens: one each, in order; the file that other libraries read."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitf.tokens import CharacterTokenizer, load_tokenizer


def test_one_token_for_each_character_in_order():
    tokenizer = CharacterTokenizer.train("to be,\nor not")
    assert list(tokenizer.vocab) == ["<unk>", "\n", " ", ",", "b", "e", "n", "o", "r", "t"]
    ids = tokenizer.encode("not to be\n")
    assert ids.tolist() == [6, 7, 9, 2, 9, 7, 2, 4, 5, 1]
    assert tokenizer.decode(ids) == "not to be\n"
    assert tokenizer.encode("").tolist() == []


@given(st.text(), st.text())
def test_a_text_comes_back_and_what_was_never_seen_is_unknown(seen, other):
    tokenizer = CharacterTokenizer.train([seen], specials=["<unk>"])
    if "<unk>" not in seen:
        assert tokenizer.decode(tokenizer.encode(seen)) == seen
        assert len(tokenizer.encode(seen)) == len(seen)
    if "<unk>" not in other:
        want = [tokenizer.vocab.get(c, 0) for c in other]
        assert tokenizer.encode(other).tolist() == want


def test_special_tokens_and_none_for_unknown_characters():
    tokenizer = CharacterTokenizer.train("abc", specials=["<unk>", "<eos>"])
    assert tokenizer.encode("ab<eos>z", after=["<eos>"]).tolist() == [2, 3, 1, 0, 1]
    assert tokenizer.decode([2, 1, 3]) == "ab"
    assert tokenizer.decode([2, 1, 3], specials=True) == "a<eos>b"
    assert CharacterTokenizer(["a", "b"], unk=None).encode("abzb").tolist() == [0, 1, 1]
    with pytest.raises(ValueError, match="'ab' is neither one character nor a special token"):
        CharacterTokenizer(["<unk>", "a", "ab"])
    with pytest.raises(ValueError, match="unk = '<unk>' is no piece of vocab"):
        CharacterTokenizer(["a", "b"])


def test_the_file(tmp_path):
    tokenizer = CharacterTokenizer.train("déjà vu, 東京", specials=["<unk>", "<pad>"])
    tokenizer.save(tmp_path / "tokenizer.json")
    written = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert written["model"]["type"] == "BPE"
    assert written["model"]["merges"] == []
    text = "vu déjà, 京 q<pad>"
    np.testing.assert_array_equal(load_tokenizer(tmp_path / "tokenizer.json").encode(text), tokenizer.encode(text))
    assert load_tokenizer(tmp_path / "tokenizer.json").decode(tokenizer.encode("vu 京")) == "vu 京"
