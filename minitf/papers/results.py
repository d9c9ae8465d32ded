"""Which papers work, from what the tests last said about them.

A paper *works* when something is registered as implementing it, its chapter is in ``_toc.yml`` and cites it (a line
``(slug)=``), and every kind of test that it needs has passed. It *fails* when a test of it failed, or when all its
tests passed but the registration or the chapter is missing. Otherwise it is *not run*.

Results live in ``.minitf/results.json``, which is never committed:

    {"format": 1, "papers": {slug: {kind of test: {test file: {"digest", "complete", "tests": {test id: outcome}}}}}}

``digest`` hashes the implementing modules, the test file and the chapter as they were when the tests were collected; an
entry whose digest no longer matches says nothing. ``complete`` is false for a file of which only single tests were ever
collected. A run of some tests leaves what it knows about the others in place. A wheel carries the reports of its build
(``minitf.papers.freeze``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from minitf.files import write_atomically
from minitf.papers import catalogue, checkout, index, marks
from minitf.papers.catalogue import Paper

FORMAT = 1
FROZEN = Path(__file__).with_name("results.json")

State = Literal["works", "fails", "not run"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True)
class Report:
    """What is known about one paper.

    kinds: kind of test -> "passed", "failed" or "not run", for those it needs and those it has.
    missing: what stands between the paper and *works*, a phrase each.
    explained: the chapter's file, once the table of contents has it and it cites the paper.
    implemented: dotted names. tested: test files. practised: folders of exercises.
    """

    paper: Paper
    state: State
    kinds: Mapping[str, str]
    missing: tuple[str, ...] = ()
    explained: str | None = None
    implemented: tuple[str, ...] = ()
    tested: tuple[str, ...] = ()
    practised: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The entry of ``minitf papers --json``."""
        facts = {name: getattr(self.paper, name) for name in ("slug", "title", "year", "arxiv", "kind", "family")}
        return facts | {
            "chapter": self.paper.chapter,
            "state": self.state,
            "kinds": dict(self.kinds),
            "missing": list(self.missing),
            "explained": self.explained,
            "implemented": list(self.implemented),
            "tested": list(self.tested),
            "practised": list(self.practised),
        }

    @classmethod
    def from_dict(cls, entry: dict[str, Any]) -> Report:
        lists = {name: tuple(entry[name]) for name in ("missing", "implemented", "tested", "practised")}
        paper = catalogue.paper(entry["slug"])
        return cls(paper, entry["state"], entry["kinds"], explained=entry["explained"], **lists)


@dataclass(frozen=True)
class Collected:
    """The tests of one file that carry one mark, as pytest collected them; ``complete`` unless single tests were asked
    for by id."""

    slug: str
    kind: str
    file: str
    digest: str
    complete: bool
    tests: tuple[str, ...]


def reports() -> dict[str, Report]:
    """The report of every paper, by slug: of this moment in a checkout, of its build in an installed wheel."""
    root = checkout.root()
    return judge(root) if root else _frozen()


def report(slug: str) -> Report:
    """The report of one paper; raises UnknownPaper for an unknown slug."""
    return reports()[catalogue.paper(slug).slug]


def judge(root: Path) -> dict[str, Report]:
    """The report of every paper from the sources, tests, chapters and results in a checkout."""
    known = index.scan(root).papers
    marked = marks.scan(root)
    recorded = _load(root)
    listed = _listed(root)
    return {
        slug: _report(paper, root, known.get(slug, ()), marked, recorded.get(slug, {}), listed)
        for slug, paper in catalogue.papers().items()
    }


def digest(root: Path, paper: Paper, implementations: Iterable[str], test_file: str) -> str:
    """The hash of everything that a result of ``test_file`` about ``paper`` rests on."""
    modules = {index.module_file(name, root) or root / name for name in implementations}
    return checkout.digest({*modules, root / test_file, _chapter(root, paper)})


def record(root: Path, collected: Iterable[Collected], outcomes: Mapping[str, str]) -> Path:
    """Merges a run into the results file and returns its path.

    outcomes: test id -> "passed", "failed" or "skipped"; a collected test without one was not run. A test that was not
    run or skipped keeps its earlier outcome while that is still valid.
    """
    papers = {
        slug: {
            kind: {file: entry for file, entry in files.items() if (root / file).is_file()}
            for kind, files in kinds.items()
        }
        for slug, kinds in _load(root).items()
        if slug in catalogue.papers()
    }
    for group in collected:
        files = papers.setdefault(group.slug, {}).setdefault(group.kind, {})
        before = files.get(group.file, {})
        if before.get("digest") != group.digest:
            before = {}
        earlier = before.get("tests", {})
        tests = {} if group.complete else dict(earlier)
        for test in group.tests:
            outcome = outcomes.get(test, "not run")
            tests[test] = outcome if outcome in ("passed", "failed") else earlier.get(test, outcome)
        complete = group.complete or before.get("complete", False)
        files[group.file] = {"digest": group.digest, "complete": complete, "tests": dict(sorted(tests.items()))}
    path = root / checkout.STATE / "results.json"
    write_atomically(path, json.dumps({"format": FORMAT, "papers": papers}, indent=1, sort_keys=True) + "\n")
    return path


def _load(root: Path) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    try:
        content = json.loads((root / checkout.STATE / "results.json").read_text(encoding="utf-8"))
        return content["papers"] if content["format"] == FORMAT else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # results can always be had again


def _report(
    paper: Paper,
    root: Path,
    implementations: tuple[str, ...],
    marked: Mapping[tuple[str, str], tuple[str, ...]],
    recorded: Mapping[str, Mapping[str, Mapping[str, Any]]],
    listed: frozenset[str],
) -> Report:
    missing = []
    if not implementations:
        missing.append("nothing is registered as implementing it")
    if gap := _chapter_gap(paper, root, listed):
        missing.append(gap)
    kinds: dict[str, str] = {}
    tested: list[str] = []
    for kind in catalogue.TEST_KINDS:
        entries = {file: dict(entry) for file, entry in recorded.get(kind, {}).items()}
        valid = {
            file: entry
            for file, entry in entries.items()
            if entry["digest"] == digest(root, paper, implementations, file)
        }
        files = tuple(dict.fromkeys((*marked.get((paper.slug, kind), ()), *valid)))
        tested += files
        if kind not in paper.required_kinds and not files:
            continue
        kinds[kind], why = _outcome(files, valid, stale=entries.keys() - valid.keys())
        if why and (kind in paper.required_kinds or kinds[kind] == "failed"):
            missing.append(f"{kind}: {why}")
    outcomes = [kinds[kind] for kind in paper.required_kinds]
    if not missing:
        state: State = "works"
    elif "failed" in kinds.values() or all(outcome == "passed" for outcome in outcomes):
        state = "fails"
    else:
        state = "not run"
    return Report(
        paper,
        state,
        kinds,
        tuple(missing),
        explained=None if gap else _chapter(root, paper).relative_to(root).as_posix(),
        implemented=implementations,
        tested=tuple(dict.fromkeys(tested)),
        practised=_practised(root, implementations),
    )


def _outcome(files: tuple[str, ...], valid: Mapping[str, Mapping[str, Any]], stale: set[str]) -> tuple[str, str]:
    """The outcome of one kind of test over its files, and why it is not "passed"."""
    tests = {test: outcome for entry in valid.values() for test, outcome in entry["tests"].items()}
    if failed := [test for test, outcome in tests.items() if outcome == "failed"]:
        return "failed", f"{failed[0]} failed" + (f", and {len(failed) - 1} more" if len(failed) > 1 else "")
    if not files:
        return "not run", "no test"
    for file in files:
        if file not in valid:
            return "not run", f"{file} not run" + (" since something changed" if file in stale else "")
        if not valid[file]["complete"] or not valid[file]["tests"]:
            return "not run", f"{file} not run as a whole"
    if waiting := [test for test, outcome in tests.items() if outcome != "passed"]:
        return "not run", f"{waiting[0]} {tests[waiting[0]]}"
    return "passed", ""


def _chapter(root: Path, paper: Paper) -> Path:
    return root / "chapters" / f"{paper.chapter}.md"


def _listed(root: Path) -> frozenset[str]:
    """The files that ``_toc.yml`` names, without suffix."""
    contents = root / "_toc.yml"
    text = contents.read_text(encoding="utf-8") if contents.is_file() else ""
    entries = re.findall(r"""^[\s-]*(?:file|root):\s*["']?([^\s"'#]+)""", text, flags=re.MULTILINE)
    return frozenset(entry.removesuffix(".md") for entry in entries)


def _chapter_gap(paper: Paper, root: Path, listed: frozenset[str]) -> str:
    chapter = _chapter(root, paper)
    name = chapter.relative_to(root).as_posix()
    if not chapter.is_file():
        return f"{name} is not written"
    if name.removesuffix(".md") not in listed:
        return f"{name} is not in _toc.yml"
    if not re.search(rf"^\({re.escape(paper.slug)}\)=\s*$", chapter.read_text(encoding="utf-8"), flags=re.MULTILINE):
        return f"{name} does not cite it: it has no line ({paper.slug})="
    return ""


def _practised(root: Path, implementations: Iterable[str]) -> tuple[str, ...]:
    """Exercises lie at the path of the module they practise, or below it."""
    folders = []
    for name in implementations:
        if module := index.module_file(name, root):
            here = root / "exercises" / module.relative_to(root / "minitf").with_suffix("")
            folders += sorted(file.parent.relative_to(root).as_posix() for file in here.rglob("exercise.toml"))
    return tuple(dict.fromkeys(folders))


@cache
def _frozen() -> dict[str, Report]:
    entries: dict[str, dict[str, Any]] = {}
    if FROZEN.is_file():
        content = json.loads(FROZEN.read_text(encoding="utf-8"))
        entries = {entry["slug"]: entry for entry in content["papers"]}
    found = {}
    for slug, paper in catalogue.papers().items():
        if slug in entries:
            found[slug] = Report.from_dict(entries[slug])
        else:
            kinds = dict.fromkeys(paper.required_kinds, "not run")
            why = ("this installation carries no test results",)
            found[slug] = Report(paper, "not run", kinds, why, implemented=index.implementations(slug))
    return found
