"""Block-sparse and LSH attention beside PyTorch: dense masks, and sorted copies written anew; values and gradients."""

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import cases_sparse  # noqa: E402

import minitf as mt  # noqa: E402
from minitf.attention.block_sparse import block_sparse_attention  # noqa: E402
from minitf.attention.lsh import lsh_attention  # noqa: E402

pytestmark = pytest.mark.cross


def same(ours, theirs, *arrays):
    out, pullback = mt.vjp(ours, *arrays)
    leaves = [torch.tensor(x, requires_grad=True) for x in arrays]
    want = theirs(*leaves)
    g = np.random.default_rng(9).standard_normal(out.shape)
    gradients = torch.autograd.grad(want, leaves, torch.tensor(g))
    for got, wanted in zip([out, *pullback(g)], [want, *gradients], strict=True):
        np.testing.assert_allclose(got.data, wanted.detach().numpy(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("causal", [False, True])
def test_block_sparse_attention_is_attention_with_the_expanded_mask(causal):
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, heads, 70, 32)) for heads in (4, 2, 2))
    listed = (rng.random((2, 4, 5, 5)) < 0.5) | np.eye(5, dtype=bool)
    mask = listed.repeat(16, -2).repeat(16, -1)[..., :70, :70] & (np.tri(70, dtype=bool) | (not causal))
    same(
        lambda q, k, v: block_sparse_attention(q, k, v, listed, block=16, causal=causal),
        lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=torch.tensor(mask), enable_gqa=True
        ),
        q, k, v,
    )  # fmt: skip


@pytest.mark.paper("reformer", kind="cross")
def test_lsh_attention_is_that_of_sorted_copies(monkeypatch):
    for name, size in {"T": 96, "H": 3, "CHUNK": 8, "E": 16}.items():
        monkeypatch.setattr(cases_sparse, name, size)
    rng = np.random.default_rng(0)
    qk, v = rng.standard_normal((2, 1, 3, 96, 16))
    rotations = rng.standard_normal((16, 3, 6))
    same(
        lambda qk, v: lsh_attention(qk, v, chunk=8, rotations=rotations, causal=True),
        lambda qk, v: cases_sparse.sorted_copies(qk, v, torch.tensor(rotations)),
        qk, v,
    )  # fmt: skip
