"""From pieces back to text: what joins them, what marks of bytes, words and continuations become.

A decoder is ``parts = decode(parts)``, parts of text whose concatenation is the text. Each is a dataclass whose fields
are those of the component of the same name in a ``tokenizer.json``.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

from minitf.tokens import normalizers
from minitf.tokens.fields import Fields, components
from minitf.tokens.pretokenize import Metaspace as MetaspacePreTokenizer
from minitf.tokens.pretokenize import byte_characters

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


@functools.cache
def _bytes_of_characters() -> dict[str, int]:
    return {character: byte for byte, character in enumerate(byte_characters())}


def text_of_bytes(content: bytes) -> str:
    """UTF-8, in which lone surrogates may stand; what is none becomes U+FFFD."""
    try:
        return content.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return content.decode("utf-8", "replace")


@dataclass(frozen=True)
class ByteLevel:
    """GPT-2's characters as bytes again. A piece with any other character (an added token) stands for itself."""

    add_prefix_space: bool = True
    trim_offsets: bool = True
    use_regex: bool = True

    def __call__(self, parts: list[str]) -> list[str]:
        table = _bytes_of_characters()
        content = bytearray()
        for part in parts:
            known = all(c in table for c in part)
            content += bytes(table[c] for c in part) if known else part.encode("utf-8", "surrogatepass")
        return [text_of_bytes(bytes(content))]

    @classmethod
    def read(cls, fields: Fields) -> ByteLevel:
        return cls(*(fields.flag(name, True) for name in ("add_prefix_space", "trim_offsets", "use_regex")))

    def written(self) -> dict[str, Any]:
        return {"type": "ByteLevel", **vars(self)}


@dataclass(frozen=True)
class BPEDecoder:
    """The mark at the end of a word is a space, or nothing at the end of the text."""

    suffix: str = "</w>"

    def __call__(self, parts: list[str]) -> list[str]:
        last = len(parts) - 1
        return [part.replace(self.suffix, " " if i < last else "") for i, part in enumerate(parts)]

    @classmethod
    def read(cls, fields: Fields) -> BPEDecoder:
        return cls(fields.text("suffix"))

    def written(self) -> dict[str, Any]:
        return {"type": "BPEDecoder", "suffix": self.suffix}


@dataclass(frozen=True)
class WordPiece:
    """Pieces with the prefix continue a word; others start one. cleanup: English spacing of punctuation."""

    prefix: str = "##"
    cleanup: bool = True

    _SPACING = (
        (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
        (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
    )  # fmt: skip

    def __call__(self, parts: list[str]) -> list[str]:
        joined = []
        for i, part in enumerate(parts):
            if i:
                part = part.removeprefix(self.prefix) if part.startswith(self.prefix) else " " + part
            if self.cleanup:
                for spaced, tight in self._SPACING:
                    part = part.replace(spaced, tight)
            joined.append(part)
        return joined

    @classmethod
    def read(cls, fields: Fields) -> WordPiece:
        return cls(fields.text("prefix"), fields.flag("cleanup"))

    def written(self) -> dict[str, Any]:
        return {"type": "WordPiece", "prefix": self.prefix, "cleanup": self.cleanup}


@dataclass(frozen=True)
class Metaspace(MetaspacePreTokenizer):
    """The visible spaces are spaces again; those of the first piece are none, unless the scheme is "never"."""

    def __call__(self, parts: list[str]) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        first = " " if self.prepend_scheme == "never" else ""
        return [part.replace(self.replacement, " " if i else first) for i, part in enumerate(parts)]


@dataclass(frozen=True)
class ByteFallback:
    """Runs of pieces ``<0x00>`` to ``<0xFF>`` are the UTF-8 of text, or as many U+FFFD."""

    def __call__(self, parts: list[str]) -> list[str]:
        joined: list[str] = []
        run = bytearray()
        for part in [*parts, None]:
            match = part is not None and _BYTE.fullmatch(part)
            if match:
                run.append(int(match[1], 16))
                continue
            if run:
                try:
                    joined.append(run.decode("utf-8"))
                except UnicodeDecodeError:
                    joined += ["\ufffd"] * len(run)
                run.clear()
            if part is not None:
                joined.append(part)
        return joined

    @classmethod
    def read(cls, fields: Fields) -> ByteFallback:
        return cls()

    def written(self) -> dict[str, Any]:
        return {"type": "ByteFallback"}


@dataclass(frozen=True)
class Fuse:
    """All parts become one."""

    def __call__(self, parts: list[str]) -> list[str]:
        return ["".join(parts)]

    @classmethod
    def read(cls, fields: Fields) -> Fuse:
        return cls()

    def written(self) -> dict[str, Any]:
        return {"type": "Fuse"}


@dataclass(frozen=True)
class Replace(normalizers.Replace):
    """In every part, a string becomes another."""

    def __call__(self, parts: list[str]) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return [part.replace(self.pattern, self.content) for part in parts]


@dataclass(frozen=True)
class Strip:
    """From every part, up to ``start`` and ``stop`` leading and trailing characters ``content`` are taken."""

    content: str
    start: int
    stop: int

    def __call__(self, parts: list[str]) -> list[str]:
        return [self._stripped(part) for part in parts]

    def _stripped(self, part: str) -> str:
        begin, end = 0, len(part)
        while begin < min(self.start, len(part)) and part[begin] == self.content:
            begin += 1
        while len(part) - end < self.stop and end > begin and part[end - 1] == self.content:
            end -= 1
        return part[begin:end]

    @classmethod
    def read(cls, fields: Fields) -> Strip:
        return cls(fields.text("content"), fields.integer("start"), fields.integer("stop"))

    def written(self) -> dict[str, Any]:
        return {"type": "Strip", **vars(self)}


@dataclass(frozen=True)
class Sequence:
    """One after the other."""

    decoders: tuple[Any, ...]

    def __call__(self, parts: list[str]) -> list[str]:
        for decode in self.decoders:
            parts = decode(parts)
        return parts

    @classmethod
    def read(cls, fields: Fields) -> Sequence:
        return cls(tuple(components(fields.path("decoders"), fields.take("decoders"), DECODERS)))

    def written(self) -> dict[str, Any]:
        return {"type": "Sequence", "decoders": [one.written() for one in self.decoders]}


DECODERS: dict[str, Any] = {
    cls.__name__: cls
    for cls in (ByteLevel, BPEDecoder, WordPiece, Metaspace, ByteFallback, Fuse, Replace, Strip, Sequence)
}
