"""A GPT-2 of 1.3 million parameters trained on the built-in text, here and by PyTorch and Transformers: same initial
weights, same batches, same schedule, float32.

    python tests/cross/gpt_side_by_side.py        records the curves that the chapter on model families shows
"""

from __future__ import annotations

import json
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tqdm import tqdm

import minitf as mt
from minitf.data.text import batches, byte_text, python_documentation, split, windows
from minitf.models.checkpoints import save_pretrained
from minitf.models.gpt2 import GPT2, GPT2Config
from minitf.nn.functional import cross_entropy
from minitf.optim import AdamW, clip_grad_norm, schedules

B, T, LR, CLIP, EVERY = 16, 128, 1e-3, 1.0, 20
CONFIG = {
    "vocab_size": 257, "n_positions": T, "n_embd": 160, "n_layer": 4, "n_head": 4,
    "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
}  # fmt: skip
RECORD = Path(__file__).parents[2] / "chapters/models/gpt_curves.json"


def texts() -> tuple[Any, Any]:
    training, validation = split(byte_text(python_documentation()))
    return training, list(islice(windows(validation, B, T), 8))


def drawn(ids: np.ndarray, steps: int) -> Any:
    return islice(batches(ids, B, T, rng=np.random.default_rng(1)), steps)


def factor(step: int, steps: int) -> float:
    return schedules.cosine(step, steps, warmup=steps // 10)


def fresh() -> GPT2:
    with mt.config(dtype="float32"):
        return GPT2(GPT2Config(**CONFIG), rng=np.random.default_rng(0))


def ours(steps: int, stop: int | None = None) -> dict[str, list[float]]:
    """Losses of all steps (up to ``stop``) of a run of that many, and validation losses every EVERY steps."""
    training, validation = texts()
    model, curve = fresh(), {"losses": [], "validation": []}
    optimizer = AdamW(model.parameters(), LR, weight_decay=0.1)
    for step, (inputs, targets) in enumerate(tqdm(drawn(training, stop or steps), total=stop or steps)):
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs), targets)
        loss.backward()
        clip_grad_norm(model.parameters(), CLIP)
        optimizer.param_groups[0]["lr"] = LR * factor(step, steps)
        optimizer.step()
        curve["losses"].append(loss.item())
        if (step + 1) % EVERY == 0:
            with mt.no_grad():
                found = [cross_entropy(model(x), y).item() for x, y in validation]
            curve["validation"].append(float(np.mean(found)))
    return curve


def theirs(steps: int, stop: int | None = None) -> dict[str, list[float]]:
    """The same by PyTorch, from the same initial weights."""
    training, validation = texts()
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(fresh(), folder)
        model = transformers.GPT2LMHeadModel.from_pretrained(folder).train()
    curve = {"losses": [], "validation": []}
    optimizer = torch.optim.AdamW(model.parameters(), LR, weight_decay=0.1)

    def loss_of(x: np.ndarray, y: np.ndarray) -> torch.Tensor:
        logits = model(torch.tensor(x)).logits
        return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), torch.tensor(y).reshape(-1))

    for step, (inputs, targets) in enumerate(tqdm(drawn(training, stop or steps), total=stop or steps)):
        optimizer.zero_grad()
        loss = loss_of(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.param_groups[0]["lr"] = LR * factor(step, steps)
        optimizer.step()
        curve["losses"].append(loss.item())
        if (step + 1) % EVERY == 0:
            with torch.no_grad():
                curve["validation"].append(float(np.mean([loss_of(x, y).item() for x, y in validation])))
    return curve


if __name__ == "__main__":
    steps = 400
    record = {
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "numpy": np.__version__},
        "config": CONFIG, "batch": B, "length": T, "lr": LR, "steps": steps, "every": EVERY,
        "ours": ours(steps), "theirs": theirs(steps),
    }  # fmt: skip
    RECORD.write_text(json.dumps(record) + "\n")
    print(f"{record['ours']['validation'][-1]:.4f} here, {record['theirs']['validation'][-1]:.4f} there")
