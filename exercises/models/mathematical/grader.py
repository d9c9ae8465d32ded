"""Grades attention in columns against the library: the weights of a head, all heads, and a layer with tokens in rows."""

import numpy as np

from minitf.attention.dot_product import MultiHeadAttention
from minitf.grade import Student, check, expect, expect_close
from minitf.models.mathematical import attention_columns, from_row_convention, multi_head_columns

#: (D, N, K): a check walks through these and stops at the smallest that fails
SIZES = ((1, 1, 1), (1, 2, 1), (2, 3, 2), (3, 4, 5), (6, 7, 4))
#: (D, N, H, E) of layers
LAYERS = ((1, 2, 1, 1), (2, 3, 1, 2), (4, 3, 2, 2), (3, 5, 3, 4))


def draw(rng, D, N, K):
    """X, U_q and U_k of one head."""
    return rng.standard_normal((D, N)), *rng.standard_normal((2, K, D))


@check("A has no negative entry, and every column sums to 1", points=2, hint=1)
def columns(student: Student, rng: np.random.Generator) -> None:
    for size in SIZES:
        for causal in (False, True):
            A = student.attention_weights(*draw(rng, *size), causal=causal)
            N = size[1]
            expect(A.shape == (N, N), f"A has the shape {A.shape}; expected {(N, N)}")
            expect((A >= 0).all(), "A has a negative entry", got=A)
            expect_close(A.sum(axis=0), np.ones(N), what="the sum of each column")


@check("A[n', n] is exp(k_n' · q_n), divided by its sum over n'", points=3, hint=1)
def exponents(student: Student, rng: np.random.Generator) -> None:
    for size in SIZES:
        case = draw(rng, *size)
        expect_close(student.attention_weights(*case), attention_columns(*case), what="A")


@check("with causal=True no token takes anything from a later one", points=3, hint=2)
def causal(student: Student, rng: np.random.Generator) -> None:
    for size in SIZES:
        case = draw(rng, *size)
        A = student.attention_weights(*case, causal=True)
        expect_close(A, attention_columns(*case, causal=True), what="A with causal=True", atol=0)


@check("huge exponents neither overflow nor break through the mask", points=2, hint=2)
def huge_exponents(student: Student, rng: np.random.Generator) -> None:
    for size in SIZES:
        X, U_q, U_k = draw(rng, *size)
        for maps in ((U_q, U_k), (U_q, -U_q)):  # with the second pair no token likes itself
            for causal in (False, True):
                got = student.attention_weights(1e7 * X, *maps, causal=causal)
                want = attention_columns(1e7 * X, *maps, causal=causal)
                expect_close(got, want, what="A with exponents of 1e14")


@check("with one head, MHSA is V X A", points=2, hint=3)
def one_head(student: Student, rng: np.random.Generator) -> None:
    for D, N, K in SIZES:
        X, U_q, U_k = draw(rng, D, N, K)
        W_val, W_out = rng.standard_normal((1, K, D)), rng.standard_normal((1, D, K))
        got = student.multi_head(X, U_q[None], U_k[None], W_val, W_out)
        want = multi_head_columns(X, attention_columns(X, U_q, U_k), W_val, W_out)
        expect_close(got, want, what="the output of one head")


@check("a layer with tokens in rows computes the same", points=4, hint=3)
def rows(student: Student, rng: np.random.Generator) -> None:
    for D, N, H, E in LAYERS:
        layer = MultiHeadAttention(D, H, E=E, bias=False, rng=rng)
        weights = from_row_convention(*(part.weight for part in (layer.q, layer.k, layer.v, layer.out)), E)
        X = 3 * rng.standard_normal((D, N))
        for causal in (False, True):
            got = student.multi_head(X, *(np.asarray(w) for w in weights), causal=causal)
            expect_close(got, layer(X.T[None], causal=causal)[0].T, what="the output of all heads")


@check("the weights of a layer with tokens in rows are translated", points=4, hint=3)
def translation(student: Student, rng: np.random.Generator) -> None:
    for D, _, H, E in LAYERS:
        W_q, W_k, W_v = rng.standard_normal((3, D, H * E))
        W_o = rng.standard_normal((H * E, D))
        got = student.from_rows(W_q, W_k, W_v, W_o, H)
        want = [np.asarray(w) for w in from_row_convention(W_q, W_k, W_v, W_o, E)]
        for name, mine, theirs in zip(("U_q", "U_k", "W_val", "W_out"), got, want, strict=True):
            expect(mine.shape == theirs.shape, f"{name} has the shape {mine.shape}; expected {theirs.shape}")
        # How two factors share a scale is free; what counts is their product.
        products = lambda U_q, U_k, W_val, W_out: (np.swapaxes(U_k, -1, -2) @ U_q, W_out @ W_val)
        for name, mine, theirs in zip(("U_kᵀ U_q", "W_out W_val"), products(*got), products(*want), strict=True):
            expect_close(mine, theirs, what=f"{name} of each head")
