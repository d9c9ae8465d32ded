"""The examples of the README do what it shows."""

import doctest
import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")


def blocks(torch: bool) -> str:
    """The Python blocks, those that need torch or the others."""
    found = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    chosen = [block for block in found if ("import torch" in block) == torch]
    return "".join(re.sub(r"\n\n(?!>>>|$)", "\n<BLANKLINE>\n", block) for block in chosen)  # doctest's word for one


class Numbers(doctest.OutputChecker):
    """What others compute may differ in the last digits: every number matches every other."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        want, got = (re.sub(r"\[[#, ]*\] of .*", "#", NUMBER.sub("#", text)) for text in (want, got))
        return super().check_output(want, got, optionflags)


def failures(text: str, checker: doctest.OutputChecker | None = None) -> int:
    test = doctest.DocTestParser().get_doctest(text, {}, "README.md", str(README), 0)
    assert test.examples
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.DocTestRunner(checker, optionflags=flags).run(test).failed


def test_python_examples_show_their_real_output():
    assert failures(blocks(torch=False)) == 0


@pytest.mark.cross
def test_torch_examples_show_their_real_output():
    assert failures(blocks(torch=True), Numbers()) == 0


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (README.parent / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", README.read_text(encoding="utf-8")))
    assert named <= targets
