"""Reading ``tokenizer.json``, the format of Hugging Face's library ``tokenizers``.

    load_tokenizer(path)        a BPETokenizer, ByteBPETokenizer, WordPieceTokenizer or UnigramTokenizer
    tokenizer.save(path)        the other way

The ids are those of the library. Nothing in a file is ignored: what is malformed, or asks for something that is not
implemented here, raises one TokenizerFileError that names the field.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from minitf.tokens.bpe import BPETokenizer
from minitf.tokens.byte_bpe import ByteBPETokenizer
from minitf.tokens.decoders import DECODERS
from minitf.tokens.fields import (
    Fields,
    TokenizerFileError,
    checked_integer,
    checked_list,
    checked_number,
    checked_text,
    component,
    kind_of,
)
from minitf.tokens.normalizers import NORMALIZERS
from minitf.tokens.post_processors import POST_PROCESSORS
from minitf.tokens.pretokenize import PRE_TOKENIZERS, ByteLevel
from minitf.tokens.pretokenize import Sequence as CutSequence
from minitf.tokens.tokenizer import AddedToken, Tokenizer
from minitf.tokens.unigram import UnigramTokenizer
from minitf.tokens.wordpiece import WordPieceTokenizer


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer of a ``tokenizer.json``.

    Raises TokenizerFileError, a ValueError, if the file is malformed or asks for what minitf does not implement.
    """
    try:
        return tokenizer_of(_parsed(Path(path).read_bytes()))
    except TokenizerFileError as error:
        raise TokenizerFileError(f"{path}: {error}") from None


def _parsed(content: bytes) -> Any:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            twice = next(key for key, count in Counter(key for key, _ in items).items() if count > 1)
            raise TokenizerFileError(f"the key {kind_of(twice)} is there twice in one object")
        return found

    def constant(name: str) -> Any:
        raise TokenizerFileError(f"{name} is no number of JSON")

    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    except TokenizerFileError:
        raise
    except UnicodeDecodeError as error:
        raise TokenizerFileError(f"is no UTF-8 text: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise TokenizerFileError("is nested too deeply") from None
    except ValueError as error:  # malformed, or a number of thousands of digits
        raise TokenizerFileError(f"is no JSON: {str(error)[:120]}") from None


def tokenizer_of(value: Any) -> Tokenizer:
    """The tokenizer that the parsed content of a ``tokenizer.json`` describes; raises TokenizerFileError."""
    try:
        return _tokenizer_of(value)
    except RecursionError:  # sequences of sequences of ...
        raise TokenizerFileError("is nested too deeply") from None


def _tokenizer_of(value: Any) -> Tokenizer:
    fields = Fields("", value)
    fields.must_be("version", "1.0")
    fields.must_be("truncation", None)
    fields.must_be("padding", None)
    parts = {
        "normalizer": component("normalizer", fields.take("normalizer", None), NORMALIZERS),
        "pre_tokenizer": component("pre_tokenizer", fields.take("pre_tokenizer", None), PRE_TOKENIZERS),
        "post_processor": component("post_processor", fields.take("post_processor", None), POST_PROCESSORS),
        "decoder": component("decoder", fields.take("decoder", None), DECODERS),
    }
    added = [_added(f"added_tokens[{i}]", token) for i, token in enumerate(fields.list("added_tokens", []))]
    model = Fields("model", fields.take("model"))
    kind = model.text("type")
    if kind not in MODELS:
        raise TokenizerFileError(f"model.type: minitf does not implement {kind_of(kind)}; it knows {', '.join(MODELS)}")
    fields.finish()
    parts["added"] = [token for _, token in added]
    try:
        tokenizer = MODELS[kind](model, parts)
    except TokenizerFileError:
        raise
    except ValueError as error:  # a constructor's
        raise TokenizerFileError(f"model: {error}") from None
    model.finish()
    ids = {token: id for id, token in enumerate(map(tokenizer.token, range(tokenizer.vocab_size)))}
    for i, (id, token) in enumerate(added):
        if ids[token.content] != id:
            raise TokenizerFileError(
                f"added_tokens[{i}].id: {kind_of(token.content)} must have the id {ids[token.content]}, got {id}"
            )
    if tokenizer.post_processor is not None:
        for token, id in tokenizer.post_processor.special_tokens().items():
            if ids.get(token) != id:
                raise TokenizerFileError(f"post_processor: {kind_of(token)} is no token with the id {id}")
    return tokenizer


def _added(where: str, value: Any) -> tuple[int, AddedToken]:
    fields = Fields(where, value)
    id, content = fields.integer("id"), fields.text("content")
    fields.must_be("single_word", False)
    token = AddedToken(content, **{name: fields.flag(name) for name in ("lstrip", "rstrip", "normalized", "special")})
    fields.finish()
    return id, token


def _vocabulary(model: Fields) -> dict[str, int]:
    vocab = model.take("vocab")
    if not isinstance(vocab, dict):
        raise TokenizerFileError(f"model.vocab: must be an object, got {kind_of(vocab)}")
    return {checked_text("model.vocab", piece): checked_integer("model.vocab", id) for piece, id in vocab.items()}


def _merge(where: str, value: Any) -> tuple[str, str]:
    pair = value.split(" ") if isinstance(value, str) else checked_list(where, value)
    if len(pair) != 2:
        raise TokenizerFileError(f"{where}: must be two pieces, got {len(pair)}")
    return checked_text(where, pair[0]), checked_text(where, pair[1])


def _bpe(model: Fields, parts: dict[str, Any]) -> Tokenizer:
    model.must_be("dropout", None, 0, 0.0)
    model.must_be("continuing_subword_prefix", None, "")
    model.must_be("byte_fallback", False)
    vocab = _vocabulary(model)
    merges = [_merge(f"model.merges[{i}]", pair) for i, pair in enumerate(model.list("merges"))]
    if _by_bytes(parts["pre_tokenizer"]):
        model.must_be("unk_token", None, "")
        model.must_be("end_of_word_suffix", None, "")
        model.take("fuse_unk", False)  # nothing is unknown
        return ByteBPETokenizer(vocab, merges, whole_pieces=model.flag("ignore_merges", False), **parts)
    model.must_be("ignore_merges", False)
    unk, suffix = model.text_or_null("unk_token"), model.text_or_null("end_of_word_suffix")
    return BPETokenizer(vocab, merges, unk=unk, suffix=suffix, fuse_unk=model.flag("fuse_unk", False), **parts)


def _by_bytes(cut: Any) -> bool:
    return isinstance(cut, ByteLevel) or (isinstance(cut, CutSequence) and any(map(_by_bytes, cut.pretokenizers)))


def _wordpiece(model: Fields, parts: dict[str, Any]) -> Tokenizer:
    unk, prefix = model.text("unk_token"), model.text("continuing_subword_prefix")
    most = model.integer("max_input_chars_per_word")
    return WordPieceTokenizer(_vocabulary(model), unk=unk, prefix=prefix, max_characters=most, **parts)


def _unigram(model: Fields, parts: dict[str, Any]) -> Tokenizer:
    pieces = []
    for i, entry in enumerate(model.list("vocab")):
        where = f"model.vocab[{i}]"
        if len(checked_list(where, entry)) != 2:
            raise TokenizerFileError(f"{where}: must be [piece, score], got {len(entry)} values")
        pieces.append((checked_text(where, entry[0]), checked_number(where, entry[1])))
    unk_id = model.take("unk_id", None)
    if unk_id is not None and checked_integer("model.unk_id", unk_id) >= len(pieces):
        raise TokenizerFileError(f"model.unk_id: there is no piece {unk_id}; there are {len(pieces)}")
    unk = None if unk_id is None else pieces[unk_id][0]
    return UnigramTokenizer(pieces, unk=unk, byte_fallback=model.flag("byte_fallback", False), **parts)


MODELS = {"BPE": _bpe, "WordPiece": _wordpiece, "Unigram": _unigram}
