"""Builds the book: executes what must be executed, renders, and says which page to open: ``python chapters/_book``."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "_build"

sys.path.insert(1, str(ROOT))

from execution import Executed, execute_all, is_notebook, kept  # noqa: E402
from rendering import RenderingError, contents, render  # noqa: E402


def papers() -> str:
    from minitf.papers import results
    from minitf.papers.page import papers_page

    return papers_page(results.reports().values())


#: pages that are made when the book is built
GENERATED: dict[str, Callable[[], str]] = {"chapters/papers": papers}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python chapters/_book", description="Builds the book into _build/html.")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="chapters executed at a time (default 2)")
    jobs = max(1, parser.parse_args().jobs)
    started = time.monotonic()
    BUILD.mkdir(exist_ok=True)
    try:
        plain, ready, waiting = _sort(contents(ROOT))
        executed, failures = asyncio.run(execute_all(ROOT, waiting, BUILD / "executed", jobs, tell))
        if failures:
            raise RenderingError("\n\n".join(map(str, failures)))
        rendered = render(ROOT, BUILD, [*ready, *executed], plain)
    except RenderingError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    what = "built" if rendered else "unchanged"
    tell(f"{what} in {time.monotonic() - started:.0f} s: {len(executed)} chapters executed, {len(ready)} kept")
    tell(f"open      {(BUILD / 'html' / 'index.html').as_uri()}")
    return 0


def _sort(names: list[str]) -> tuple[dict[str, str], list[Executed], list[str]]:
    """Plain pages with their text, chapters that stand from an earlier build, and chapters to execute."""
    plain: dict[str, str] = {}
    ready: list[Executed] = []
    waiting: list[str] = []
    for name in names:
        if name in GENERATED:
            plain[name] = GENERATED[name]()
            continue
        file = ROOT / f"{name}.md"
        if not file.is_file():
            raise RenderingError(f"_toc.yml lists {name}, and {file.relative_to(ROOT)} does not exist")
        text = file.read_text(encoding="utf-8")
        if not is_notebook(text):
            plain[name] = text
            continue
        executed, changed = kept(ROOT, name, BUILD / "executed")
        if executed:
            ready.append(executed)
        else:
            tell(f"changed   {name}: {', '.join(changed[:3])}{' ...' * (len(changed) > 3)}")
            waiting.append(name)
    return plain, ready, waiting


def tell(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
