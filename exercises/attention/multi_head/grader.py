"""Grades multi-head attention by what its axes mean, and against the library's layer, which has three matrices."""

import numpy as np

from minitf.attention.dot_product import MultiHeadAttention
from minitf.grade import Student, check, expect_close

#: (B, T, H, E): a check walks through these and stops at the smallest that fails
SIZES = ((1, 1, 1, 1), (1, 2, 2, 1), (1, 3, 2, 2), (2, 3, 2, 3), (3, 5, 3, 4))


def draw(rng, B, T, H, E):
    """x, w_qkv, b_qkv, w_o, b_o of one case."""
    D = H * E
    w_qkv, w_o = (rng.standard_normal((D, n * D)) / np.sqrt(D) for n in (3, 1))
    return rng.standard_normal((B, T, D)), w_qkv, rng.standard_normal(3 * D), w_o, rng.standard_normal(D)


def library(x, w_qkv, b_qkv, w_o, b_o, *, n_heads, mask=None):
    """The library's layer with these weights; it takes masks with an axis of heads."""
    names = ("q", "k", "v", "out")
    weights = dict(zip(names, (*np.split(w_qkv, 3, axis=1), w_o), strict=True))
    biases = dict(zip(names, (*np.split(b_qkv, 3), b_o), strict=True))
    module = MultiHeadAttention(x.shape[-1], n_heads, rng=np.random.default_rng(0))
    module.load_state_dict(
        {f"{name}.weight": w for name, w in weights.items()} | {f"{name}.bias": b for name, b in biases.items()}
    )
    return module(x, mask=None if mask is None else np.expand_dims(mask, -3))


def head(x, h, E):
    """What belongs to head h of x (B, T, H E)."""
    return x[:, :, h * E : (h + 1) * E]


@check("head h of a token has the columns h E to (h + 1) E − 1", points=3, hint=1)
def splitting(student: Student, rng: np.random.Generator) -> None:
    for B, T, H, E in SIZES:
        x = rng.standard_normal((B, T, H * E))
        want = np.stack([head(x, h, E) for h in range(H)], axis=1)
        expect_close(student.split_heads(x, H), want, what=f"x in heads (H = {H})")


@check("merging undoes splitting", points=2, hint=1)
def merging(student: Student, rng: np.random.Generator) -> None:
    for B, T, H, E in SIZES:
        x = rng.standard_normal((B, T, H * E))
        cut = np.stack([head(x, h, E) for h in range(H)], axis=1)
        expect_close(student.merge_heads(cut), x, what=f"x, merged again (H = {H}),")


@check("one packed matrix makes the queries, keys and values of all heads", points=3, hint=2)
def packing(student: Student, rng: np.random.Generator) -> None:
    for _, T, H, E in SIZES:
        D = H * E + 1  # no width can be taken for another
        w_q, w_k, w_v = rng.standard_normal((3, H, D, E))
        x = rng.standard_normal((T, D))
        packed = student.pack_heads(w_q, w_k, w_v)
        expect_close(packed, np.concatenate([w for part in (w_q, w_k, w_v) for w in part], axis=1), what="the matrix")
        want = np.concatenate([x @ w for part in (w_q, w_k, w_v) for w in part], axis=1)
        expect_close(x @ packed, want, what="x times the matrix")


@check("one head is attention between two linear maps", points=3, hint=3)
def one_head(student: Student, rng: np.random.Generator) -> None:
    for B, T, H, E in SIZES:
        case = draw(rng, B, T, 1, H * E)
        expect_close(
            student.multi_head_attention(*case, n_heads=1), library(*case, n_heads=1), what="the output of one head"
        )


@check("several heads do so side by side", points=4, hint=3)
def heads(student: Student, rng: np.random.Generator) -> None:
    for B, T, H, E in SIZES:
        case = draw(rng, B, T, H, E)
        expect_close(
            student.multi_head_attention(*case, n_heads=H), library(*case, n_heads=H), what=f"the output (H = {H})"
        )


@check("a mask is the same for all heads; a query without keys hears zeros", points=3, hint=3)
def masks(student: Student, rng: np.random.Generator) -> None:
    for B, T, H, E in SIZES:
        case = draw(rng, B, T, H, E)
        per_text = rng.random((B, T, T)) < 0.6
        per_text[:, 0] = False
        for mask in (np.tri(T, dtype=bool), per_text[0], per_text):
            got = student.multi_head_attention(*case, n_heads=H, mask=mask)
            expect_close(got, library(*case, n_heads=H, mask=mask), what=f"the output under a mask (H = {H})")


@check("shuffled tokens give the same outputs, shuffled", points=2, hint=1)
def shuffled(student: Student, rng: np.random.Generator) -> None:
    for B, T, H, E in SIZES:
        x, *weights = draw(rng, B, T, H, E)
        order = np.roll(np.arange(T), 1)
        plain = student.multi_head_attention(x, *weights, n_heads=H)
        expect_close(
            student.multi_head_attention(x[:, order], *weights, n_heads=H),
            plain[:, order],
            what=f"the output of the tokens in the order {order.tolist()}",
        )
