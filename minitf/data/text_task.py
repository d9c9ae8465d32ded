"""``TextTask``: problems of any length, posed and answered in text, whose right answer a program knows.

task = AdditionTask()
example = task.sample(4, rng=rng)               # (4095, 17)
task.encode(example)                            # ("4095+17=", "4112")
task.encode(example, "reversed")                # ("4095+17=", "2114"), in the order in which carries are known
task.encode(example, "scratchpad")              # ("4095+17=", steps that lead to the answer, and the answer)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np

FORMATS = ("plain", "reversed", "scratchpad")


class Posed(NamedTuple):
    """The text that a model is given, and the text that it is to go on with."""

    prompt: str
    answer: str


class TextTask:
    """The base of text tasks; a subclass says what an example is, how it is posed and what its answer is.

    shortest: the least length of an example. separator: what stands between the items of an answer.
    """

    shortest: ClassVar[int] = 1
    separator: ClassVar[str] = ""

    def sample(self, length: int, *, rng: np.random.Generator) -> Any:
        """A random example of this length."""
        raise NotImplementedError

    def prompt(self, example: Any) -> str:
        """The problem as text."""
        raise NotImplementedError

    def answer(self, example: Any) -> str:
        """The right answer as text."""
        raise NotImplementedError

    def steps(self, example: Any) -> str:
        """Text that leads to the answer, and can be written from left to right."""
        raise ValueError(f"{type(self).__name__} has no scratchpad")

    def encode(self, example: Any, format: str = "plain") -> Posed:
        """The example as text.

        format: "plain"; "reversed", the answer's items last to first; "scratchpad", ``steps`` and then the answer.
        """
        if format not in FORMATS:
            raise ValueError(f"{type(self).__name__}: format must be one of {', '.join(FORMATS)}, got {format!r}")
        answer = self.answer(example)
        if format == "reversed":
            items = answer.split(self.separator) if self.separator else list(answer)
            answer = self.separator.join(reversed(items))
        return Posed(self.prompt(example), self.steps(example) + answer if format == "scratchpad" else answer)

    def length_buckets(self, train_max: int, test_max: int) -> tuple[list[int], list[int]]:
        """The lengths to train on, up to ``train_max``, and the longer ones to test on, up to ``test_max``."""
        if not self.shortest <= train_max < test_max:
            raise ValueError(
                f"{type(self).__name__}: needs {self.shortest} <= train_max < test_max, got {train_max} and {test_max}"
            )
        return list(range(self.shortest, train_max + 1)), list(range(train_max + 1, test_max + 1))

    def _require_length(self, length: int, longest: int | None = None) -> None:
        if length < self.shortest or (longest is not None and length > longest):
            upto = "" if longest is None else f" and at most {longest}"
            raise ValueError(f"{type(self).__name__}: a length must be at least {self.shortest}{upto}, got {length}")


def until(accepted: Callable[[Any], bool], draw: Callable[[], Any]) -> Any:
    """The first draw that is accepted."""
    while not accepted(example := draw()):
        pass
    return example
