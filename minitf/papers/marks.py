"""Which test files speak about which paper, read from the tests without importing them.

A test says what it shows with ``@pytest.mark.paper("differential-transformer", kind="invariant")``; the mark may stand
on a function, on a class, in ``pytestmark``, or in the ``marks=`` of a parameter. A mark with computed arguments is
seen only when pytest collects it.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

from minitf.papers import catalogue, checkout


class MarkError(ValueError):
    """A paper mark that names no paper of the catalogue or no kind of test."""


def check(slug: object, kind: object) -> None:
    """Raises MarkError unless ``slug`` is in the catalogue and ``kind`` in TEST_KINDS."""
    wanted = f"one of {', '.join(catalogue.TEST_KINDS)}"
    if not isinstance(slug, str) or not isinstance(kind, str):
        raise MarkError(f"the mark is paper(slug, kind=...) with {wanted}, not paper({slug!r}, kind={kind!r})")
    if slug not in catalogue.papers():
        raise MarkError(f"no paper is called {slug!r}{catalogue.did_you_mean(slug, catalogue.papers())}")
    if kind not in catalogue.TEST_KINDS:
        raise MarkError(f"a test of {slug} has kind {kind!r}; it must be {wanted}")


def scan(root: Path) -> Mapping[tuple[str, str], tuple[str, ...]]:
    """(slug, kind of test) -> the test files under ``root/tests`` that carry such a mark."""
    found: dict[tuple[str, str], list[str]] = {}
    for path, marks in checkout.facts(root, "marks", (root / "tests").rglob("test_*.py"), literal_marks).items():
        for slug, kind in marks:
            found.setdefault((slug, kind), []).append(path)
    return {key: tuple(dict.fromkeys(files)) for key, files in found.items()}


def literal_marks(file: Path) -> list[tuple[str, str]]:
    """The (slug, kind) of every ``mark.paper`` in one file that is written with literals."""
    source = file.read_text(encoding="utf-8")
    if "mark.paper" not in source:
        return []
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return []  # pytest says so, better
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _is_mark(node.func)]
    pairs = []
    for call in calls:
        keywords = {word.arg: word.value for word in call.keywords}
        slug, kind = (*call.args, *(keywords[name] for name in ("slug", "kind") if name in keywords), None, None)[:2]
        if isinstance(slug, ast.Constant) and isinstance(kind, ast.Constant):
            pairs.append((str(slug.value), str(kind.value)))
    return pairs


def _is_mark(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "paper" and ast.unparse(node.value).split(".")[-1] == "mark"
