"""Scans, averages and causal convolutions against the loops that Hugging Face runs on a processor: values and gradients."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from keep_double import keep_double  # noqa: E402
from transformers.models.mamba import modeling_mamba  # noqa: E402
from transformers.models.rwkv.modeling_rwkv import rwkv_linear_attention_cpu  # noqa: E402

import minitf as mt  # noqa: E402
from minitf.nn.functional import causal_conv1d  # noqa: E402
from minitf.recurrent.mamba import FORMS, selective_scan  # noqa: E402
from minitf.recurrent.rwkv import FORMS4, wkv4  # noqa: E402

pytestmark = pytest.mark.cross


def same(ours, theirs, *arrays, atol=1e-12):
    """``ours(*arrays)`` is ``theirs(*tensors)``: all outputs, and the gradients of all arrays."""
    rng = np.random.default_rng(0)
    outs, pullback = mt.vjp(lambda *xs: tuple(ours(*xs)), *arrays)
    cotangents = [rng.standard_normal(o.shape) for o in outs]
    with keep_double():
        tensors = [torch.tensor(x, requires_grad=True) for x in arrays]
        wanted = list(theirs(*tensors))
        gradients = torch.autograd.grad(wanted, tensors, [torch.tensor(c) for c in cotangents])
    for got, want in zip([*outs, *pullback(tuple(cotangents))], [*wanted, *gradients], strict=True):
        want = want.detach().numpy()
        np.testing.assert_allclose(got.data, want, rtol=0, atol=atol * max(np.abs(want).max(), 1))


def draw_scan(rng, B, T, P, N):
    u, dt, A = rng.standard_normal((B, T, P)), rng.uniform(0.01, 0.5, (B, T, P)), -rng.uniform(0.5, 8, (P, N))
    return u, dt, A, *rng.standard_normal((2, B, T, N)), rng.standard_normal(P)


@pytest.mark.parametrize("form", FORMS)
def test_selective_scan(form):
    def theirs(u, dt, A, B, C, D):  # channels before time
        y, state = modeling_mamba.mamba_selective_scan(
            u.mT, dt.mT, A, B.mT, C.mT, D, return_last_state=True
        )  # fmt: skip
        return y.mT, state

    ours = lambda *xs: selective_scan(*xs, form=form, return_state=True)
    same(ours, theirs, *draw_scan(np.random.default_rng(0), 2, 23, 5, 4))


def test_selective_scan_one_token_at_a_time():
    u, dt, A, B, C, D = draw_scan(np.random.default_rng(0), 2, 9, 5, 4)
    whole = selective_scan(u, dt, A, B, C, D).data
    with keep_double(), torch.no_grad():
        u, dt, A, B, C, D = (torch.tensor(x) for x in (u, dt, A, B, C, D))
        state = torch.zeros(2, 5, 4)
        for t in range(9):  # which changes the state in place
            y = modeling_mamba.mamba_selective_state_update(state, u[:, t], dt[:, t], A, B[:, t], C[:, t], D)
            np.testing.assert_allclose(whole[:, t], y.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", FORMS4)
@pytest.mark.parametrize("fresh", [True, False])
def test_wkv4(form, fresh):
    rng = np.random.default_rng(0)
    k, v = rng.standard_normal((2, 2, 19, 5)) * 3
    log_w, u = rng.standard_normal((2, 5))
    state = [] if fresh else [rng.standard_normal((2, 5)), rng.uniform(1, 2, (2, 5)), rng.standard_normal((2, 5))]

    def theirs(k, v, log_w, u, *state):
        y, last = rwkv_linear_attention_cpu(log_w, u, k, v, state or None, return_state=True)
        return y, *last

    def ours(k, v, log_w, u, *state):
        y, last = wkv4(k, v, mt.exp(log_w), u, state=state or None, form=form, return_state=True)
        return y, *last

    same(ours, theirs, k, v, log_w, u, *state)


def test_as_released_in_float32():
    arrays = [x.astype(np.float32) for x in draw_scan(np.random.default_rng(0), 1, 300, 70, 16)]
    u, dt, A, B, C, D = (torch.tensor(x) for x in arrays)
    y = modeling_mamba.mamba_selective_scan(u.mT, dt.mT, A, B.mT, C.mT, D).mT.numpy()
    np.testing.assert_allclose(selective_scan(*arrays).data, y, rtol=0, atol=1e-5)
    k, v = np.random.default_rng(0).standard_normal((2, 1, 300, 70)).astype(np.float32)
    w, bonus = np.ones(70, np.float32), np.zeros(70, np.float32)
    y, _ = rwkv_linear_attention_cpu(*(torch.tensor(x) for x in (np.log(w), bonus, k, v)))
    np.testing.assert_allclose(wkv4(k, v, w, bonus).data, y.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("T", [1, 3, 80])
def test_causal_conv1d(T):
    rng = np.random.default_rng(0)
    x, weight, bias = rng.standard_normal((2, T, 40)), rng.standard_normal((40, 4)), rng.standard_normal(40)
    same(
        lambda x, weight, bias: [causal_conv1d(x, weight, bias)],
        lambda x, weight, bias: [modeling_mamba.causal_conv1d_fn(x.mT, weight, bias).mT],
        x, weight, bias,
    )  # fmt: skip


def test_causal_conv1d_one_token_at_a_time():
    rng = np.random.default_rng(0)
    x, weight, bias = rng.standard_normal((2, 6, 5)), rng.standard_normal((5, 4)), rng.standard_normal(5)
    state, theirs = None, torch.zeros(2, 5, 3, dtype=torch.float64)
    for t in range(6):
        y, state = causal_conv1d(x[:, t : t + 1], weight, bias, state=state, return_state=True)
        with keep_double(), torch.no_grad():
            want = modeling_mamba.causal_conv1d_update(
                torch.tensor(x[:, t : t + 1]).mT, theirs, torch.tensor(weight), torch.tensor(bias)
            )  # which changes its state in place
        np.testing.assert_allclose(y.data, want.mT.numpy(), rtol=0, atol=1e-13)
        np.testing.assert_array_equal(state.data, theirs.mT.numpy())
