"""Reductions over ragged groups: group by group in loops, groups that are empty or not there, gradients."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.nn import functional as F

REDUCTIONS = {"sum": F.segment_sum, "max": F.segment_max}


@given(st.integers(0, 10**6), st.integers(0, 6), st.integers(0, 4), st.sampled_from([(), (2,), (2, 3)]))
def test_transcription(seed, M, n, rest):
    rng = np.random.default_rng(seed)
    values, ids = rng.standard_normal((M, *rest)), rng.integers(-1, n + 2, M)
    sums, tops = np.zeros((n, *rest)), np.full((n, *rest), -np.inf)
    for i, group in enumerate(ids):
        if 0 <= group < n:
            sums[group] = sums[group] + values[i]
            tops[group] = np.where(values[i] > tops[group], values[i], tops[group])
    np.testing.assert_allclose(F.segment_sum(values, ids, n), sums, atol=1e-14)
    np.testing.assert_array_equal(F.segment_max(values, ids, n), tops)
    got = F.segment_softmax(values, ids, n).data
    for i, *place in np.ndindex(values.shape):
        group = [j for j in range(M) if ids[j] == ids[i]]
        total = sum(math.exp(values[(j, *place)]) for j in group)
        want = math.exp(values[(i, *place)]) / total if 0 <= ids[i] < n else 0.0
        assert got[(i, *place)] == pytest.approx(want, rel=1e-12)


def test_one_group_is_the_whole_and_sorting_does_not_matter():
    rng = np.random.default_rng(0)
    values, ids = rng.standard_normal((7, 2)), rng.integers(0, 3, 7)
    np.testing.assert_allclose(F.segment_softmax(values, np.zeros(7, int)), F.softmax(values, 0), rtol=1e-13)
    order = np.argsort(ids, kind="stable")
    for reduce in REDUCTIONS.values():
        np.testing.assert_allclose(reduce(values[order], ids[order]), reduce(values, ids), rtol=1e-13)
    assert F.segment_sum(values, ids).shape[0] == ids.max() + 1
    assert F.segment_sum(np.array([1, 2, 3]), [0, 1, 0]).tolist() == [4, 2]


def test_softmax_is_stable_and_groups_of_nothing_are_zero():
    values = np.array([1e4, 1e4, -np.inf, -np.inf, -1e4])
    out = F.segment_softmax(values, [0, 0, 1, 0, 2])
    assert out.tolist() == [0.5, 0.5, 0.0, 0.0, 1.0]
    g = mt.grad(lambda v: mt.sum(F.segment_softmax(v, [0, 0, 1, 0, 2]) * np.arange(5.0)))(values).data
    np.testing.assert_allclose(g, [-0.25, 0.25, 0, 0, 0], atol=1e-15)


def test_a_tie_sends_the_gradient_to_the_first():
    values = np.array([1.0, 3.0, 3.0, 2.0, np.nan])
    out, pull = mt.vjp(lambda v: F.segment_max(v, [0, 1, 1, 0, 2], 4), values)
    np.testing.assert_array_equal(out, [2, 3, np.nan, -np.inf])
    assert pull(np.array([1.0, 10.0, 100.0, 1000.0]))[0].tolist() == [0, 10, 0, 1, 100]


@pytest.mark.parametrize("ids", [[0, 2, 2, 0, 3], [0, -1, 2, 9, 2]], ids=["all", "some"])
def test_gradients(ids):
    values = np.random.default_rng(0).permutation(np.arange(10.0)).reshape(5, 2) / 4
    for reduce in (F.segment_sum, F.segment_softmax):
        mt.check_grads(lambda v, reduce=reduce: reduce(v, ids, 4) ** 2, values)
    mt.check_grads(lambda v: mt.where(np.isin(np.arange(4), ids)[:, None], F.segment_max(v, ids, 4), 0.0) ** 2, values)
