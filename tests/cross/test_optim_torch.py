"""AdamW, Adam, Adafactor and SGD against PyTorch over 50 steps on a curved loss."""

import numpy as np
import pytest

import minitf as mt
from minitf import nn, optim

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.cross

CASES = {
    "adamw": (optim.AdamW, torch.optim.AdamW, {"lr": 0.03}),
    "adamw_options": (
        optim.AdamW,
        torch.optim.AdamW,
        {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.2},
    ),
    "adamw_no_decay": (optim.AdamW, torch.optim.AdamW, {"lr": 0.03, "weight_decay": 0.0}),
    "adam": (optim.Adam, torch.optim.Adam, {"lr": 0.03}),
    "adam_decay": (optim.Adam, torch.optim.Adam, {"lr": 0.1, "betas": (0.8, 0.95), "weight_decay": 0.2}),
    "adafactor": (optim.Adafactor, torch.optim.Adafactor, {"lr": 0.03}),
    "adafactor_options": (
        optim.Adafactor,
        torch.optim.Adafactor,
        {"lr": 0.2, "eps": (1e-3, 0.5), "d": 1.05, "beta2_decay": -0.5, "weight_decay": 0.1},
    ),
    "sgd": (optim.SGD, torch.optim.SGD, {"lr": 0.05}),
    "sgd_momentum": (optim.SGD, torch.optim.SGD, {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1}),
    "sgd_nesterov": (optim.SGD, torch.optim.SGD, {"lr": 0.02, "momentum": 0.8, "nesterov": True}),
}


@pytest.mark.parametrize("clip", [None, 0.7])
@pytest.mark.parametrize("name", CASES)
def test_fifty_steps(name, clip):
    ours, theirs, options = CASES[name]
    rng = np.random.default_rng(0)
    a, b, x = rng.standard_normal((4, 3)), rng.standard_normal(3), rng.standard_normal((8, 4))
    p = [nn.Parameter(a), nn.Parameter(b)]
    q = [torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)]
    mine = ours([{"params": p[:1]}, {"params": p[1:], "lr": 0.01}], **options)
    other = theirs([{"params": q[:1]}, {"params": q[1:], "lr": 0.01}], **options)
    for step in range(50):
        mine.zero_grad()
        other.zero_grad()
        mt.sum(mt.tanh(x @ p[0] + p[1]) ** 2 + 0.1 * mt.sin(p[1])).backward()
        (torch.tanh(torch.tensor(x) @ q[0] + q[1]) ** 2 + 0.1 * torch.sin(q[1])).sum().backward()
        if clip is not None:
            norm = optim.clip_grad_norm(p, clip)
            assert norm == pytest.approx(torch.nn.utils.clip_grad_norm_(q, clip).item(), rel=1e-12)
        mine.step()
        other.step()
        for u, v in zip(p, q, strict=True):
            np.testing.assert_allclose(u.data, v.detach(), rtol=1e-12, atol=1e-12, err_msg=f"step {step}")
