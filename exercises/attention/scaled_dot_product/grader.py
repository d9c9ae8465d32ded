"""Grades scaled dot-product attention by what must hold for every input, and against the library."""

import numpy as np

from minitf.grade import Student, check, expect, expect_close
from minitf.nn.scaled_dot_product import scaled_dot_product_attention

#: (leading axes, T, S, E): a check walks through these and stops at the smallest that fails
SIZES = (((), 1, 1, 1), ((), 2, 2, 1), ((), 2, 3, 2), ((2,), 4, 3, 4), ((2, 3), 5, 6, 3))


def draw(rng, lead, T, S, E):
    """q, k, v of one case; values are wider than keys."""
    return rng.standard_normal((*lead, T, E)), *(rng.standard_normal((*lead, S, width)) for width in (E, E + 1))


def library(q, k, v, *, mask=None, bias=None, **options):
    """Weights and output of the library, which wants an axis of heads before (T, E), on a case that has none."""
    extra = {name: np.expand_dims(x, -3) for name, x in (("mask", mask), ("bias", bias)) if x is not None}
    arrays = (x[..., None, :, :] for x in (q, k, v))
    out, weights = scaled_dot_product_attention(*arrays, return_weights=True, **extra, **options)
    return np.asarray(weights)[..., 0, :, :], np.asarray(out)[..., 0, :, :]


def expect_both(student, q, k, v, *, what="", **options):
    """Both functions of the submission are right."""
    weights, out = library(q, k, v, **options)
    expect_close(student.attention_weights(q, k, **options), weights, what=f"the map of weights{what}")
    expect_close(student.attention(q, k, v, **options), out, what=f"the output{what}")


def some(rng, shape):
    """A mask that leaves every query at least one key."""
    mask = rng.random(shape) < 0.5
    np.put_along_axis(mask, rng.integers(0, shape[-1], (*shape[:-1], 1)), True, -1)
    return mask


@check("equal logits give the plain average of the values", points=2, hint=1)
def equal_logits(student: Student, rng: np.random.Generator) -> None:
    for size in SIZES:
        q, k, v = draw(rng, *size)
        want = np.broadcast_to(v.mean(-2, keepdims=True), (*q.shape[:-1], v.shape[-1]))
        expect_close(student.attention(np.zeros_like(q), k, v), want, what="the output for q = 0")


@check("every row of weights sums to 1, and is the softmax of q kᵀ / √E", points=4, hint=1)
def weights(student: Student, rng: np.random.Generator) -> None:
    for size in SIZES:
        q, k, v = draw(rng, *size)
        got = student.attention_weights(q, k)
        expect_close(got.sum(-1), np.ones(q.shape[:-1]), what="the sum of each row of weights")
        expect((got >= 0).all(), "a weight is negative", smallest=got.min())
        expect_close(got, library(q, k, v)[0], what="the map of weights")


@check("the output is the weights times the values", points=2, hint=1)
def output(student: Student, rng: np.random.Generator) -> None:
    for size in SIZES:
        q, k, v = draw(rng, *size)
        expect_close(student.attention(q, k, v), library(q, k, v)[1], what="the output")


@check("a scale that is given takes the place of 1 / √E, even 0", points=2, hint=1)
def scales(student: Student, rng: np.random.Generator) -> None:
    for size in SIZES:
        for scale in (1.0, -rng.uniform(0.1, 2), 0.0):
            expect_both(student, *draw(rng, *size), scale=scale, what=f" at scale = {scale:.3g}")


@check("the bias is added to the scaled logits, and -∞ in it hides a key", points=3, hint=2)
def biases(student: Student, rng: np.random.Generator) -> None:
    for size in SIZES:
        q, k, v = draw(rng, *size)
        shape = (*q.shape[:-1], k.shape[-2])
        hiding = np.where(some(rng, shape), rng.standard_normal(shape), -np.inf)
        for bias in (rng.standard_normal(shape), rng.standard_normal(shape[-2:]), hiding):
            expect_both(student, q, k, v, bias=bias, scale=rng.uniform(0.3, 0.9), what=" with a bias")


@check("masked keys are not seen; a mask may broadcast", points=3, hint=2)
def masks(student: Student, rng: np.random.Generator) -> None:
    for size in SIZES:
        q, k, v = draw(rng, *size)
        shape = (*q.shape[:-1], k.shape[-2])
        for mask in (some(rng, shape), some(rng, (1, shape[-1])), np.tri(*shape[-2:], dtype=bool)):
            expect_both(student, q, k, v, mask=mask, scale=0.5, what=" under a mask")


@check("a query that may attend to nothing gets zeros", points=2, hint=3)
def empty_rows(student: Student, rng: np.random.Generator) -> None:
    for size in SIZES:
        q, k, v = draw(rng, *size)
        mask = rng.random((*q.shape[:-1], 1)) < 0.7  # queries may attend to everything or nothing
        mask[..., 0, :] = False
        mask = np.repeat(mask, k.shape[-2], -1)
        expect_both(student, q, k, v, mask=mask, scale=0.5, what=", where the first query may attend to nothing")
        bias = np.where(mask, 0.0, -np.inf)
        expect_both(student, q, k, v, bias=bias, scale=0.5, what=", where the bias of the first query is -inf")


@check("huge logits neither overflow nor break through the mask", points=2, hint=3)
def huge_logits(student: Student, rng: np.random.Generator) -> None:
    for size in SIZES:
        q, k, v = draw(rng, *size)
        mask = np.tri(q.shape[-2], k.shape[-2], dtype=bool)
        for shift in (-1e4, 1e4):
            bias = np.full(mask.shape, shift)
            expect_both(student, q, k, v, bias=bias, scale=1.0, what=f" of logits near {shift:g}")
        expect_both(student, 1e13 * q, k, v, scale=1.0, what=" at logits of 1e13")
        q, k = -1e13 * np.abs(q), np.abs(k)
        expect_both(student, q, k, v, mask=mask, scale=1.0, what=" at logits of -1e13, under a mask")
