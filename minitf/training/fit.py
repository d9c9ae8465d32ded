"""``fit``: the short training loop.

history = fit(model, next_token_loss, batches(ids, B=16, T=128, rng=rng), steps=1000, lr=3e-3, schedule="cosine")
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import Tensor, no_grad
from minitf.nn.functional import cross_entropy
from minitf.nn.module import Module
from minitf.optim import AdamW, Optimizer, clip_grad_norm, grad_norm, schedules

SCHEDULES = {"linear": schedules.linear, "cosine": schedules.cosine}


@dataclass
class History:
    """What happened in a run: lists with one entry a step, and one an evaluation.

    steps, losses, lrs, grad_norms: of the training steps, which count from 0; norms are those before clipping.
    evaluation_steps, evaluations: how many steps had been made, and what ``evaluate`` returned.
    """

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    lrs: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    evaluation_steps: list[int] = field(default_factory=list)
    evaluations: list[Any] = field(default_factory=list)


def next_token_loss(model: Module, inputs: Any, targets: Any) -> Tensor:
    """The mean cross-entropy of ``model(inputs)`` with the targets, in nats a token."""
    return cross_entropy(model(inputs), targets)


def fit(
    model: Module,
    loss: Callable[..., Tensor],
    batches: Iterable[Any],
    *,
    steps: int,
    optimizer: Optimizer | None = None,
    lr: float | None = None,
    schedule: str | Callable[[int], float] | None = None,
    clip: float | None = None,
    progress: bool = True,
    evaluate: Callable[[Module], Any] | None = None,
    every: int | None = None,
) -> History:
    """Trains ``model`` for ``steps`` batches and returns what happened.

    loss: ``loss(model, *batch)``, a scalar; a batch that is no tuple is one argument.
    optimizer: or ``lr`` for AdamW with its defaults.
    schedule: factor of the learning rate: a function of the step, which counts from 0; or "linear" or "cosine", which
        warm up for a tenth of the steps and then fall to 0.
    clip: the largest norm that all gradients together may have.
    progress: show a progress bar.
    evaluate: called with the model in ``eval()`` mode, recording nothing, after each ``every`` steps and at the end.

    Raises FloatingPointError, naming the step and the first parameter that is to blame, when the loss or a gradient is
    not finite; the parameters are those before that step.
    """
    if steps < 1:
        raise ValueError(f"fit: steps must be at least 1, got {steps}")
    if (optimizer is None) == (lr is None):
        raise ValueError("fit: give either an optimizer, or lr for AdamW")
    if every is not None and (evaluate is None or every < 1):
        raise ValueError("fit: every says after how many steps (at least 1) to call evaluate; give both")
    if optimizer is None:
        assert lr is not None
        optimizer = AdamW(model.parameters(), lr)
    factor = _factor(schedule, steps)
    peaks = [group["lr"] for group in optimizer.param_groups]
    history = History()
    source = iter(batches)
    model.train()
    bar = _bar(steps, progress)
    try:
        for step in range(steps):
            batch = next(source, None)
            if batch is None:
                raise ValueError(
                    f"fit: the batches ran out after {step} of {steps} steps; pass an endless iterator, such as "
                    "data.text.batches(...) or itertools.cycle(...)"
                )
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = float(peak * factor(step))
            optimizer.zero_grad()
            value = loss(model, *batch) if isinstance(batch, tuple) else loss(model, batch)
            if not isinstance(value, Tensor) or value.size != 1:
                raise ShapeError(f"fit: loss must return a scalar Tensor, it returned {value!r}")
            _require_finite(model, step, value.item())
            value.backward()
            trained = optimizer.parameters()
            norm = grad_norm(trained) if clip is None else clip_grad_norm(trained, clip)
            if not math.isfinite(norm):
                _require_finite_gradients(model, step)
            optimizer.step()
            history.steps.append(step)
            history.losses.append(value.item())
            history.lrs.append(optimizer.param_groups[0]["lr"])
            history.grad_norms.append(norm)
            bar.update()
            bar.set_postfix(loss=f"{value.item():.4f}", refresh=False)
            if evaluate is not None and (step + 1 == steps or (every and (step + 1) % every == 0)):
                model.eval()
                with no_grad():
                    history.evaluations.append(evaluate(model))
                history.evaluation_steps.append(step + 1)
                model.train()
    finally:
        bar.close()
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak
    return history


def _factor(schedule: str | Callable[[int], float] | None, steps: int) -> Callable[[int], float]:
    if schedule is None:
        return lambda step: 1.0
    if callable(schedule):
        return schedule
    if schedule not in SCHEDULES:
        known = ", ".join(SCHEDULES)
        raise ValueError(f"fit: schedule must be a function of the step or one of {known}, got {schedule!r}")
    fall = SCHEDULES[schedule]
    return lambda step: fall(step, steps, warmup=steps // 10)


def _bar(steps: int, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=steps, unit="step", disable=not progress)


def _require_finite(model: Module, step: int, value: float) -> None:
    if math.isfinite(value):
        return
    for name, p in model.named_parameters():
        if not np.isfinite(p.data).all():
            raise FloatingPointError(f"fit: the loss is {value} at step {step}; parameter {name} is not finite")
    raise FloatingPointError(
        f"fit: the loss is {value} at step {step}, although all parameters are finite: look at the batch, or lower lr"
    )


def _require_finite_gradients(model: Module, step: int) -> None:
    for name, p in model.named_parameters():
        if p.grad is not None and not np.isfinite(p.grad.data).all():
            raise FloatingPointError(f"fit: the gradient of {name} is not finite at step {step}; lower lr, or clip")
    raise FloatingPointError(f"fit: the norm of the gradients is too large for their dtype at step {step}; lower lr")
