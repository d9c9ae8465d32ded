"""Grades beam search by enumeration of all texts, and against the library's."""

import itertools

import numpy as np

import minitf as mt
from minitf.grade import Student, check, expect, expect_close
from minitf.inference import decoding


class Table(mt.nn.Module):
    """The model that the library is asked with: log-probabilities (N, V, V) by step and last token."""

    def __init__(self, logp):
        super().__init__()
        self.logp = logp

    def new_cache(self, B):
        return Step()

    def forward(self, ids, cache):
        cache.number += 1
        return mt.tensor(self.logp[cache.number - 1][ids])


class Step:
    number = 0

    def reorder(self, rows):
        pass


def draw(rng, N, V, sharpness=2.0):
    z = sharpness * rng.standard_normal((N, V, V))
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def library(logp, start, *, beams, eos, length_penalty):
    (ids,), (score,) = decoding.beam_search(
        Table(logp),
        [[start]],
        len(logp),
        beams=beams,
        eos=eos,
        length_penalty=length_penalty,
        early_stopping="never",
    )
    return ids[1:], score


def logprob(logp, start, text):
    return sum(logp[n, u, v] for n, (u, v) in enumerate(itertools.pairwise([start, *text])))


def every_text(N, V, eos):
    """All texts of N tokens, and the shorter ones that end with eos; eos nowhere else."""
    others = [v for v in range(V) if v != eos]
    yield from itertools.product(others, repeat=N)
    if eos is not None:
        for n in range(N):
            yield from ((*text, eos) for text in itertools.product(others, repeat=n))


def expect_text(student: Student, logp, start, want, best, **options):
    """The search must find the text ``want`` with the score ``best``."""
    got, value = student.beam_search(logp, start, **options)
    expect(np.array_equal(got, want), "the search finds another text", expected=np.array(want), got=got)
    expect_close(value, best, what="the score of the text")


@check("a score is divided by the length to the power of the penalty", points=1, hint=1)
def scores(student: Student, rng: np.random.Generator) -> None:
    for length, penalty in ((1, 1.0), (4, 0.0), (4, 1.0), (9, 0.5), (3, -1.0)):
        value = -rng.uniform(1, 10)
        expect_close(student.score(value, length, penalty), value / length**penalty, what="the score")


@check("the best continuations of all texts together, the best first", points=3, hint=1)
def continuations(student: Student, rng: np.random.Generator) -> None:
    for beams, V, n in ((1, 3, 2), (2, 2, 3), (3, 5, 6), (4, 3, 20)):
        before, logp = -rng.uniform(0, 3, beams), draw(rng, 1, 20)[0, :beams, :V]
        ranked = sorted(itertools.product(range(beams), range(V)), key=lambda place: -(before[place[0]] + logp[place]))[
            :n
        ]
        rows, tokens, values = student.expand(before, logp, n)
        expect_close(rows, np.array([row for row, _ in ranked]), what="whose continuations they are")
        expect_close(tokens, np.array([token for _, token in ranked]), what="the tokens")
        expect_close(
            values, np.array([before[row] + logp[row, v] for row, v in ranked]), what="their log-probabilities"
        )


@check("ties go to the earlier beam, then to the lower token", points=2, hint=1)
def ties(student: Student, rng: np.random.Generator) -> None:
    for beams, V in ((1, 4), (3, 2), (3, 5)):
        rows, tokens, _ = student.expand(np.full(beams, -1.0), np.full((beams, V), -2.0), beams * V)
        expect_close(rows, np.repeat(np.arange(beams), V), what="whose continuations they are, all being equal,")
        expect_close(tokens, np.tile(np.arange(V), beams), what="the tokens, all being equal,")


@check("one beam is greedy", points=3, hint=2)
def greedy(student: Student, rng: np.random.Generator) -> None:
    for N, V in ((1, 2), (2, 3), (6, 8)):
        logp, text = draw(rng, N, V), [0]
        for table in logp:
            text.append(int(table[text[-1]].argmax()))
        best = logprob(logp, 0, text[1:])
        expect_text(student, logp, 0, text[1:], best, beams=1, eos=None, length_penalty=0.0)


@check("with enough beams it finds the best of all texts", points=4, hint=3)
def exhaustive(student: Student, rng: np.random.Generator) -> None:
    for N, V, eos in ((1, 2, None), (2, 3, None), (3, 3, 1), (4, 3, 2)):
        for penalty in (0.0, 1.0, 2.0) * 5:
            logp = draw(rng, N, V, 1.0)
            scored = {text: logprob(logp, 0, text) / len(text) ** penalty for text in every_text(N, V, eos)}
            best = max(scored, key=scored.__getitem__)
            expect_text(student, logp, 0, best, scored[best], beams=V**N, eos=eos, length_penalty=penalty)


@check("few beams find what they should, and nothing else", points=5, hint=2)
def few_beams(student: Student, rng: np.random.Generator) -> None:
    for N, V, beams in ((2, 3, 2), (3, 4, 2), (5, 6, 3), (8, 6, 4)):
        for _ in range(5):
            logp, start = draw(rng, N, V, 1.0), int(rng.integers(V))
            options = {"beams": beams, "eos": None, "length_penalty": 1.0}
            expect_text(student, logp, start, *library(logp, start, **options), **options)


@check("few beams and texts that end", points=5, hint=3)
def endings(student: Student, rng: np.random.Generator) -> None:
    # only one case in fifteen tells apart how complete texts are counted, hence so many
    for N, V, beams, cases in ((2, 3, 2, 5), (3, 4, 2, 5), (5, 6, 3, 40), (8, 6, 4, 40)):
        for penalty in (0.0, 0.7, 2.0):
            for _ in range(cases):
                logp, start = draw(rng, N, V, 1.0), int(rng.integers(1, V))
                options = {"beams": beams, "eos": 0, "length_penalty": penalty}
                expect_text(student, logp, start, *library(logp, start, **options), **options)


@check("tokens that cannot be are never written", points=2, hint=2)
def impossible(student: Student, rng: np.random.Generator) -> None:
    """Token v can be followed by v + 1 only: there is one text, however many beams look for others."""
    for N, V in ((1, 3), (3, 4), (6, 5)):
        table = np.full((V, V), -np.inf)
        table[np.arange(V), (np.arange(V) + 1) % V] = 0.0
        text = [(1 + n) % V for n in range(N)]
        for beams in (1, 3):
            logp = np.broadcast_to(table, (N, V, V))
            expect_text(student, logp, 0, text, 0.0, beams=beams, eos=None, length_penalty=1.0)
