"""Grades attention with a cache against the library's attention without one, over the whole text."""

import numpy as np

from minitf.attention.dot_product import MultiHeadAttention
from minitf.grade import Student, check, expect, expect_close
from minitf.nn.functional import scaled_dot_product_attention

#: (B, H, K, S, E): a check walks through these and stops at the smallest that fails
SIZES = ((1, 1, 1, 1, 1), (1, 1, 1, 3, 2), (1, 2, 1, 3, 2), (2, 4, 2, 5, 3), (2, 6, 2, 7, 4))


def draw(rng, B, H, K, S, E):
    """q (B, H, S, E), k and v (B, K, S, E) of a whole text."""
    return rng.standard_normal((B, H, S, E)), *rng.standard_normal((2, B, K, S, E))


def whole(q, k, v):
    return np.asarray(scaled_dot_product_attention(q, k, v, causal=True))


@check("one new query averages all values", points=3, hint=1)
def one_query(student: Student, rng: np.random.Generator) -> None:
    for B, H, _, S, E in SIZES:
        q, k, v = draw(rng, B, H, H, S, E)
        expect_close(student.attend(q[:, :, -1:], k, v), whole(q, k, v)[:, :, -1:], what="the output of the last query")


@check("head h reads the key/value head h // (H / K)", points=3, hint=1)
def shared_heads(student: Student, rng: np.random.Generator) -> None:
    for size in SIZES:
        q, k, v = draw(rng, *size)
        expect_close(student.attend(q[:, :, -1:], k, v), whole(q, k, v)[:, :, -1:], what="the output of the last query")


@check("the last T queries see what was before them, and not each other's future", points=4, hint=2)
def causal(student: Student, rng: np.random.Generator) -> None:
    for B, H, _, S, E in SIZES:
        q, k, v = draw(rng, B, H, H, S, E)
        for T in range(1, S + 1):
            expect_close(student.attend(q[:, :, S - T :], k, v), whole(q, k, v)[:, :, S - T :], what="the output")


@check("huge logits do not overflow", points=1, hint=2)
def huge_logits(student: Student, rng: np.random.Generator) -> None:
    for B, H, _, S, E in SIZES:
        q, k, v = draw(rng, B, H, H, S, E)
        expect_close(student.attend(1e6 * q, k, v), whole(1e6 * q, k, v), what="the output at logits of 1e6")


@check("the cache grows at its end, from nothing", points=3, hint=3)
def growth(student: Student, rng: np.random.Generator) -> None:
    for B, H, _, S, E in SIZES:
        q, k, v = draw(rng, B, H, H, S, E)
        for seen in range(S):
            part = [x[:, :, seen:] for x in (q, k, v)]
            _, new_k, new_v = student.step(*part, k[:, :, :seen], v[:, :, :seen])
            expect_close(new_k, k, what=f"cache_k after {seen} old and {S - seen} new positions")
            expect_close(new_v, v, what=f"cache_v after {seen} old and {S - seen} new positions")


@check("token by token gives what the whole text gives", points=3, hint=3)
def token_by_token(student: Student, rng: np.random.Generator) -> None:
    for B, H, _, S, E in SIZES:
        q, k, v = draw(rng, B, H, H, S, E)
        cache_k = cache_v = np.zeros((B, H, 0, E))
        for t in range(S):
            new = (x[:, :, t : t + 1] for x in (q, k, v))
            out, cache_k, cache_v = student.step(*new, cache_k, cache_v)
            expect_close(out, whole(q, k, v)[:, :, t : t + 1], what=f"the output at position {t}")


@check("the layer does not depend on the chunk", points=2, hint=3)
def chunks(student: Student, rng: np.random.Generator) -> None:
    for B, H, K, T, E in SIZES:
        D = H * E
        x = rng.standard_normal((B, T, D))
        weights = [rng.standard_normal((D, width)) / np.sqrt(D) for width in (D, K * E, K * E, D)]
        module = MultiHeadAttention(D, H, K=K, bias=False, rng=rng)
        names = ("q.weight", "k.weight", "v.weight", "out.weight")
        module.load_state_dict(dict(zip(names, weights, strict=True)))
        for chunk in sorted({1, 2, T, T + 3}):
            got = student.layer(x, *weights, n_heads=H, n_kv_heads=K, chunk=chunk)
            expect_close(got, module(x, causal=True), what="the output of the layer")


@check("the bytes of a model's caches", points=1, hint=3)
def size(student: Student, rng: np.random.Generator) -> None:
    for _ in range(5):
        B, S, L, K, E = (int(n) for n in rng.integers(1, 100, 5))
        got = student.cache_bytes(B, S, L, K, E, 2)
        want = 2 * B * S * L * K * E * 2
        expect(got == want, "that is not the number of bytes", expected=want, got=got)
