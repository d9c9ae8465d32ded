"""The cache of a decoder: slots, layers that share one, and what is done to all of them at once."""

import numpy as np
import pytest

from minitf.models.cache import DecoderCache


def filled(cache, B=2, T=3, K=1, E=2):
    """Every slot holds T positions; slot i holds keys i, i + 0.01, ... and their negatives as values."""
    for i, slot in enumerate(cache.slots):
        k = i + np.arange(B * K * T * E).reshape(B, K, T, E) / 100
        slot.update(k, -k)
    return cache


def test_every_layer_has_a_slot_of_its_own():
    cache = DecoderCache(3)
    assert [cache[layer] for layer in range(3)] == cache.slots
    assert len({id(slot) for slot in cache.slots}) == 3


def test_layers_that_share_a_slot():
    cache = DecoderCache(4, layer_slot=[0, 0, 1, 0])
    assert len(cache.slots) == 2
    assert cache[0] is cache[1] is cache[3] is cache.slots[0]
    assert cache[2] is cache.slots[1]
    k = np.ones((1, 1, 2, 3))
    cache[0].update(k, k)
    keys, _ = cache[3].update(2 * k, 2 * k)
    np.testing.assert_array_equal(keys.data[0, 0, :, 0], [1, 1, 2, 2])


def test_length_is_that_of_the_longest_slot():
    cache = DecoderCache(2)
    assert cache.length == 0
    cache[1].update(np.ones((1, 1, 3, 2)), np.ones((1, 1, 3, 2)))
    assert cache.length == 3
    assert DecoderCache(0).length == 0


@pytest.mark.parametrize("layer_slot", [None, [0, 1, 1]])
def test_crop_and_reorder_reach_every_slot_once(layer_slot):
    cache = filled(DecoderCache(3, layer_slot))
    before = [(slot.k.data.copy(), slot.v.data.copy()) for slot in cache.slots]
    cache.crop(2)
    cache.reorder([1, 1, 0])
    assert cache.length == 2
    for slot, (k, v) in zip(cache.slots, before, strict=True):
        np.testing.assert_array_equal(slot.k, k[[1, 1, 0], :, :2])
        np.testing.assert_array_equal(slot.v, v[[1, 1, 0], :, :2])


def test_a_shared_slot_is_held_once():
    own, shared = filled(DecoderCache(4)), filled(DecoderCache(4, [0, 0, 1, 1]))
    numbers = 2 * 2 * 3 * 2  # keys and values, B, T, K E
    assert own.nbytes() == 4 * numbers * 8
    assert shared.nbytes() == 2 * numbers * 8
    assert shared.nbytes(bits=4) == 2 * numbers // 2
    assert DecoderCache(2).nbytes() == 0


def test_what_cannot_be_cropped_is_left_as_it_is():
    cache = filled(DecoderCache(2))
    with pytest.raises(ValueError, match="length must be 0 to 3"):
        cache.crop(4)
    assert [slot.length for slot in cache.slots] == [3, 3]


@pytest.mark.parametrize("layer_slot", [[0], [0, 1, 2]])
def test_layer_slot_names_a_slot_for_every_layer(layer_slot):
    with pytest.raises(ValueError, match=f"2 layers, but {len(layer_slot)} entries"):
        DecoderCache(2, layer_slot)


@pytest.mark.parametrize("layer_slot", [[0, 2], [1, 2], [0, -1], [-1, -1]])
def test_slots_count_from_0_and_each_is_used(layer_slot):
    """A slot that no layer fills would stay empty, and could be neither cropped nor reordered."""
    with pytest.raises(ValueError, match="count its slots from 0"):
        DecoderCache(2, layer_slot)
