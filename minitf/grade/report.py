"""A grade as a person reads it, and as a course's autograder does."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from minitf.files import write_atomically
from minitf.grade.grading import CheckResult, Failure, Grade

WIDTH = 100
PRINTED_LINES = 8
BOLD, DIM, RED, GREEN = "1", "2", "31", "32"


def wants_color() -> bool:
    """Whether standard output is to be colored: on a terminal, unless NO_COLOR is set."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and sys.stdout.isatty()


def paint(text: str, code: str, color: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if color else text


def text(grade: Grade, *, color: bool = False, every: bool = False) -> str:
    """The list of checks, then one screen about the first that was lost (about all of them with ``every``)."""
    score = f"{grade.points} of {grade.max_points} points"
    head = f"{grade.exercise.name}: {grade.exercise.title}"
    lines = [paint(f"{head:<{max(len(head) + 2, WIDTH - len(score))}}{score}", BOLD, color)]
    for result in grade.results:
        mark = paint("✓", GREEN, color) if result.passed else paint("✗", RED, color)
        check = result.check
        lines.append(f"  {mark} {check.title:<{WIDTH - 13}} {result.points:>3} /{check.points:>3}")
    lost = [result for result in grade.results if not result.passed]
    if grade.problem is not None:
        lines += ["", *_failure("✗ nothing can be graded yet", grade.problem, color)]
    else:
        for result in lost if every else lost[:1]:
            assert result.failure is not None
            lines += ["", *_failure(f"✗ {result.check.title}", result.failure, color), *_hint(grade, result)]
        if len(lost) > 1 and not every:
            lines += ["", f"  {len(lost) - 1} more to go after this one (--all shows them now)."]
    if lost and grade.printed.strip():
        printed = grade.printed.rstrip().splitlines()
        more = [f"... and {len(printed) - PRINTED_LINES} lines more"] if len(printed) > PRINTED_LINES else []
        lines += ["", "  your program printed:"]
        lines += [paint(f"    {line[: WIDTH - 4]}", DIM, color) for line in printed[:PRINTED_LINES] + more]
    if grade.complete:
        lines += ["", paint("  All points. Compare with `minitf solution`: there may be a shorter way.", GREEN, color)]
    lines += ["", paint(f"seed {grade.seed} (--seed {grade.seed} repeats exactly this grading)", DIM, color)]
    lines += _labelled("isolation", grade.isolation, indent="", width=0, color=color)
    return "\n".join(lines)


def gradescope(grades: Iterable[Grade]) -> dict[str, Any]:
    """The results in the format of Gradescope's autograder (``results.json``)."""
    grades = list(grades)
    several = len(grades) > 1
    tests = [
        {
            "name": f"{grade.exercise.name}: {result.check.title}" if several else result.check.title,
            "number": f"{i}.{j}" if several else f"{j}",
            "score": result.points,
            "max_score": result.check.points,
            "status": "passed" if result.passed else "failed",
            "output": "" if result.failure is None else "\n".join(_failure("", result.failure, color=False)[1:]),
        }
        for i, grade in enumerate(grades, 1)
        for j, result in enumerate(grade.results, 1)
    ]
    return {
        "score": sum(grade.points for grade in grades),
        "max_score": sum(grade.max_points for grade in grades),
        "output": "\n\n".join(text(grade) for grade in grades),
        "visibility": "visible",
        "tests": tests,
        "extra_data": {
            grade.exercise.name: {"seed": grade.seed, "isolation": grade.isolation, "points": grade.points}
            for grade in grades
        },
    }


def write_gradescope(grades: Iterable[Grade], path: Path) -> None:
    """Writes ``results.json``, whole or not at all."""
    write_atomically(path, json.dumps(gradescope(grades), indent=2, ensure_ascii=False) + "\n")


def _failure(title: str, failure: Failure, color: bool) -> list[str]:
    lines = [paint(title, f"{BOLD};{RED}", color)]
    if failure.called:
        lines += _labelled("called", failure.called, color=color)
    lines += _labelled("problem", failure.reason, color=color)
    for label, value in failure.details:
        lines += _labelled(label, value, color=color)
    return lines


def _hint(grade: Grade, result: CheckResult) -> list[str]:
    number = result.check.hint
    if number is None:
        return []
    return _labelled("hint", f"minitf hint {grade.exercise.name} {number}", color=False)


def _labelled(label: str, value: str, *, indent: str = "    ", width: int = 18, color: bool) -> list[str]:
    """``label  value``, the value wrapped and aligned; numbers that span lines keep their lines."""
    start = f"{indent}{label:<{width}} "
    lines = [
        piece
        for line in value.splitlines() or [""]
        for piece in textwrap.wrap(line, WIDTH - len(start), subsequent_indent="  ", break_on_hyphens=False) or [""]
    ]
    first, *rest = lines
    return [paint(start, DIM, color) + first] + [" " * len(start) + line for line in rest]
