"""Packing and unpadding lose nothing, mix nothing, and are undone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.data.packing import pack_sequences, pad_input, same_segment, unpack_sequences, unpad_input
from minitf.models.transformer import Decoder

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=12)


@given(lengths=LENGTHS, more=st.integers(0, 10))
def test_packing_is_undone_and_is_first_fit(lengths, more):
    sequences = [100 * i + np.arange(1, n + 1) for i, n in enumerate(lengths)]
    capacity = max(lengths) + more
    packed = pack_sequences(sequences, capacity, fill=-7)
    for found, sequence in zip(unpack_sequences(packed.ids, packed.segment_ids), sequences, strict=True):
        np.testing.assert_array_equal(found, sequence)
    assert (packed.ids[packed.segment_ids == 0] == -7).all()
    np.testing.assert_array_equal(
        (packed.ids - 1)[packed.segment_ids > 0] % 100, packed.positions[packed.segment_ids > 0]
    )
    room = []  # the definition, with what is left in each row
    for i, n in enumerate(lengths):
        row = next((b for b, left in enumerate(room) if left >= n), None)
        if row is None:
            row = len(room)
            room.append(capacity)
        room[row] -= n
        assert set(np.nonzero(packed.segment_ids == i + 1)[0]) == {row}
    assert len(packed.ids) == len(room)


def test_a_packed_model_sees_each_sequence_alone():
    rng = np.random.default_rng(0)
    model = Decoder(11, 8, 2, 2, max_length=9, rng=rng)
    sequences = [rng.integers(1, 11, n) for n in (4, 3, 2, 5)]
    packed = pack_sequences(sequences, 9)
    assert packed.ids.shape == (2, 9)
    logits = model(packed.ids, mask=same_segment(packed.segment_ids), positions=packed.positions).data
    for found, sequence in zip(unpack_sequences(logits, packed.segment_ids), sequences, strict=True):
        np.testing.assert_allclose(found, model(sequence[None]).data[0], rtol=0, atol=1e-12)
    mixed = model(packed.ids, positions=packed.positions).data
    assert np.abs(mixed - logits)[packed.segment_ids > 1].max() > 1e-3


@given(seed=st.integers(0, 99), B=st.integers(1, 4), T=st.integers(1, 5), features=st.sampled_from([(), (3,), (2, 3)]))
def test_unpadding_is_undone(seed, B, T, features):
    rng = np.random.default_rng(seed)
    x, mask = rng.normal(size=(B, T, *features)), rng.random((B, T)) < 0.6  # holes may be anywhere
    values, layout = unpad_input(x, mask)
    np.testing.assert_array_equal(values.data, x[mask])
    for b in range(B):
        np.testing.assert_array_equal(values.data[layout.cu_seqlens[b] : layout.cu_seqlens[b + 1]], x[b, mask[b]])
    assert layout.max_seqlen == mask.sum(axis=1).max()
    expected = np.where(mask.reshape(B, T, *[1] * len(features)), x, 0)
    np.testing.assert_array_equal(pad_input(values, layout).data, expected)


def test_gradients():
    rng = np.random.default_rng(0)
    mask = np.array([[True, False, True], [False, True, True]])
    mt.check_grads(lambda x: unpad_input(x, mask)[0], rng.normal(size=(2, 3, 2)))
    layout = unpad_input(np.zeros((2, 3)), mask)[1]
    mt.check_grads(lambda x: pad_input(x, layout), rng.normal(size=(4, 2)))


def test_wrong_calls():
    with pytest.raises(mt.ShapeError, match=r"sequence 1 has shape \(5,\); needed is one axis of 1 to 4 ids"):
        pack_sequences([np.arange(4), np.arange(5)], 4)
    with pytest.raises(mt.ShapeError, match=r"sequence 0 has shape \(0,\)"):
        pack_sequences([[]], 4)
    with pytest.raises(mt.ShapeError, match=r"unpad_input: needs x .* got \(2, 3\) and \(2, 2\)"):
        unpad_input(np.zeros((2, 3)), np.ones((2, 2)))
    layout = unpad_input(np.zeros((2, 3)), np.ones((2, 3)))[1]
    with pytest.raises(mt.ShapeError, match=r"the layout has 6 places, values are \(5,\)"):
        pad_input(np.zeros(5), layout)
