"""The exercises: where they are, what they are called, and what their folders hold."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import minitf
from minitf.grade.limits import Limits

REQUIRED = {"title": str, "points": int, "chapter": str, "hints": list}
OPTIONAL = {"paper": str, "allowed_imports": list, "limits": dict, "wrong": dict}


class UsageError(ValueError):
    """Something the person at the command line can put right."""


class ExerciseError(RuntimeError):
    """An exercise that is not well made; its author can put it right, a learner cannot."""


@dataclass(frozen=True)
class Exercise:
    """One exercise: a folder with README.md, exercise.py, exercise.toml, grader.py, solution.py and wrong/.

    name: the path below the exercises' root, as in ``attention/differential``.
    points: what its checks add up to.
    chapter: the chapter that it belongs to.
    paper: the slug of the paper it practises, or "".
    hints: from a nudge to nearly the answer.
    allowed_imports: top-level packages that a submission may import beside a little of the standard library.
    wrong: for each ``wrong/<key>.py``, the names of the checks that it must lose, no others.
    """

    name: str
    folder: Path
    title: str
    points: int
    chapter: str
    hints: tuple[str, ...]
    paper: str = ""
    allowed_imports: tuple[str, ...] = ("numpy",)
    limits: Limits = field(default_factory=Limits)
    wrong: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path, name: str | None = None) -> Exercise:
        """Reads ``exercise.toml`` of a folder; raises ExerciseError that says what is wrong with it."""
        path = folder / "exercise.toml"
        try:
            entries = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise ExerciseError(f"{path}: {error}") from error
        for key, kind in REQUIRED.items():
            if not isinstance(entries.get(key), kind):
                raise ExerciseError(f"{path}: {key} must be given as {kind.__name__}")
        for key, value in entries.items():
            kind = (REQUIRED | OPTIONAL).get(key)
            if kind is None:
                raise ExerciseError(f"{path}: unknown entry {key}; known are {', '.join(REQUIRED | OPTIONAL)}")
            if not isinstance(value, kind):
                raise ExerciseError(f"{path}: {key} must be given as {kind.__name__}")
        try:
            limits = Limits(**entries.pop("limits", {}))
        except (TypeError, ValueError) as error:
            raise ExerciseError(f"{path}: {error}") from error
        lists: dict[str, Any] = {key: tuple(entries.pop(key)) for key in ("hints", "allowed_imports") if key in entries}
        wrong = {key: tuple(checks) for key, checks in entries.pop("wrong", {}).items()}
        return cls(name=name or folder.name, folder=folder, limits=limits, wrong=wrong, **lists, **entries)

    @property
    def readme(self) -> Path:
        return self.folder / "README.md"

    @property
    def stub(self) -> Path:
        return self.folder / "exercise.py"

    @property
    def grader(self) -> Path:
        return self.folder / "grader.py"

    @property
    def solution(self) -> Path:
        return self.folder / "solution.py"


@cache
def exercises_root() -> Path:
    """The folder of all exercises: inside the package when it was installed from a wheel, beside it in a checkout."""
    assert minitf.__file__ is not None
    package = Path(minitf.__file__).parent
    for folder in (package / "grade" / "exercises", package.parent / "exercises"):
        if folder.is_dir():
            return folder
    raise ExerciseError("the exercises are missing from this installation of minitf")


def names() -> list[str]:
    """The names of all exercises, in alphabetical order."""
    root = exercises_root()
    return sorted(path.parent.relative_to(root).as_posix() for path in root.rglob("exercise.toml"))


def find(name: str) -> Exercise:
    """The exercise with this name or this unique end of a name: ``differential`` for ``attention/differential``."""
    wanted, known = name.strip("/").removeprefix("./"), names()
    found = [wanted] if wanted in known else [other for other in known if other.endswith(f"/{wanted}")]
    if len(found) == 1:
        return Exercise.load(exercises_root() / found[0], found[0])
    if found:
        raise UsageError(f"{name!r} is the end of several exercises' names: {', '.join(found)}")
    ends = {other.rpartition("/")[2]: other for other in known} | {other: other for other in known}
    close = list(dict.fromkeys(ends[match] for match in difflib.get_close_matches(wanted, ends, n=3)))
    suggestion = f"; did you mean {' or '.join(close)}?" if close else ""
    raise UsageError(f"there is no exercise {name!r}{suggestion} (`minitf exercises` lists all)")
