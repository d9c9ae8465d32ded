"""The oracle with PyTorch and JAX: gradients through other layouts, results beside the output, states in place."""

import numpy as np
import pytest

from minitf import oracle

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
pytestmark = pytest.mark.cross

ATTENTION, SCAN = "attention.dot_product", "recurrent.gated_linear_recurrence"
FEW = {"trials": 1, "sizes": "small", "options": ["default", "causal"]}


def torch_attention(q, k, v, *, causal=False):
    """(B, T, H, E), with the log-sum-exp (B, H, T) in float32."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    logits = (q.float() @ k.float().mT) * q.shape[-1] ** -0.5
    if causal:
        T, S = logits.shape[-2:]
        logits = logits.masked_fill(~torch.ones(T, S, dtype=torch.bool).tril(S - T), -torch.inf)
    out = (logits.softmax(-1).to(v.dtype) @ v).transpose(1, 2)
    return out, logits.logsumexp(-1)


def jax_attention(q, k, v, *, causal=False):
    numpy = jax.numpy
    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
    logits = (q.astype("float32") @ k.astype("float32").swapaxes(-1, -2)) * q.shape[-1] ** -0.5
    if causal:
        T, S = logits.shape[-2:]
        logits = numpy.where(numpy.tri(T, S, S - T, dtype=bool), logits, -numpy.inf)
    out = (jax.nn.softmax(logits, axis=-1).astype(v.dtype) @ v).swapaxes(1, 2)
    return out, jax.scipy.special.logsumexp(logits, axis=-1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("framework", "fn"), [("torch", torch_attention), ("jax", jax_attention)])
def test_gradients_in_another_layout_beside_a_log_sum_exp(framework, fn, dtype):
    report = oracle.check(ATTENTION, fn, framework, dtype, layout="BTHE", auxiliary=["lse"], **FEW)
    assert report.passed, report
    assert {row.what for row in report.rows} == {"out", "lse", *(f"gradient of {name}" for name in "qkv")}

    def wrong(*arrays, **options):
        out, lse = fn(*arrays, **options)
        return out, lse + 1e-3

    report = oracle.check(ATTENTION, wrong, framework, dtype, layout="BTHE", auxiliary=["lse"], **FEW)
    assert {row.what for row in report.rows if not row.passed} == {"lse"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_packed_with_autograd(dtype):
    def fn(q, k, v, *, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, causal=False):
        pieces = [
            torch_attention(q[None, t0:t1], k[None, s0:s1], v[None, s0:s1], causal=causal)[0][0]
            for t0, t1, s0, s1 in zip(
                *(cu[i : len(cu) - 1 + i].tolist() for cu in (cu_seqlens_q, cu_seqlens_k) for i in (0, 1)), strict=True
            )
            if t1 > t0
        ]
        return torch.cat(pieces)

    report = oracle.check(ATTENTION, fn, "torch", dtype, layout="packed", gradients=True, **FEW)
    assert report.passed, report


def test_a_state_of_torch_that_is_changed_in_place():
    def update(a, b, state, *, reverse=False):
        out = torch.empty_like(b)
        steps = range(b.shape[1])
        for t in reversed(steps) if reverse else steps:
            state.mul_(a[:, t]).add_(b[:, t])
            out[:, t] = state
        return out

    report = oracle.check(SCAN, update, "torch", "float32", trials=1, in_place={"state": "state"})
    assert report.passed, report
    assert not np.isnan([row.largest for row in report.rows]).any()
