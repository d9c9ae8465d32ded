"""Grades byte-pair encoding by small cases with known answers, and against the library's."""

import itertools
from collections import Counter

import numpy as np

from minitf.grade import Student, check, expect
from minitf.tokens.bpe import learn_merges, merge_by_rank, merged


def draw_words(rng: np.random.Generator, letters: str, n: int, longest: int) -> dict[str, int]:
    words: dict[str, int] = {}
    for _ in range(n):
        word = "".join(rng.choice(list(letters), rng.integers(1, longest + 1)))
        words[word] = int(rng.integers(1, 30))
    return words


def learned(words: dict[str, int], n: int) -> list[list[str]]:
    merges = learn_merges({tuple(word): count for word, count in words.items()})
    return [list(pair) for pair in itertools.islice(merges, n)]


def everywhere(word: str, merges: list[list[str]]) -> list[str]:
    """The symbols of ``word``: of the pairs that are there the first of ``merges`` is joined, all over the word."""
    symbols = list(word)
    while ranks := [merges.index(list(pair)) for pair in itertools.pairwise(symbols) if list(pair) in merges]:
        a, b = merges[min(ranks)]
        symbols = merged(symbols, (a, b), a + b)
    return symbols


def expect_same(got: list, want: list, what: str) -> None:
    """Two lists of symbols or of merges, compared in the order of their entries."""
    for place, (mine, theirs) in enumerate(itertools.zip_longest(got, want)):
        expect(mine == theirs, f"{what} number {place + 1} is another one", expected=repr(theirs), got=repr(mine))


@check("each pair counts as often as it stands there", points=2, hint=1)
def counts(student: Student, rng: np.random.Generator) -> None:
    for letters, longest in (("ab", 6), ("abc", 8), ("abcdefg", 5)):
        words = draw_words(rng, letters, 12, longest)
        words["abab"] = 7
        want: Counter[str] = Counter()
        for word, n in words.items():
            for a, b in itertools.pairwise(word):
                want[f"{a} {b}"] += n
        got = student.pair_counts([list(word) for word in words], list(words.values()))
        for pair in sorted({*want, *got}):
            expect(
                got.get(pair, 0) == want[pair], f"the pair {pair!r} is counted wrongly", expected=want[pair],
                got=got.get(pair, 0),
            )  # fmt: skip


@check("a pair is joined wherever it stands", points=2, hint=1)
def joins(student: Student, rng: np.random.Generator) -> None:
    for word, a, b, want in (
        (["x"], "x", "x", ["x"]),
        (["a", "b"], "a", "b", ["ab"]),
        (["a", "b", "c", "a", "b"], "a", "b", ["ab", "c", "ab"]),
        (["b", "a"], "a", "b", ["b", "a"]),
        (["th", "e", "t", "h"], "th", "e", ["the", "t", "h"]),
    ):
        expect_same(student.merge(word, a, b), want, f"{word} with {a!r} {b!r} joined: symbol")


@check("overlapping pairs are joined from the left", points=2, hint=1)
def overlaps(student: Student, rng: np.random.Generator) -> None:
    for n in range(2, 8):
        want = ["aa"] * (n // 2) + ["a"] * (n % 2)
        expect_same(student.merge(["a"] * n, "a", "a"), want, f"{n} times 'a' with 'a' 'a' joined: symbol")


@check("ties go to the first pair in the order of strings", points=2, hint=2)
def ties(student: Student, rng: np.random.Generator) -> None:
    words = {"zy": 3, "ba": 3, "ab": 3, "bz": 3}
    expect_same(student.train(words, 3), [["a", "b"], ["b", "a"], ["b", "z"]], "merge")


@check("training finds the merges, in their order", points=3, hint=2)
def training(student: Student, rng: np.random.Generator) -> None:
    for letters, n, longest in (("ab", 8, 7), ("abc", 20, 8), ("abcdefgh", 40, 6)):
        words = draw_words(rng, letters, n, longest)
        words["aaaa"] = 25
        expect_same(student.train(words, 12), learned(words, 12), "merge")
    expect_same(
        student.train({"a": 3, "ab": 1}, 5),
        [["a", "b"]],
        "of the merges of {'a': 3, 'ab': 1}, of which there is one, merge",
    )


@check("the pair that was learned first is merged first", points=3, hint=3)
def encoding(student: Student, rng: np.random.Generator) -> None:
    cases = [("abc", [["b", "c"], ["a", "b"]]), ("aaaaa", [["a", "a"], ["aa", "a"]]), ("x", []), ("abcab", [])]
    for letters in ("ab", "abc", "abcd"):
        words = draw_words(rng, letters, 20, 8)
        cases += [("".join(rng.choice(list(letters), 14)), learned(words, 10)) for _ in range(5)]
    for word, merges in cases:
        want = everywhere(word, merges)
        if want != merge_by_rank(word, {(a, b): rank for rank, (a, b) in enumerate(merges)}):
            continue  # one merge at a time, as some do it, would give something else
        expect_same(student.encode(word, merges), want, f"{word!r} by the merges {merges}: symbol")
