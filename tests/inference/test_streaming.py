"""Streaming: the same tokens, as they come; whole characters; nothing of a stop text."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.inference.decoding import greedy, no_repeat_ngram, sample
from minitf.inference.streaming import stream, text_pieces
from minitf.models.transformer import Decoder
from minitf.tokens.bytes import ByteTokenizer

tokenizer = ByteTokenizer()


def model():
    made = Decoder(9, 8, 1, 2, max_length=40, dropout=0.5, rng=np.random.default_rng(0))
    made.embedding.weight.data *= 30
    return made


class TestTokens:
    def test_are_those_of_greedy_and_sample(self):
        m, prompt = model(), [[1, 2]]
        assert list(stream(m, prompt, 7)) == greedy(m, prompt, 7)[0, 2:].tolist()
        options = {"top_p": 0.9, "temperature": 1.5, "process": lambda logits, ids: no_repeat_ngram(logits, ids, 2)}
        got = list(stream(m, prompt, 7, rng=np.random.default_rng(3), **options))
        assert got == sample(m, prompt, 7, rng=np.random.default_rng(3), **options)[0, 2:].tolist()

    def test_eos_is_the_last(self):
        m = model()
        free = list(stream(m, [[1, 2]], 9))
        assert list(stream(m, [[1, 2]], 9, eos=free[3])) == free[: free.index(free[3]) + 1]

    def test_come_one_by_one(self):
        m = model()
        with mt.cost() as first:
            tokens = stream(m, [[1, 2]], 30)
            next(tokens)
        with mt.cost() as prompt, mt.no_grad():
            m(np.array([[1, 2]]))
        assert first.macs == prompt.macs

    def test_between_two_tokens_the_model_trains_and_records(self):
        m = model()
        for _ in itertools.islice(stream(m, [[1, 2]], 5), 3):
            assert all(module.training for module in m.modules())
            mt.sum(m(np.array([[1]]))).backward()
            assert m.embedding.weight.grad is not None
            m.zero_grad()

    def test_wrong_calls_fail_at_once(self):
        with pytest.raises(mt.ShapeError, match=r"stream: writes one text at a time, ids \(1, T\), got shape \(2, 1\)"):
            stream(model(), [[1], [2]], 3)
        with pytest.raises(ValueError, match="stream: top_p is for sampling; give rng"):
            stream(model(), [[1]], 3, top_p=0.9)


class TestPieces:
    @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
    def test_are_whole_characters_and_together_the_text(self, text):
        pieces = list(text_pieces(tokenizer.encode(text), tokenizer))
        assert "".join(pieces) == text
        assert pieces == list(text) or "\ufffd" in text  # which looks like a character that is not complete

    @given(st.lists(st.integers(0, 258), max_size=14))
    def test_of_any_bytes_are_what_decoding_at_once_gives(self, ids):
        assert "".join(text_pieces(ids, tokenizer)) == tokenizer.decode(ids)

    def test_a_character_is_said_when_its_last_byte_is_there(self):
        said = []

        def tokens():
            for id in tokenizer.encode("aé€😀"):
                yield int(id)
                said.append(len(got))

        got = []
        for piece in text_pieces(tokens(), tokenizer):
            got.append(piece)
        assert got == ["a", "é", "€", "😀"]
        assert said == [1, 1, 2, 2, 2, 3, 3, 3, 3, 4]

    def test_bytes_that_become_no_character(self):
        ids = [1 + byte for byte in b"a\xe2\x82b\xff\xc3"]
        assert list(text_pieces(ids, tokenizer)) == ["a", "\ufffdb", "\ufffd", "\ufffd"]

    @given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3))
    def test_stop_before_the_first_stop_text(self, text, stop):
        got = "".join(text_pieces(tokenizer.encode(text), tokenizer, stop=stop))
        ends = [end for end in range(len(text) + 1) if any(text[:end].endswith(one) for one in stop)]
        if not ends:
            assert got == text
        else:  # as soon as one is complete; if several are at once, before the longest
            read = text[: ends[0]]
            assert got == read[: min(read.index(one) for one in stop if one in read)]

    def test_after_a_stop_text_nothing_is_asked_for(self):
        tokens = iter(tokenizer.encode("yes\n\nno"))
        assert list(text_pieces(tokens, tokenizer, stop=["\n\n"])) == ["y", "e", "s"]
        assert tokenizer.decode(list(tokens)) == "no"

    def test_what_might_have_been_one_is_said_in_the_end(self):
        assert list(text_pieces(tokenizer.encode("a\nb\n"), tokenizer, stop=["\n\n"])) == ["a", "\nb", "\n"]

    def test_refuses(self):
        for stop in ("end", ["a", ""]):
            with pytest.raises(ValueError, match="stop must be a sequence of texts that are not empty"):
                text_pieces([], tokenizer, stop=stop)
