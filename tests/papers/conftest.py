"""A checkout small enough to hold in one's head, in which one paper works once its tests have passed."""

from __future__ import annotations

from pathlib import Path

import pytest

SLUG = "differential-transformer"


class Checkout:
    """A folder laid out like the repository: a module that implements SLUG, its test, chapter and exercise."""

    module = "minitf/attention/differential.py"
    test = "tests/attention/test_differential.py"
    chapter = "chapters/attention/normalizing_scores.md"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("pyproject.toml", '[project]\nname = "minitf"\n')
        self.write("minitf/__init__.py", "")
        self.write(
            self.module,
            f"""
from minitf.registry import implements, reference

@implements("{SLUG}")
def differential_attention(q): ...

reference("attention.differential", differential_attention, example=None)
""",
        )
        self.write(
            self.test,
            "import pytest\n"
            + "".join(
                f"\n@pytest.mark.paper({SLUG!r}, kind={kind!r})\ndef test_{kind}(): ...\n"
                for kind in ("transcription", "invariant", "gradient", "cross", "claim")
            ),
        )
        self.write(self.chapter, f"# Scores\n\n## Papers\n\n({SLUG})=\n**Differential Transformer**, 2024.\n")
        self.write(
            "_toc.yml", "format: jb-book\nroot: index\nchapters:\n- file: chapters/attention/normalizing_scores\n"
        )
        self.write("exercises/attention/differential/exercise.toml", "")

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


@pytest.fixture
def repository(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)
