from __future__ import annotations

import re

import pytest

from minitf.papers import marks


def test_marks_wherever_they_stand(repository):
    repository.write(
        "tests/test_marked.py",
        """
import pytest
from pytest import mark

pytestmark = [pytest.mark.paper("fnet", kind="claim")]

@mark.paper(kind="invariant", slug="fnet")
class TestIt:
    @pytest.mark.parametrize("case", [pytest.param(1, marks=pytest.mark.paper("mlkv", "gradient"))])
    def test_case(self, case): ...

@pytest.mark.paper(SLUG, kind="claim")
def test_computed(): ...

@pytest.mark.paper("gemma-2")
def test_without_kind(): ...
""",
    )
    found = {key: files for key, files in marks.scan(repository.root).items() if "tests/test_marked.py" in files}
    assert found.keys() == {("fnet", "claim"), ("fnet", "invariant"), ("mlkv", "gradient")}


def test_a_test_file_with_a_syntax_error_says_nothing(repository):
    repository.write("tests/test_broken.py", "mark.paper(")
    assert all("tests/test_broken.py" not in files for files in marks.scan(repository.root).values())


@pytest.mark.parametrize(
    ("slug", "kind", "message"),
    [
        ("fnett", "claim", "no paper is called 'fnett'; did you mean 'fnet'"),
        ("fnet", "proof", "has kind 'proof'; it must be one of transcription, invariant, gradient, cross, claim"),
        ("fnet", None, "the mark is paper(slug, kind=...)"),
    ],
)
def test_wrong_marks(slug: str, kind: str | None, message: str):
    with pytest.raises(marks.MarkError, match=re.escape(message)):
        marks.check(slug, kind)


def test_right_marks():
    marks.check("fnet", "claim")
