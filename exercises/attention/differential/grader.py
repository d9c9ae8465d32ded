"""Grades differential attention by what must hold for every input, and against the library."""

import numpy as np

from minitf.attention.differential import DifferentialAttention, differential_attention, lambda_init
from minitf.grade import Student, check, expect_close
from minitf.nn.scaled_dot_product import scaled_dot_product_attention


def library(function, *arrays, mask=None, **options):
    """A function of the library, which wants an axis of heads before (T, E), on a case, which has none."""
    mask = None if mask is None else mask[..., None, :, :]
    return np.asarray(function(*(array[..., None, :, :] for array in arrays), mask=mask, **options))[..., 0, :, :]


#: (leading axes, T, S, E): a check walks through these and stops at the smallest that fails
SIZES = (((), 1, 1, 1), ((), 2, 2, 1), ((), 2, 3, 2), ((2,), 4, 3, 4), ((2, 3), 5, 5, 2))


def draw(rng, lead, T, S, E):
    """q1, k1, q2, k2, v of one case."""
    q1, q2 = rng.standard_normal((2, *lead, T, E))
    k1, k2 = rng.standard_normal((2, *lead, S, E))
    return q1, k1, q2, k2, rng.standard_normal((*lead, S, 2 * E))


@check("λ_init starts at 0.2 and rises towards 0.8", points=1, hint=1)
def schedule(student: Student, rng: np.random.Generator) -> None:
    for layer in (0, 1, int(rng.integers(2, 40)), 1000):
        expect_close(student.lambda_init(layer), lambda_init(layer), what=f"λ_init of layer {layer}")


@check("λ comes from its four vectors, and is λ_init when they are zero", points=2, hint=1)
def reparameterization(student: Student, rng: np.random.Generator) -> None:
    for E, strength in ((1, 0.0), (1, 1.0), (4, 0.5)):
        q1, k1, q2, k2 = strength * rng.standard_normal((4, E))
        layer = int(rng.integers(0, 12))
        want = np.exp(q1 @ k1) - np.exp(q2 @ k2) + lambda_init(layer)
        expect_close(student.lambda_value(q1, k1, q2, k2, layer), want, what="λ")


@check("λ = 0 is ordinary attention", points=3, hint=2)
def ordinary(student: Student, rng: np.random.Generator) -> None:
    for size in SIZES:
        q1, k1, q2, k2, v = draw(rng, *size)
        got = student.differential_attention(q1, k1, q2, k2, v, lambda_=0.0)
        want = library(scaled_dot_product_attention, q1, k1, v)
        expect_close(got, want, what="the output at λ = 0")


@check("rows of the differential map sum to 1 − λ", points=3, hint=2)
def row_sums(student: Student, rng: np.random.Generator) -> None:
    for lead, T, S, E in SIZES:
        q1, k1, q2, k2, _ = draw(rng, lead, T, S, E)
        lambda_ = rng.uniform(0.1, 0.9)
        identity = np.broadcast_to(np.eye(S), (*lead, S, S))  # with these values, the output is the map
        got = student.differential_attention(q1, k1, q2, k2, identity, lambda_=lambda_)
        expect_close(got.sum(-1), np.full((*lead, T), 1 - lambda_), what="the sum of each row (v is the identity)")


@check("two equal maps are ordinary attention times 1 − λ", points=2, hint=2)
def equal_maps(student: Student, rng: np.random.Generator) -> None:
    for size in SIZES:
        q, k, _, _, v = draw(rng, *size)
        lambda_ = rng.uniform(0.1, 0.9)
        got = student.differential_attention(q, k, q, k, v, lambda_=lambda_)
        want = (1 - lambda_) * library(scaled_dot_product_attention, q, k, v)
        expect_close(got, want, what="the output with q1 = q2 and k1 = k2")


@check("masked keys are not seen; a query without keys gives zeros", points=3, hint=3)
def masks(student: Student, rng: np.random.Generator) -> None:
    for lead, T, S, E in SIZES:
        q1, k1, q2, k2, v = draw(rng, lead, T, S, E)
        lambda_ = rng.uniform(0.1, 0.9)
        random = rng.random((*lead, T, S)) < 0.6
        random[..., 0, :] = False
        for mask in (np.tri(T, S, dtype=bool), random):
            got = student.differential_attention(q1, k1, q2, k2, v, lambda_=lambda_, mask=mask)
            want = library(differential_attention, q1, k1, q2, k2, v, lambda_=lambda_, mask=mask)
            expect_close(got, want, what="the output under a mask")


@check("huge logits neither overflow nor break through the mask", points=2, hint=3)
def huge_logits(student: Student, rng: np.random.Generator) -> None:
    for lead, T, S, E in SIZES:
        q1, k1, q2, k2, v = draw(rng, lead, T, S, E)
        q1, q2 = 1e13 * q1, -1e13 * np.abs(q2)
        k2 = np.abs(k2)  # the second map has only hugely negative logits
        for mask in (None, np.tri(T, S, dtype=bool)):
            got = student.differential_attention(q1, k1, q2, k2, v, lambda_=0.5, mask=mask)
            want = library(differential_attention, q1, k1, q2, k2, v, lambda_=0.5, mask=mask)
            expect_close(got, want, what="the output at logits of 1e13")


@check("the whole layer: heads, λ, norm, (1 − λ_init), projection", points=4, hint=3)
def layer(student: Student, rng: np.random.Generator) -> None:
    for B, T, H, E in ((1, 1, 1, 1), (1, 2, 1, 2), (1, 2, 2, 2), (2, 5, 3, 4)):
        D = 2 * H * E
        x = rng.standard_normal((B, T, D))
        w_q, w_k, w_v, w_o = rng.standard_normal((4, D, D)) / np.sqrt(D)
        vectors = 0.5 * rng.standard_normal((4, E))
        weight = rng.uniform(0.5, 1.5, 2 * E)
        index = int(rng.integers(0, 6))
        module = DifferentialAttention(D, H, layer=index, theta=None, rng=rng)
        weights = (w_q, w_k, w_v, w_o, *vectors, weight)
        names = ("q.weight", "k.weight", "v.weight", "out.weight", "lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2")
        module.load_state_dict(dict(zip((*names, "norm.weight"), weights, strict=True)))
        for mask in (None, np.tri(T, dtype=bool)):
            got = student.differential_layer(x, *weights, n_heads=H, layer=index, mask=mask)
            expect_close(got, module(x, mask=mask), what="the output of the layer")
