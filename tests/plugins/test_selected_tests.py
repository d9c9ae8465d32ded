from __future__ import annotations

import subprocess

import affected_files
import pytest
import selected_tests

TESTS = """
import pytest

def test_plain(): ...

@pytest.mark.slow
def test_slow(): ...

@pytest.mark.cross
def test_marked_cross(): ...
"""
CROSS = "import a_framework\ndef test_cross(): ...\n"


@pytest.fixture
def suite(suite, add):
    """tests/test_a.py with one test of each sort, tests/cross/test_b.py, and something that passes for torch."""
    add("tests/test_a.py", TESTS)
    add("tests/cross/test_b.py", CROSS)
    add("elsewhere/a_framework.py", "")
    add("elsewhere/torch.py", "")
    ini = next(suite.path.glob("*.ini"))
    ini.write_text(ini.read_text() + f"  {suite.path / 'elsewhere'}\n")
    return suite


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [
        ([], 1),
        (["--slow"], 2),
        (["--cross"], 3),
        (["--slow", "--cross"], 4),
        (["tests/cross"], 1),
        (["tests/cross/test_b.py"], 1),
        (["-m", "slow"], 1),
        (["tests/test_a.py::test_slow"], 1),
        pytest.param(["--cross", "-n2"], 3, marks=pytest.mark.slow),
    ],
)
def test_slow_and_cross_tests_run_when_asked_for(suite, arguments: list[str], passed: int):
    result = suite.runpytest(*arguments)
    assert result.parseoutcomes()["passed"] == passed
    assert result.ret == 0


def test_without_torch_cross_tests_say_what_to_install(suite, add, monkeypatch):
    monkeypatch.setattr(selected_tests, "_has_torch", lambda: False)
    add("elsewhere/a_framework.py", "import a_module_that_only_comes_with_torch\n")
    result = suite.runpytest("--cross", "-ra")
    result.assert_outcomes(passed=1, skipped=2, deselected=1)
    result.stdout.fnmatch_lines(["*torch is not installed; pip install 'minitf?cross?' brings*"])


def git(suite: pytest.Pytester, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], cwd=suite.path, check=True, capture_output=True)


@pytest.mark.parametrize("processes", [[], pytest.param(["-n2"], marks=pytest.mark.slow)], ids=["alone", "xdist"])
def test_affected_tests_and_one_tenth_of_the_others(suite, add, processes: list[str]):
    many = "import pytest\n@pytest.mark.parametrize('n', range(40))\ndef test_one(n): ...\n"
    add("tests/test_changed.py", many)
    add("tests/test_other.py", many)
    add(".gitignore", "__pycache__\n.minitf\nrunpytest-*\n")
    git(suite, "init", "-b", "main")
    git(suite, "add", ".")
    git(suite, "commit", "-m", "one")
    add("tests/test_changed.py", f"{many}# changed\n")

    others = [f"tests/test_other.py::test_one[{n}]" for n in range(40)] + ["tests/test_a.py::test_plain"]
    for rotation in (0, 1, 2):
        tenth = sum(affected_files.in_rotation(node, rotation) for node in others)
        result = suite.runpytest("--affected", "main", "--rotation", str(rotation), *processes)
        assert result.parseoutcomes()["passed"] == 40 + tenth
        result.stdout.fnmatch_lines(
            [f"affected: 1 files changed since main and reach 1 test files; with tenth {rotation} of the others"]
        )


def test_an_unknown_base_runs_everything_and_says_so(suite):
    git(suite, "init")
    result = suite.runpytest("--affected=nosuch", "--rotation=0")
    result.assert_outcomes(passed=1, deselected=2)
    result.stdout.fnmatch_lines(["affected: everything runs: git merge-base: fatal: *"])


def test_rotation_needs_affected(suite):
    result = suite.runpytest("--rotation=0")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*it needs --affected"])


@pytest.mark.parametrize(
    ("arguments", "examples"), [([], 15), (["--hypothesis-profile=thorough"], 300)], ids=["quick", "thorough"]
)
def test_hypothesis_profiles(suite, add, arguments: list[str], examples: int):
    add(
        "tests/test_profile.py",
        "from hypothesis import settings\n"
        f"def test_profile(): assert (settings().max_examples, settings().deadline) == ({examples}, None)\n",
    )
    suite.runpytest("tests/test_profile.py", *arguments).assert_outcomes(passed=1)
