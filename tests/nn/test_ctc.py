"""CTC against the enumeration of all alignments."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.nn import functional as F


def collapse(path, blank):
    return tuple(label for label, _ in itertools.groupby(path) if label != blank)


def enumerated(log_probs, target, blank=0):
    """The loss of one sequence (T, V), and its gradient: minus the posterior of every label at every frame."""
    T, V = log_probs.shape
    total, posterior = 0.0, np.zeros((T, V))
    for path in itertools.product(range(V), repeat=T):
        if collapse(path, blank) == tuple(target):
            p = math.exp(sum(log_probs[t, label] for t, label in enumerate(path)))
            total += p
            posterior[np.arange(T), path] += p
    return (-math.log(total), -posterior / total) if total else (math.inf, 0 * posterior)


@given(st.integers(0, 10**6), st.sampled_from([0, 1, 2]))
def test_all_alignments(seed, blank):
    rng = np.random.default_rng(seed)
    T, S, V = 4, 3, 3
    log_probs = rng.normal(size=(5, T, V))  # not normalized: the definition does not need it
    frames, lengths = rng.integers(0, T + 1, 5), rng.integers(0, S + 1, 5)
    targets = rng.choice([label for label in range(V) if label != blank], (5, S))
    losses, gradients = [], np.zeros((5, T, V))
    for b in range(5):
        loss, gradient = enumerated(log_probs[b, : frames[b]], targets[b, : lengths[b]], blank)
        losses.append(loss)
        gradients[b, : frames[b]] = gradient
    loss = lambda x, **options: F.ctc_loss(x, targets, frames, lengths, blank=blank, **options)
    np.testing.assert_allclose(loss(log_probs, reduction="none"), losses, rtol=1e-11, atol=1e-12)
    finite = np.where(np.isinf(losses), 0, losses)
    np.testing.assert_allclose(
        loss(log_probs, zero_infinity=True), np.mean(finite / np.maximum(lengths, 1)), rtol=1e-11, atol=1e-12
    )
    for options in ({}, {"zero_infinity": True}):
        gradient = mt.grad(lambda x, o=options: loss(x, reduction="sum", **o))(log_probs)
        np.testing.assert_allclose(gradient, gradients, atol=1e-12)


def test_probabilities_of_all_label_sequences_sum_to_one():
    log_probs = F.log_softmax(np.random.default_rng(0).normal(size=(1, 4, 3))).data
    total = 0.0
    for S in range(5):
        for labels in itertools.product((1, 2), repeat=S):
            target = np.array(labels, int).reshape(1, S)
            total += math.exp(-F.ctc_loss(log_probs, target, [4], [S], reduction="sum").item())
    assert math.isclose(total, 1, rel_tol=1e-13)


def test_gradients():
    rng = np.random.default_rng(1)
    logits, targets = rng.normal(size=(3, 5, 4)), np.array([[1, 1, 2], [3, 2, 0], [1, 2, 3]])
    for reduction in ("mean", "none"):
        mt.check_grads(
            lambda x, r=reduction: F.ctc_loss(F.log_softmax(x), targets, [5, 4, 3], [3, 2, 3], reduction=r), logits
        )


def test_what_lies_behind_the_lengths_is_not_read():
    rng = np.random.default_rng(2)
    log_probs, targets = rng.normal(size=(2, 5, 3)), np.array([[1, 2, -7], [2, -7, -7]])
    log_probs[:, 3:] = np.nan
    value, gradient = mt.value_and_grad(lambda x: F.ctc_loss(x, targets, [3, 3], [2, 1]))(log_probs)
    expected = F.ctc_loss(log_probs[:, :3], np.array([[1, 2], [2, 1]]), [3, 3], [2, 1])
    assert value.item() == expected.item()
    assert (gradient.data[:, 3:] == 0).all()


def test_impossible_alignments():
    """Too many labels, no frame for the blank between equal ones, a label that cannot be: inf and no gradient."""
    log_probs = np.log(np.full((4, 3, 3), 1 / 3))
    log_probs[3, :, 2] = -math.inf
    targets = np.array([[1, 2, 1, 2], [1, 1, 0, 0], [1, 2, 0, 0], [2, 0, 0, 0]])
    frames, lengths = [3, 2, 3, 3], [4, 2, 2, 1]
    loss = lambda x, **options: F.ctc_loss(x, targets, frames, lengths, **options)
    assert np.isinf(loss(log_probs, reduction="none").data).tolist() == [True, True, False, True]
    for zero in (False, True):
        gradient = mt.grad(lambda x, z=zero: loss(x, zero_infinity=z))(log_probs).data
        assert np.isfinite(gradient).all()
        assert (gradient[[0, 1, 3]] == 0).all()
        assert (gradient[2] != 0).any()
    assert loss(log_probs, zero_infinity=True, reduction="none").data.argmax() == 2


def test_huge_logits():
    logits = np.array([[[0.0, 1e6, 0.0], [0.0, 0.0, 1e6]]])
    value, gradient = mt.value_and_grad(lambda x: F.ctc_loss(F.log_softmax(x), [[1, 2]], [2], [2]))(logits)
    assert value.item() == 0
    assert (gradient.data == 0).all()
    two_paths = F.ctc_loss(F.log_softmax(logits), [[1]], [2], [1]).item()  # 11 and 1-
    assert math.isclose(two_paths, 1e6 - math.log(2), rel_tol=1e-15)


def test_many_frames_do_not_underflow():
    T = 400
    log_probs = np.log(np.full((1, T, 2), 0.5))
    # one label: it is present in T (T + 1) / 2 of the 2^T paths as one run
    want = T * math.log(2) - math.log(T * (T + 1) / 2)
    assert math.isclose(F.ctc_loss(log_probs, [[1]], [T], [1]).item(), want, rel_tol=1e-12)


def test_float32_stays():
    x = mt.tensor(np.zeros((1, 3, 2)), dtype="float32", requires_grad=True)
    loss = F.ctc_loss(x, [[1]], [3], [1])
    loss.backward()
    assert loss.dtype == x.grad.dtype == np.float32


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 2)])
def test_empty(shape):
    B = shape[0]
    assert F.ctc_loss(np.zeros(shape), np.zeros((B, 0), int), np.full(B, shape[1]), np.zeros(B, int)).item() == 0
