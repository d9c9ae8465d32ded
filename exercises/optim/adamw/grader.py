"""Grades AdamW by what must hold for every gradient, and against the library's optimizer."""

import numpy as np

import minitf as mt
from minitf.grade import Student, check, expect_close
from minitf.optim import AdamW

SHAPES = ((1,), (3,), (2, 4))


def options(rng):
    """lr, beta1, beta2, eps, without weight_decay."""
    return {
        "lr": rng.uniform(0.01, 0.5),
        "beta1": rng.uniform(0.5, 0.95),
        "beta2": rng.uniform(0.8, 0.999),
        "eps": 1e-3,
    }


def draw(rng, shape, n):
    return rng.standard_normal(shape), rng.standard_normal((n, *shape))


def library(p, gradients, *, beta1, beta2, **others):
    """The parameters after each step of the library's AdamW."""
    parameter, path = mt.nn.Parameter(p), []
    optimizer = AdamW([parameter], betas=(beta1, beta2), **others)
    for g in gradients:
        parameter.grad = mt.tensor(g)
        optimizer.step()
        path.append(np.array(parameter.data))
    return np.array(path)


@check("m and v are the running averages of g and g²", points=2, hint=1)
def averages(student: Student, rng: np.random.Generator) -> None:
    for shape in SHAPES:
        p, (g, m) = draw(rng, shape, 2)
        v, chosen = rng.uniform(0.1, 2, shape), options(rng)
        _, new_m, new_v = student.adamw_step(p, g, m, v, 3, weight_decay=0.0, **chosen)
        expect_close(new_m, chosen["beta1"] * m + (1 - chosen["beta1"]) * g, what="m")
        expect_close(new_v, chosen["beta2"] * v + (1 - chosen["beta2"]) * g * g, what="v")


@check("in the first step every element moves by lr, against the sign of its gradient", points=2, hint=2)
def first_step(student: Student, rng: np.random.Generator) -> None:
    for shape in SHAPES:
        p, zeros = rng.standard_normal(shape), np.zeros(shape)
        g = rng.uniform(0.5, 2, shape) * rng.choice([-1, 1], shape)
        chosen = {**options(rng), "eps": 1e-8}
        for size in (1.0, 1e3, 1e6):
            got, _, _ = student.adamw_step(p, size * g, zeros, zeros, 1, weight_decay=0.0, **chosen)
            expect_close(got, p - chosen["lr"] * np.sign(g), rtol=1e-4, what=f"p for gradients of about {size:g}")


@check("eps is added to the root, not under it, and behind the bias correction", points=1, hint=2)
def epsilon(student: Student, rng: np.random.Generator) -> None:
    for shape in SHAPES:
        p, (g,) = draw(rng, shape, 1)
        chosen, zeros = {**options(rng), "eps": rng.uniform(0.5, 2)}, np.zeros(shape)
        got, _, _ = student.adamw_step(p, g, zeros, zeros, 1, weight_decay=0.0, **chosen)
        expect_close(
            got, p - chosen["lr"] * g / (np.abs(g) + chosen["eps"]), what="p after a first step with a large eps"
        )


@check("without a gradient a parameter shrinks by the factor 1 - lr · weight_decay", points=2, hint=3)
def decay(student: Student, rng: np.random.Generator) -> None:
    for shape in SHAPES:
        p, zeros, chosen = rng.standard_normal(shape), np.zeros(shape), options(rng)
        rate = rng.uniform(0.1, 1)
        got, m, v = student.adamw_step(p, zeros, zeros, zeros, 1, weight_decay=rate, **chosen)
        expect_close(got, (1 - chosen["lr"] * rate) * p, what="p")
        expect_close(m, zeros, what="m, which must know nothing of the decay")
        expect_close(v, zeros, what="v, which must know nothing of the decay")


@check("many steps without decay are the library's", points=2, hint=2)
def many_steps(student: Student, rng: np.random.Generator) -> None:
    for shape, n in zip(SHAPES, (1, 4, 20), strict=True):
        p, gradients = draw(rng, shape, n)
        chosen = options(rng)
        want = library(p, gradients, weight_decay=0.0, **chosen)
        expect_close(student.adamw(p, gradients, weight_decay=0.0, **chosen), want, what="the path of p")


@check("many steps with decay are the library's", points=3, hint=3)
def many_steps_with_decay(student: Student, rng: np.random.Generator) -> None:
    for shape, n in zip(SHAPES, (1, 4, 20), strict=True):
        p, gradients = draw(rng, shape, n)
        chosen = {**options(rng), "weight_decay": rng.uniform(0.1, 1)}
        expect_close(student.adamw(p, gradients, **chosen), library(p, gradients, **chosen), what="the path of p")
