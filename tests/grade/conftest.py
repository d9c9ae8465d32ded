"""A tiny exercise with low limits, so that a grading costs little more than starting NumPy."""

from pathlib import Path

import pytest

from minitf.grade import Exercise

FILES = {
    "exercise.toml": """
        title = "Twice"
        points = 5
        chapter = "attention/normalizing_scores"
        hints = ["add", "multiply", "return 2 * x"]

        [limits]
        seconds = 5
        total_seconds = 20
        cpu_seconds = 5
        memory_mib = 512
        reply_mib = 1
        """,
    "exercise.py": """
        import numpy as np


        def double(x: np.ndarray) -> np.ndarray:
            raise NotImplementedError


        def total(x: np.ndarray) -> float:
            raise NotImplementedError
        """,
    "grader.py": """
        import numpy as np

        from minitf.grade import check, expect_close


        @check("doubles", points=3, hint=3)
        def doubles(student, rng):
            for size in (1, 3):
                x = rng.standard_normal(size)
                expect_close(student.double(x), 2 * x, what="the double")


        @check("adds up", points=2)
        def adds_up(student, rng):
            x = rng.standard_normal(4)
            expect_close(student.total(x), x.sum(), what="the sum")
        """,
    "solution.py": """
        import numpy as np


        def double(x):
            return 2 * x


        def total(x):
            return x.sum()
        """,
    "README.md": "# Twice\n",
}


def dedent(text: str) -> str:
    lines = text.strip("\n").splitlines()
    return "\n".join(line.removeprefix("        ") for line in lines).rstrip() + "\n"


@pytest.fixture
def exercise(tmp_path: Path) -> Exercise:
    folder = tmp_path / "exercise"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(dedent(text), encoding="utf-8")
    return Exercise.load(folder, "arithmetic/double")


@pytest.fixture
def submission(tmp_path: Path):
    """Writes a submission: ``double`` and ``total`` are right unless the source says otherwise."""

    def write(source: str) -> Path:
        path = tmp_path / "submission.py"
        right = "def double(x):\n    return 2 * x\n\ndef total(x):\n    return x.sum()\n\n"
        path.write_text(right + source, encoding="utf-8")
        return path

    return write
