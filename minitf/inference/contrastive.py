"""Contrastive search: probable, but unlike what was said (Su and others, A Contrastive Framework for Neural Text
Generation).

Of the ``top_k`` most probable tokens v the one with the largest

    (1 - α) p(v | text) - α max over positions j of the text of cos(h_v, h_j)

h_j is the last hidden state at position j, h_v the one at v, were v to follow. Nothing is random. α = 0 is greedy, and so
is ``top_k`` = 1. A token costs the model ``top_k`` positions in one pass; their states, made to be compared, give the
next logits, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitf.inference.next_token import next_token_probabilities
from minitf.inference.prompt import checked_prompt, evaluating


def contrastive_search(
    model: Any, ids: Any, steps: int, *, top_k: int = 4, alpha: float = 0.6, eos: int | None = None, pad: int = 0
) -> np.ndarray:
    """The prompt ids (B, T) followed by ``steps`` tokens, (B, T + steps).

    model: with ``hidden(ids, cache=)`` and ``logits(hidden)``, as a ``Decoder`` has. eos: a text ends with it and is padded
    with ``pad``; once all have ended no more is decoded. Ties go to the more probable token, then to the lower id.

    Raises ValueError for a ``top_k`` below 1 or above V, and for an ``alpha`` outside [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"contrastive_search: alpha must be in [0, 1], got {alpha!r}")
    if isinstance(top_k, bool) or not isinstance(top_k, (int, np.integer)) or top_k < 1:
        raise ValueError(f"contrastive_search: top_k must be an integer of at least 1, got {top_k!r}")
    ids = checked_prompt("contrastive_search", model, ids, steps)
    rows, ended = np.arange(len(ids)), np.zeros(len(ids), bool)
    with evaluating(model):
        cache = model.new_cache(len(ids))
        hidden = model.hidden(ids, cache=cache).data
        said, last = _directions(hidden), hidden[:, -1]  # (B, T, D), (B, D)
        for _ in range(steps):
            logits = model.logits(last).data
            if top_k > logits.shape[-1]:
                raise ValueError(f"contrastive_search: top_k must be at most V = {logits.shape[-1]}, got {top_k}")
            candidates = np.argsort(-logits, axis=-1, kind="stable")[:, :top_k]
            p = np.take_along_axis(next_token_probabilities(logits), candidates, -1)
            cache.reorder(np.repeat(rows, top_k))
            hidden = model.hidden(candidates.reshape(-1, 1), cache=cache).data.reshape(len(ids), top_k, -1)
            directions = _directions(hidden)
            likeness = (directions @ said.swapaxes(-1, -2)).max(-1)
            best = ((1 - alpha) * p - alpha * likeness).argmax(-1)
            cache.reorder(rows * top_k + best)
            said, last = np.concatenate([said, directions[rows, best][:, None]], axis=1), hidden[rows, best]
            tokens = np.where(ended, pad, candidates[rows, best])
            ids = np.concatenate([ids, tokens[:, None]], axis=1)
            ended |= tokens == eos
            if ended.all():
                break
    return ids


def _directions(x: np.ndarray) -> np.ndarray:
    """x (*, D) over its length; a vector of zeros, which is like nothing, stays as it is."""
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / np.where(length > 0, length, 1)
