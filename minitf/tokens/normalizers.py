"""What happens to text before it is cut: cases, accents, Unicode's normal forms. Functions from text to text.

Each is a dataclass whose fields are those of the component of the same name in a ``tokenizer.json``.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any

from minitf.tokens.fields import Fields, TokenizerFileError, components, kind_of
from minitf.tokens.unicode_classes import WHITESPACE, is_chinese, is_control


def lowered(text: str) -> str:
    """Lower case one character at a time: a Σ is σ even where Greek, and ``str.lower``, want ς."""
    return text.lower() if "Σ" not in text else "".join(map(str.lower, text))


def without_accents(text: str) -> str:
    """Decomposed (NFD), without non-spacing marks."""
    return "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")


@dataclass(frozen=True)
class BertNormalizer:
    """BERT's: no control characters, one kind of space, ideographs apart, no accents, lower case.

    strip_accents: None does as ``lowercase`` says.
    """

    clean_text: bool = True
    handle_chinese_chars: bool = True
    strip_accents: bool | None = None
    lowercase: bool = True

    def __call__(self, text: str) -> str:
        if self.clean_text:
            kept = (c for c in text if c not in "\0\ufffd" and not is_control(c))
            text = "".join(" " if c in WHITESPACE else c for c in kept)
        if self.handle_chinese_chars:
            text = "".join(f" {c} " if is_chinese(c) else c for c in text)
        if self.lowercase if self.strip_accents is None else self.strip_accents:
            text = without_accents(text)
        return lowered(text) if self.lowercase else text

    @classmethod
    def read(cls, fields: Fields) -> BertNormalizer:
        accents = fields.take("strip_accents", None)
        if accents is not None and not isinstance(accents, bool):
            raise TokenizerFileError(
                f"{fields.path('strip_accents')}: must be a boolean or null, got {kind_of(accents)}"
            )
        flags = {name: fields.flag(name) for name in ("clean_text", "handle_chinese_chars", "lowercase")}
        return cls(strip_accents=accents, **flags)

    def written(self) -> dict[str, Any]:
        return {"type": "BertNormalizer", **vars(self)}


@dataclass(frozen=True)
class Plain:
    """Lowercase, StripAccents, or a normal form of Unicode: what a name alone says."""

    name: str

    def __call__(self, text: str) -> str:
        if self.name == "Lowercase":
            return lowered(text)
        if self.name == "StripAccents":  # only marks that are apart already: NFD comes before it
            return "".join(c for c in text if unicodedata.category(c)[0] != "M")
        return unicodedata.normalize(self.name, text)  # pyright: ignore[reportArgumentType]

    def read(self, fields: Fields) -> Plain:
        return self

    def written(self) -> dict[str, Any]:
        return {"type": self.name}


@dataclass(frozen=True)
class Replace:
    """Every occurrence of a string becomes another."""

    pattern: str
    content: str

    def __call__(self, text: str) -> str:
        return text.replace(self.pattern, self.content)

    @classmethod
    def read(cls, fields: Fields) -> Replace:
        pattern = Fields(fields.path("pattern"), fields.take("pattern"))
        found = pattern.text("String")
        pattern.finish()
        if not found:
            raise TokenizerFileError(f"{pattern.path('String')}: must not be empty")
        return cls(found, fields.text("content"))

    def written(self) -> dict[str, Any]:
        return {"type": "Replace", "pattern": {"String": self.pattern}, "content": self.content}


@dataclass(frozen=True)
class Prepend:
    """Puts a string before text that is not empty."""

    prepend: str

    def __call__(self, text: str) -> str:
        return self.prepend + text if text else text

    @classmethod
    def read(cls, fields: Fields) -> Prepend:
        return cls(fields.text("prepend"))

    def written(self) -> dict[str, Any]:
        return {"type": "Prepend", "prepend": self.prepend}


@dataclass(frozen=True)
class Sequence:
    """One after the other."""

    normalizers: tuple[Any, ...]

    def __call__(self, text: str) -> str:
        for one in self.normalizers:
            text = one(text)
        return text

    @classmethod
    def read(cls, fields: Fields) -> Sequence:
        return cls(tuple(components(fields.path("normalizers"), fields.take("normalizers"), NORMALIZERS)))

    def written(self) -> dict[str, Any]:
        return {"type": "Sequence", "normalizers": [one.written() for one in self.normalizers]}


NORMALIZERS: dict[str, Any] = {
    **{cls.__name__: cls for cls in (BertNormalizer, Replace, Prepend, Sequence)},
    **{name: Plain(name) for name in ("Lowercase", "StripAccents", "NFC", "NFD", "NFKC", "NFKD")},
}
