"""The papers, and what a paper of each kind must show before minitf says that it works.

``catalogue.toml`` has one ``[[paper]]`` table per paper: facts only.

    slug      its name here: lower-case words joined by hyphens
    title     as on the paper
    year      of first publication
    arxiv     identifier, "YYMM.NNNNN"; left out where there is none
    kind      one of REQUIRED_KINDS
    family    the specification that defines it
    chapter   where the book explains it: "room/chapter", a file under chapters/ without its suffix
    cross     true where an independent implementation exists to compare with; left out otherwise
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

CATALOGUE = Path(__file__).with_name("catalogue.toml")

#: What a test can show about a paper, in the order in which it is reported.
TEST_KINDS = ("transcription", "invariant", "gradient", "cross", "claim")

#: kind of paper -> the kinds of test that it needs; ``cross = true`` in the catalogue adds "cross" to any of them.
#: "claim" is the paper's efficiency or quality claim, by exact cost or by a seeded experiment.
REQUIRED_KINDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "mechanism": frozenset({"transcription", "invariant", "gradient", "claim"}),
        "architecture": frozenset({"transcription", "invariant", "gradient", "claim"}),
        "compression": frozenset({"transcription", "invariant", "gradient", "claim"}),
        "systems": frozenset({"transcription", "invariant", "claim"}),
        "training": frozenset({"transcription", "invariant", "claim"}),
        # A search is a procedure like a training recipe: its steps, its properties, and what it finds.
        "search": frozenset({"transcription", "invariant", "claim"}),
        # "invariant" is the recovery of planted constants, "claim" the paper's published numbers.
        "scaling-law": frozenset({"invariant", "claim"}),
        # "transcription" is the construction, "invariant" its exhaustive check on small cases.
        "theory": frozenset({"transcription", "invariant"}),
        # What is checked is the harness, metric, head or pipeline that the specification defines.
        "survey": frozenset({"invariant", "claim"}),
        "dataset": frozenset({"invariant", "claim"}),
        "analysis": frozenset({"invariant", "claim"}),
        "application": frozenset({"invariant", "claim"}),
    }
)

_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_CHAPTER = re.compile(r"[a-z][a-z0-9_]*/[a-z0-9_]+")
_ARXIV = re.compile(r"\d{4}\.\d{4,5}")


class CatalogueError(ValueError):
    """An entry of the catalogue that breaks its rules."""


class UnknownPaper(LookupError):
    """A slug that is not in the catalogue."""


@dataclass(frozen=True)
class Paper:
    slug: str
    title: str
    year: int
    kind: str
    family: str
    chapter: str
    arxiv: str | None = None
    cross: bool = False

    @property
    def required_kinds(self) -> tuple[str, ...]:
        """The kinds of test that must pass, in the order of TEST_KINDS."""
        required = REQUIRED_KINDS[self.kind] | ({"cross"} if self.cross else set())
        return tuple(kind for kind in TEST_KINDS if kind in required)


@cache
def papers() -> Mapping[str, Paper]:
    """All papers by slug, in the order of the catalogue."""
    return MappingProxyType(load(CATALOGUE))


def paper(slug: str) -> Paper:
    """The paper called ``slug``; raises UnknownPaper with the nearest slugs otherwise."""
    try:
        return papers()[slug]
    except KeyError:
        raise UnknownPaper(f"no paper is called {slug!r}{did_you_mean(slug, papers())}") from None


def load(path: Path) -> dict[str, Paper]:
    """Reads and checks a catalogue file; raises CatalogueError at the first entry that is wrong."""
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("paper", [])
    except tomllib.TOMLDecodeError as error:
        raise CatalogueError(f"{path.name} is not TOML: {error}") from None
    found: dict[str, Paper] = {}
    for number, entry in enumerate(entries, 1):
        try:
            new = _checked(entry)
            if new.slug in found:
                raise CatalogueError(f"the slug is taken by {found[new.slug].title!r}; slugs are unique")
        except CatalogueError as error:
            raise CatalogueError(f"{path.name}, paper {number} ({entry.get('slug', 'no slug')}): {error}") from None
        found[new.slug] = new
    return found


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'a', 'b' or 'c'?`` from the names nearest to ``name``, or an empty string when none is near."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    *others, last = map(repr, near or [""])
    return f"; did you mean {', '.join(others) + ' or ' if others else ''}{last}?" if near else ""


def _checked(entry: dict[str, Any]) -> Paper:
    known = {field.name for field in fields(Paper)}
    if missing := [name for name in ("slug", "title", "year", "kind", "family", "chapter") if name not in entry]:
        raise CatalogueError(f"has no {', '.join(missing)}")
    if surplus := entry.keys() - known:
        raise CatalogueError(f"has unknown keys {sorted(surplus)}; allowed are {sorted(known)}")
    new = Paper(**entry)
    for name in ("slug", "title", "kind", "family", "chapter"):
        if not isinstance(getattr(new, name), str) or not getattr(new, name).strip():
            raise CatalogueError(f"{name} is {getattr(new, name)!r}; it must be a non-empty string")
    if not _SLUG.fullmatch(new.slug):
        raise CatalogueError("a slug is lower-case words joined by hyphens, such as 'differential-transformer'")
    if type(new.year) is not int or not 1900 <= new.year <= 2100:
        raise CatalogueError(f"year is {new.year!r}; it must be a whole number such as 2024")
    if new.arxiv is not None and not (isinstance(new.arxiv, str) and _ARXIV.fullmatch(new.arxiv)):
        raise CatalogueError(f"arxiv is {new.arxiv!r}; an identifier looks like '2410.05258'")
    if new.kind not in REQUIRED_KINDS:
        raise CatalogueError(f"kind is {new.kind!r}; the kinds are {', '.join(REQUIRED_KINDS)}")
    if not _CHAPTER.fullmatch(new.chapter):
        raise CatalogueError(f"chapter is {new.chapter!r}; it must look like 'attention/normalizing_scores'")
    if type(new.cross) is not bool:
        raise CatalogueError(f"cross is {new.cross!r}; it is true or left out")
    return new
