"""Grading as a learner meets it: right, wrong, unfinished and broken submissions, and the same again with the seed."""

from dataclasses import replace

import pytest

from minitf.grade import ExerciseError, Limits, UsageError, grade
from minitf.grade.process import plain


def first_failure(result):
    return next(check.failure for check in result.results if check.failure is not None)


def test_solution_and_stub(exercise):
    full = grade(exercise, exercise.solution)
    assert (full.points, full.max_points, full.complete, full.failed) == (5, 5, True, ())
    none = grade(exercise, exercise.stub)
    assert (none.points, none.failed) == (0, ("doubles", "adds_up"))
    assert first_failure(none).reason == "not written yet (NotImplementedError)"
    assert first_failure(none).called.startswith("double(x=[")


def test_seeds(exercise, submission):
    wrong = submission("def double(x):\n    return 3 * x\n")
    one, again, other = (grade(exercise, wrong, seed=seed) for seed in (7, 7, 8))
    assert first_failure(one) == first_failure(again) != first_failure(other)


def test_drawn_seeds_differ(exercise, submission):
    broken = submission("this is no Python")
    assert grade(exercise, broken).seed != grade(exercise, broken).seed


def test_the_smallest_failing_case_is_shown(exercise, submission):
    result = grade(exercise, submission("def double(x):\n    return 2 * x if len(x) == 1 else x[::-1]\n"))
    assert result.failed == ("doubles",)
    assert first_failure(result).called.count(",") == 2  # the case of three numbers: that of one passed


def test_a_syntax_error_is_told_once_with_its_line(exercise, submission):
    result = grade(exercise, submission("def oops(:\n"))
    assert result.points == 0
    assert result.problem is not None
    assert result.problem.reason.startswith("raised SyntaxError: ")
    assert result.problem.details == (("line 7", "def oops(:"),)


def test_a_missing_function_costs_its_check_alone(exercise, submission):
    result = grade(exercise, submission("del total\n"))
    assert result.failed == ("adds_up",)
    assert first_failure(result).reason == "exercise.py defines no function total"


def test_an_exception_is_told_with_its_line(exercise, submission):
    result = grade(exercise, submission("def total(x):\n    return helper(x)\n\ndef helper(x):\n    return x @ 'no'\n"))
    assert result.failed == ("adds_up",)
    failure = first_failure(result)
    assert failure.reason.startswith("raised ")
    assert [label for label, _ in failure.details] == ["line 8", "line 11"]
    assert failure.details[-1][1] == "return x @ 'no'    (in helper)"


def test_what_it_prints_is_kept_and_harmless(exercise, submission):
    result = grade(exercise, submission("print('hello\\x1b[31m')\n"))
    assert result.complete
    assert result.printed == "hello\N{REPLACEMENT CHARACTER}[31m\n"


@pytest.mark.parametrize("line", ["import os", "from subprocess import run", "from . import other", "import minitf"])
def test_imports_that_are_not_allowed(exercise, submission, line):
    result = grade(exercise, submission(f"{line}\n"))
    assert result.points == 0
    assert result.problem is not None
    assert "this exercise does not allow" in result.problem.reason
    assert "allowed are numpy" in result.problem.reason


def test_imports_that_are_allowed(exercise, submission):
    source = "from __future__ import annotations\nimport math, numpy.linalg\nfrom dataclasses import dataclass\n"
    path = submission("")
    path.write_text(source + "@dataclass\nclass Pair:\n    a: int\n" + path.read_text())
    assert grade(exercise, path).complete
    json = submission("def double(x):\n    import json\n    return 2 * x\n")
    assert grade(exercise, json).failed == ("doubles",)
    assert grade(replace(exercise, allowed_imports=("numpy", "json")), json).complete


def test_isolation_is_stated(exercise, submission):
    line = grade(exercise, submission("")).isolation
    assert line.startswith("cooperative: ")
    assert "not hidden" in line


def test_files_that_cannot_be_graded(exercise, tmp_path):
    with pytest.raises(UsageError, match="no file"):
        grade(exercise, tmp_path / "absent.py")
    with pytest.raises(UsageError, match="no file"):
        grade(exercise, tmp_path)
    link = tmp_path / "link.py"
    link.symlink_to(exercise.solution)
    with pytest.raises(UsageError, match="symbolic link"):
        grade(exercise, link)
    large = tmp_path / "large.py"
    large.write_bytes(b"#" * (1 << 21))
    with pytest.raises(UsageError, match="larger than"):
        grade(exercise, large)
    with pytest.raises(UsageError, match="seed"):
        grade(exercise, exercise.solution, seed=-1)


def test_points_must_add_up(exercise):
    with pytest.raises(ExerciseError, match="add up to 6"):
        grade(replace(exercise, points=6), exercise.solution)


def test_limits_are_checked():
    for wrong in ({"seconds": 0}, {"memory_mib": -1}, {"cpu_seconds": 1.5}, {"seconds": True}):
        with pytest.raises(ValueError, match="must be a positive integer"):
            Limits(**wrong)


def test_plain_text():
    assert plain("a\x1b[0m\r\nb\u202e\ud800" + "c" * 1000, 11) == "a\ufffd[0m\ufffd\nb\ufffd\ufffdc"
