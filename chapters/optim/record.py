"""Writes recorded.json: where PyTorch's optimizers end after fifty steps. ``python chapters/optim/record.py``"""

import json
import platform
from pathlib import Path

import torch

STEPS = 50
RUNS = {
    "SGD": ("SGD", {"lr": 0.05}),
    "momentum": ("SGD", {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1}),
    "Nesterov": ("SGD", {"lr": 0.02, "momentum": 0.8, "nesterov": True}),
    "Adam": ("Adam", {"lr": 0.03}),
    "Adam with decay": ("Adam", {"lr": 0.1, "betas": (0.8, 0.95), "weight_decay": 0.2}),
    "AdamW": ("AdamW", {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.2}),
    "Adafactor": ("Adafactor", {"lr": 0.03}),
}

draw = torch.Generator().manual_seed(0)
normal = lambda *shape: torch.randn(*shape, generator=draw, dtype=torch.float64)
x, start = normal(8, 4), [normal(4, 3), normal(3)]
runs = {}
for name, (kind, options) in RUNS.items():
    p = [value.clone().requires_grad_() for value in start]
    optimizer = getattr(torch.optim, kind)(p, **options)
    for _ in range(STEPS):
        optimizer.zero_grad()
        (torch.tanh(x @ p[0] + p[1]) ** 2 + 0.1 * torch.sin(p[1])).sum().backward()
        optimizer.step()
    runs[name] = (kind, options, *(value.tolist() for value in p))
versions = {"torch": torch.__version__, "python": platform.python_version()}
recorded = {"versions": versions, "steps": STEPS, "x": x.tolist(), "start": [v.tolist() for v in start], "runs": runs}
Path(__file__).with_name("recorded.json").write_text(json.dumps(recorded, indent=1) + "\n")
