"""Scaled dot-product attention: its equation one number at a time, every option, degenerate cases, gradients, cost."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.attention.masks import causal_mask, sliding_window_mask
from minitf.nn.functional import scaled_dot_product_attention as attention
from minitf.nn.functional import sigmoid, softmax
from minitf.nn.scaled_dot_product import attention_log_sum_exp


def draw(rng, B=2, H=2, K=None, T=4, S=5, E=3, W=2):
    K = H if K is None else K
    return rng.normal(size=(B, H, T, E)), rng.normal(size=(B, K, S, E)), rng.normal(size=(B, K, S, W))


def loops(q, k, v, *, mask=None, bias=None, causal=False, window=None, scale=None, softcap=None):
    """One number at a time: (out, weights), zeros where nothing may be attended to."""
    B, H, T, E = q.shape
    K, S, W = k.shape[1], k.shape[2], v.shape[3]
    scale = 1 / math.sqrt(E) if scale is None else scale
    mask = np.broadcast_to(True if mask is None else mask, (B, H, T, S))
    bias = np.broadcast_to(0.0 if bias is None else bias, (B, H, T, S))
    out, weights = np.zeros((B, H, T, W)), np.zeros((B, H, T, S))
    for b, h, t in np.ndindex(B, H, T):
        kv, here = h * K // H, S - T + t
        scores = {}
        for s in range(S):
            if causal and s > here:
                continue
            if window is not None and (here - s >= window if causal else abs(here - s) > window):
                continue
            if mask[b, h, t, s]:
                z = scale * sum(q[b, h, t, e] * k[b, kv, s, e] for e in range(E)) + bias[b, h, t, s]
                scores[s] = z if softcap is None else softcap * math.tanh(z / softcap)
        total = sum(math.exp(z) for z in scores.values())
        for s, z in scores.items():
            if z > -math.inf:
                weights[b, h, t, s] = math.exp(z) / total
                out[b, h, t] += weights[b, h, t, s] * v[b, kv, s]
    return out, weights


OPTIONS = {
    "nothing": {},
    "scale": {"scale": 0.3},
    "causal": {"causal": True},
    "window": {"window": 2},
    "causal window": {"causal": True, "window": 2},
    "softcap": {"softcap": 0.7},
    "all": {"causal": True, "window": 3, "softcap": 2.0, "scale": 1.7},
}


class TestTranscription:
    @pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
    @given(
        seed=st.integers(0, 10**6),
        heads=st.sampled_from([(1, 1), (2, 2), (4, 2), (3, 1)]),
        T=st.integers(1, 5),
        S=st.integers(1, 6),
        given_too=st.sampled_from(["", "mask", "bias", "mask and bias"]),
    )
    def test_equals_the_equation_in_loops(self, options, seed, heads, T, S, given_too):
        rng = np.random.default_rng(seed)
        arrays = draw(rng, 2, *heads, T, S)
        if "mask" in given_too:
            options = {**options, "mask": rng.random((2, 1, T, S)) < 0.6}
        if "bias" in given_too:
            options = {**options, "bias": rng.normal(size=(heads[0], T, S))}
        got = attention(*arrays, return_weights=True, **options)
        wanted = loops(*arrays, **options)
        for mine, looped in zip((*got, attention(*arrays, **options)), (*wanted, wanted[0]), strict=True):
            np.testing.assert_allclose(mine.data, looped, rtol=0, atol=1e-13)

    def test_without_heads_and_with_more_leading_axes(self):
        rng = np.random.default_rng(0)
        q, k, v = rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
        want = loops(q[None, None], k[None, None], v[None, None], causal=True)[0][0, 0]
        np.testing.assert_allclose(attention(q, k, v, causal=True).data, want, rtol=0, atol=1e-14)
        q, k, v = rng.normal(size=(2, 1, 4, 3, 2)), rng.normal(size=(3, 2, 5, 2)), rng.normal(size=(2, 3, 2, 5, 1))
        out = attention(q, k, v).data
        assert out.shape == (2, 3, 4, 3, 1)
        for i, j in np.ndindex(2, 3):
            want = loops(q[i, :1], k[None, j], v[None, i, j])[0][0]
            np.testing.assert_allclose(out[i, j], want, rtol=0, atol=1e-14)

    def test_a_normalizer_gets_logits_and_mask_and_gives_weights(self):
        q, k, v = draw(np.random.default_rng(0))
        mask = np.random.default_rng(1).random((4, 5)) < 0.6
        gate = lambda logits, mask: mt.where(mask, sigmoid(logits), 0.0)
        out, weights = attention(q, k, v, mask=mask, normalizer=gate, return_weights=True)
        want = np.where(mask, 1 / (1 + np.exp(-np.einsum("bhte,bhse->bhts", q, k) / math.sqrt(3))), 0)
        np.testing.assert_allclose(weights.data, want, rtol=0, atol=1e-15)
        np.testing.assert_allclose(out.data, want @ v, rtol=0, atol=1e-14)
        assert attention(q, k, v, normalizer=lambda logits, mask: softmax(logits) if mask is None else None).shape


class TestInvariants:
    @given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 6), st.integers(1, 4))
    def test_causal_and_window_are_masks(self, seed, T, S, window):
        arrays = draw(np.random.default_rng(seed), T=T, S=S)
        for options, mask in (
            ({"causal": True}, causal_mask(T, S)),
            ({"window": window}, sliding_window_mask(T, S, window=window, causal=False)),
            ({"window": window, "causal": True}, sliding_window_mask(T, S, window=window)),
        ):
            np.testing.assert_array_equal(attention(*arrays, **options).data, attention(*arrays, mask=mask).data)

    def test_key_value_heads_are_shared_by_neighbours(self):
        q, k, v = draw(np.random.default_rng(0), H=6, K=2)
        whole = attention(q, k, v).data
        for h in range(6):
            one = slice(h, h + 1), slice(h // 3, h // 3 + 1)
            np.testing.assert_array_equal(whole[:, one[0]], attention(q[:, one[0]], k[:, one[1]], v[:, one[1]]).data)

    def test_rows_are_averages(self):
        q, k, v = draw(np.random.default_rng(0))
        out, weights = attention(q, k, np.ones_like(v), return_weights=True)
        np.testing.assert_allclose(weights.data.sum(-1), 1, rtol=1e-15)
        np.testing.assert_allclose(out.data, 1, rtol=1e-15)

    @pytest.mark.parametrize(("T", "S"), [(0, 5), (4, 0), (0, 0)])
    def test_no_queries_give_nothing_and_no_keys_give_zeros(self, T, S):
        arrays = draw(np.random.default_rng(0), T=T, S=S)
        for options in ({}, {"causal": True}, {"mask": np.ones((T, S), bool), "bias": np.zeros((T, S))}):
            out, weights = attention(*arrays, return_weights=True, **options)
            assert weights.shape == (2, 2, T, S)
            for mine in (out, attention(*arrays, **options)):
                np.testing.assert_array_equal(mine.data, np.zeros((2, 2, T, 2)))
            total = lambda q, k, v, options=options: mt.sum(attention(q, k, v, **options))
            for g in mt.grad(total, argnums=(0, 1, 2))(*arrays):
                np.testing.assert_array_equal(g.data, 0)

    def test_float32_stays_float32(self):
        arrays = [x.astype(np.float32) for x in draw(np.random.default_rng(0))]
        out, weights = attention(*arrays, causal=True, softcap=3.0, scale=0.5, return_weights=True)
        assert out.dtype == weights.dtype == np.float32

    @pytest.mark.parametrize("what", ["mask", "bias", "no keys yet"])
    def test_a_query_that_may_attend_to_nothing_gives_zeros_and_has_no_gradient(self, what):
        q, k, v = draw(np.random.default_rng(0), T=4, S=4)
        blocked = np.array([False, True, False, True])[:, None]
        options = {
            "mask": {"mask": np.broadcast_to(~blocked, (4, 4))},
            "bias": {"bias": np.where(blocked, -np.inf, 0.0) + np.zeros((4, 4))},
            "no keys yet": {
                "mask": np.array([[0, 0, 0, 0], [0, 0, 1, 0], [1, 1, 1, 1], [0, 0, 0, 1]], bool),
                "causal": True,
            },
        }[what]
        rows = [0, 1] if what == "no keys yet" else [1, 3]

        def loss(q, k, v):
            out, (_, weights) = (attention(q, k, v, return_weights=both, **options) for both in (False, True))
            return mt.sum(out**2) + mt.sum(mt.sin(weights)), (out, weights)

        (gq, gk, gv), seen = mt.grad(loss, argnums=(0, 1, 2), has_aux=True)(q, k, v)
        for x in (*seen, gq):
            np.testing.assert_array_equal(x.data[:, :, rows], 0)
        for x in (*seen, gq, gk, gv):
            assert np.isfinite(x.data).all()
        # the same queries left out give the same gradients to everybody else
        others = [r for r in range(4) if r not in rows]
        rest = {"mask": np.broadcast_to(loops(q, k, v, **options)[1] > 0, (2, 2, 4, 4))[:, :, others]}
        fewer = lambda q, k, v: (
            mt.sum(attention(q, k, v, **rest) ** 2) + mt.sum(mt.sin(attention(q, k, v, return_weights=True, **rest)[1]))
        )
        wanted = mt.grad(fewer, argnums=(0, 1, 2))(q[:, :, others], k, v)
        for got, want in zip((gq.data[:, :, others], gk.data, gv.data), wanted, strict=True):
            np.testing.assert_allclose(got, want.data, rtol=0, atol=1e-14)

    def test_huge_logits_pick_one_key(self):
        rng = np.random.default_rng(0)
        q, k, v = draw(rng)
        gradients = mt.grad(lambda *xs: mt.sum(attention(*xs, scale=1e30)), argnums=(0, 1, 2))(q, k, v)
        out, weights = attention(q, k, v, scale=1e30, return_weights=True)
        best = np.einsum("bhte,bhse->bhts", q, k).argmax(-1)
        np.testing.assert_array_equal(weights.data, np.eye(5)[best])
        np.testing.assert_array_equal(out.data, np.take_along_axis(v, best[..., None], 2))
        for g in gradients[:2]:
            np.testing.assert_array_equal(g.data, 0)
        np.testing.assert_array_equal(gradients[2].data, np.eye(5)[best].sum(2)[..., None] + np.zeros(2))

    @pytest.mark.parametrize("bias", [-np.inf, -1e30, 1e30])
    @pytest.mark.parametrize("softcap", [None, 5.0])
    def test_infinite_and_huge_biases(self, bias, softcap):
        rng = np.random.default_rng(0)
        q, k, v = draw(rng)
        biases = np.where(rng.random((4, 5)) < 0.5, bias, 0.0)
        total = lambda q, k, v: mt.sum(attention(q, k, v, bias=biases, softcap=softcap))
        gradients = mt.grad(total, argnums=(0, 1, 2))(q, k, v)
        assert all(np.isfinite(g.data).all() for g in gradients)
        got = attention(q, k, v, bias=biases, softcap=softcap).data
        if bias == 1e30 and softcap is None:
            big = biases == bias
            uniform = np.where(big.any(-1, keepdims=True), big / np.maximum(big.sum(-1, keepdims=True), 1), np.nan)
            rows = big.any(-1)
            np.testing.assert_allclose(got[:, :, rows], (uniform @ v)[:, :, rows], rtol=0, atol=1e-15)
        else:
            np.testing.assert_allclose(got, loops(q, k, v, bias=biases, softcap=softcap)[0], rtol=0, atol=1e-14)


class TestGradients:
    @pytest.mark.parametrize("return_weights", [False, True])
    @pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
    def test_to_second_order(self, options, return_weights):
        rng = np.random.default_rng(0)
        q, k, v = draw(rng, 1, 2, 1, 3, 4, 2, 2)
        mask = rng.random((3, 4)) < 0.7
        mask[1] = False
        options = {**options, "mask": mask, "return_weights": return_weights}
        mt.check_grads(
            lambda q, k, v, bias: attention(q, k, v, bias=bias, **options), q, k, v, rng.normal(size=(2, 3, 4))
        )

    @pytest.mark.parametrize("scale", [0.5, [[[0.5]], [[1.5]]]], ids=["one", "of every head"])
    def test_of_a_learned_scale(self, scale):
        mt.check_grads(
            lambda q, k, v, scale: attention(q, k, v, scale=scale), *draw(np.random.default_rng(0), 1), scale
        )

    def test_through_a_normalizer(self):
        gate = lambda logits, mask: mt.where(mask, sigmoid(logits), 0.0)
        mask = np.array([[True, False, True], [True, True, True]])
        arrays = draw(np.random.default_rng(0), 1, 2, 2, 2, 3, 2)
        mt.check_grads(lambda q, k, v: attention(q, k, v, mask=mask, normalizer=gate), *arrays)


class TestCost:
    @given(st.sampled_from([(1, 1), (4, 2)]), *(st.integers(1, 6) for _ in range(4)))
    def test_exactly(self, heads, T, S, E, W):
        B, (H, K) = 2, heads
        arrays = draw(np.random.default_rng(0), B, H, K, T, S, E, W)
        with mt.cost() as c:
            attention(*arrays)
        rows, logits = B * H * T, B * H * T * S
        assert c.macs == logits * (E + W)
        # two products, the scaled queries; of each logit a difference, an exponential and a sum; the division of the output
        assert c.flops == 2 * c.macs + rows * (E + W) + 3 * logits


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        ({"k": (2, 2, 5, 4)}, {}, mt.ShapeError, r'k has shape \(2, 2, 5, 4\), expected "... S E" with E = 3 \(from q'),
        ({"v": (2, 2, 6, 2)}, {}, mt.ShapeError, r'v has shape \(2, 2, 6, 2\), expected "... S W" with S = 5 \(from k'),
        (
            {"k": (5, 3), "v": (5, 2)},
            {},
            mt.ShapeError,
            r"all have heads, or q \(T, E\), k \(S, E\) and v \(S, W\) none",
        ),
        ({"k": (2, 3, 5, 3), "v": (2, 3, 5, 2)}, {}, mt.ShapeError, "K must divide the H = 2 heads of q"),
        ({"v": (2, 1, 5, 2)}, {}, mt.ShapeError, "k and v must have the same K heads"),
        ({"q": (3, 2, 4, 3)}, {}, mt.ShapeError, "axes in front of the heads do not fit: .* axis -1 has sizes"),
        ({"q": (2, 2, 4, 0), "k": (2, 2, 5, 0)}, {}, mt.ShapeError, "head width E must be at least 1"),
        (
            {},
            {"mask": np.ones((4, 4), bool)},
            mt.ShapeError,
            r"mask of shape \(4, 4\) does not broadcast to the logits",
        ),
        ({}, {"mask": np.ones((4, 4), bool), "causal": True}, mt.ShapeError, "mask of shape"),
        ({}, {"mask": np.ones((3, 2, 2, 4, 5), bool)}, mt.ShapeError, "mask of shape"),
        ({}, {"bias": np.zeros((3, 4, 5))}, mt.ShapeError, r"bias of shape \(3, 4, 5\) does not broadcast"),
        ({}, {"mask": np.zeros((4, 5))}, TypeError, r"mask must be boolean \(True = may attend"),
        ({}, {"window": 0}, ValueError, "window must be a positive integer or None, got 0"),
        ({}, {"window": 2.0}, ValueError, "window must be a positive integer or None, got 2.0"),
        ({}, {"softcap": 0.0}, ValueError, "softcap must be positive or None, got 0.0"),
        ({}, {"normalizer": "sparsemax"}, ValueError, r"normalizer must be 'softmax' or a function.*, got 'sparsemax'"),
        ({}, {"normalizer": lambda z, mask: mt.sum(z, -1)}, mt.ShapeError, r"weights of the shape of the logits"),
    ],
)
def test_refuses(change, options, error, message):
    shapes = {"q": (2, 2, 4, 3), "k": (2, 2, 5, 3), "v": (2, 2, 5, 2)} | change
    with pytest.raises(error, match=message):
        attention(*(np.zeros(shape) for shape in shapes.values()), **options)


def test_factors_are_a_dropout_that_somebody_else_has_drawn():
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(2, 4, 3, 5)), rng.normal(size=(2, 2, 6, 5)), rng.normal(size=(2, 2, 6, 4))
    factors = rng.integers(0, 2, (2, 4, 3, 6)) * 2.0
    _, weights = attention(q, k, v, return_weights=True)
    want = (weights.data * factors) @ np.repeat(v, 2, axis=1)
    np.testing.assert_allclose(attention(q, k, v, dropout=factors).data, want, rtol=1e-13, atol=1e-13)
    np.testing.assert_array_equal(
        attention(q, k, v, dropout=lambda w: w * factors).data, attention(q, k, v, dropout=factors).data
    )
    mt.check_grads(lambda q, k, v: attention(q, k, v, dropout=factors), q, k, v, order=1)
    with pytest.raises(mt.ShapeError, match="dropout of shape"):
        attention(q, k, v, dropout=factors[..., 1:])


def test_log_sum_exp_joins_results_over_different_keys():
    rng = np.random.default_rng(1)
    q, k, v = rng.normal(size=(2, 4, 3, 5)), rng.normal(size=(2, 2, 6, 5)), rng.normal(size=(2, 2, 6, 4))
    mask = rng.random((2, 1, 3, 6)) < 0.6
    mask[0, :, 1, :4], mask[1, :, 2] = False, False
    outs, sums = [], []
    for part in (slice(0, 4), slice(4, 6)):
        outs.append(attention(q, k[..., part, :], v[..., part, :], mask=mask[..., part], softcap=2.0).data)
        sums.append(attention_log_sum_exp(q, k[..., part, :], mask=mask[..., part], softcap=2.0).data)
    both = attention_log_sum_exp(q, k, mask=mask, softcap=2.0).data
    assert (both[1, :, 2] == -np.inf).all()
    with np.errstate(invalid="ignore"):
        weights = [np.where(part == -np.inf, 0, np.exp(part - both)) for part in sums]
    joined = sum(w[..., None] * out for w, out in zip(weights, outs, strict=True))
    np.testing.assert_allclose(joined, attention(q, k, v, mask=mask, softcap=2.0).data, rtol=1e-12, atol=1e-13)
    for t in range(3):
        z = [q[0, 3, t] @ k[0, 1, s] / math.sqrt(5) for s in range(max(0, 3 + t - 1), 3 + t + 1)]
        want = math.log(sum(map(math.exp, z)))
        assert attention_log_sum_exp(q, k, causal=True, window=2).data[0, 3, t] == pytest.approx(want, rel=1e-13)
    mt.check_grads(lambda q, k: attention_log_sum_exp(q, k, causal=True, scale=0.3), q, k, order=2)
