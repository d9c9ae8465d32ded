"""The commands, called as the command line calls them, on the real first exercise."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from minitf.grade import UsageError, exercises_root, find, names
from minitf.grade.commands import add_commands
from minitf.grade.progress import FILE, Progress, learners_folder

NAME = "attention/differential"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """``run("grade", ...)`` in an empty folder; returns (exit code, standard output)."""
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(required=True))

    def run(*argv):
        arguments = parser.parse_args([str(word) for word in argv])
        code = arguments.run(arguments)
        return code, capsys.readouterr().out

    return run


def test_a_first_hour(run, tmp_path):
    code, out = run("exercises")
    assert code == 0
    assert NAME in out
    assert "0 / 20" in out

    code, out = run("start", "differential")
    assert code == 0
    attempt = tmp_path / NAME / "exercise.py"
    assert {path.name for path in attempt.parent.iterdir()} == {"README.md", "exercise.py"}
    assert str(Path(NAME) / "exercise.py") in out
    assert "(not tried yet)" in run("exercises")[1]

    code, out = run("grade", NAME)
    assert code == 1
    assert "0 of 20 points" in out
    assert "not written yet" in out
    assert f"minitf hint {NAME} 1" in out

    hints = find(NAME).hints
    for number in (1, 2, 3, 3):
        shown = " ".join(run("hint", "differential")[1].split())
        assert shown.startswith(" ".join(f"hint {number} of 3: {hints[number - 1]}".split()))
    assert shown.endswith(f"That was the last one. `minitf solution {NAME}` shows how it is done.")
    assert run("hint", NAME, 2)[1].startswith("hint 2 of 3: ")

    code, out = run("solution", NAME)
    assert code == 1
    assert "has 0 of 20 points" in out
    assert "import numpy" not in out

    attempt.write_text((find(NAME).folder / "wrong" / "naive_softmax.py").read_text())
    code, out = run("grade")
    assert code == 1
    assert "18 of 20 points" in out
    assert "(started)" in run("exercises")[1]

    attempt.write_text(find(NAME).solution.read_text())
    code, out = run("grade", "--json", "results.json", "--seed", "5")
    assert code == 0
    assert "20 of 20 points" in out
    assert "seed 5 " in out
    assert "(done)" in run("exercises")[1]
    assert run("solution", NAME) == (0, find(NAME).solution.read_text())

    standing = Progress.load(tmp_path).exercises[NAME]
    assert (standing.attempts, standing.best, standing.last, standing.hints) == (3, 20, 20, 3)
    assert standing.solution_shown


def test_results_for_gradescope(run, tmp_path):
    wrong = find(NAME).folder / "wrong" / "layers_from_one.py"
    code, out = run("grade", NAME, "--file", wrong, "--json", "results.json", "--all")
    assert code == 1
    assert out.count("✗") == 2 * 3
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["score"], results["max_score"]) == (13, 20)
    assert sum(test["score"] for test in results["tests"]) == 13
    assert {test["status"] for test in results["tests"]} == {"passed", "failed"}
    failed = results["tests"][0]
    assert failed["name"].startswith("λ_init")
    assert "lambda_init(layer=0)" in failed["output"]
    assert results["extra_data"][NAME]["isolation"].startswith("cooperative")
    assert "\x1b" not in json.dumps(results)
    assert {path.name for path in tmp_path.iterdir()} == {"results.json"}  # a file is graded without any progress


def test_starting_again_keeps_the_attempt(run, tmp_path):
    run("start", NAME)
    attempt = tmp_path / NAME / "exercise.py"
    for number in (1, 2):
        attempt.write_text(f"# attempt {number}\n")
        with pytest.raises(UsageError, match="starts again and keeps it aside"):
            run("start", NAME)
        assert attempt.read_text() == f"# attempt {number}\n"
        code, out = run("start", NAME, "--force")
        assert code == 0
        assert f"exercise.backup-{number}.py" in out
        assert attempt.with_name(f"exercise.backup-{number}.py").read_text() == f"# attempt {number}\n"
        assert attempt.read_text() == find(NAME).stub.read_text()


def test_the_folder_is_found_from_inside(run, tmp_path, monkeypatch):
    run("start", NAME)
    monkeypatch.chdir(tmp_path / NAME)
    assert learners_folder(Path.cwd()) == tmp_path
    Path("exercise.py").write_text("syntax error")
    code, out = run("grade")
    assert code == 1
    assert "nothing can be graded yet" in out
    assert out.count("SyntaxError") == 1


def test_another_folder(run, tmp_path):
    assert run("start", NAME, "--dir", tmp_path / "mine")[0] == 0
    assert (tmp_path / "mine" / NAME / "exercise.py").exists()
    assert (tmp_path / "mine" / FILE).exists()
    assert run("exercises", "--dir", "mine")[1].count("(not tried yet)") == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["start", "diferential"], "did you mean attention/differential?"),
        (["start", "atention/differential"], "did you mean attention/differential?"),
        (["start", "nothing-like-it"], r"there is no exercise 'nothing-like-it' \("),
        (["start", "rential"], "did you mean"),
        (["start", NAME, "--dir", exercises_root()], "is the exercise itself"),
        (["grade"], "no exercise is started here"),
        (["grade", NAME], "`minitf start attention/differential` makes one"),
        (["grade", NAME, "--file", "absent.py"], "there is no file absent.py"),
        (["hint", NAME, "4"], "has hints 1 to 3, not 4"),
        (["hint", NAME, "-1"], "has hints 1 to 3, not -1"),
    ],
)
def test_wrong_use(run, argv, message):
    with pytest.raises(UsageError, match=message):
        run(*argv)


def test_trailing_slashes_of_completion_are_fine():
    assert find(f"./{NAME}/").name == NAME == find("differential").name
    assert NAME in names()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format": 99, "exercises": {}}',
        '{"format": 1}',
        '{"format": 1, "exercises": []}',
        '{"format": 1, "exercises": {"a": {"best": "many"}}}',
        '{"format": 1, "exercises": {"a": 3}}',
        "\xff\xfe",
    ],
)
def test_progress_that_cannot_be_read_is_kept_aside(tmp_path, content):
    (tmp_path / FILE).write_bytes(content.encode("latin-1"))
    progress = Progress.load(tmp_path)
    assert progress.exercises == {}
    assert "cannot be read" in progress.warning
    (kept,) = tmp_path.iterdir()
    assert kept.name in progress.warning
    assert kept.read_bytes() == content.encode("latin-1")
    progress["a"].best = 3
    progress.save()
    assert Progress.load(tmp_path).exercises == {"a": progress["a"]}


def test_the_warning_goes_to_standard_error(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / FILE).write_text("{")
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers())
    arguments = parser.parse_args(["exercises"])
    assert arguments.run(arguments) == 0
    assert "cannot be read" in capsys.readouterr().err


def test_starting_the_command_line_loads_no_grader():
    program = "import sys, minitf.grade.commands; print(*sorted(m for m in sys.modules if 'grade' in m))"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["minitf.grade", "minitf.grade.commands"]


def test_color_is_for_terminals(run, monkeypatch):
    assert "\x1b" not in run("exercises")[1]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b" in run("exercises")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in run("exercises")[1]
