"""What all trained tokenizers share: a vocabulary, special tokens, and the way from text to ids and back.

    text -> added tokens are found -> normalizer -> pre_tokenizer -> pieces -> ids -> post_processor

and back through the decoder. A tokenizer says only how one piece becomes ids (``_piece``).
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from minitf.autodiff.tensor import Tensor, as_tensor
from minitf.files import write_atomically
from minitf.tokens.unicode_classes import WHITESPACE


@dataclass(frozen=True)
class AddedToken:
    """A token that is found in text as it stands, before anything is cut or merged.

    lstrip, rstrip: takes the white space before or after it, too. normalized: found in the normalized text rather than
    in the text as given; ``content`` is normalized for that. special: left out by ``decode``.
    """

    content: str
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False
    special: bool = True


def checked_vocabulary(name: str, vocab: Mapping[str, int] | Sequence[str]) -> dict[str, int]:
    """Pieces and their ids as a dictionary in the order of ids, which are 0, 1, ... without holes."""
    if isinstance(vocab, str):
        raise TypeError(f"{name}: vocab must be a sequence of pieces or a mapping from pieces to ids, got text")
    ids = dict(vocab) if isinstance(vocab, Mapping) else {piece: i for i, piece in enumerate(vocab)}
    if len(ids) != len(vocab):
        piece = next(piece for piece, count in Counter(vocab).items() if count > 1)
        raise ValueError(f"{name}: vocab has {piece!r} twice")
    ordered = sorted(ids.items(), key=lambda item: item[1])
    for place, (piece, id) in enumerate(ordered):
        if id != place:
            problem = f"{id} stands for two pieces" if id == place - 1 else f"no piece has the id {place}"
            raise ValueError(f"{name}: the ids of vocab must be 0 to {len(ids) - 1}, each once; {problem} ({piece!r})")
    return dict(ordered)


def word_counts(texts: str | Iterable[str], words: Callable[[str], Iterable[str]]) -> Counter[str]:
    """How often each word occurs in ``texts``; ``words`` cuts a text."""
    texts = [texts] if isinstance(texts, str) else texts
    return Counter(word for text in texts for word in words(text) if word)


class Tokenizer:
    """The common interface; see the module's docstring.

    vocab: pieces in the order of their ids, or a mapping from pieces to ids 0, 1, ...
    added: added tokens, or names of special ones. One that is no piece of ``vocab`` gets the next id.
    normalizer, pre_tokenizer, post_processor, decoder: from the modules of these names, or None.
    """

    #: the name in a tokenizer.json
    model: ClassVar[str]

    def __init__(
        self,
        vocab: Mapping[str, int] | Sequence[str],
        *,
        added: Iterable[str | AddedToken] = (),
        normalizer: Any = None,
        pre_tokenizer: Any = None,
        post_processor: Any = None,
        decoder: Any = None,
    ):
        name = type(self).__name__
        self.vocab = checked_vocabulary(name, vocab)
        self.normalizer, self.pre_tokenizer = normalizer, pre_tokenizer
        self.post_processor, self.decoder = post_processor, decoder
        if isinstance(added, str):
            raise TypeError(f"{name}: added must be a sequence of tokens, got {added!r}")
        self._ids = dict(self.vocab)
        self.added: dict[str, AddedToken] = {}
        for token in added:
            token = AddedToken(token) if isinstance(token, str) else token
            if not token.content or token.content in self.added:
                problem = "is empty" if not token.content else f"{token.content!r} is named twice"
                raise ValueError(f"{name}: an added token {problem}")
            self.added[token.content] = token
            self._ids.setdefault(token.content, len(self._ids))
        self._tokens = list(self._ids)
        #: ids of special tokens by name, as in ``ByteTokenizer``
        self.special_ids = {token.content: self._ids[token.content] for token in self.added.values() if token.special}
        self._in_text = _Finder(token for token in self.added.values() if not token.normalized)
        self._in_normalized = _Finder(
            replace(token, content=self._normalized(token.content)) for token in self.added.values() if token.normalized
        )
        self._added_names = {self._normalized(t.content) if t.normalized else t.content: t for t in self.added.values()}

    # -- from text to ids

    @property
    def vocab_size(self) -> int:
        """The number of ids, added tokens included."""
        return len(self._tokens)

    def encode(
        self,
        text: str,
        pair: str | None = None,
        *,
        before: Iterable[str] = (),
        after: Iterable[str] = (),
        add_special_tokens: bool = True,
    ) -> np.ndarray:
        """The ids of ``text``, int64.

        pair: a second text, joined to the first as the post-processor says.
        before, after: names of special tokens to put around all.
        add_special_tokens: let the post-processor, if there is one, add its own.
        """
        return self._encode(text, pair, before, after, add_special_tokens, self._piece)

    def _encode(
        self,
        text: str,
        pair: str | None,
        before: Iterable[str],
        after: Iterable[str],
        add_special_tokens: bool,
        piece: Callable[[str], Iterable[int]],
    ) -> np.ndarray:
        a = self._content(text, piece)
        b = None if pair is None else self._content(pair, piece)
        ids = a + (b or [])
        if add_special_tokens and self.post_processor is not None:
            ids = self.post_processor(a, b)
        return np.array([*self._specials(before), *ids, *self._specials(after)], np.int64)

    def _specials(self, names: Iterable[str]) -> list[int]:
        names = [names] if isinstance(names, str) else list(names)
        for name in names:
            if name not in self.special_ids:
                known = ", ".join(self.special_ids) or "none"
                raise ValueError(f"encode: {name!r} is no special token; there are: {known}")
        return [self.special_ids[name] for name in names]

    def _content(self, text: str, piece: Callable[[str], Iterable[int]]) -> list[int]:
        if not isinstance(text, str):
            raise TypeError(f"encode: needs a str, got {type(text).__name__}")
        ids: list[int] = []
        first = True
        for raw, token in self._in_text.split(text):
            if token is not None:
                ids.append(self._ids[token])
            else:
                for part, found in self._in_normalized.split(self._normalized(raw)):
                    if found is not None:
                        ids.append(self._ids[self._added_names[found].content])
                    else:
                        for word in self._cut(part, first):
                            ids.extend(piece(word))
                    first = False
            first = False
        return ids

    def _normalized(self, text: str) -> str:
        return text if self.normalizer is None else self.normalizer(text)

    def _cut(self, text: str, first: bool) -> Iterable[str]:
        return filter(None, [text] if self.pre_tokenizer is None else self.pre_tokenizer(text, first))

    def _piece(self, piece: str) -> Iterable[int]:
        """The ids of one piece of the pre-tokenizer, which is not empty."""
        raise NotImplementedError

    def words(self, text: str) -> list[str]:
        """The pieces that are segmented each by itself: ``text`` normalized and cut, added tokens not looked for."""
        return list(self._cut(self._normalized(text), True))

    def tokens(self, text: str) -> list[str]:
        """The tokens of ``text`` by name, without what the post-processor adds."""
        return [self._tokens[id] for id in self._content(text, self._piece)]

    # -- from ids to text

    def token(self, id: int) -> str:
        """The name of one token: the piece as it is in the vocabulary."""
        return self._tokens[int(self._checked([id])[0])]

    def decode(self, ids: Iterable[int] | np.ndarray | Tensor, *, specials: bool = False) -> str:
        """The text of ``ids``.

        specials: write special tokens as their names; otherwise they are left out.

        Raises ValueError for ids that are no tokens.
        """
        left_out = set() if specials else set(self.special_ids.values())
        parts = [self._tokens[id] for id in self._checked(ids).tolist() if id not in left_out]
        return " ".join(parts) if self.decoder is None else "".join(self.decoder(parts))

    def _checked(self, ids: Iterable[int] | np.ndarray | Tensor) -> np.ndarray:
        if isinstance(ids, str):
            raise TypeError("decode: needs one sequence of integer ids, got text, which is what it returns")
        if not isinstance(ids, (np.ndarray, Tensor)):
            ids = list(ids) or np.zeros(0, np.int64)
        array = as_tensor(ids).data
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise TypeError(f"decode: needs one sequence of integer ids, got {array.dtype} {array.shape}")
        wrong = np.flatnonzero((array < 0) | (array >= self.vocab_size))
        if wrong.size:
            raise ValueError(
                f"decode: {array[wrong[0]]} at position {wrong[0]} is no token; ids are 0 to {self.vocab_size - 1}"
            )
        return array

    # -- files

    def written(self) -> dict[str, Any]:
        """The tokenizer as the content of a ``tokenizer.json``."""

        def component(value: Any) -> Any:
            return None if value is None else value.written()

        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {"id": self._ids[token.content], "content": token.content, "single_word": False, **_flags(token)}
                for token in sorted(self.added.values(), key=lambda token: self._ids[token.content])
            ],
            "normalizer": component(self.normalizer),
            "pre_tokenizer": component(self.pre_tokenizer),
            "post_processor": component(self.post_processor),
            "decoder": component(self.decoder),
            "model": {"type": self.model, **self._model()},
        }

    def _model(self) -> dict[str, Any]:
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a ``tokenizer.json``, which ``load_tokenizer`` and the library ``tokenizers`` read, in one step."""
        text = json.dumps(self.written(), ensure_ascii=False, indent=2, allow_nan=False)
        surrogate = re.search("[\ud800-\udfff]", text)
        if surrogate:
            raise ValueError(f"save: a token holds the lone surrogate {surrogate[0]!r}, which UTF-8 cannot say")
        write_atomically(path, text + "\n")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.vocab_size} tokens)"


def _flags(token: AddedToken) -> dict[str, bool]:
    return {name: getattr(token, name) for name in ("lstrip", "rstrip", "normalized", "special")}


class _Finder:
    """Finds added tokens in text: of those that begin first, the longest."""

    def __init__(self, tokens: Iterable[AddedToken]):
        self.tokens = {token.content: token for token in tokens if token.content}
        longest_first = sorted(self.tokens, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def split(self, text: str) -> Iterable[tuple[str, str | None]]:
        """(part, None) for what stands between tokens, ("", content) for tokens, in order."""
        start = 0
        for match in self.pattern.finditer(text) if self.pattern else ():
            token = self.tokens[match[0]]
            begin, end = match.span()
            if token.lstrip:
                while begin > start and text[begin - 1] in WHITESPACE:
                    begin -= 1
            if token.rstrip:
                while end < len(text) and text[end] in WHITESPACE:
                    end += 1
            if begin > start:
                yield text[start:begin], None
            yield "", token.content
            start = end
        if start < len(text):
            yield text[start:], None
