"""T5's buckets against their definition, and the bias that is made of them."""

import math

import numpy as np
import pytest

import minitf as mt
from minitf.position.interpolation import linearly_scaled, llama3_scaled
from minitf.position.relative_buckets import RelativeBias, relative_position_bucket


def literally(distance, bidirectional, buckets, farthest):
    """As the page says it, one distance at a time; a logarithm that is a whole number up to rounding is one."""
    bucket = 0
    if bidirectional:
        buckets //= 2
        bucket = buckets if distance > 0 else 0
        away = abs(distance)
    else:
        away = max(-distance, 0)
    single = buckets // 2
    if away < single:
        return bucket + away
    exact = math.log(away / single) / math.log(farthest / single) * (buckets - single)
    return bucket + min(buckets - 1, single + math.floor(exact + 1e-9))


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "farthest"), [(32, 128), (8, 6), (16, 200), (4, 3), (64, 1000)])
def test_equals_its_definition(bidirectional, buckets, farthest):
    distances = np.arange(-3 * farthest, 3 * farthest + 1)
    want = [literally(int(d), bidirectional, buckets, farthest) for d in distances]
    got = relative_position_bucket(distances, bidirectional, buckets, farthest)
    np.testing.assert_array_equal(got, want)
    assert set(got.tolist()) <= set(range(buckets))


def test_the_released_ones():
    got = relative_position_bucket(np.array([0, 1, -1, 7, 8, -8, 16, 32, 64, 127, 128, 1000, -1000]))
    assert got.tolist() == [0, 17, 1, 23, 24, 8, 26, 28, 30, 31, 31, 31, 15]
    causal = relative_position_bucket(np.array([5, 0, -15, -16, -127, -128]), bidirectional=False)
    assert causal.tolist() == [0, 0, 15, 16, 31, 31]


def test_the_bias_depends_on_the_distance():
    bias = RelativeBias(3, rng=np.random.default_rng(0))
    whole = bias(0, 40).data
    assert whole.shape == (3, 40, 40)
    for i, j in ((0, 0), (3, 30), (39, 1)):
        bucket = int(relative_position_bucket(np.array([j - i]))[0])
        np.testing.assert_array_equal(whole[:, i, j], bias.table.weight.data[bucket])
    np.testing.assert_array_equal(bias(35, 5), whole[:, 35:])
    mt.check_grads(lambda table: mt.nn.functional_call(bias, {"table.weight": table}, 2, 4), bias.table.weight.data)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_buckets": 2}, ValueError, "needs at least 4 buckets, an even number, got 2"),
        ({"num_buckets": 7}, ValueError, "an even number, got 7"),
        ({"max_distance": 8}, ValueError, "max_distance must exceed 8, got 8"),
        ({"distance": np.zeros(2)}, TypeError, "distances must be integers, got float64"),
    ],
)
def test_what_makes_no_buckets(options, error, message):
    with pytest.raises(error, match=message):
        relative_position_bucket(**{"distance": np.arange(3), **options})


def test_slower_clocks():
    freqs = np.array([1.0, 0.1, 0.01, 0.001])
    np.testing.assert_array_equal(linearly_scaled(freqs, 4), freqs / 4)
    length = 200
    turns = length * freqs / (2 * np.pi)  # 31.8, 3.18, 0.318, 0.0318
    s = (turns[1] - 1) / 3
    want = [1.0, 0.1 * ((1 - s) / 8 + s), 0.01 / 8, 0.001 / 8]
    np.testing.assert_allclose(llama3_scaled(freqs, 8, length), want, rtol=1e-14)
    for wrong in ((0, 10, 1, 4), (8, 0, 1, 4), (8, 10, 4, 4)):
        with pytest.raises(ValueError, match="needs a positive factor and length and low < high"):
            llama3_scaled(freqs, *wrong)
    with pytest.raises(ValueError, match="factor must be positive"):
        linearly_scaled(freqs, -1)
