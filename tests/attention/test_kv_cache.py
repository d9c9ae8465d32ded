"""The cache: reading back is the identity, decoding in pieces is the parallel form, eviction, gradients, bytes, cost."""

import copy
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.attention.dot_product import MultiHeadAttention
from minitf.attention.kv_cache import KVCache
from minitf.position.rotary import rotary_frequencies


def draw(rng, T, B=2, K=2, KV=None, E=3, W=2):
    return rng.normal(size=(B, K, T, E)), rng.normal(size=(B, K if KV is None else KV, T, W))


def filled(T, seed=0, **sizes):
    k, v = draw(np.random.default_rng(seed), T, **sizes)
    cache = KVCache()
    cache.update(k, v)
    return cache, k, v


def pieces(T, cuts):
    edges = [0, *sorted(cut for cut in cuts if cut <= T), T]
    return list(itertools.pairwise(edges))


ragged = st.lists(st.integers(0, 9), max_size=6)


@given(ragged, st.booleans())
def test_what_was_appended_is_read_back(cuts, traced):
    k, v = draw(np.random.default_rng(0), 9, KV=1)
    cache = KVCache()
    wrap = (lambda x: mt.tensor(x, requires_grad=True)) if traced else np.asarray
    returned = []
    for start, stop in pieces(9, cuts):
        returned.append((stop, *cache.update(wrap(k[:, :, start:stop]), wrap(v[:, :, start:stop]))))
    assert cache.length == 9
    np.testing.assert_array_equal(cache.k.data, k)
    np.testing.assert_array_equal(cache.v.data, v)
    np.testing.assert_array_equal(cache.positions, np.broadcast_to(np.arange(9), (2, 2, 9)))
    for stop, keys, values in returned:  # what was returned before is still what it was
        np.testing.assert_array_equal(keys.data, k[:, :, :stop])
        np.testing.assert_array_equal(values.data, v[:, :, :stop])


@pytest.mark.parametrize("freqs", [None, rotary_frequencies(4)], ids=["plain", "rotary"])
@pytest.mark.parametrize("window", [None, 3])
@given(cuts=ragged)
def test_in_pieces_is_the_parallel_form(freqs, window, cuts):
    rng = np.random.default_rng(0)
    layer = MultiHeadAttention(8, 2, 1, freqs=freqs, rng=rng)
    x, cache = rng.normal(size=(2, 9, 8)), KVCache()
    parts = [layer(x[:, start:stop], causal=True, window=window, cache=cache).data for start, stop in pieces(9, cuts)]
    np.testing.assert_allclose(np.concatenate(parts, 1), layer(x, causal=True, window=window).data, rtol=0, atol=1e-13)


@given(ragged)
def test_gradients_flow_through_the_cache(cuts):
    rng = np.random.default_rng(0)
    layer = MultiHeadAttention(4, 2, freqs=rotary_frequencies(2), rng=rng)
    x, along = rng.normal(size=(1, 9, 4)), rng.normal(size=(1, 9, 4))
    weights = {name: p.data for name, p in layer.named_parameters()}

    def loss(weights, x, cuts):
        cache, total = KVCache(), 0.0
        for start, stop in pieces(9, cuts):
            y = mt.nn.functional_call(layer, weights, x[:, start:stop], causal=True, cache=cache)
            total = total + mt.sum(y * along[:, start:stop])
        return total

    got, want = (mt.grad(loss, argnums=(0, 1))(weights, x, pieces) for pieces in (cuts, []))
    for a, b in zip(mt.tree_leaves(got), mt.tree_leaves(want), strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=0, atol=1e-12)


def test_second_derivatives_and_forward_mode_through_the_cache():
    def f(k, v):
        cache = KVCache()
        cache.update(k[:, :, :2], v[:, :, :2])
        keys, values = cache.update(k[:, :, 2:], v[:, :, 2:])
        cache.keep([0, 2])
        cache.reorder([1, 1, 0])
        cache.crop(2)
        return mt.sum(mt.sin(keys)) * mt.sum(values**2), cache.k**2, cache.v

    mt.check_grads(f, *draw(np.random.default_rng(0), 4))


class TestChoosing:
    @given(st.data(), st.integers(0, 6))
    def test_crop(self, data, T):
        cache, k, v = filled(T)
        length = data.draw(st.integers(0, T))
        cache.crop(length)
        assert cache.length == length
        np.testing.assert_array_equal(cache.k.data, k[:, :, :length])
        more = draw(np.random.default_rng(1), 2)
        keys, values = cache.update(*more)
        np.testing.assert_array_equal(keys.data, np.concatenate([k[:, :, :length], more[0]], 2))
        np.testing.assert_array_equal(values.data, np.concatenate([v[:, :, :length], more[1]], 2))
        np.testing.assert_array_equal(cache.positions[0, 0], np.arange(length + 2))

    def test_crop_changes_nothing_that_was_read(self):
        cache, k, _ = filled(5)
        before = cache.k
        cache.crop(2)
        cache.update(*draw(np.random.default_rng(1), 3))
        np.testing.assert_array_equal(before.data, k)

    @given(st.sets(st.integers(0, 5)))
    def test_keep_for_all(self, indices):
        cache, k, v = filled(6, KV=1)
        cache.keep(sorted(indices, reverse=True))
        chosen = sorted(indices)
        np.testing.assert_array_equal(cache.k.data, k[:, :, chosen])
        np.testing.assert_array_equal(cache.v.data, v[:, :, chosen])
        np.testing.assert_array_equal(cache.positions, np.broadcast_to(chosen, (2, 2, len(chosen))))
        assert cache.length == 6
        cache.update(*draw(np.random.default_rng(1), 1, KV=1))
        assert cache.length == 7
        np.testing.assert_array_equal(cache.positions[1, 1], [*chosen, 6])

    @given(st.integers(0, 10**6), st.integers(0, 6))
    def test_keep_for_each_head(self, seed, kept):
        rng = np.random.default_rng(seed)
        cache, k, v = filled(6)
        indices = np.argsort(rng.random((2, 2, 6)), -1)[..., :kept]
        cache.keep(indices)
        for b, h in np.ndindex(2, 2):
            chosen = sorted(indices[b, h])
            np.testing.assert_array_equal(cache.k.data[b, h], k[b, h, chosen])
            np.testing.assert_array_equal(cache.v.data[b, h], v[b, h, chosen])
            np.testing.assert_array_equal(cache.positions[b, h], chosen)

    def test_keep_again_and_crop_count_in_positions(self):
        cache, k, _ = filled(6)
        cache.keep([0, 2, 3, 5])
        cache.keep([0, 1, 3])  # of those four
        np.testing.assert_array_equal(cache.positions[0, 0], [0, 2, 5])
        cache.crop(4)
        np.testing.assert_array_equal(cache.positions[0, 0], [0, 2])
        np.testing.assert_array_equal(cache.k.data, k[:, :, [0, 2]])
        assert cache.length == 4

    def test_evicted_rotary_keys_keep_their_positions(self):
        rng = np.random.default_rng(0)
        layer = MultiHeadAttention(8, 2, freqs=rotary_frequencies(4), rng=rng)
        x, cache = rng.normal(size=(1, 7, 8)), KVCache()
        layer(x[:, :5], causal=True, cache=cache)
        cache.keep([0, 3])
        got = layer(x[:, 5:], causal=True, cache=cache).data
        seen = np.zeros((7, 7), bool)
        seen[5, [0, 3, 5]] = seen[6, [0, 3, 5, 6]] = True
        np.testing.assert_allclose(got, layer(x, mask=seen).data[:, 5:], rtol=0, atol=1e-13)

    @given(st.lists(st.integers(0, 2), min_size=1, max_size=5))
    def test_reorder(self, rows):
        cache, k, v = filled(4, B=3)
        cache.keep([1, 3])
        cache.reorder(np.array(rows, int))
        np.testing.assert_array_equal(cache.k.data, k[rows][:, :, [1, 3]])
        np.testing.assert_array_equal(cache.v.data, v[rows][:, :, [1, 3]])
        assert cache.positions.shape == (len(rows), 2, 2)
        cache.crop(2)
        assert cache.k.shape == (len(rows), 2, 1, 3)

    def test_a_deep_copy_goes_its_own_way(self):
        cache, k, _ = filled(3)
        cache.update(*draw(np.random.default_rng(1), 1))  # there is room to append in place
        other = copy.deepcopy(cache)
        rows = [draw(np.random.default_rng(seed), 1) for seed in (2, 3)]
        cache.update(*rows[0])
        other.update(*rows[1])
        for one, (new, _) in zip((cache, other), rows, strict=True):
            np.testing.assert_array_equal(one.k.data[:, :, [0, 1, 2, 4]], np.concatenate([k, new], 2))


class TestCost:
    def test_bytes(self):
        cache = KVCache()
        assert cache.nbytes() == cache.nbytes(4) == 0
        cache, k, v = filled(5, KV=1)
        for _ in range(3):
            cache.update(k[:, :, :1], v[:, :, :1])  # buffers have more room than is held
        numbers = 2 * 8 * (2 * 3 + 1 * 2)
        assert cache.nbytes() == 8 * numbers
        assert cache.nbytes(16) == 2 * numbers
        cache.keep([0])
        assert cache.nbytes(3) == -(-2 * (2 * 3 + 1 * 2) * 3 // 8)  # 48 bits
        cache, *_ = filled(1, B=1, K=1, E=1, W=2)
        assert cache.nbytes(4) == 2  # 12 bits

    def test_appending_copies_each_position_a_constant_number_of_times(self):
        cache, copied = KVCache(), 0
        k, v = draw(np.random.default_rng(0), 1)
        for t in range(1000):
            before = cache._buffers[0]
            cache.update(k, v)
            copied += t if cache._buffers[0] is not before else 0
        assert copied < 2000

    @pytest.mark.parametrize("T", [1, 6])
    def test_projections_are_computed_once(self, T):
        D, B, H = 8, 2, 2
        layer = MultiHeadAttention(D, H, rng=np.random.default_rng(0))
        x, cache = np.zeros((B, T, D)), KVCache()
        with mt.cost() as with_cache:
            for t in range(T):
                layer(x[:, t : t + 1], causal=True, cache=cache)
        with mt.cost() as without:
            for t in range(T):
                layer(x[:, : t + 1], causal=True)
        pairs = T * (T + 1) // 2
        assert with_cache.macs == B * (4 * T * D * D + 2 * pairs * D)
        assert without.macs == B * (4 * pairs * D * D + 2 * sum(t * t for t in range(1, T + 1)) * D)


class TestRefuses:
    """And nothing is half-done: the cache is as before."""

    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (lambda c, k, v: c.update(k[0], v[0]), mt.ShapeError, r"needs k \(B, K, T, E\) and v \(B, K', T, W\), got"),
            (lambda c, k, v: c.update(k, v[:, :, :1]), mt.ShapeError, r"got \(2, 2, 4, 3\) and \(2, 2, 1, 2\)"),
            (
                lambda c, k, v: c.update(k, v[..., :1]),
                mt.ShapeError,
                r"holds v \(2, 2, 4, 2\), got \(2, 2, 4, 1\); only axis 2",
            ),
            (lambda c, k, v: c.update(k[:1], v[:1]), mt.ShapeError, r"holds k \(2, 2, 4, 3\), got \(1, 2, 4, 3\)"),
            (lambda c, k, v: c.update(k, v.astype("f")), TypeError, "holds v of float64, got float32; cast it first"),
            (lambda c, k, v: c.crop(5), ValueError, "length must be 0 to 4, the positions seen, got 5"),
            (lambda c, k, v: c.keep([0, 4]), ValueError, "different numbers from 0 to 3"),
            (lambda c, k, v: c.keep([1, 1]), ValueError, "different numbers from 0 to 3"),
            (lambda c, k, v: c.keep([True, False, True, True]), TypeError, "indices must be integers, got bool"),
            (lambda c, k, v: c.keep([[0, 1]]), mt.ShapeError, r"\(S',\), or \(B, K, S'\) = \(2, 2, S'\)"),
            (lambda c, k, v: c.reorder([0, 2]), ValueError, "rows must be from 0 to 1, got 0 to 2"),
            (lambda c, k, v: c.reorder([0.0]), TypeError, "rows must be one sequence of integers, got float64"),
        ],
    )
    @pytest.mark.parametrize("traced", [False, True])
    def test_wrong_calls(self, call, error, message, traced):
        k, v = draw(np.random.default_rng(0), 4)
        cache = KVCache()
        cache.update(mt.tensor(k, requires_grad=traced), v)
        with pytest.raises(error, match=message):
            call(cache, k, v)
        assert cache.length == 4
        np.testing.assert_array_equal(cache.k.data, k)
        np.testing.assert_array_equal(cache.v.data, v)
        cache.update(k, v)
        assert cache.length == cache.positions.shape[2] == 8

    def test_an_empty_cache_and_heads_of_different_lengths(self):
        with pytest.raises(ValueError, match="the cache is empty; update it first"):
            KVCache().keep([0])
        cache, _, _ = filled(4)
        cache.keep(np.array([[[0, 1], [0, 3]], [[0, 1], [0, 1]]]))
        with pytest.raises(ValueError, match="before position 2 the heads hold 1 to 2 positions"):
            cache.crop(2)
        cache.crop(4)
