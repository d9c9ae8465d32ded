"""The mixture of experts and its balancing loss against Mixtral's and Switch Transformers' in Transformers."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from keep_double import keep_double  # noqa: E402

import minitf as mt  # noqa: E402
from minitf.feedforward.moe import load_balancing_loss, mixture_of_experts, router_z_loss  # noqa: E402

pytestmark = pytest.mark.cross

N, D, F, E = 13, 8, 12, 5


@pytest.mark.parametrize("k", [1, 2, 3])
def test_mixtral(k):
    from transformers.models.mixtral import modeling_mixtral as mixtral

    rng = np.random.default_rng(k)
    x, along = rng.normal(size=(2, N, D)), rng.normal(size=(2, N, D))
    with keep_double():
        config = transformers.MixtralConfig(
            hidden_size=D, intermediate_size=F, num_local_experts=E, num_experts_per_tok=k,
            experts_implementation="eager", output_router_logits=True,
        )  # fmt: skip
        block = mixtral.MixtralSparseMoeBlock(config)
        with torch.no_grad():
            for p in block.parameters():
                p.copy_(torch.tensor(rng.normal(size=tuple(p.shape))))
        theirs = torch.tensor(x, requires_grad=True)
        out = block(theirs)
        out = out[0] if isinstance(out, tuple) else out
        out.backward(torch.tensor(along))
        up_and_gate, down = block.experts.gate_up_proj, block.experts.down_proj
        router = block.gate.weight
        logits = theirs.detach().reshape(-1, D) @ router.detach().T
        balance = mixtral.load_balancing_loss_func((logits,), E, k)
    numpy = lambda t: t.detach().numpy()
    gate, up = np.split(np.swapaxes(numpy(up_and_gate), 1, 2), 2, axis=-1)
    arrays = x, numpy(router).T, up, np.swapaxes(numpy(down), 1, 2), gate
    y, pull = mt.vjp(lambda *a: mixture_of_experts(*a, k=k), *arrays)
    np.testing.assert_allclose(y, numpy(out), rtol=0, atol=1e-10)
    of_x, of_router, of_up, of_down, of_gate = (np.asarray(g) for g in pull(along))
    np.testing.assert_allclose(of_x, theirs.grad.numpy(), rtol=0, atol=1e-10)
    np.testing.assert_allclose(of_router.T, router.grad.numpy(), rtol=0, atol=1e-10)
    np.testing.assert_allclose(
        np.swapaxes(np.concatenate([of_gate, of_up], -1), 1, 2), up_and_gate.grad.numpy(), rtol=0, atol=1e-10
    )
    np.testing.assert_allclose(np.swapaxes(of_down, 1, 2), down.grad.numpy(), rtol=0, atol=1e-10)
    _, chosen = mixture_of_experts(*arrays, k=k, return_experts=True)
    mine = load_balancing_loss(arrays[0] @ arrays[1], chosen)
    np.testing.assert_allclose(mine, balance.item(), rtol=0, atol=1e-12)


def test_the_losses_of_switch_transformers():
    from transformers.models.switch_transformers import modeling_switch_transformers as switch

    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, N, E)) * 2
    chosen = logits.argmax(-1)[..., None]
    with keep_double():
        z = switch.router_z_loss_func(torch.tensor(logits))
        p = torch.softmax(torch.tensor(logits), -1)
        texts = [switch.load_balancing_loss_func(p[[i]], torch.tensor(chosen[[i], :, 0])).item() for i in range(3)]
    np.testing.assert_allclose(router_z_loss(logits), z.item(), rtol=0, atol=1e-12)
    for i, want in enumerate(texts):  # theirs balances every text by itself
        np.testing.assert_allclose(load_balancing_loss(logits[i], chosen[i]), want, rtol=0, atol=1e-12)
