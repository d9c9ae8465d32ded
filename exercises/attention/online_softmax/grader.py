"""Grades the online softmax by the definition of its state, and against the library, which reads all keys at once."""

import numpy as np

from minitf.grade import Student, check, expect_close
from minitf.nn.scaled_dot_product import attention_log_sum_exp, scaled_dot_product_attention

#: (T, keys read before, keys of the block, W): a check walks through these and stops at the smallest that fails
SIZES = ((1, 1, 1, 1), (1, 2, 1, 1), (2, 1, 3, 2), (3, 4, 2, 2), (5, 7, 6, 3))


def draw(rng, T, S, W):
    """Logits (T, S), values (S, W)."""
    return rng.normal(0, 2, (T, S)), rng.standard_normal((S, W))


def nothing(T, W):
    """The state in which nothing was read."""
    return np.full(T, -np.inf), np.zeros(T), np.zeros((T, W))


def state(logits, v):
    """m, s and o of their definitions."""
    m = logits.max(axis=1, initial=-np.inf)
    weights = np.exp(logits - np.where(np.isfinite(m), m, 0.0)[:, None])
    return m, weights.sum(axis=1), weights @ v


def expect_state(got, want, when):
    for name, ours, right in zip("mso", got, want, strict=True):
        expect_close(ours, right, what=f"{name} {when}")


def expect_result(got, logits, v, when):
    """Output and log-sum-exp are the library's, asked with the logits as a bias."""
    (T, S), (out, lse) = logits.shape, got
    q, k = np.zeros((T, 1)), np.zeros((S, 1))
    expect_close(out, scaled_dot_product_attention(q, k, v, bias=logits), what=f"the output {when}")
    expect_close(lse, attention_log_sum_exp(q, k, bias=logits), what=f"the log-sum-exp {when}")


@check("a first block gives its maximum, its sum and its weighted sum", points=3, hint=1)
def first_block(student: Student, rng: np.random.Generator) -> None:
    for T, _, b, W in SIZES:
        logits, v = draw(rng, T, b, W)
        got = student.update(*nothing(T, W), logits, v)
        expect_state(got, state(logits, v), f"after a first block of {b}")


@check("a further block corrects what was there", points=4, hint=2)
def next_blocks(student: Student, rng: np.random.Generator) -> None:
    for T, before, b, W in SIZES:
        for shift in (0.0, 3.0, -3.0):  # the maximum may rise or stay
            logits, v = draw(rng, T, before + b, W)
            logits[:, before:] += shift
            old = state(logits[:, :before], v[:before])
            got = student.update(*old, logits[:, before:], v[before:])
            expect_state(got, state(logits, v), f"after {before} keys and a block of {b}")


@check("an empty block, or one that is all -∞ for a query, changes nothing", points=2, hint=3)
def empty_blocks(student: Student, rng: np.random.Generator) -> None:
    for T, before, b, W in SIZES:
        logits, v = draw(rng, T, before, W)
        for old, what in ((nothing(T, W), "nothing"), (state(logits, v), f"{before} keys")):
            unseen = np.full((T, b), -np.inf), rng.standard_normal((b, W))
            expect_state(student.update(*old, *unseen), old, f"after {what} and a block of {b} that is all -inf")
            empty = np.zeros((T, 0)), np.zeros((0, W))
            expect_state(student.update(*old, *empty), old, f"after {what} and a block of 0")


@check("merging gives the state of all keys, whichever part comes first", points=3, hint=2)
def merging(student: Student, rng: np.random.Generator) -> None:
    for T, before, b, W in SIZES:
        logits, v = draw(rng, T, before + b, W)
        logits[:, before:] += rng.uniform(-3, 3)
        parts = state(logits[:, :before], v[:before]), state(logits[:, before:], v[before:])
        want = state(logits, v)
        expect_state(student.merge(*parts[0], *parts[1]), want, f"of {before} keys merged with {b}")
        expect_state(student.merge(*parts[1], *parts[0]), want, f"of {b} keys merged with {before}")


@check("merging with the state of nothing changes nothing", points=2, hint=3)
def merging_with_nothing(student: Student, rng: np.random.Generator) -> None:
    for T, before, _, W in SIZES:
        some, none = state(*draw(rng, T, before, W)), nothing(T, W)
        expect_state(student.merge(*some, *none), some, f"of {before} keys merged with nothing")
        expect_state(student.merge(*none, *some), some, f"of nothing merged with {before} keys")
        expect_state(student.merge(*none, *none), none, "of nothing merged with nothing")


@check("a state becomes output and log-sum-exp: 0 and -∞ where nothing was seen", points=2, hint=3)
def finishing(student: Student, rng: np.random.Generator) -> None:
    for T, S, _, W in SIZES:
        logits, v = draw(rng, T, S, W)
        expect_result(student.finish(*state(logits, v)), logits, v, f"of {S} keys")
        logits[0] = -np.inf
        expect_result(student.finish(*state(logits, v)), logits, v, "of a query that saw nothing, and others")


@check("attention does not depend on the size of the blocks", points=2, hint=3)
def whole(student: Student, rng: np.random.Generator) -> None:
    for T, before, b, W in ((1, 0, 0, 1), *SIZES):
        S = before + b
        logits, v = draw(rng, T, S, W)
        for block in sorted({1, 2, 3, S + 1}):
            expect_result(student.online_attention(logits, v, block), logits, v, f"of {S} keys in blocks of {block}")


@check("logits in the tens of thousands, rising and falling, do not overflow", points=2, hint=2)
def huge_logits(student: Student, rng: np.random.Generator) -> None:
    for T, before, b, W in SIZES[1:]:
        S = before + b
        logits, v = draw(rng, T, S, W)
        for slope in (1e4, -1e4):
            steep = logits + slope * np.arange(1, S + 1)
            expect_result(student.online_attention(steep, v, 1), steep, v, f"of logits from {slope:g} to {slope * S:g}")
            level = logits + slope
            expect_result(student.online_attention(level, v, 1), level, v, f"of logits near {slope:g}")
