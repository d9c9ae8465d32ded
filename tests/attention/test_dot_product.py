"""Heads, and the layer: its equations, any attention function, rotation, caches, gradients, cost."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.attention.dot_product import MultiHeadAttention, merge_heads, split_heads
from minitf.attention.kv_cache import KVCache
from minitf.nn.functional import scaled_dot_product_attention
from minitf.position.rotary import rotary_frequencies


class TestHeads:
    @given(st.lists(st.integers(0, 3), max_size=2), st.integers(0, 4), st.integers(1, 3), st.integers(1, 3))
    def test_split_and_merge(self, lead, T, H, E):
        x = np.random.default_rng(0).normal(size=(*lead, T, H * E))
        heads = split_heads(mt.tensor(x), H)
        assert heads.shape == (*lead, H, T, E)
        for h in range(H):
            np.testing.assert_array_equal(heads.data[..., h, :, :], x[..., h * E : (h + 1) * E])
        np.testing.assert_array_equal(merge_heads(heads).data, x)


class TestLayer:
    @pytest.mark.parametrize(("H", "K", "E"), [(2, None, None), (4, 2, None), (3, 1, 5)])
    @pytest.mark.parametrize("cross", [False, True])
    def test_equals_its_equations(self, H, K, E, cross):
        rng = np.random.default_rng(0)
        D, B, T, S = 12, 2, 4, 6 if cross else 4
        layer = MultiHeadAttention(D, H, K, E, rng=rng)
        x = rng.normal(size=(B, T, D))
        context = rng.normal(size=(B, S, D)) if cross else x
        mask = rng.random((B, 1, T, S)) < 0.7
        y, weights = layer(x, context if cross else None, mask=mask, return_weights=True)
        E = D // H if E is None else E
        cut = lambda part, z, heads: (
            (z @ part.weight.data + part.bias.data).reshape(*z.shape[:2], heads, E).swapaxes(1, 2)
        )
        K = H if K is None else K
        out, looped = scaled_dot_product_attention(
            cut(layer.q, x, H), cut(layer.k, context, K), cut(layer.v, context, K), mask=mask, return_weights=True
        )
        want = sum(out.data[:, h] @ layer.out.weight.data[h * E : (h + 1) * E] for h in range(H)) + layer.out.bias.data
        np.testing.assert_allclose(y.data, want, rtol=0, atol=1e-13)
        np.testing.assert_allclose(weights.data, looped.data, rtol=0, atol=1e-14)
        np.testing.assert_array_equal(layer(x, context if cross else None, mask=mask).data, y.data)

    def test_any_attention_function_with_any_options(self):
        calls = []

        def uniform(q, k, v, *, mask, causal, strength=1.0):
            calls.append((q.shape, k.shape, mask, causal))
            return mt.broadcast_to(mt.mean(v, -2, keepdims=True), q.shape) * strength

        rng = np.random.default_rng(0)
        layer = MultiHeadAttention(8, 4, 4, attention=uniform, rng=rng)
        x = rng.normal(size=(2, 3, 8))
        want = layer.out(mt.broadcast_to(mt.mean(layer.v(x), 1, keepdims=True), x.shape) * 0.5)
        np.testing.assert_allclose(layer(x, causal=True, strength=0.5).data, want.data, rtol=0, atol=1e-15)
        assert calls == [((2, 4, 3, 2), (2, 4, 3, 2), None, True)]
        bias = rng.normal(size=(4, 3, 3))
        ours = MultiHeadAttention(8, 4, rng=np.random.default_rng(1))
        same = MultiHeadAttention(
            8,
            4,
            attention=functools.partial(scaled_dot_product_attention, bias=bias, window=2),
            rng=np.random.default_rng(1),
        )
        np.testing.assert_array_equal(ours(x, bias=bias, window=2).data, same(x).data)

    def test_rotary_scores_depend_on_distances_only(self):
        rng = np.random.default_rng(0)
        layer = MultiHeadAttention(8, 2, freqs=rotary_frequencies(4), layout="interleaved", rng=rng)
        x = rng.normal(size=(2, 5, 8))
        here = layer(x, causal=True).data
        np.testing.assert_allclose(layer(x, causal=True, positions=np.arange(100, 105)).data, here, rtol=0, atol=1e-12)
        np.testing.assert_allclose(
            layer(x, causal=True, positions=np.array([[0], [7]]) + np.arange(5)).data, here, rtol=0, atol=1e-12
        )
        assert np.abs(layer(x, causal=True, positions=2 * np.arange(5)).data - here).max() > 1e-3

    @pytest.mark.parametrize("freqs", [None, rotary_frequencies(4)], ids=["plain", "rotary"])
    def test_gradients(self, freqs):
        rng = np.random.default_rng(0)
        layer = MultiHeadAttention(8, 2, 1, freqs=freqs, rng=rng)
        weights = {name: p.data for name, p in layer.named_parameters()}
        mt.check_grads(
            lambda x, *values: mt.nn.functional_call(layer, dict(zip(weights, values, strict=True)), x, causal=True),
            rng.normal(size=(1, 3, 8)), *weights.values(), rtol=1e-5,
        )  # fmt: skip

    def test_a_window_of_held_keys_is_all_that_a_windowed_layer_needs(self):
        rng = np.random.default_rng(0)
        layer = MultiHeadAttention(8, 2, freqs=rotary_frequencies(4), rng=rng)
        x, cache, steps = rng.normal(size=(2, 9, 8)), KVCache(), []
        for t in range(9):
            steps.append(layer(x[:, t : t + 1], causal=True, cache=cache).data)
            held = cache.k.shape[2]
            cache.keep(range(max(held - 3, 0), held))  # with the next one these are a window of 4
        whole = layer(x, causal=True, window=4).data
        np.testing.assert_allclose(np.concatenate(steps, 1), whole, rtol=0, atol=1e-13)
        assert cache.length == 9

    def test_of_the_layer(self):
        B, T, S, D, H, K, E = 2, 5, 7, 12, 4, 2, 6
        layer = MultiHeadAttention(D, H, K, E, rng=np.random.default_rng(0))
        with mt.cost() as c:
            layer(np.zeros((B, T, D)), np.zeros((B, S, D)))
        assert c.macs == B * (2 * T * D * H * E + 2 * S * D * K * E + 2 * H * T * S * E)
        assert mt.nn.count_parameters(layer) == 2 * D * (H + K) * E + (H + 2 * K) * E + D

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"H": 5}, "H = 5 heads do not divide D = 12; give the head width E"),
            ({"H": 4, "K": 3}, "K = 3 key/value heads must divide H = 4 query heads"),
            ({"H": 0}, "K = 0 key/value heads must divide H = 0 query heads"),
            ({"H": 2, "attention": "flash"}, r"attention must be a function \(q, k, v, mask=, ...\), got 'flash'"),
        ],
    )
    def test_refuses(self, options, message):
        with pytest.raises((mt.ShapeError, TypeError), match=f"MultiHeadAttention: {message}"):
            MultiHeadAttention(12, **options, rng=np.random.default_rng(0))

    def test_refuses_a_context_without_positions(self):
        layer = MultiHeadAttention(8, 2, freqs=rotary_frequencies(4), rng=np.random.default_rng(0))
        with pytest.raises(ValueError, match="rotary frequencies attends to x only, not to a context"):
            layer(np.zeros((1, 3, 8)), np.zeros((1, 3, 8)))
