"""Differential attention: the paper's equations in loops, its degenerate cases, gradients, and what it costs."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.attention.differential import DifferentialAttention, differential_attention, lambda_init
from minitf.attention.dot_product import MultiHeadAttention
from minitf.attention.kv_cache import KVCache
from minitf.models.diff_transformer import DiffTransformer
from minitf.nn.functional import scaled_dot_product_attention

SLUG = "differential-transformer"
paper = pytest.mark.paper


def draw(rng, B=2, H=2, K=None, T=4, S=5, E=3):
    K = H if K is None else K
    q, k = (B, H, T, E), (B, K, S, E)
    return *(rng.normal(size=shape) for shape in (q, k, q, k)), rng.normal(size=(B, K, S, 2 * E))


def loops(q1, k1, q2, k2, v, lambda_, mask):
    """One number at a time, as the paper writes it."""
    B, H, T, E = q1.shape
    S, W, group = k1.shape[2], v.shape[3], H // k1.shape[1]
    out = np.zeros((B, H, T, W))
    for b, h, t in np.ndindex(B, H, T):
        keys = [s for s in range(S) if mask[b, h, t, s]]
        for sign, q, k in ((1.0, q1, k1), (-lambda_, q2, k2)):
            scores = [sum(q[b, h, t, e] * k[b, h // group, s, e] for e in range(E)) / math.sqrt(E) for s in keys]
            total = sum(math.exp(z) for z in scores)
            for s, z in zip(keys, scores, strict=True):
                out[b, h, t] += sign * math.exp(z) / total * v[b, h // group, s]
    return out


@paper(SLUG, kind="transcription")
@given(st.integers(0, 10**6), st.sampled_from([(1, 1), (2, 1), (4, 2), (3, 3)]), st.integers(1, 5), st.integers(1, 6))
def test_equals_the_equations_in_loops(seed, heads, T, S):
    rng = np.random.default_rng(seed)
    arrays = draw(rng, 2, *heads, T, S)
    mask = rng.random((2, heads[0], T, S)) < 0.6
    got = differential_attention(*arrays, lambda_=0.3, mask=mask)
    np.testing.assert_allclose(got.data, loops(*arrays, 0.3, mask), rtol=0, atol=1e-12)


@paper(SLUG, kind="transcription")
def test_the_layer_equals_its_equations():
    rng = np.random.default_rng(1)
    B, T, H, E, layer = 2, 5, 2, 3, 3
    D = 2 * H * E
    module = DifferentialAttention(D, H, layer=layer, theta=None, rng=rng)
    module.norm.weight.data[:] = rng.uniform(0.5, 1.5, 2 * E)
    x = rng.normal(size=(B, T, D))
    q, k, v = (x @ part.weight.data for part in (module.q, module.k, module.v))
    start = 0.8 - 0.6 * math.exp(-0.3 * layer)
    l1, l2 = (
        math.exp(float(a.data @ b.data))
        for a, b in ((module.lambda_q1, module.lambda_k1), (module.lambda_q2, module.lambda_k2))
    )
    heads = []
    for h in range(H):
        first, second = (slice((2 * h + i) * E, (2 * h + i + 1) * E) for i in (0, 1))
        value = v[:, :, 2 * h * E : 2 * (h + 1) * E]
        sub = [t[:, None, :, part] for part in (first, second) for t in (q, k)]
        mask = np.broadcast_to(np.tri(T, dtype=bool), (B, 1, T, T))
        o = loops(*sub, value[:, None], l1 - l2 + start, mask)[:, 0]
        o = o / np.sqrt((o**2).mean(-1, keepdims=True) + 1e-5) * module.norm.weight.data
        heads.append((1 - start) * o)
    want = np.concatenate(heads, -1) @ module.out.weight.data
    np.testing.assert_allclose(module(x, causal=True).data, want, rtol=0, atol=1e-12)


@paper(SLUG, kind="invariant")
class TestInvariants:
    def test_lambda_init(self):
        assert lambda_init(0) == pytest.approx(0.2, abs=1e-15)
        assert lambda_init(1000) == pytest.approx(0.8, abs=1e-15)
        with pytest.raises(ValueError, match="layers count from 0"):
            lambda_init(-1)

    def test_lambda_zero_is_ordinary_attention(self):
        q1, k1, q2, k2, v = draw(np.random.default_rng(0))
        got = differential_attention(q1, k1, q2, k2, v, lambda_=0.0)
        np.testing.assert_array_equal(got.data, scaled_dot_product_attention(q1, k1, v).data)

    def test_equal_maps_leave_one_minus_lambda(self):
        q, k, _, _, v = draw(np.random.default_rng(0))
        got = differential_attention(q, k, q, k, v, lambda_=0.3)
        np.testing.assert_allclose(got.data, 0.7 * scaled_dot_product_attention(q, k, v).data, atol=1e-15)

    def test_rows_sum_to_one_minus_lambda_or_to_zero(self):
        arrays = draw(np.random.default_rng(0))
        mask = np.ones((4, 5), bool)
        mask[2] = False
        out, maps = differential_attention(*arrays, lambda_=0.3, mask=mask, return_weights=True)
        np.testing.assert_allclose(maps.data.sum(-1), np.broadcast_to([0.7, 0.7, 0, 0.7], (2, 2, 4)), atol=1e-15)
        np.testing.assert_array_equal(out.data[:, :, 2], 0)
        np.testing.assert_allclose((maps @ arrays[-1]).data, out.data, atol=1e-14)

    def test_zero_vectors_give_lambda_init(self):
        module = DifferentialAttention(12, 2, layer=2, theta=None, rng=np.random.default_rng(0))
        for vector in (module.lambda_q1, module.lambda_q2):
            vector.data[:] = 0
        assert module.lambda_().item() == lambda_init(2)

    def test_equal_maps_and_the_norm_make_the_output_independent_of_lambda(self):
        outputs = []
        for strength in (0.1, 0.3):
            module = DifferentialAttention(12, 2, layer=0, theta=None, eps=1e-14, rng=np.random.default_rng(0))
            for part in (module.q, module.k):
                sub = part.weight.data.reshape(12, 4, 3)
                sub[:, 1::2] = sub[:, 0::2]
            module.lambda_q1.data[:] = module.lambda_k1.data[:] = strength
            module.lambda_q2.data[:] = 0.5  # exp(q1.k1) - exp(q2.k2) + 0.2 stays below 1
            module.lambda_k2.data[:] = 0.3
            outputs.append(module(np.random.default_rng(1).normal(size=(1, 4, 12))).data)
        np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-10)

    def test_a_query_that_may_attend_to_nothing_has_no_gradient(self):
        arrays = draw(np.random.default_rng(0))
        mask = np.ones((4, 5), bool)
        mask[1] = False
        gradients = mt.grad(
            lambda *xs: mt.sum(differential_attention(*xs, lambda_=0.3, mask=mask) ** 2), argnums=(0, 2)
        )(*arrays)
        for g in gradients:
            assert np.isfinite(g.data).all()
            np.testing.assert_array_equal(g.data[:, :, 1], 0)

    @pytest.mark.parametrize("pairing", ["consecutive", "halves"])
    @pytest.mark.parametrize(("H", "K"), [(2, 2), (4, 2), (4, 1)])
    @pytest.mark.parametrize("layout", ["interleaved", "half"])
    def test_decoding_step_by_step_and_in_chunks_is_the_parallel_form(self, pairing, H, K, layout):
        rng = np.random.default_rng(0)
        module = DifferentialAttention(32, H, K, layer=1, pairing=pairing, layout=layout, rng=rng)
        x = rng.normal(size=(2, 7, 32))
        whole = module(x, causal=True).data
        for cuts in ([1] * 7, [3, 1, 3]):
            cache, parts, start = KVCache(), [], 0
            for n in cuts:
                parts.append(module(x[:, start : start + n], causal=True, cache=cache).data)
                start += n
            np.testing.assert_allclose(np.concatenate(parts, 1), whole, rtol=0, atol=1e-12)


@paper(SLUG, kind="gradient")
class TestGradients:
    @pytest.mark.parametrize("masked", [False, True])
    def test_function(self, masked):
        rng = np.random.default_rng(0)
        arrays = draw(rng, 1, 2, 1, 3, 4, 2)
        mask = rng.random((3, 4)) < 0.6
        mask[0] = False
        mt.check_grads(
            lambda *xs: differential_attention(*xs[:5], lambda_=xs[5], mask=mask if masked else None), *arrays, 0.4
        )

    def test_layer(self):
        rng = np.random.default_rng(0)
        module = DifferentialAttention(8, 2, layer=1, rng=rng)
        weights = {name: p.data for name, p in module.named_parameters()}
        x = rng.normal(size=(1, 3, 8))
        mt.check_grads(
            lambda x, *values: mt.nn.functional_call(module, dict(zip(weights, values, strict=True)), x, causal=True),
            x,
            *weights.values(),
            rtol=1e-5,
        )


@paper(SLUG, kind="claim")
class TestClaims:
    """H differential heads cost what 2H ordinary ones do."""

    def test_parameters_and_cache(self):
        rng = np.random.default_rng(0)
        ours = DifferentialAttention(64, 4, layer=0, rng=rng)
        other = MultiHeadAttention(64, 8, bias=False, rng=rng)
        count = mt.nn.count_parameters
        assert count(ours) - count(other) == 4 * 8 + 16  # four vectors of E, a norm of 2E
        x, caches = rng.normal(size=(2, 5, 64)), (KVCache(), KVCache())
        for module, cache in zip((ours, other), caches, strict=True):
            module(x, causal=True, cache=cache)
        assert caches[0].nbytes(16) == caches[1].nbytes(16) == 2 * 5 * (64 + 64) * 2

    def test_projections_and_scores_take_the_same_work(self):
        rng = np.random.default_rng(0)
        x, macs = rng.normal(size=(2, 16, 64)), []
        for module in (
            DifferentialAttention(64, 4, layer=0, theta=None, rng=rng),
            MultiHeadAttention(64, 8, bias=False, rng=rng),
        ):
            with mt.cost() as c:
                module(x, causal=True)
            macs.append(c.macs)
        projections, scores = 4 * 2 * 16 * 64 * 64, 2 * 8 * 16 * 16 * 8
        assert macs[1] == projections + 2 * scores
        assert macs[0] == projections + scores + 2 * scores  # each map is applied to a value of width 2E


def test_the_model_decodes_as_it_trains_and_is_causal():
    rng = np.random.default_rng(0)
    model = DiffTransformer(19, 16, 2, 2, rng=rng)
    ids = rng.integers(0, 19, (2, 6))
    whole = model(ids).data
    cache = model.new_cache(2)
    steps = np.concatenate([model(ids[:, t : t + 1], cache=cache).data for t in range(6)], axis=1)
    np.testing.assert_allclose(steps, whole, rtol=0, atol=1e-12)
    changed = ids.copy()
    changed[:, 4:] = (changed[:, 4:] + 1) % 19
    np.testing.assert_array_equal(model(changed).data[:, :4], whole[:, :4])
    assert model.lambdas().shape == (2,)
