"""Generates ``references.bib`` from the catalogue.

    python -m minitf.papers.bibliography

One ``@misc`` per paper, cited by its slug. The catalogue has no authors, so ``key`` carries the slug: BibTeX sorts and
labels by it, and sphinxcontrib-bibtex shows it where a name would stand.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from minitf.files import write_atomically
from minitf.papers import catalogue, checkout
from minitf.papers.catalogue import Paper

#: Where the file lies in a checkout.
REFERENCES = Path("references.bib")

_HEADER = "% Generated from minitf/papers/catalogue.toml by `python -m minitf.papers.bibliography`; do not edit.\n"


def bibliography(papers: Iterable[Paper]) -> str:
    """The BibTeX file of these papers, sorted by slug."""
    return "\n".join([_HEADER, *(entry(paper) for paper in sorted(papers, key=lambda paper: paper.slug))])


def entry(paper: Paper) -> str:
    fields = {
        "key": paper.slug,
        "title": "{" + _latex(paper.title) + "}",  # the second pair of braces keeps the capitals
        "year": str(paper.year),
    }
    if paper.arxiv:
        fields |= {
            "eprint": paper.arxiv,
            "archiveprefix": "arXiv",
            "url": f"https://arxiv.org/abs/{paper.arxiv}",
        }
    lines = [f"  {name:<13} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@misc{{{paper.slug},", *lines, "}\n"])


def _latex(text: str) -> str:
    text = re.sub(r'"([^"]*)"', r"``\1''", text)
    text = re.sub(r"([&%$#_])", r"\\\1", text)
    # A superscript as a character: \textsuperscript is LaTeX only, and sphinxcontrib-bibtex would show it.
    return re.sub(r"\^(\d)", lambda power: "⁰¹²³⁴⁵⁶⁷⁸⁹"[int(power[1])], text)


def main() -> int:
    root = checkout.root()
    if root is None:
        print("minitf.papers.bibliography: references.bib is written in a source checkout", file=sys.stderr)
        return 2
    write_atomically(root / REFERENCES, bibliography(catalogue.papers().values()))
    print(REFERENCES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
