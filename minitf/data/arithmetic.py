"""Tasks of counting, sorting and calculating, in text.

AdditionTask         4095+17=              4112           length: digits of the longer number
MultiplicationTask   37*12=                444            length: digits of both numbers
ParityTask           10110=                1              are the ones odd in number? length: bits
SumModTask           7 9 1=                7              length: numbers, the sum modulo 10
PolynomialTask       x=3:2x2+1x0=          9              length: terms, the value modulo 10
SortTask             31 7 12=              7 12 31        length: numbers
CountTask            5 8=                  5 6 7 8        length: numbers counted
ModeTask             acabca=               a              the most frequent letter; length: letters
LegoTask             a=+1;b=-a;c=+b;c?     -1             length: variables
"""

from __future__ import annotations

import itertools
from collections import Counter
from string import ascii_lowercase

import numpy as np

from minitf.data.text_task import TextTask, until
from minitf.nn.init import generator


def digits_of(n: int, base: int = 10) -> list[int]:
    """The digits of n, least significant first; [0] for 0."""
    digits = [n % base]
    while n := n // base:
        digits.append(n % base)
    return digits


def _number(length: int, rng: np.random.Generator) -> int:
    """A uniformly random number with so many digits; with one digit also 0."""
    return int("".join(map(str, [rng.integers(1 if length > 1 else 0, 10), *rng.integers(0, 10, length - 1)])))


class AdditionTask(TextTask):
    """a + b; one of the two, at random, has ``length`` digits, the other 1 to ``length``, uniformly. (choice)

    The scratchpad adds digit by digit from the right: "5+7+0=12;9+1+1=11;...", the last summand being the carry.
    """

    def sample(self, length: int, *, rng: np.random.Generator) -> tuple[int, int]:
        self._require_length(length)
        pair = [_number(length, generator(rng)), _number(int(rng.integers(1, length + 1)), rng)]
        a, b = (pair[i] for i in rng.permutation(2))
        return a, b

    def prompt(self, example: tuple[int, int]) -> str:
        return f"{example[0]}+{example[1]}="

    def answer(self, example: tuple[int, int]) -> str:
        return str(sum(example))

    def steps(self, example: tuple[int, int]) -> str:
        carry, text = 0, ""
        for a, b in itertools.zip_longest(*map(digits_of, example), fillvalue=0):
            text += f"{a}+{b}+{carry}={a + b + carry};"
            carry = (a + b + carry) // 10
        return text


class MultiplicationTask(TextTask):
    """a times b, both with ``length`` digits.

    The scratchpad has a product for each digit of b from the right, and what they add up to so far: "74>74;370>444;".
    """

    def sample(self, length: int, *, rng: np.random.Generator) -> tuple[int, int]:
        self._require_length(length)
        return _number(length, generator(rng)), _number(length, rng)

    def prompt(self, example: tuple[int, int]) -> str:
        return f"{example[0]}*{example[1]}="

    def answer(self, example: tuple[int, int]) -> str:
        return str(example[0] * example[1])

    def steps(self, example: tuple[int, int]) -> str:
        products = [example[0] * digit * 10**i for i, digit in enumerate(digits_of(example[1]))]
        return "".join(f"{p}>{total};" for p, total in zip(products, itertools.accumulate(products), strict=True))


class ParityTask(TextTask):
    """The parity of uniformly random bits. The scratchpad has the parity of each prefix."""

    def sample(self, length: int, *, rng: np.random.Generator) -> tuple[int, ...]:
        self._require_length(length)
        return tuple(generator(rng).integers(0, 2, length).tolist())

    def prompt(self, example: tuple[int, ...]) -> str:
        return "".join(map(str, example)) + "="

    def answer(self, example: tuple[int, ...]) -> str:
        return str(sum(example) % 2)

    def steps(self, example: tuple[int, ...]) -> str:
        return "".join(str(total % 2) for total in itertools.accumulate(example)) + ";"


class SumModTask(TextTask):
    """The sum of numbers from 1 to 9, modulo 10. The scratchpad has the sum of each prefix, modulo 10."""

    def sample(self, length: int, *, rng: np.random.Generator) -> tuple[int, ...]:
        self._require_length(length)
        return tuple(generator(rng).integers(1, 10, length).tolist())

    def prompt(self, example: tuple[int, ...]) -> str:
        return " ".join(map(str, example)) + "="

    def answer(self, example: tuple[int, ...]) -> str:
        return str(sum(example) % 10)

    def steps(self, example: tuple[int, ...]) -> str:
        return " ".join(str(total % 10) for total in itertools.accumulate(example)) + ";"


class PolynomialTask(TextTask):
    """The value modulo 10 of a polynomial: (x, ((coefficient, power), ...)), all uniform in 0..9, powers in 0..``degree``.

    The scratchpad has the value of each term and the sum so far, both modulo 10.
    """

    def __init__(self, degree: int = 3):
        self.degree = degree

    def sample(self, length: int, *, rng: np.random.Generator) -> tuple[int, tuple[tuple[int, int], ...]]:
        self._require_length(length)
        x = int(generator(rng).integers(0, 10))
        terms = zip(
            rng.integers(0, 10, length).tolist(), rng.integers(0, self.degree + 1, length).tolist(), strict=True
        )
        return x, tuple(terms)

    def prompt(self, example: tuple[int, tuple[tuple[int, int], ...]]) -> str:
        return f"x={example[0]}:" + "+".join(f"{c}x{power}" for c, power in example[1]) + "="

    def answer(self, example: tuple[int, tuple[tuple[int, int], ...]]) -> str:
        x, terms = example
        return str(sum(c * x**power for c, power in terms) % 10)

    def steps(self, example: tuple[int, tuple[tuple[int, int], ...]]) -> str:
        x, terms = example
        values = [c * x**power % 10 for c, power in terms]
        return "".join(f"{v}>{total % 10};" for v, total in zip(values, itertools.accumulate(values), strict=True))


class SortTask(TextTask):
    """Numbers from 0 to ``below`` - 1 in ascending order."""

    separator = " "

    def __init__(self, below: int = 100):
        self.below = below

    def sample(self, length: int, *, rng: np.random.Generator) -> tuple[int, ...]:
        self._require_length(length)
        return tuple(generator(rng).integers(0, self.below, length).tolist())

    def prompt(self, example: tuple[int, ...]) -> str:
        return " ".join(map(str, example)) + "="

    def answer(self, example: tuple[int, ...]) -> str:
        return " ".join(map(str, sorted(example)))


class CountTask(TextTask):
    """From a to b, both named: (a, b). a is uniform where all numbers are below ``below``."""

    separator = " "

    def __init__(self, below: int = 100):
        self.below = below

    def sample(self, length: int, *, rng: np.random.Generator) -> tuple[int, int]:
        self._require_length(length, self.below)
        a = int(generator(rng).integers(0, self.below - length + 1))
        return a, a + length - 1

    def prompt(self, example: tuple[int, int]) -> str:
        return f"{example[0]} {example[1]}="

    def answer(self, example: tuple[int, int]) -> str:
        return " ".join(map(str, range(example[0], example[1] + 1)))


class ModeTask(TextTask):
    """The most frequent of random letters, which is the only one so frequent.

    letters: how many there are. The scratchpad has each letter that occurs, in alphabetical order, with its count.
    """

    def __init__(self, letters: int = 5):
        self.letters = ascii_lowercase[:letters]

    def sample(self, length: int, *, rng: np.random.Generator) -> str:
        self._require_length(length)
        generator(rng)
        return until(_has_one_mode, lambda: "".join(rng.choice(list(self.letters), length)))

    def prompt(self, example: str) -> str:
        return f"{example}="

    def answer(self, example: str) -> str:
        return Counter(example).most_common(1)[0][0]

    def steps(self, example: str) -> str:
        return "".join(f"{letter}{n};" for letter, n in sorted(Counter(example).items()))


def _has_one_mode(letters: str) -> bool:
    counts = sorted(Counter(letters).values(), reverse=True)
    return len(counts) == 1 or counts[0] > counts[1]


class LegoTask(TextTask):
    """A chain of signs, v_0 = ±1 and v_i = ±v_{i-1}: ((name, sign), ...) and the index of the variable asked for.

    Names are letters in random order; one of the second half of the chain is asked for. shuffled: clauses in random order.
    The scratchpad resolves the chain up to that variable.
    """

    def __init__(self, shuffled: bool = False):
        self.shuffled = shuffled

    def sample(
        self, length: int, *, rng: np.random.Generator
    ) -> tuple[tuple[tuple[str, int], ...], tuple[int, ...], int]:
        """(the chain, the order in which its clauses are written, the index asked for)."""
        self._require_length(length, len(ascii_lowercase))
        names = generator(rng).permutation(list(ascii_lowercase))[:length].tolist()
        chain = tuple(zip(names, rng.choice([1, -1], length).tolist(), strict=True))
        order = rng.permutation(length) if self.shuffled else np.arange(length)
        # with one variable there is no second half
        return chain, tuple(order.tolist()), int(rng.integers(min(-(-length // 2), length - 1), length))

    def prompt(self, example: tuple[tuple[tuple[str, int], ...], tuple[int, ...], int]) -> str:
        chain, order, asked = example
        before = ["1", *(name for name, _ in chain)]
        clauses = [f"{chain[i][0]}={'+' if chain[i][1] > 0 else '-'}{before[i]};" for i in order]
        return "".join(clauses) + f"{chain[asked][0]}?"

    def answer(self, example: tuple[tuple[tuple[str, int], ...], tuple[int, ...], int]) -> str:
        chain, _, asked = example
        return f"{int(np.prod([sign for _, sign in chain[: asked + 1]])):+d}"

    def steps(self, example: tuple[tuple[tuple[str, int], ...], tuple[int, ...], int]) -> str:
        chain, _, asked = example
        values = itertools.accumulate((sign for _, sign in chain[: asked + 1]), lambda a, b: a * b)
        return "".join(f"{name}={value:+d};" for (name, _), value in zip(chain, values, strict=False))
