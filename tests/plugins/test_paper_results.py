from __future__ import annotations

import json
import re

import pytest
from paper_results import arguments

from minitf.papers import marks, results

TESTS = """
import pytest

@pytest.mark.paper("fnet", kind="invariant")
@pytest.mark.parametrize("n", [1, 2])
def test_invariant(n): ...

@pytest.mark.paper("fnet", kind="claim")
@pytest.mark.paper("mlkv", kind="claim")
def test_claim(): assert CLAIM

@pytest.mark.paper("fnet", kind="transcription")
class TestTranscription:
    def test_it(self): ...

    @pytest.mark.skip(reason="later")
    def test_later(self): ...

@pytest.mark.paper("fnet", kind="gradient")
@pytest.mark.xfail
def test_gradient(): assert False

@pytest.fixture
def broken(): raise RuntimeError

@pytest.mark.paper("mlkv", kind="invariant")
def test_set_up(broken): ...

def test_unmarked(): ...
"""


def recorded(suite: pytest.Pytester) -> dict[str, dict[str, dict[str, str]]]:
    """slug -> kind -> test -> outcome of tests/test_papers.py"""
    content = json.loads((suite.path / ".minitf/results.json").read_text())
    return {
        slug: {
            kind: {
                test.removeprefix("tests/test_papers.py::"): outcome
                for test, outcome in files["tests/test_papers.py"]["tests"].items()
            }
            for kind, files in kinds.items()
        }
        for slug, kinds in content["papers"].items()
    }


@pytest.mark.parametrize("processes", [[], pytest.param(["-n2"], marks=pytest.mark.slow)], ids=["alone", "xdist"])
def test_outcomes_are_recorded(suite, add, processes: list[str]):
    add("tests/test_papers.py", f"CLAIM = True\n{TESTS}")
    suite.runpytest(*processes).assert_outcomes(passed=5, skipped=1, xfailed=1, errors=1)
    everything = {
        "fnet": {
            "invariant": {"test_invariant[1]": "passed", "test_invariant[2]": "passed"},
            "claim": {"test_claim": "passed"},
            "transcription": {
                "TestTranscription::test_it": "passed",
                "TestTranscription::test_later": "skipped",
            },
            "gradient": {"test_gradient": "failed"},
        },
        "mlkv": {"claim": {"test_claim": "passed"}, "invariant": {"test_set_up": "failed"}},
    }
    assert recorded(suite) == everything

    # A run of some tests says nothing about the others, and nothing is forgotten about them.
    suite.runpytest(*processes, "-k", "transcription").assert_outcomes(passed=1, skipped=1)
    assert recorded(suite) == everything
    suite.runpytest("--collect-only")
    assert recorded(suite) == everything

    # The file changes: what does not run now is not known any more.
    add("tests/test_papers.py", f"CLAIM = False\n{TESTS}")
    suite.runpytest(*processes, "-k", "claim").assert_outcomes(failed=1)
    assert recorded(suite)["fnet"]["claim"] == {"test_claim": "failed"}
    assert recorded(suite)["fnet"]["invariant"] == {"test_invariant[1]": "not run", "test_invariant[2]": "not run"}


def test_a_file_asked_for_by_test_id_is_not_complete(suite, add):
    add("tests/test_papers.py", f"CLAIM = True\n{TESTS}")
    suite.runpytest("tests/test_papers.py::test_invariant[1]").assert_outcomes(passed=1)
    entry = json.loads((suite.path / ".minitf/results.json").read_text())["papers"]["fnet"]["invariant"]
    assert not entry["tests/test_papers.py"]["complete"]
    suite.runpytest("tests/test_papers.py")
    entry = json.loads((suite.path / ".minitf/results.json").read_text())["papers"]["fnet"]["invariant"]
    assert entry["tests/test_papers.py"]["complete"]


@pytest.mark.parametrize("processes", [[], pytest.param(["-n2"], marks=pytest.mark.slow)], ids=["alone", "xdist"])
def test_wrong_marks_end_the_run_with_a_lesson(suite, add, processes: list[str]):
    add(
        "tests/test_papers.py",
        'import pytest\n@pytest.mark.paper("fnett", kind="claim")\ndef test_a(): ...\n'
        '@pytest.mark.paper("fnet", kind="proof")\ndef test_b(): ...\n',
    )
    result = suite.runpytest(*processes)
    assert result.ret != 0
    told = str(result.stdout) + str(result.stderr)
    assert "tests/test_papers.py::test_a: no paper is called 'fnett'; did you mean 'fnet'" in told
    assert "tests/test_papers.py::test_b: a test of fnet has kind 'proof'; it must be one of transcription" in told
    assert not (suite.path / ".minitf/results.json").exists()


def test_a_registration_that_cannot_be_read_does_not_stop_the_tests(suite, add):
    add("minitf/x.py", "from minitf.registry import implements\n@implements(SLUG)\ndef f(): ...\n")
    add("tests/test_papers.py", f"CLAIM = True\n{TESTS}")
    result = suite.runpytest("-k", "invariant")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*results of papers were not recorded*", "*x.py:2: implements takes the slugs*"])


@pytest.mark.parametrize(
    "mark",
    [
        pytest.mark.paper("fnet"),
        pytest.mark.paper(kind="claim"),
        pytest.mark.paper("fnet", "claim", "more"),
        pytest.mark.paper("fnet", "claim", sort="x"),
        pytest.mark.paper("fnet", kind=None),
    ],
)
def test_the_form_of_the_mark(mark: pytest.MarkDecorator):
    with pytest.raises(marks.MarkError, match=re.escape("the mark is paper(slug, kind=")):
        arguments(mark.mark)


def test_both_arguments_may_be_positional():
    assert arguments(pytest.mark.paper("fnet", "claim").mark) == ("fnet", "claim")


def test_a_paper_works_after_its_tests_have_run(suite, add):
    add("minitf/x.py", "from minitf.registry import implements\n@implements('fnet')\ndef f(): ...\n")
    add("chapters/attention/mixing_without_scores.md", "(fnet)=\n**FNet**, 2021.\n")
    add("_toc.yml", "root: index\nchapters:\n- file: chapters/attention/mixing_without_scores\n")
    kinds = ("transcription", "invariant", "gradient", "claim")
    tests = "".join(f"@pytest.mark.paper('fnet', kind='{kind}')\ndef test_{kind}(): ...\n" for kind in kinds)
    add("tests/test_x.py", f"import pytest\n{tests}")
    assert results.judge(suite.path)["fnet"].state == "not run"
    suite.runpytest().assert_outcomes(passed=4)
    assert results.judge(suite.path)["fnet"].state == "works"
    add("minitf/x.py", "from minitf.registry import implements\n@implements('fnet')\ndef f(): return 1\n")
    assert results.judge(suite.path)["fnet"].state == "not run"
