"""Grades label-smoothed cross-entropy against the library, whose gradient is automatic."""

import math

import numpy as np

import minitf as mt
from minitf.grade import Student, check, expect_close
from minitf.nn import functional as F

#: (N, V): a check walks through these and stops at the smallest that fails
SIZES = ((1, 1), (1, 2), (2, 3), (5, 4), (12, 30))


def draw(rng, N, V, scale=2.0):
    """Logits, and classes that are all counted."""
    return rng.normal(0, scale, (N, V)), rng.integers(0, V, N)


def value_and_gradient(logits, target, **options):
    """What the library says, as NumPy."""
    value, gradient = mt.value_and_grad(lambda x: F.cross_entropy(x, target, **options))(logits)
    return value.item(), gradient.data


@check("log-sum-exp of every row", points=2, hint=1)
def log_sum_exp(student: Student, rng: np.random.Generator) -> None:
    for N, V in SIZES:
        logits, _ = draw(rng, N, V)
        want = [math.log(sum(math.exp(x) for x in row)) for row in logits]
        expect_close(student.log_sum_exp(logits), np.array(want), what="log_sum_exp")


@check("log-sum-exp of huge logits, and of rows with impossible classes", points=2, hint=1)
def huge_sums(student: Student, rng: np.random.Generator) -> None:
    for shift in (-1e4, 1e4, 1e5):
        logits, _ = draw(rng, 3, 4)
        logits[0, 1:] = logits[2, 2] = -np.inf
        want = shift + mt.logsumexp(logits, -1).data
        expect_close(student.log_sum_exp(logits + shift), want, what=f"log_sum_exp of logits near {shift:g}")


@check("the plain loss is −log p of the right class, averaged over rows", points=2, hint=2)
def plain(student: Student, rng: np.random.Generator) -> None:
    for size in SIZES:
        logits, target = draw(rng, *size)
        expect_close(student.cross_entropy(logits, target), F.cross_entropy(logits, target), what="the loss")


@check("label smoothing gives ε / V to every class", points=2, hint=2)
def smoothing(student: Student, rng: np.random.Generator) -> None:
    for size in SIZES:
        logits, target = draw(rng, *size)
        for amount in (1.0, rng.uniform(0.05, 0.3)):
            got = student.cross_entropy(logits, target, label_smoothing=amount)
            want = F.cross_entropy(logits, target, label_smoothing=amount)
            expect_close(got, want, what=f"the loss at label_smoothing = {amount:.3g}")


@check("the z-loss is z lse² of every row", points=1, hint=2)
def z_loss(student: Student, rng: np.random.Generator) -> None:
    for size in SIZES:
        logits, target = draw(rng, *size)
        z = rng.uniform(0.1, 1)
        expect_close(
            student.cross_entropy(logits, target, z_loss=z), F.cross_entropy(logits, target, z_loss=z), what="the loss"
        )


@check("ignored rows do not count, and neither does what is in them", points=3, hint=2)
def ignored(student: Student, rng: np.random.Generator) -> None:
    for N, V in ((2, 2), (6, 3), (12, 30)):
        logits, target = draw(rng, N, V)
        for index in (-100, V - 1):
            rows = target.copy()
            rows[::2], rows[1::2] = index, rows[1::2] % (V - 1)
            for content in (logits[::2], np.nan):
                filled = logits.copy()
                filled[::2] = content
                want = F.cross_entropy(logits[1::2], rows[1::2], label_smoothing=0.1, z_loss=0.2)
                options = {"label_smoothing": 0.1, "z_loss": 0.2, "ignore_index": index}
                expect_close(student.cross_entropy(filled, rows, **options), want, what="the loss of every other row")
        expect_close(student.cross_entropy(logits, np.full(N, -100)), 0.0, what="the loss when no row counts")


@check("the gradient, with label smoothing", points=3, hint=3)
def gradient(student: Student, rng: np.random.Generator) -> None:
    for size in SIZES:
        logits, target = draw(rng, *size)
        for amount in (0.0, rng.uniform(0.05, 0.3)):
            _, want = value_and_gradient(logits, target, label_smoothing=amount)
            got = student.cross_entropy_gradient(logits, target, label_smoothing=amount)
            expect_close(got, want, what=f"the gradient at label_smoothing = {amount:.3g}")


@check("the gradient of the z-loss", points=1, hint=3)
def gradient_of_z_loss(student: Student, rng: np.random.Generator) -> None:
    for size in SIZES:
        logits, target = draw(rng, *size)
        z = rng.uniform(0.1, 1)
        _, want = value_and_gradient(logits, target, z_loss=z)
        expect_close(student.cross_entropy_gradient(logits, target, z_loss=z), want, what="the gradient")


@check("the gradient of ignored rows is zero", points=2, hint=3)
def gradient_of_ignored(student: Student, rng: np.random.Generator) -> None:
    for N, V in ((2, 2), (6, 3), (12, 30)):
        logits, target = draw(rng, N, V)
        target[::2] = -100
        _, want = value_and_gradient(logits, target)
        for content in (logits[::2], np.nan):
            filled = logits.copy()
            filled[::2] = content
            expect_close(student.cross_entropy_gradient(filled, target), want, what="the gradient")
        nothing = student.cross_entropy_gradient(logits, np.full(N, -100))
        expect_close(nothing, np.zeros((N, V)), what="the gradient when no row counts")


@check("logits of 10⁴ neither overflow nor cost more than they should", points=2, hint=1)
def huge_logits(student: Student, rng: np.random.Generator) -> None:
    for size in SIZES:
        logits, target = draw(rng, *size, scale=1e4)
        value, want = value_and_gradient(logits, target, label_smoothing=0.1)
        got = student.cross_entropy(logits, target, label_smoothing=0.1)
        expect_close(got, value, atol=1e-9, what="the loss at logits of 1e4")  # they are rounded to 2e-12
        got = student.cross_entropy_gradient(logits, target, label_smoothing=0.1)
        expect_close(got, want, atol=1e-9, what="the gradient at logits of 1e4")
