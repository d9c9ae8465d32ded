"""LSH attention: the identities of full sight, causality, gradients, costs, errors."""

import numpy as np
import pytest

import minitf as mt
from minitf.attention.lsh import lsh_attention, lsh_buckets

paper = pytest.mark.paper
SLUG = "reformer"
RNG = np.random.default_rng
ROTATIONS = RNG(2).standard_normal((3, 2, 2))


def full(qk, v, causal):
    """Shared-vector attention in loops."""
    out = np.zeros_like(v)
    for h, i in np.ndindex(*qk.shape[:2]):
        keys = [j for j in range(qk.shape[1]) if (j < i if causal else j != i)] or [i]
        s = np.array([qk[h, i] @ qk[h, j] / np.linalg.norm(qk[h, j]) for j in keys]) / np.sqrt(qk.shape[-1])
        p = np.exp(s - s.max())
        out[h, i] = p @ v[h, keys] / p.sum()
    return out


@paper(SLUG, kind="transcription")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("chunk", "rounds", "wrap"), [(6, 1, "global"), (12, 3, "global"), (6, 3, "per_round"), (12, 1, "per_round")]
)
def test_equals_full_attention_when_everything_is_in_sight(chunk, rounds, wrap, causal):
    qk, v = RNG(0).standard_normal((2, 2, 12, 4))
    got = lsh_attention(qk, v, chunk=chunk, rounds=rounds, rng=RNG(1), causal=causal, wrap=wrap)
    np.testing.assert_allclose(got.data, full(qk, v, causal), rtol=0, atol=1e-12)


@paper(SLUG, kind="invariant")
def test_keys_that_count_once_are_full_attention_however_often_met():
    qk, v = RNG(0).standard_normal((2, 2, 12, 4))
    got = lsh_attention(qk, v, chunk=6, rounds=3, rng=RNG(1), once=True)
    np.testing.assert_allclose(got.data, full(qk, v, False), rtol=0, atol=1e-12)


@paper(SLUG, kind="invariant")
def test_buckets():
    x, rotations = RNG(0).standard_normal((2, 3, 5, 4)), RNG(1).standard_normal((3, 4, 2, 3))
    got = lsh_buckets(x, rotations)
    for b, h, r, t in np.ndindex(got.shape):
        projected = x[b, h, t] @ rotations[h, :, r]
        assert got[b, h, r, t] == 6 * r + np.argmax([*projected, *-projected])


@paper(SLUG, kind="gradient")
@pytest.mark.parametrize("options", [{"causal": True, "same_bucket": True}, {"once": True, "wrap": "per_round"}])
def test_derivatives(options):
    qk, v = RNG(0).standard_normal((2, 2, 8, 3))
    mt.check_grads(lambda a, b: lsh_attention(a, b, chunk=2, rotations=ROTATIONS, **options), qk, v)


@paper(SLUG, kind="claim")
def test_the_cost_grows_with_the_chunk_instead_of_the_sequence():
    for T in (32, 64):
        qk, v = RNG(0).standard_normal((2, 1, T, 4))
        with mt.cost() as c:
            lsh_attention(qk, v, chunk=8, rotations=RNG(1).standard_normal((4, 3, 2)))
        assert c.macs == 3 * T * 16 * 8  # hashes are decisions on plain arrays


def test_errors():
    x = RNG(0).standard_normal((12, 4))
    with pytest.raises(mt.ShapeError, match="must divide"):
        lsh_attention(x, x, chunk=5, rng=RNG(0))
    with pytest.raises(ValueError, match="drawn from rng"):
        lsh_attention(x, x, chunk=6)
    with pytest.raises(ValueError, match="wrap must be one of"):
        lsh_attention(x, x, chunk=6, wrap="no", rng=RNG(0))
