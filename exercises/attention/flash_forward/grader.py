"""Grades tiled attention against the library's, with little memory, and with NaN where it must not look."""

import numpy as np

from minitf.grade import Student, check, expect, expect_close
from minitf.nn.scaled_dot_product import attention_log_sum_exp, scaled_dot_product_attention

#: (T, S, E, block_q, block_k), no more queries than keys: a check walks through these and stops at the first that fails
SIZES = ((1, 1, 1, 1, 1), (2, 2, 1, 1, 1), (2, 3, 2, 2, 2), (4, 4, 3, 3, 2), (5, 8, 2, 2, 3), (9, 13, 4, 4, 5))


def draw(rng, T, S, E):
    """q, k, v of one case; values are wider than keys."""
    return rng.standard_normal((T, E)), rng.standard_normal((S, E)), rng.standard_normal((S, E + 1))


def attend(student, q, k, v, block_q, block_k, causal=False):
    return student.flash_attention(q, k, v, block_q=block_q, block_k=block_k, causal=causal)


def tiles(block_q, block_k):
    return f"in tiles of {block_q} queries and {block_k} keys"


@check("tiles with an allowed score are counted", points=2, hint=1)
def tile_counts(student: Student, rng: np.random.Generator) -> None:
    for T, S, _, block_q, block_k in (*SIZES, (3, 2, 1, 1, 1), (7, 3, 1, 2, 2), *rng.integers(1, 20, (10, 5))):
        T, S, block_q, block_k = (int(n) for n in (T, S, block_q, block_k))
        for causal in (False, True):
            allowed = np.tri(T, S, S - T, dtype=bool) if causal else np.ones((T, S), bool)
            want = sum(
                allowed[i : i + block_q, j : j + block_k].any()
                for i in range(0, T, block_q)
                for j in range(0, S, block_k)
            )
            got = student.n_tiles(T, S, block_q=block_q, block_k=block_k, causal=causal)
            expect(got == want, "that is not the number of tiles", expected=int(want), got=got)


@check("one tile that holds everything is attention", points=2, hint=2)
def one_tile(student: Student, rng: np.random.Generator) -> None:
    for T, S, E, _, _ in SIZES:
        q, k, v = draw(rng, T, S, E)
        out, _ = attend(student, q, k, v, T, S)
        expect_close(out, scaled_dot_product_attention(q, k, v), what="the output of one tile")


@check("the result does not depend on the tiles", points=4, hint=2)
def any_tiles(student: Student, rng: np.random.Generator) -> None:
    for T, S, E, block_q, block_k in SIZES:
        q, k, v = draw(rng, T, S, E)
        for blocks in ((T + 3, S + 3), (block_q, S), (T, block_k), (block_q, block_k), (1, 1)):
            out, _ = attend(student, q, k, v, *blocks)
            expect_close(out, scaled_dot_product_attention(q, k, v), what=f"the output {tiles(*blocks)}")


@check("causal tiles: query i attends to the keys j ≤ i + S − T", points=4, hint=3)
def causal_tiles(student: Student, rng: np.random.Generator) -> None:
    for T, S, E, block_q, block_k in SIZES:
        q, k, v = draw(rng, T, S, E)
        want = scaled_dot_product_attention(q, k, v, causal=True)
        for blocks in ((T, S), (block_q, block_k), (1, 1)):
            out, _ = attend(student, q, k, v, *blocks, causal=True)
            expect_close(out, want, what=f"the output {tiles(*blocks)}")


@check("the log-sum-exp is that of the logits, whatever the tiles", points=2, hint=2)
def log_sum_exp(student: Student, rng: np.random.Generator) -> None:
    for T, S, E, block_q, block_k in SIZES:
        q, k, v = draw(rng, T, S, E)
        _, lse = attend(student, q, k, v, block_q, block_k)
        expect_close(lse, attention_log_sum_exp(q, k), what=f"the log-sum-exp {tiles(block_q, block_k)}")


@check("a query that may attend to nothing gives 0 and a log-sum-exp of -∞", points=2, hint=3)
def queries_without_keys(student: Student, rng: np.random.Generator) -> None:
    for S, T, E, block_q, block_k in SIZES[1:]:
        T += 1  # more queries than keys: the first see nothing, alone in a tile or beside others
        q, k, v = draw(rng, T, S, E)
        for blocks in ((block_q, block_k), (T, S)):
            out, lse = attend(student, q, k, v, *blocks, causal=True)
            what = f"the first {T - S} of {T} queries to {S} keys, {tiles(*blocks)},"
            expect_close(out[: T - S], np.zeros((T - S, E + 1)), what=f"the output for {what}")
            expect_close(lse[: T - S], np.full(T - S, -np.inf), what=f"the log-sum-exp for {what}")


@check("logits in the tens of thousands, rising and falling, do not overflow", points=2, hint=2)
def huge_logits(student: Student, rng: np.random.Generator) -> None:
    for T, S, E, block_q, block_k in SIZES[1:]:
        q, k, v = draw(rng, T, S, E)
        q = np.abs(q) + 1
        for slope in (1e4, -1e4):
            steep = np.abs(k) + slope * np.arange(1, S + 1)[:, None]
            out, _ = attend(student, q, steep, v, block_q, block_k)
            expect_close(out, scaled_dot_product_attention(q, steep, v), what=f"the output {tiles(block_q, block_k)}")


@check("tiles without an allowed score are not touched", points=2, hint=1)
def future_tiles(student: Student, rng: np.random.Generator) -> None:
    for T, E, block_q, block_k, known in ((2, 1, 1, 1, 1), (4, 2, 2, 2, 2), (9, 2, 2, 6, 6), (12, 3, 3, 6, 6)):
        q, k, v = draw(rng, T, T, E)
        k[known:] = v[known:] = np.nan
        out, _ = attend(student, q, k, v, block_q, block_k, causal=True)
        want = scaled_dot_product_attention(q[:known], k[:known], v[:known], causal=True)
        what = f"the output before the first NaN, {tiles(block_q, block_k)},"
        expect_close(out[:known], want, what=what)


@check("never more than one tile of scores at a time", points=4, hint=3)
def memory(student: Student, rng: np.random.Generator) -> None:
    few, many = 256, 98_304
    q, k, v = draw(rng, many, few, 1)
    out, _ = attend(student, q, k, v, 512, few, causal=True)
    want = scaled_dot_product_attention(q[-1:], k, v)
    expect_close(out[-1:], want, what=f"the last row of the output of {many} queries {tiles(512, few)}")
    q, k, v = draw(rng, few, many, 1)
    out, _ = attend(student, q, k, v, few, 512)
    rows = rng.integers(0, few, 3)
    want = scaled_dot_product_attention(q[rows], k, v)
    expect_close(out[rows], want, what=f"a few rows of the output for {many} keys {tiles(few, 512)}")
