"""The *Papers* page of the book, as MyST Markdown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from minitf.papers import results
from minitf.papers.results import Report

#: family -> its heading, in the order of the page; a family that is not here comes last under its own name
FAMILIES = {
    "attention": "Attention",
    "recurrent": "Recurrent and state-space models",
    "long-context": "Long context",
    "feedforward-and-tokens": "Feed-forward layers and tokens",
    "length-and-theory": "Length, theory and interpretation",
    "vision-attention": "Vision: attention and backbones",
    "vision-recipes": "Vision: recipes",
    "vision-tasks": "Vision: tasks",
    "audio-and-diffusion": "Sound, signals and diffusion",
    "training-and-systems": "Training and systems",
    "compression": "Compression",
    "scaling-and-search": "Scaling and search",
    "language-applications": "Language, code and applications",
}

_INTRODUCTION = """\
# Papers

minitf is about {total} papers. A paper **works** when something is registered as implementing it, a chapter of this
book explains it, and every kind of test that a paper of its kind needs has passed; it **fails** when one of its tests
failed; otherwise it has **not** been **run**. A paper that nothing implements yet is **planned**.
"""


def papers_page(reports: Iterable[Report]) -> str:
    """The page: counts on top, then a table of papers for each family.

    A title links to the place in the book that explains the paper, once there is one; such a link is to the label
    that is the paper's slug. Module, test and exercise are named by where they lie in the repository.
    """
    reports = list(reports)
    families = sorted({report.paper.family for report in reports}, key=_place)
    lines = [_INTRODUCTION.format(total=len(reports)), *_summary(reports, families), ""]
    for family in families:
        members = [report for report in reports if report.paper.family == family]
        lines += [f"## {FAMILIES.get(family, family)}", "", *_table(members), ""]
    return "\n".join(lines)


def standing(report: Report) -> str:
    """The state as the page shows it: a paper that nothing implements, and of which nothing failed, is planned."""
    return "planned" if report.state == "not run" and not report.implemented else report.state


def _summary(reports: list[Report], families: list[str]) -> list[str]:
    columns = [*results.STATES, "planned"]
    lines = [
        _row("Family", "Papers", *(column.capitalize() for column in columns)),
        _rule("l" + "r" * (1 + len(columns))),
    ]
    for family in families:
        count = Counter(standing(report) for report in reports if report.paper.family == family)
        lines.append(_row(FAMILIES.get(family, family), count.total(), *(count[column] for column in columns)))
    count = Counter(map(standing, reports))
    lines.append(_row("**All**", *(f"**{number}**" for number in (count.total(), *(count[c] for c in columns)))))
    return lines


def _table(reports: list[Report]) -> list[str]:
    lines = [_row("Paper", "Year", "Kind", "State", "Implemented, tested, practised"), _rule("lrlll")]
    for report in sorted(reports, key=lambda report: (report.paper.year, report.paper.title)):
        paper = report.paper
        # By the role, not as [...](#slug): the slug is a key of the bibliography as well, and that would be ambiguous.
        title = f"{{ref}}`{paper.title} <{paper.slug}>`" if report.explained else _plain(paper.title)
        if paper.arxiv:
            title += f" ([arXiv](https://arxiv.org/abs/{paper.arxiv}))"
        places = [*report.implemented, *report.tested, *report.practised]
        lines.append(_row(title, paper.year, paper.kind, standing(report), " <br> ".join(f"`{p}`" for p in places)))
    return lines


def _place(family: str) -> tuple[int, str]:
    order = list(FAMILIES)
    return (order.index(family) if family in order else len(order), family)


def _row(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _rule(alignments: str) -> str:
    return _row(*({"l": ":--", "r": "--:"}[alignment] for alignment in alignments))


def _plain(text: str) -> str:
    """Text that Markdown and its mathematics leave alone."""
    return re.sub(r"([\\`*_{}\[\]<>|$~^#])", r"\\\1", text)
