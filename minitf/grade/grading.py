"""Grading a submission: its file against the checks of an exercise."""

from __future__ import annotations

import importlib.util
import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType

import numpy as np

from minitf.grade.calls import Student, signatures
from minitf.grade.checks import Check, Mismatch, checks_of
from minitf.grade.exercise import Exercise, ExerciseError, UsageError, find
from minitf.grade.limits import Limits
from minitf.grade.process import Broken, CallFailed, StudentProcess, isolation

MAX_SOURCE = 1 << 20


@dataclass(frozen=True)
class Failure:
    """Why a check was lost: what was called, what was wrong with the answer, and labelled lines that show it."""

    reason: str
    called: str = ""
    details: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class CheckResult:
    """A check and how the submission did in it."""

    check: Check
    failure: Failure | None

    @property
    def passed(self) -> bool:
        return self.failure is None

    @property
    def points(self) -> int:
        return self.check.points if self.passed else 0


@dataclass(frozen=True)
class Grade:
    """The outcome of one grading.

    seed: repeats it exactly. problem: why no check could be passed at all, if so (a syntax error, for example).
    isolation: what kept the submission from the answers, honestly. printed: the beginning of what it printed.
    """

    exercise: Exercise
    results: tuple[CheckResult, ...]
    seed: int
    isolation: str
    problem: Failure | None = None
    printed: str = ""

    @cached_property
    def points(self) -> int:
        return sum(result.points for result in self.results)

    @property
    def max_points(self) -> int:
        return self.exercise.points

    @property
    def complete(self) -> bool:
        return self.points == self.max_points

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the checks that were lost."""
        return tuple(result.check.name for result in self.results if not result.passed)


def grade(
    exercise: Exercise | str, submission: str | Path, *, seed: int | None = None, limits: Limits | None = None
) -> Grade:
    """Grades a file. Its cases are drawn afresh unless a seed is given; ``limits`` replaces the exercise's own.

    Whatever the submission does is a lower grade and not an exception. Raises UsageError when there is no file that can
    be graded, ExerciseError when the exercise is at fault.
    """
    exercise = find(exercise) if isinstance(exercise, str) else exercise
    source = read_submission(Path(submission))
    seed = secrets.randbits(32) if seed is None else seed
    if seed < 0:
        raise UsageError(f"a seed is a non-negative integer, got {seed}")
    checks = checks_of(load_grader(exercise))
    if sum(check.points for check in checks) != exercise.points:
        raise ExerciseError(f"{exercise.grader}: the points of the checks do not add up to {exercise.points}")
    promised = signatures(exercise.stub.read_text(encoding="utf-8"))
    results, problem = [], None
    with StudentProcess(
        source, allowed_imports=exercise.allowed_imports, limits=limits or exercise.limits
    ) as student_process:
        for number, check in enumerate(checks):
            student = Student(student_process, promised)
            try:
                failure = judge(check, student, np.random.default_rng((seed, number)))
            except Broken as broken:
                problem = problem or Failure(broken.reason, details=_where(broken))
                failure = problem
            results.append(CheckResult(check, failure))
        return Grade(
            exercise=exercise,
            results=tuple(results),
            seed=seed,
            isolation=isolation(student_process.limits_in_force),
            problem=problem,
            printed=student_process.printed,
        )


def judge(check: Check, student: Student, rng: np.random.Generator) -> Failure | None:
    """Runs one check; lets only ``Broken`` and the author's mistakes through."""
    try:
        with np.errstate(all="ignore"):  # answers may be anything; a warning would be about them
            check.function(student, rng)
    except (Broken, ExerciseError):
        raise
    except CallFailed as failure:
        return Failure(failure.reason, student.last_call, _where(failure))
    except Mismatch as mismatch:
        return Failure(mismatch.reason, student.last_call, mismatch.details)
    except Exception as error:
        # A grader computes with what it was given (a sum of rows, say), which fails on an answer of a strange shape.
        # Before the first call there is no answer, and the fault is the grader's.
        if not student.last_call:
            raise ExerciseError(f"check {check.name} failed by itself: {error}") from error
        return Failure(f"the answer cannot be judged ({type(error).__name__}: {error})", student.last_call)
    if not student.last_call:
        raise ExerciseError(f"check {check.name} gave its points away without calling the submission")
    return None


def read_submission(path: Path) -> bytes:
    """The bytes of a submission's file, which must be a file: a link could lead to somebody's answer."""
    if path.is_symlink():
        raise UsageError(f"{path} is a symbolic link; hand in the file itself")
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    if path.stat().st_size > MAX_SOURCE:
        raise UsageError(f"{path} is larger than {MAX_SOURCE} bytes")
    return path.read_bytes()


def load_grader(exercise: Exercise) -> ModuleType:
    """The exercise's ``grader.py`` as a module."""
    name = f"minitf_grader_{exercise.name.replace('/', '_')}"
    spec = importlib.util.spec_from_file_location(name, exercise.grader)
    if spec is None or spec.loader is None or not exercise.grader.is_file():
        raise ExerciseError(f"{exercise.grader} is missing")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _where(failure: CallFailed) -> tuple[tuple[str, str], ...]:
    return tuple(
        (f"line {line}", f"{text}    (in {function})" if function not in ("", "<module>") else text)
        for line, function, text in failure.where
    )
