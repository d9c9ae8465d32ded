"""The words that graders are written with: what they let pass, and what they tell."""

import ast
import re

import numpy as np
import pytest

from minitf.grade.calls import Student, signatures
from minitf.grade.checks import Check, Mismatch, check, checks_of, expect, expect_close
from minitf.grade.exercise import ExerciseError
from minitf.grade.grading import judge
from minitf.grade.process import CallFailed


def lost(got, want, **options) -> Mismatch:
    with pytest.raises(Mismatch) as caught:
        expect_close(got, want, **options)
    return caught.value


def test_close_passes():
    expect_close(np.array([1.0, np.inf, -np.inf]), [1.0 + 1e-13, np.inf, -np.inf])
    expect_close(np.zeros((0, 3)), np.zeros((0, 3)))
    expect_close(np.array([1, 2]), np.array([1.0, 2.0]))
    expect_close(3, 3.0)
    expect_close(np.array(1j), 1j)


@pytest.mark.parametrize(
    ("got", "want", "reason"),
    [
        (None, np.ones(2), "is None"),
        ([1.0, 1.0], np.ones(2), "is a list of 2"),
        (np.ones(3), np.ones(2), r"shape \(3,\); expected \(2,\)"),
        (np.ones((1, 2)), np.ones(2), r"shape \(1, 2\)"),
        (np.ones(2, complex), np.ones(2), "dtype complex128"),
        (np.array([1, np.nan]), np.ones(2), r"NaN in it \(first at \[1\]\)"),
        (np.array(np.nan), 1.0, "is NaN"),
        (np.array([1, np.inf]), np.ones(2), "not right"),
        (np.array([np.inf]), np.array([-np.inf]), "not right"),
        (np.array([1e308]), np.array([np.inf]), "not right"),
        (np.array([-1e308]), np.array([1e308]), "not right"),
        (np.array([np.nan]), np.array([np.nan]), "NaN"),
    ],
)
def test_everything_else_is_told(got, want, reason):
    mismatch = lost(got, want)
    assert re.search(reason, mismatch.reason), mismatch.reason


def test_the_worst_entry_is_shown_with_its_neighbours():
    want = np.arange(40.0).reshape(2, 20)
    got = want.copy()
    got[1, 19] += 1
    got[0, 3] += 0.5
    details = dict(lost(got, want, what="x").details)
    assert details["largest error"] == "1 at [1, 19]"
    assert details["wrong in"] == "2 of 40 entries"
    assert details["shown"] == "entries [1, 14:20]"
    assert details["expected"] == "[34., 35., 36., 37., 38., 39.]"
    assert details["got"] == "[34., 35., 36., 37., 38., 40.]"


def test_the_worst_entry_is_a_wrong_one():
    # 1e6 is within rtol of an entry of 1e16, and must not be shown as the error
    details = dict(lost(np.array([1e16 + 1e6, 0.5]), np.array([1e16, 0.0])).details)
    assert details["largest error"] == "0.5 at [1]"


def test_small_differences_are_visible():
    details = dict(lost(np.array([1.00000001]), np.array([1.0])).details)
    assert details["expected"] != details["got"]


def test_patterns_are_named():
    want = np.arange(1.0, 5).reshape(2, 2)
    assert dict(lost(want / 2, want).details)["note"] == "every entry is 0.5 times what is expected"
    assert dict(lost(want.T, want).details)["note"] == "the last two axes are exchanged"
    assert "note" not in dict(lost(want + 1, want).details)


def test_expect_shows_its_details():
    expect(True, "fine")
    with pytest.raises(Mismatch, match="not sorted") as caught:
        expect(False, "not sorted", got_order=[3, 1])
    assert caught.value.details == (("got order", "[3, 1]"),)


STUB = """
import numpy as np

def f(x: np.ndarray, scale: float = 1.0, *, mask: np.ndarray | None = None) -> {returns}: ...
"""


class Echo:
    """Answers every call with one value."""

    def __init__(self, value):
        self.value = value

    def call(self, name, args, kwargs):
        return self.value


def student(value, returns="np.ndarray") -> Student:
    return Student(Echo(value), signatures(STUB.format(returns=returns)))


@pytest.mark.parametrize(
    ("returns", "value", "want"),
    [
        ("np.ndarray", 2.0, np.asarray(2.0)),
        ("float", np.asarray(1.5), 1.5),
        ("float", 2, 2.0),
        ("int", np.asarray(3), 3),
        ("bool", np.asarray(True), True),
        ("str", "a", "a"),
        ("None", None, None),
        ("float | None", None, None),
        ("tuple[float, int]", [1.0, 2], (1.0, 2)),
        ("tuple[int, ...]", (1, 2, 3), (1, 2, 3)),
        ("list[int]", (1, 2), [1, 2]),
        ("dict[str, float]", {"a": 1}, {"a": 1.0}),
    ],
)
def test_results_take_the_promised_form(returns, value, want):
    got = student(value, returns).f(np.ones(2))
    assert type(got) is type(want)
    assert got == want


@pytest.mark.parametrize(
    ("returns", "value", "told"),
    [
        ("np.ndarray", None, "returned None (is a `return` missing?); exercise.py promises np.ndarray"),
        ("np.ndarray", (np.ones(1), np.ones(1)), "returned a tuple of 2"),
        ("np.ndarray", "text", "returned str 'text'"),
        ("float", np.ones(2), "returned an array of shape (2,) and dtype float64"),
        ("float", True, "returned bool True"),
        ("int", 1.0, "returned float 1.0"),
        ("tuple[float, float]", (1.0,), "returned a tuple of 1"),
        ("tuple[float, float]", (1.0, None), "returned None"),
        ("list[int]", [1, "x" * 100], "returned str 'xxx"),
    ],
)
def test_other_forms_are_told(returns, value, told):
    with pytest.raises(CallFailed) as caught:
        student(value, returns).f(np.ones(2))
    assert caught.value.reason.startswith(told)


def test_the_call_is_described_by_shapes():
    one = student(np.ones(1))
    one.f(np.ones((2, 3)), 0.5, mask=np.ones((9, 9), bool))
    assert one.last_call == "f(x (2, 3), scale=0.5, mask (9, 9))"
    one.f(np.array([1.0, 2.0]), mask=None)
    assert one.last_call == "f(x=[1., 2.], mask=None)"


def test_the_authors_mistakes_are_not_the_learners():
    rng = np.random.default_rng(0)

    def grading(function):
        return judge(check("t", points=1)(function), student(np.ones(2)), rng)

    with pytest.raises(ExerciseError, match="does not ask for"):
        grading(lambda student, rng: student.g())
    with pytest.raises(ExerciseError, match="positional"):
        grading(lambda student, rng: student.f(1, 2, 3))
    with pytest.raises(ExerciseError, match="by itself"):
        grading(lambda student, rng: 1 / 0)
    with pytest.raises(ExerciseError, match="without calling"):
        grading(lambda student, rng: None)
    with pytest.raises(ExerciseError, match="annotation"):
        student(1, "Iterator[int]").f(np.ones(1))


def test_an_answer_that_breaks_the_grader_is_the_learners():
    failure = judge(
        check("t", points=1)(lambda student, rng: student.f(np.ones(1)).reshape(7)),
        student(np.ones(2)),
        np.random.default_rng(0),
    )
    assert failure is not None
    assert "cannot be judged" in failure.reason


def test_checks_are_found_in_order():
    module = type(ast)("grader")
    module.b = check("b", points=1)(lambda student, rng: None)
    module.a = check("a", points=1)(lambda student, rng: None)
    module.other = 3
    assert [c.title for c in checks_of(module)] == ["b", "a"]
    assert isinstance(module.a, Check)
