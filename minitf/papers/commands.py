"""``minitf papers``: which papers work, and where each is explained, implemented, tested and practised."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minitf.papers.results import Report

_DESCRIPTION = "Which papers work, and where each is explained, implemented, tested and practised."
_EPILOG = """\
states:
  works     implemented, explained in the book, and every kind of test that it needs has passed
  fails     one of its tests failed, or all passed but the registration or the chapter is missing
  not run   anything else

keys of --json (one paper is one object; a list is {"counts": {state: number}, "papers": [object, ...]}):
  slug title year arxiv kind family chapter    the facts of the catalogue; arxiv is null where there is none
  state        "works", "fails" or "not run"
  kinds        {kind of test: "passed", "failed" or "not run"}
  missing      what stands between the paper and "works", a phrase each
  explained    file of the chapter, or null while no chapter of the book cites it
  implemented  dotted names       tested  test files       practised  folders of exercises
"""


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds ``papers`` to the command line."""
    parser = subparsers.add_parser(
        "papers",
        help="which papers work, and where to find each",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("slug", nargs="?", metavar="SLUG", help="show one paper in detail")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--missing", action="store_true", help="only papers that do not work, with what is missing")
    parser.add_argument("--family", metavar="F", help="only papers of this family, such as attention")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from minitf.papers import catalogue, results

    if arguments.slug is not None:
        if arguments.missing or arguments.family:
            raise ValueError("--missing and --family choose from the list of papers; leave them out with a SLUG")
        report = results.report(arguments.slug)
        print(json.dumps(report.as_dict(), indent=2) if arguments.json else detail(report))
        return 0

    found = list(results.reports().values())
    if arguments.family is not None:
        families = sorted({report.paper.family for report in found})
        if arguments.family not in families:
            hint = catalogue.did_you_mean(arguments.family, families)
            raise ValueError(f"no family is called {arguments.family!r}{hint or '; families: ' + ', '.join(families)}")
        found = [report for report in found if report.paper.family == arguments.family]
    if arguments.missing:
        found = [report for report in found if report.state != "works"]
    counts = Counter(report.state for report in found)
    if arguments.json:
        entries = [report.as_dict() for report in found]
        told = {"counts": {state: counts[state] for state in results.STATES}, "papers": entries}
        print(json.dumps(told, indent=2))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print(listing(found, missing=arguments.missing, width=width))
        told = ", ".join(f"{counts[state]} {state}" for state in results.STATES)
        print(f"\n{len(found)} papers: {told}")
    return 0


def listing(reports: Iterable[Report], *, missing: bool = False, width: int | None = None) -> str:
    """One line per paper; lines are cut at ``width`` columns, or left whole."""
    if missing:
        rows = [("STATE", "SLUG", "MISSING")]
        rows += [(report.state, report.paper.slug, "; ".join(report.missing)) for report in reports]
    else:
        rows = [("STATE", "SLUG", "YEAR", "KIND", "TITLE")]
        for report in reports:
            paper = report.paper
            rows.append((report.state, paper.slug, str(paper.year), paper.kind, paper.title))
    return "\n".join(_aligned(rows, width))


def detail(report: Report) -> str:
    """Everything about one paper."""
    paper = report.paper
    arxiv = f"arXiv {paper.arxiv}  https://arxiv.org/abs/{paper.arxiv}" if paper.arxiv else "no arXiv identifier"
    kinds = [f"{kind} {outcome}" for kind, outcome in report.kinds.items()]
    facts: list[tuple[str, Sequence[str]]] = [
        ("state", [report.state]),
        ("missing", report.missing),
        ("tests", kinds),
        ("explained", [report.explained] if report.explained else []),
        ("implemented", report.implemented),
        ("tested", report.tested),
        ("practised", report.practised),
    ]
    lines = textwrap.wrap(paper.title, 100)
    lines += [f"{paper.slug}, {paper.year}, {paper.kind}, family {paper.family}", arxiv, ""]
    for name, values in facts:
        if name == "missing" and not values:
            continue
        first, *others = values or ["-"]
        lines += [f"{name:<13}{first}", *(f"{'':<13}{value}" for value in others)]
    return "\n".join(lines)


def _aligned(rows: Sequence[Sequence[str]], width: int | None) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip()
        yield line if width is None or len(line) <= width else line[: width - 1] + "…"
