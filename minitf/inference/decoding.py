"""Choosing the next token, with the cache that makes decoding linear in length."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import as_tensor, no_grad


def next_token_probabilities(
    logits: np.ndarray, *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> np.ndarray:
    """(B, V) probabilities from logits (B, V): divided by ``temperature``, cut to the ``top_k`` largest, then to the
    smallest set of most probable tokens with total probability at least ``top_p``. Ties go to the lowest id.
    """
    if temperature <= 0:
        raise ValueError(f"sample: temperature must be positive, got {temperature}; use greedy for the limit 0")
    if top_k is not None and not 1 <= top_k <= logits.shape[-1]:
        raise ValueError(f"sample: top_k must be from 1 to V = {logits.shape[-1]}, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"sample: top_p must be in (0, 1], got {top_p}")
    z = logits.astype(np.float64) / temperature
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    order = np.argsort(-p, axis=-1, kind="stable")
    ranked = np.take_along_axis(p, order, -1)
    if top_k is not None:
        ranked[:, top_k:] = 0
    ranked /= ranked.sum(-1, keepdims=True)
    if top_p is not None:
        before = np.cumsum(ranked, -1) - ranked
        ranked[before >= top_p] = 0
        ranked /= ranked.sum(-1, keepdims=True)
    out = np.zeros_like(p)
    np.put_along_axis(out, order, ranked, -1)
    return out


def _decode(model: Any, ids: Any, steps: int, choose: Any) -> np.ndarray:
    ids = np.asarray(as_tensor(ids).data)
    if ids.ndim != 2 or ids.shape[1] == 0:
        raise ShapeError(f"decoding: the prompt must be ids (B, T) with T at least 1, got shape {ids.shape}")
    if steps < 0:
        raise ValueError(f"decoding: steps must not be negative, got {steps}")
    was_training = model.training
    model.eval()
    try:
        with no_grad():
            cache, new = model.new_cache(ids.shape[0]), ids
            for _ in range(steps):
                logits = model(new, cache=cache).data[:, -1]
                new = choose(logits)[:, None]
                ids = np.concatenate([ids, new], axis=1)
    finally:
        model.train(was_training)
    return ids


def greedy(model: Any, ids: Any, steps: int) -> np.ndarray:
    """The prompt ids (B, T) followed by ``steps`` tokens, each the most probable one; (B, T + steps)."""
    return _decode(model, ids, steps, lambda logits: logits.argmax(-1))


def sample(
    model: Any,
    ids: Any,
    steps: int,
    *,
    rng: np.random.Generator,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> np.ndarray:
    """The prompt ids (B, T) followed by ``steps`` sampled tokens; see ``next_token_probabilities``."""

    def choose(logits: np.ndarray) -> np.ndarray:
        p = next_token_probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p)
        draws = rng.random(len(p))[:, None]
        return np.minimum((np.cumsum(p, -1) <= draws).sum(-1), p.shape[-1] - 1)

    return _decode(model, ids, steps, choose)
