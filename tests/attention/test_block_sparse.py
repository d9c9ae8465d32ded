"""Block-sparse attention: its equations through the expanded mask, empty queries, gradients, costs, errors."""

import numpy as np
import pytest

import minitf as mt
from minitf.attention.block_sparse import block_sparse_attention
from minitf.nn.functional import scaled_dot_product_attention


def draw(T=9, S=11, H=4, K=2, seed=0):
    rng = np.random.default_rng(seed)
    shapes = (2, H, T, 4), (2, K, S, 4), (2, K, S, 3)
    return [rng.standard_normal(shape) for shape in shapes], rng.random((H, -(-T // 4), -(-S // 4))) < 0.6


@pytest.mark.parametrize("causal", [False, True])
def test_equals_attention_to_the_tokens_of_the_blocks(causal):
    arrays, listed = draw()
    seen = np.array([[[row[i // 4, j // 4] for j in range(11)] for i in range(9)] for row in listed])
    mask = np.random.default_rng(1).random((9, 11)) < 0.7
    got = block_sparse_attention(*arrays, listed, block=4, causal=causal, mask=mask)
    want = scaled_dot_product_attention(*arrays, mask=seen & mask, causal=causal)
    np.testing.assert_allclose(got.data, want.data, rtol=0, atol=1e-13)


def test_a_query_without_a_block_gives_zeros_and_no_gradient():
    arrays, listed = draw()
    listed[:, 1] = False
    out, pullback = mt.vjp(lambda q, k, v: block_sparse_attention(q, k, v, listed, block=4), *arrays)
    assert not out.data[:, :, 4:8].any()
    assert not pullback(np.ones(out.shape))[0].data[:, :, 4:8].any()


def test_derivatives():
    arrays, listed = draw()
    mt.check_grads(lambda q, k, v: block_sparse_attention(q, k, v, listed, block=4, causal=True), *arrays)


def test_the_cost_is_that_of_the_blocks():
    (q, k, v), listed = draw(T=8, S=12)
    with mt.cost() as c:
        block_sparse_attention(q, k, v, listed, block=4)
    assert c.macs == 2 * listed.sum() * 16 * (4 + 3)


def test_errors():
    arrays, listed = draw()
    with pytest.raises(ValueError, match="positive integer"):
        block_sparse_attention(*arrays, listed, block=0)
    with pytest.raises(mt.ShapeError, match="does not broadcast to the blocks"):
        block_sparse_attention(*arrays, listed, block=5)
