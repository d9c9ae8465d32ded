"""Choosing the next token, with the cache that makes decoding linear in length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import as_tensor, no_grad
from minitf.nn.init import generator


def next_token_probabilities(
    logits: Any, *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> np.ndarray:
    """(*, V) probabilities in float64 from logits (*, V), of which -inf is legal: divided by ``temperature``, cut to the
    ``top_k`` largest, then to the smallest set of most probable tokens with total probability at least ``top_p``. Ties
    go to the lowest id.

    Raises ValueError for options out of range and for a row without a token that can be chosen.
    """
    logits = as_tensor(logits).data
    V = logits.shape[-1] if logits.ndim else 0
    if V == 0:
        raise ShapeError(f"sample: logits must be (*, V) with V at least 1, got shape {logits.shape}")
    if not 0 < temperature < np.inf:
        raise ValueError(f"sample: temperature must be positive, got {temperature!r}; greedy is the limit 0")
    if top_k is not None and (
        isinstance(top_k, bool) or not isinstance(top_k, (int, np.integer)) or not 1 <= top_k <= V
    ):
        raise ValueError(f"sample: top_k must be an integer from 1 to V = {V}, or None, got {top_k!r}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"sample: top_p must be in (0, 1], or None, got {top_p!r}")
    z = logits.astype(np.float64)
    top = z.max(axis=-1, keepdims=True)
    if not np.isfinite(top).all():
        raise ValueError("sample: every row of the logits needs a largest entry that is finite, for a token to choose")
    with np.errstate(over="ignore"):  # a temperature near 0
        p = np.exp((z - top) / temperature)
    order = np.argsort(-z, axis=-1, kind="stable")
    ranked = np.take_along_axis(p, order, -1)
    if top_k is not None:
        ranked[..., top_k:] = 0
    ranked /= ranked.sum(-1, keepdims=True)
    if top_p is not None and top_p < 1:
        more_probable = np.cumsum(ranked, -1)[..., :-1]
        ranked[..., 1:][more_probable >= top_p] = 0
        ranked /= ranked.sum(-1, keepdims=True)
    out = np.zeros_like(p)
    np.put_along_axis(out, order, ranked, -1)
    return out


def greedy(model: Any, ids: Any, steps: int) -> np.ndarray:
    """The prompt ids (B, T) followed by ``steps`` tokens, each the most probable one; (B, T + steps)."""
    return _decode("greedy", model, ids, steps, lambda logits: logits.argmax(-1))


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
    rng = generator(rng)

    def choose(logits: np.ndarray) -> np.ndarray:
        p = next_token_probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p)
        up_to = np.cumsum(p, -1)
        up_to /= up_to[:, -1:]  # exactly 1 from the last possible token on, which a draw below 1 cannot pass
        return (up_to <= rng.random((len(p), 1))).sum(-1)

    return _decode("sample", model, ids, steps, choose)


def _decode(what: str, model: Any, ids: Any, steps: int, choose: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """``ids`` and ``steps`` tokens that ``choose`` takes from the last logits (B, V), in eval mode, recording nothing."""
    ids = np.array(as_tensor(ids).data)
    if ids.ndim != 2 or ids.shape[1] == 0:
        raise ShapeError(f"{what}: the prompt must be ids (B, T) with T at least 1, got shape {ids.shape}")
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 0:
        raise ValueError(f"{what}: steps must be an integer of at least 0, got {steps!r}")
    if not hasattr(model, "new_cache"):
        raise TypeError(
            f"{what}: needs a model that generates, with new_cache(B) and forward(ids, cache=); got {type(model).__name__}"
        )
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with no_grad():
            cache, new = model.new_cache(ids.shape[0]), ids
            for _ in range(steps):
                new = choose(model(new, cache=cache).data[:, -1])[:, None]
                ids = np.concatenate([ids, new], axis=1)
    finally:
        for module, training in modes:
            module.training = training
    return ids
