r"""Classes of characters, from Python's own Unicode database: what ``\p{L}``, ``\p{N}``, ``\s`` mean to tokenizers.

Python's ``re`` has no ``\p{..}``, and its ``\s`` counts the separators U+001C to U+001F, which Unicode's White_Space
does not. ``compile_unicode`` writes the classes out as ranges of code points and leaves the rest of a pattern alone.
Characters that are newer than the running Python's Unicode are unassigned here and belong to no class.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata

#: Unicode's White_Space property
WHITESPACE = frozenset("\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000") | {*map(chr, range(0x2000, 0x200B))}
_ASCII_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
#: of the library ``tokenizers``; BERT's first code starts the block before the last at U+2B820
_CJK = (
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2B81F), (0x2B920, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)  # fmt: skip


def is_punctuation(character: str) -> bool:
    """BERT's definition: every ASCII character that is neither letter, digit nor space, and Unicode's category P."""
    return character in _ASCII_PUNCTUATION or unicodedata.category(character)[0] == "P"


def is_control(character: str) -> bool:
    """What BERT removes: categories Cc, Cf, Co and Cs, except for tab and the ends of lines."""
    return character not in "\t\n\r" and unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs")


def is_chinese(character: str) -> bool:
    """BERT's blocks of ideographs, which it sets apart by spaces."""
    return any(first <= ord(character) <= last for first, last in _CJK)


@functools.cache
def _ranges() -> dict[str, str]:
    """The inside of a character class for every category, by name ("Lu") and by first letter ("L")."""
    runs: dict[str, list[list[int]]] = {}
    for code in range(sys.maxunicode + 1):
        category = unicodedata.category(chr(code))
        for name in (category, category[0]):
            found = runs.setdefault(name, [])
            if found and found[-1][1] == code - 1:
                found[-1][1] = code
            else:
                found.append([code, code])
    return {name: "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in found) for name, found in runs.items()}


@functools.cache
def compile_unicode(pattern: str) -> re.Pattern[str]:
    r"""``pattern`` with Unicode's ``\p{..}``, ``\s`` and ``\S`` (which may not stand inside brackets) for ``re``."""
    space = "".join(f"\\U{ord(c):08x}" for c in sorted(WHITESPACE))
    parts, inside = [], False
    for part in re.findall(r"\\p\{\w+\}|\\.|.", pattern, re.DOTALL):
        if part in ("[", "]"):
            inside = part == "["
        elif part == r"\S":
            part = f"[^{space}]"
        elif part == r"\s" or part.startswith(r"\p"):
            part = space if part == r"\s" else _ranges()[part[3:-1]]
            part = part if inside else f"[{part}]"
        parts.append(part)
    return re.compile("".join(parts))
