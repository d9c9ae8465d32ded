"""What every decoder begins with: a prompt that is checked, and a model in eval mode that records nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import as_tensor, no_grad


def checked_prompt(what: str, model: Any, ids: Any, steps: int) -> np.ndarray:
    """A copy of the prompt (B, T), checked, as are the other arguments that all decoders have; ``what`` asks for it."""
    ids = np.array(as_tensor(ids).data)
    if ids.ndim != 2 or ids.shape[1] == 0:
        raise ShapeError(f"{what}: the prompt must be ids (B, T) with T at least 1, got shape {ids.shape}")
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 0:
        raise ValueError(f"{what}: steps must be an integer of at least 0, got {steps!r}")
    if not hasattr(model, "new_cache"):
        raise TypeError(
            f"{what}: needs a model that generates, with new_cache(B) and forward(ids, cache=); got {type(model).__name__}"
        )
    return ids


@contextmanager
def evaluating(*models: Any) -> Iterator[None]:
    """In eval mode, recording nothing; the modes are as before afterwards."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        with no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
