"""Tasks of looking back, in text: repeat a string, find what followed some letters, find a number by its name.

$ begins, | separates, . ends:
    CopyTask                     $hello|hello.
    NgramLookupTask("prefix")    $el|hello|l.        what follows the only "el" in "hello"
    NgramLookupTask("suffix")    $hello|el l.        without the blank
"""

from __future__ import annotations

from string import ascii_lowercase

import numpy as np

from minitf.data.text_task import Posed, TextTask, until
from minitf.nn.init import generator

FORMS = ("prefix", "suffix")


class CopyTask(TextTask):
    """Uniformly random letters, to be repeated."""

    def __init__(self, alphabet: str = ascii_lowercase):
        self.alphabet = alphabet

    def sample(self, length: int, *, rng: np.random.Generator) -> str:
        self._require_length(length)
        return "".join(generator(rng).choice(list(self.alphabet), length))

    def prompt(self, example: str) -> str:
        return f"${example}|"

    def answer(self, example: str) -> str:
        return f"{example}."


class NgramLookupTask(TextTask):
    """A string and n letters of it that occur there once, at a uniformly random place: (string, place).

    form: the n letters stand in front of the string ("prefix"), or after it ("suffix"). The answer is the letter that follows.
    """

    def __init__(self, form: str = "prefix", n: int = 3, alphabet: str = ascii_lowercase):
        if form not in FORMS:
            raise ValueError(f"NgramLookupTask: form must be one of {', '.join(FORMS)}, got {form!r}")
        self.form, self.n, self.alphabet = form, n, alphabet
        self.shortest = n + 1  # pyright: ignore[reportAttributeAccessIssue]

    def sample(self, length: int, *, rng: np.random.Generator) -> tuple[str, int]:
        self._require_length(length)
        generator(rng)

        def draw() -> tuple[str, int]:
            text = "".join(rng.choice(list(self.alphabet), length))
            return text, int(rng.integers(0, length - self.n))

        return until(lambda example: self._occurrences(*example) == 1, draw)

    def _occurrences(self, text: str, place: int) -> int:
        return sum(text.startswith(text[place : place + self.n], i) for i in range(len(text)))

    def prompt(self, example: tuple[str, int]) -> str:
        text, place = example
        letters = text[place : place + self.n]
        return f"${letters}|{text}|" if self.form == "prefix" else f"${text}|{letters}"

    def answer(self, example: tuple[str, int]) -> str:
        text, place = example
        return f"{text[place + self.n]}."


def phone_book(n: int, *, shots: int = 2, rng: np.random.Generator) -> Posed:
    """n lines "Name: number" with different names, then some of them again as examples, then a name whose number is missing.

    Numbers have 10 digits and begin with 6 to 9. Names are 3 random syllables.

    Raises ValueError unless n is greater than ``shots``.
    """
    if not 0 <= shots < n:
        raise ValueError(f"phone_book: needs more entries than the {shots} shots, got {n}")
    syllables = [consonant + vowel for consonant in "bcdfghjklmnpqrstvwxz" for vowel in "aeiou"]
    names: dict[str, None] = {}
    while len(names) < n:
        names["".join(generator(rng).choice(syllables, 3)).capitalize()] = None
    first, rest = rng.integers(6, 10, n).tolist(), rng.integers(0, 10**9, n).tolist()
    entries = [f"{name}: {a}{b:09d}" for name, a, b in zip(names, first, rest, strict=True)]
    *examples, asked = (entries[i] for i in rng.permutation(n)[: shots + 1])
    question, answer = asked.split(" ")
    return Posed("\n".join([*entries, "", *examples, question]), f" {answer}")
