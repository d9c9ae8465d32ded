"""The graded exercises: a learner writes an idea once, and a machine says whether it is right and what is wrong.

Grading uses two processes. The grader holds cases, reference and scoring; the submission runs in a process of its own
that gets inputs, returns arrays in a fixed binary format and holds no answer (``process``, ``student``).

    grade("attention/differential", "exercise.py")      a Grade: points, and per check what was wrong
    check, expect, expect_close                         what the ``grader.py`` of an exercise is written with
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minitf.grade.calls import Student
    from minitf.grade.checks import check, expect, expect_close
    from minitf.grade.exercise import Exercise, ExerciseError, UsageError, exercises_root, find, names
    from minitf.grade.grading import Failure, Grade, grade
    from minitf.grade.limits import Limits

#: Loaded on use: the command line imports this package at every start, and needs it for few of its commands.
_HOMES = {
    "calls": ("Student",),
    "checks": ("check", "expect", "expect_close"),
    "exercise": ("Exercise", "ExerciseError", "UsageError", "exercises_root", "find", "names"),
    "grading": ("Failure", "Grade", "grade"),
    "limits": ("Limits",),
}

__all__ = [
    "Exercise",
    "ExerciseError",
    "Failure",
    "Grade",
    "Limits",
    "Student",
    "UsageError",
    "check",
    "exercises_root",
    "expect",
    "expect_close",
    "find",
    "grade",
    "names",
]


def __getattr__(name: str) -> Any:
    for home, public in _HOMES.items():
        if name in public:
            return getattr(importlib.import_module(f"minitf.grade.{home}"), name)
    raise AttributeError(f"module 'minitf.grade' has no attribute {name!r}")
