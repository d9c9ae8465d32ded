"""What every exercise promises: nothing for the stub, all for the solution, the right losses for each mistake."""

import ast
import re

import pytest

from minitf.grade import exercises_root, find, grade, names
from minitf.grade.calls import signatures
from minitf.grade.checks import checks_of
from minitf.grade.grading import load_grader

EXERCISES = [find(name) for name in names()]
WRONG = [(exercise, name) for exercise in EXERCISES for name in sorted(exercise.wrong)]
each = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)


def test_there_are_exercises():
    assert "attention/differential" in names()


@each
def test_stub_earns_nothing_and_solution_everything(exercise):
    stub = grade(exercise, exercise.stub)
    assert stub.points == 0
    assert {result.failure.reason for result in stub.results} == {"not written yet (NotImplementedError)"}
    solution = grade(exercise, exercise.solution)
    assert solution.failed == ()
    assert solution.points == exercise.points


@pytest.mark.parametrize(("exercise", "name"), WRONG, ids=[f"{exercise.name}-{name}" for exercise, name in WRONG])
def test_each_mistake_loses_its_checks_and_no_others(exercise, name):
    result = grade(exercise, exercise.folder / "wrong" / f"{name}.py")
    assert set(result.failed) == set(exercise.wrong[name])
    assert not any(
        check.failure.reason.startswith("the answer cannot be judged") for check in result.results if not check.passed
    )


@each
def test_the_folder_is_complete(exercise):
    assert len(exercise.hints) == 3
    assert len(exercise.wrong) >= 3
    assert {path.stem for path in (exercise.folder / "wrong").iterdir()} == set(exercise.wrong)
    assert {path.name for path in exercise.folder.iterdir()} - {"__pycache__"} == {
        *("README.md", "exercise.py", "exercise.toml", "grader.py", "solution.py", "wrong")
    }
    checks = {check.name: check for check in checks_of(load_grader(exercise))}
    assert sum(check.points for check in checks.values()) == exercise.points
    assert all(set(lost) <= set(checks) and lost for lost in exercise.wrong.values())
    assert all(check.hint is None or 1 <= check.hint <= len(exercise.hints) for check in checks.values())
    assert all(len(check.title) <= 85 for check in checks.values())


@each
def test_the_task_is_one_page_and_names_every_function(exercise):
    text = exercise.readme.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    assert text.startswith(f"# {exercise.title}\n")
    assert f"minitf grade {exercise.name}" in text
    for function in signatures(exercise.stub.read_text(encoding="utf-8")):
        assert f"`{function}(" in text


@each
def test_every_function_of_the_stub_is_documented_and_unwritten(exercise):
    for node in ast.parse(exercise.stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            assert ast.get_docstring(node)
            assert re.fullmatch(r"raise NotImplementedError(\(.*\))?", ast.unparse(node.body[-1]))
            assert len(node.body) == 2


@each
def test_solutions_keep_the_signatures(exercise):
    def promised(path):
        return {
            node.name: (ast.unparse(node.args), ast.unparse(node.returns) if node.returns else None)
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.FunctionDef)
        }

    assert promised(exercise.stub).items() <= promised(exercise.solution).items()


def test_every_folder_with_a_grader_is_an_exercise():
    root = exercises_root()
    assert {path.parent.relative_to(root).as_posix() for path in root.rglob("grader.py")} == set(names())
