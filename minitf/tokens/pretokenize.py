r"""Cutting text into the pieces that merges and vocabularies never reach across: words, more or less.

A pre-tokenizer is ``pieces = cut(text, first)``; ``first`` says whether the text is the beginning of the whole. Each is
a dataclass whose fields are those of the component of the same name in a ``tokenizer.json``.

``PATTERNS`` are the published regular expressions of byte-level tokenizers. What they do not match does not exist: each
covers every string.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from minitf.tokens.fields import Fields, TokenizerFileError, components, kind_of
from minitf.tokens.unicode_classes import WHITESPACE, compile_unicode, is_punctuation

#: names of published patterns
PATTERNS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama3": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    ),
    "qwen2": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    ),
}


def cut_by(pattern: str, text: str) -> list[str]:
    """``text`` cut by one of ``PATTERNS``; the pieces joined are the text."""
    if pattern not in PATTERNS:
        raise ValueError(f"pattern must be one of {', '.join(PATTERNS)}, got {pattern!r}")
    return compile_unicode(PATTERNS[pattern]).findall(text)


@functools.cache
def byte_characters() -> tuple[str, ...]:
    """GPT-2's 256 characters, one for each byte: itself where that can be seen, the next from U+0100 where not."""
    seen = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in seen else next(hidden)) for byte in range(256))


def as_byte_characters(text: str) -> str:
    """The bytes of ``text`` in UTF-8 as characters; lone surrogates are encoded like other characters."""
    table = byte_characters()
    return "".join(table[byte] for byte in text.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True)
class ByteLevel:
    """Cuts by GPT-2's pattern and writes bytes as characters. trim_offsets says nothing about ids."""

    add_prefix_space: bool = False
    trim_offsets: bool = True
    use_regex: bool = True

    def __call__(self, text: str, first: bool = True) -> list[str]:
        if self.add_prefix_space and text and not text.startswith(" "):
            text = " " + text
        pieces = cut_by("gpt2", text) if self.use_regex else [text]
        return [as_byte_characters(piece) for piece in pieces]

    @classmethod
    def read(cls, fields: Fields) -> ByteLevel:
        prefix, trim = fields.flag("add_prefix_space"), fields.flag("trim_offsets")
        return cls(prefix, trim, fields.flag("use_regex", True))

    def written(self) -> dict[str, Any]:
        return {"type": "ByteLevel", **vars(self)}


@dataclass(frozen=True)
class Split:
    """Cuts by one of ``PATTERNS``."""

    pattern: str

    def __call__(self, text: str, first: bool = True) -> list[str]:
        return cut_by(self.pattern, text)

    @classmethod
    def read(cls, fields: Fields) -> Split:
        pattern = Fields(fields.path("pattern"), fields.take("pattern"))
        names = {expression: name for name, expression in PATTERNS.items()}
        expression = pattern.text("Regex")
        pattern.finish()
        if expression not in names:
            raise TokenizerFileError(
                f"{pattern.path('Regex')}: minitf implements the patterns of {', '.join(PATTERNS)}, "
                f"not {kind_of(expression)}"
            )
        fields.must_be("behavior", "Isolated")
        fields.must_be("invert", False)
        return cls(names[expression])

    def written(self) -> dict[str, Any]:
        pattern = {"Regex": PATTERNS[self.pattern]}
        return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


@dataclass(frozen=True)
class WhitespaceSplit:
    """Words are what stands between white space."""

    def __call__(self, text: str, first: bool = True) -> list[str]:
        return "".join(" " if c in WHITESPACE else c for c in text).split(" ")

    @classmethod
    def read(cls, fields: Fields) -> WhitespaceSplit:
        return cls()

    def written(self) -> dict[str, Any]:
        return {"type": "WhitespaceSplit"}


@dataclass(frozen=True)
class BertPreTokenizer:
    """Words are what stands between white space, and each punctuation mark is a word."""

    def __call__(self, text: str, first: bool = True) -> list[str]:
        return WhitespaceSplit()("".join(f" {c} " if is_punctuation(c) else c for c in text))

    @classmethod
    def read(cls, fields: Fields) -> BertPreTokenizer:
        return cls()

    def written(self) -> dict[str, Any]:
        return {"type": "BertPreTokenizer"}


@dataclass(frozen=True)
class Metaspace:
    """Spaces become a visible character, which begins the words of SentencePiece.

    prepend_scheme: one is put before the text "always" (before every part between special tokens), "first" (before the
    first only) or "never", unless the text starts with one. split: cut before each; otherwise pieces may span words.
    """

    replacement: str = "▁"
    prepend_scheme: str = "always"
    split: bool = True

    def __call__(self, text: str, first: bool = True) -> list[str]:
        mark = self.replacement
        text = text.replace(" ", mark)
        if self.prepend_scheme == "always" or (self.prepend_scheme == "first" and first):
            text = text if not text or text.startswith(mark) else mark + text
        if not self.split:
            return [text]
        head, *rest = text.split(mark)
        return [head, *(mark + word for word in rest)]

    @classmethod
    def read(cls, fields: Fields) -> Metaspace:
        replacement = fields.text("replacement")
        if len(replacement) != 1:
            raise TokenizerFileError(f"{fields.path('replacement')}: must be one character, got {kind_of(replacement)}")
        prefix = fields.flag("add_prefix_space", True)  # of older files
        scheme = fields.text("prepend_scheme", "always" if prefix else "never")
        if scheme not in ("always", "first", "never"):
            raise TokenizerFileError(
                f"{fields.path('prepend_scheme')}: must be 'always', 'first' or 'never', got {kind_of(scheme)}"
            )
        return cls(replacement, scheme, fields.flag("split", True))

    def written(self) -> dict[str, Any]:
        return {"type": "Metaspace", **vars(self)}


@dataclass(frozen=True)
class Sequence:
    """One cuts what the other leaves."""

    pretokenizers: tuple[Any, ...]

    def __call__(self, text: str, first: bool = True) -> list[str]:
        pieces = [(text, first)]
        for cut in self.pretokenizers:
            pieces = [
                (part, at_start and i == 0 and piece.startswith(part))
                for piece, at_start in pieces
                for i, part in enumerate(filter(None, cut(piece, at_start)))
            ]
        return [piece for piece, _ in pieces]

    @classmethod
    def read(cls, fields: Fields) -> Sequence:
        return cls(tuple(components(fields.path("pretokenizers"), fields.take("pretokenizers"), PRE_TOKENIZERS)))

    def written(self) -> dict[str, Any]:
        return {"type": "Sequence", "pretokenizers": [one.written() for one in self.pretokenizers]}


PRE_TOKENIZERS: dict[str, Any] = {
    cls.__name__: cls for cls in (ByteLevel, Split, WhitespaceSplit, BertPreTokenizer, Metaspace, Sequence)
}
