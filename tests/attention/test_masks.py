"""Masks against their definitions, one pair of positions at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.attention.masks import (
    blockwise_causal_mask,
    causal_mask,
    chunk_mask,
    padding_mask,
    prefix_mask,
    segment_mask,
    sliding_window_mask,
)
from minitf.nn.functional import scaled_dot_product_attention

length = st.integers(0, 7)
positive = st.integers(1, 5)


def by_pair(T, S, may):
    """The (T, S) array of ``may(i, j)``."""
    return np.array([[may(i, j) for j in range(S)] for i in range(T)], bool).reshape(T, S)


@given(length, length, st.one_of(st.none(), st.integers(-3, 5)))
def test_causal(T, S, offset):
    start = S - T if offset is None else offset
    np.testing.assert_array_equal(causal_mask(T, S, offset).data, by_pair(T, S, lambda i, j: j <= start + i))
    np.testing.assert_array_equal(causal_mask(T).data, np.tri(T, dtype=bool))


@given(length, length, positive, st.one_of(st.none(), st.integers(-3, 5)))
def test_sliding_window(T, S, window, offset):
    start = S - T if offset is None else offset
    past = by_pair(T, S, lambda i, j: j in range(start + i - window + 1, start + i + 1))
    around = by_pair(T, S, lambda i, j: j in range(start + i - window, start + i + window + 1))
    np.testing.assert_array_equal(sliding_window_mask(T, S, window=window, offset=offset).data, past)
    np.testing.assert_array_equal(sliding_window_mask(T, S, window=window, causal=False, offset=offset).data, around)
    assert sliding_window_mask(T, window=window).shape == (T, T)


def test_a_window_as_long_as_the_sequence_is_causal():
    np.testing.assert_array_equal(sliding_window_mask(5, window=5).data, causal_mask(5).data)
    np.testing.assert_array_equal(sliding_window_mask(5, window=1).data, np.eye(5, dtype=bool))


@given(st.data(), length)
def test_prefix(data, T):
    n = data.draw(st.integers(0, T))
    np.testing.assert_array_equal(prefix_mask(n, T).data, by_pair(T, T, lambda i, j: j <= i or (i < n and j < n)))


@given(length, positive, st.one_of(st.none(), st.integers(0, 3)))
def test_chunks(T, chunk, left):
    def may(i, j):
        first = 0 if left is None else (i // chunk - left) * chunk
        return first <= j < (i // chunk + 1) * chunk

    np.testing.assert_array_equal(chunk_mask(T, chunk, left).data, by_pair(T, T, may))


@given(length, positive)
def test_blockwise_causal(T, block):
    np.testing.assert_array_equal(
        blockwise_causal_mask(T, block).data, by_pair(T, T, lambda i, j: i - i % block <= j <= i)
    )


@given(st.lists(st.integers(0, 2), max_size=6))
def test_segments(ids):
    T = len(ids)
    wanted = by_pair(T, T, lambda i, j: ids[i] == ids[j])
    np.testing.assert_array_equal(segment_mask(np.array(ids, int)).data, wanted)
    both = segment_mask(np.array([ids, [0] * T], int)).data
    assert both.shape == (2, 1, T, T)
    np.testing.assert_array_equal(both[0, 0], wanted)
    assert both[1].all()


def test_padding():
    valid = np.array([[True, True, False], [True, False, False]])
    mask = padding_mask(valid)
    assert mask.shape == (2, 1, 1, 3)
    np.testing.assert_array_equal(np.broadcast_to(mask.data, (2, 4, 5, 3))[1, 2], [[True, False, False]] * 5)


@pytest.mark.parametrize("H", [2, 3])
def test_packed_sequences_attend_as_if_alone(H):
    """Two sequences in a row and another one padded: masks combine with & and line up with (B, H, T, S)."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(2, H, 7, 4)) for _ in range(3))
    ids, valid = np.array([[0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 2, 2]]), np.ones((2, 7), bool)
    valid[1, 5:] = False
    mask = segment_mask(ids) & padding_mask(valid) & causal_mask(7)
    out = scaled_dot_product_attention(q, k, v, mask=mask).data
    for row, part in ((0, slice(0, 3)), (0, slice(3, 7)), (1, slice(0, 5))):
        alone = scaled_dot_product_attention(*(x[row, :, part] for x in (q, k, v)), causal=True).data
        np.testing.assert_allclose(out[row, :, part], alone, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(out[1, :, 5:], 0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sliding_window_mask(4, window=0), ValueError, "window must be a positive integer or None, got 0"),
        (
            lambda: padding_mask(np.ones((2, 3))),
            TypeError,
            r"valid must be boolean \(True = a real token\), got float64",
        ),
        (lambda: padding_mask(np.ones(3, bool)), mt.ShapeError, r"valid must be \(B, S\), got shape \(3,\)"),
        (lambda: prefix_mask(5, 4), ValueError, "the prefix must have 0 to 4 positions, got 5"),
        (lambda: chunk_mask(4, 0), ValueError, "a chunk must have at least 1 position, got 0"),
        (lambda: chunk_mask(4, 2, -1), ValueError, "left_chunks must be 0 or more, or None for all, got -1"),
        (lambda: blockwise_causal_mask(4, 0), ValueError, "a block must have at least 1 position, got 0"),
        (lambda: segment_mask(np.ones(3)), TypeError, "segment_mask: ids must be integers, got float64"),
        (lambda: segment_mask(3), mt.ShapeError, r"segment_mask: ids must be \(T,\) or \(B, T\), got shape \(\)"),
    ],
)
def test_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()
