"""Files: what is written loads again, and what is malformed is one clear error."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitf.tokens import (
    BPETokenizer,
    ByteBPETokenizer,
    TokenizerFileError,
    UnigramTokenizer,
    WordPieceTokenizer,
    load_tokenizer,
)

TEXT = "the cat sat on the mat, the end. " * 3
MADE = {
    "bpe": BPETokenizer.train(TEXT, 40),
    "byte": ByteBPETokenizer.train(TEXT, 270, specials=["<s>"], pattern="llama3"),
    "wordpiece": WordPieceTokenizer.train(TEXT, 40),
    "unigram": UnigramTokenizer.train(TEXT, 30),
}


@pytest.mark.parametrize("name", MADE)
def test_round_trip(name, tmp_path):
    path = tmp_path / "tokenizer.json"
    MADE[name].save(path)
    loaded = load_tokenizer(path)
    assert type(loaded) is type(MADE[name])
    assert loaded.written() == MADE[name].written() == json.loads(path.read_text("utf-8"))
    assert loaded.encode(TEXT + "☃").tolist() == MADE[name].encode(TEXT + "☃").tolist()


def load(value, tmp_path):
    path = tmp_path / "t.json"
    path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
    return load_tokenizer(path)


WRONG = [
    ("bpe", "model.dropout", 0.1, "model.dropout: minitf implements only null or 0 or 0.0 here, got 0.1"),
    ("bpe", "model.type", "WordLevel", "model.type: minitf does not implement 'WordLevel'; it knows BPE, WordPiece"),
    ("bpe", "model.unk_token", "<no>", "unk = '<no>' is no piece of vocab"),
    ("bpe", "model.merges", [["q", "☃"]], "merge 0, .* no piece of vocab"),
    ("bpe", "model.merges", ["a b c"], r"model.merges\[0\]: must be two pieces, got 3"),
    ("bpe", "model.vocab.<unk>", 1, "1 stands for two pieces|no piece has the id 0"),
    ("bpe", "model.vocab.<unk>", 10**400, "model.vocab: must be an integer from 0 to 2.*31 - 1, got a huge number"),
    ("bpe", "model.vocab.<unk>", True, "model.vocab: must be an integer .*, got true"),
    ("bpe", "model.vocab", [], "model.vocab: must be an object, got an array"),
    ("bpe", "padding", {"length": 3}, "padding: minitf implements only null here, got an object"),
    ("bpe", "normalizer", {"type": "Nmt"}, "normalizer.type: minitf does not implement 'Nmt' here; it knows"),
    ("bpe", "extra", 1, "extra: minitf does not know this field"),
    ("bpe", "decoder.suffix", 7, "decoder.suffix: must be a string, got 7"),
    ("bpe", "added_tokens", [{"id": 0}], r"added_tokens\[0\].content: is missing"),
    ("byte", "pre_tokenizer.pretokenizers.0.pattern.Regex", "a+", "Regex: minitf implements the patterns of gpt2"),
    ("byte", "pre_tokenizer.pretokenizers.0.behavior", "Removed", "behavior: minitf implements only 'Isolated'"),
    ("byte", "pre_tokenizer.pretokenizers", [None], r"pretokenizers\[0\]: must be an object, got null"),
    ("byte", "added_tokens.0.id", 5, r"added_tokens\[0\].id: '<s>' must have the id 0, got 5"),
    ("byte", "added_tokens.0.single_word", True, "single_word: minitf implements only false here, got true"),
    ("byte", "added_tokens.0.content", "", "an added token is empty"),
    ("wordpiece", "post_processor.single.0", {"SpecialToken": {"id": "[X]", "type_id": 0}}, "'\\[X\\]' is not in"),
    ("wordpiece", "post_processor.special_tokens.[CLS].ids", [9], r"'\[CLS\]' is no token with the id 9"),
    ("wordpiece", "model.max_input_chars_per_word", -1, "max_input_chars_per_word: must be an integer from 0"),
    ("wordpiece", "model.unk_token", "\ud800", "holds a lone surrogate"),
    ("unigram", "model.vocab.1", ["a"], r"model.vocab\[1\]: must be \[piece, score\], got 1 values"),
    ("unigram", "model.vocab.1.1", "x", r"model.vocab\[1\]: must be a finite number, got 'x'"),
    ("unigram", "model.vocab.1.0", "<unk>", "vocab has '<unk>' twice"),
    ("unigram", "model.unk_id", 30, "model.unk_id: there is no piece 30; there are "),
    ("unigram", "model.vocab", [], "there is no piece 0; there are 0"),
    ("unigram", "pre_tokenizer.replacement", "__", "must be one character, got '__'"),
]


@pytest.mark.parametrize(("name", "path", "value", "message"), WRONG)
def test_malformed(name, path, value, message, tmp_path):
    written = copy.deepcopy(MADE[name].written())
    *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    place = written
    for key in way:
        place = place[key]
    place[last] = value
    with pytest.raises(TokenizerFileError, match=message):
        load(written, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no JSON"),
        (b"[]", "must be an object, got an array"),
        (b"\xff{}", "is no UTF-8 text: invalid start byte at byte 0"),
        (b'{"model": NaN}', "NaN is no number of JSON"),
        (b'{"model": 1, "model": 2}', "the key 'model' is there twice"),
        (b'{"model": ' + b"1" * 5000 + b"}", "is no JSON"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"version": "1.0"}', "model: is missing"),
    ],
)
def test_no_file_at_all(content, message, tmp_path):
    with pytest.raises(TokenizerFileError, match=message):
        load(content, tmp_path)


def test_infinite_scores(tmp_path):
    text = json.dumps(MADE["unigram"].written()).replace('["<unk>", 0.0]', '["<unk>", 1e999]')
    with pytest.raises(TokenizerFileError, match=r"model.vocab\[0\]: must be a finite number, got inf"):
        load(text.encode(), tmp_path)


def test_sequences_of_sequences(tmp_path):
    nested = {"type": "NFC"}
    for _ in range(100):
        nested = {"type": "Sequence", "normalizers": [nested]}
    loaded = load({**MADE["bpe"].written(), "normalizer": nested}, tmp_path)
    assert loaded.encode("cat").tolist() == MADE["bpe"].encode("cat").tolist()


def test_saving_is_all_or_nothing(tmp_path):
    path = tmp_path / "t.json"
    MADE["bpe"].save(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="lone surrogate"):
        BPETokenizer.train("a \ud800", 10).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["t.json"]


# -- any damage


def places(value, way=()):
    yield way
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*way, key))


WRITTEN = {name: made.written() for name, made in MADE.items()}
PLACES = {name: [p for p in places(value) if p] for name, value in WRITTEN.items()}
SHORT = {name: [p for p in found if "vocab" not in p[:-1] and "merges" not in p[:-1]] for name, found in PLACES.items()}
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from([10**400, "a", 0, 1]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "id", "a"]), inner, max_size=3)
    ),
    max_leaves=4,
)


@given(st.data(), st.sampled_from(list(MADE)))
def test_damaged_values(tmp_path_factory, data, name):
    written = copy.deepcopy(WRITTEN[name])
    for _ in range(data.draw(st.integers(1, 2))):
        *way, last = data.draw(st.sampled_from(SHORT[name]) | st.sampled_from(PLACES[name]))
        place = written
        try:
            for key in way:
                place = place[key]
            action = data.draw(st.sampled_from(["replace", "drop"]))
            if action == "drop":
                del place[last]
            else:
                place[last] = data.draw(ANYTHING)
        except (KeyError, IndexError, TypeError):
            continue  # the first damage took this place away
    loads_or_says_why(json.dumps(written).encode(), tmp_path_factory)


@given(st.data(), st.sampled_from(list(MADE)))
def test_damaged_bytes(tmp_path_factory, data, name):
    content = bytearray(json.dumps(WRITTEN[name], ensure_ascii=False).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255) | st.sampled_from(b'"[]{},:0-e'))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    loads_or_says_why(bytes(content), tmp_path_factory)


def loads_or_says_why(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_bytes(content)
    try:
        loaded = load_tokenizer(path)
    except TokenizerFileError as error:
        told = str(error)
        assert len(told) < 1000
    else:
        assert isinstance(loaded.decode(loaded.encode("the cat ☃")), str)
