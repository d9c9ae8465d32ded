"""Losses of distances against loops over pairs."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.nn import functional as F


def cosine(a, b, eps=1e-8):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / max(math.sqrt(sum(x * x for x in a)), eps) / max(math.sqrt(sum(x * x for x in b)), eps)


def distance(a, b):
    return math.sqrt(sum((x - y + 1e-6) ** 2 for x, y in zip(a, b, strict=True)))


def info_nce_loop(a, b, tau, similarity, symmetric):
    out = []
    for i in range(len(a)):
        scores = [similarity(a[i], other) / tau for other in b]
        loss = math.log(sum(math.exp(s) for s in scores)) - scores[i]
        if symmetric:
            back = [similarity(other, b[i]) / tau for other in a]
            loss = (loss + math.log(sum(math.exp(s) for s in back)) - back[i]) / 2
        out.append(loss)
    return np.array(out)


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(0, 3), st.booleans(), st.booleans())
def test_info_nce_transcription(seed, B, hard_negatives, symmetric, normalize):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(B, 3)), rng.normal(size=(B + hard_negatives, 3))
    want = info_nce_loop(a, b, 0.5, cosine if normalize else np.dot, symmetric)
    got = F.info_nce(a, b, 0.5, normalize=normalize, symmetric=symmetric, reduction="none")
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


@given(st.integers(0, 10**6), st.sampled_from([0.1, 1.0, 5.0]), st.booleans())
def test_margins_transcription(seed, margin, swap):
    rng = np.random.default_rng(seed)
    a, p, n = rng.normal(size=(3, 5, 3))
    for theirs, ours in ((distance, F.pairwise_distance), (lambda x, y: 1 - cosine(x, y), cosine_distance)):
        want = []
        for i in range(5):
            far = min(theirs(a[i], n[i]), theirs(p[i], n[i])) if swap else theirs(a[i], n[i])
            want.append(max(0.0, theirs(a[i], p[i]) - far + margin))
        got = F.triplet_margin_loss(a, p, n, margin=margin, distance=ours, swap=swap, reduction="none")
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)
    y, scores = rng.choice([-1, 1], 5), rng.normal(size=(2, 5))
    want = [1 - cosine(u, v) if s > 0 else max(0.0, cosine(u, v) - 0.1) for u, v, s in zip(a, p, y, strict=True)]
    np.testing.assert_allclose(F.cosine_embedding_loss(a, p, y, margin=0.1, reduction="none"), want, atol=1e-12)
    want = [max(0.0, margin - s * (u - v)) for u, v, s in zip(*scores, y, strict=True)]
    np.testing.assert_allclose(F.margin_ranking_loss(*scores, y, margin=margin), np.mean(want), atol=1e-12)
    want = [u if s > 0 else max(0.0, margin - u) for u, s in zip(scores[0], y, strict=True)]
    np.testing.assert_allclose(F.hinge_embedding_loss(scores[0], y, margin=margin), np.mean(want), atol=1e-12)


def cosine_distance(x, y):
    return 1 - F.cosine_similarity(x, y)


def test_info_nce_invariants():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 4, 3))
    assert abs(F.info_nce(a[:1], b[:1]).item()) < 1e-15  # nothing to confuse it with
    rows, both = F.info_nce(a, b).item(), F.info_nce(a, b, symmetric=True).item()
    np.testing.assert_allclose(both, (rows + F.info_nce(b, a).item()) / 2, rtol=1e-14)
    np.testing.assert_allclose(F.info_nce(10 * a, b / 7), rows, rtol=1e-13)  # directions alone matter
    np.testing.assert_allclose(F.info_nce(a, np.tile(b[:1], (4, 1))), math.log(4), rtol=1e-13)  # b says nothing
    assert F.info_nce(np.eye(4), np.eye(4), 1e-3).item() == 0
    swapped = F.info_nce(a, b[[0, 1, 2, 3]], reduction="none").data[[2, 0, 1, 3]]
    np.testing.assert_allclose(F.info_nce(a[[2, 0, 1, 3]], b[[2, 0, 1, 3]], reduction="none"), swapped, rtol=1e-13)


def test_cosine_similarity():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 1, 4)), rng.normal(size=(1, 3, 4))
    want = [[cosine(a[0], b) for b in y[0]] for a in x]
    np.testing.assert_allclose(F.cosine_similarity(x, y), want, rtol=1e-13)
    np.testing.assert_allclose(F.cosine_similarity(x[:, 0].T, y[0, :2].T, axis=0), np.diagonal(want), rtol=1e-13)
    zero = F.cosine_similarity(np.zeros(3), np.ones(3))
    assert zero.item() == 0
    np.testing.assert_allclose((F.normalize(x, axis=0).data ** 2).sum(0), np.ones((1, 4)), rtol=1e-14)
    assert np.isfinite(mt.grad(lambda z: F.cosine_similarity(z, np.ones(3)))(np.zeros(3)).data).all()


@pytest.mark.parametrize(
    "loss",
    [
        lambda a, b: F.info_nce(a, b, 0.5, symmetric=True),
        lambda a, b: F.info_nce(a[:2], b, mt.exp(a[0, 0]), normalize=False),
        lambda a, b: F.triplet_margin_loss(a, b, a[::-1] + b * 0.5, margin=5.0),
        lambda a, b: F.triplet_margin_loss(a, b, a[::-1], margin=5.0, distance=cosine_distance, swap=True),
        lambda a, b: F.cosine_embedding_loss(a, b, [1, 1, -1, -1], margin=-1.0),
        lambda a, b: F.margin_ranking_loss(a, b, np.ones((4, 3), int), margin=9.0),
        lambda a, b: F.cosine_similarity(a, b),
        lambda a, b: F.pairwise_distance(a, b),
    ],
)
def test_gradients(loss):
    mt.check_grads(loss, *np.random.default_rng(2).normal(size=(2, 4, 3)))


def test_equal_vectors_have_a_gradient():
    x = np.ones((2, 3))
    for loss in (lambda z: F.triplet_margin_loss(z, x, x), lambda z: F.cosine_embedding_loss(z, x, [1, -1])):
        assert np.isfinite(mt.grad(loss)(x).data).all()


def test_float32_stays():
    x = mt.tensor(np.eye(2, 3), dtype="float32", requires_grad=True)
    y = np.ones((2, 3), np.float32)
    for loss in (F.info_nce(x, y), F.triplet_margin_loss(x, y, y), F.cosine_embedding_loss(x, y, [1, -1])):
        loss.backward()
        assert loss.dtype == x.grad.dtype == np.float32
