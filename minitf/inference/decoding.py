"""Choosing the next token, again and again, with the cache that makes decoding linear in length.

This page has the two ways that look no further than the next token; the neighbors, which are offered here too, have the
penalties and cuts (``next_token``) and the searches that compare whole texts (``beams``, ``contrastive``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minitf.inference.beams import TokenTrie, beam_search, diverse_beam_search
from minitf.inference.contrastive import contrastive_search
from minitf.inference.next_token import (
    Process,
    draw_tokens,
    next_token_probabilities,
    no_repeat_ngram,
    occurrence_penalty,
    repetition_penalty,
)
from minitf.inference.prompt import checked_prompt, evaluating
from minitf.nn.init import generator

__all__ = [
    "TokenTrie",
    "beam_search",
    "contrastive_search",
    "diverse_beam_search",
    "greedy",
    "next_token_probabilities",
    "no_repeat_ngram",
    "occurrence_penalty",
    "repetition_penalty",
    "sample",
]


def greedy(
    model: Any, ids: Any, steps: int, *, process: Process | None = None, eos: int | None = None, pad: int = 0
) -> np.ndarray:
    """The prompt ids (B, T) followed by ``steps`` tokens, each the most probable one; (B, T + steps).

    process: changes the logits first, knowing the texts so far. eos: a text ends with it and is padded with ``pad``; once
    all have ended no more is decoded, and the result is shorter.
    """
    return _decode("greedy", model, ids, steps, most_probable, process, eos, pad)


def sample(
    model: Any,
    ids: Any,
    steps: int,
    *,
    rng: np.random.Generator,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    typical_p: float | None = None,
    process: Process | None = None,
    eos: int | None = None,
    pad: int = 0,
) -> np.ndarray:
    """The prompt ids (B, T) followed by ``steps`` sampled tokens; see ``next_token_probabilities``, and ``greedy``."""
    cuts = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "typical_p": typical_p}
    return _decode("sample", model, ids, steps, drawing(rng, **cuts), process, eos, pad)


def most_probable(logits: np.ndarray) -> np.ndarray:
    """(B,) tokens with the largest logits of (B, V)."""
    return logits.argmax(-1)


def drawing(rng: np.random.Generator, **cuts: Any) -> Callable[[np.ndarray], np.ndarray]:
    """A function that draws tokens (B,) from what ``next_token_probabilities`` makes of logits (B, V)."""
    rng = generator(rng)
    return lambda logits: draw_tokens(next_token_probabilities(logits, **cuts), rng)


def each_token(
    model: Any,
    ids: np.ndarray,
    steps: int,
    choose: Callable[[np.ndarray], np.ndarray],
    process: Process | None = None,
    eos: int | None = None,
    pad: int = 0,
) -> Iterator[np.ndarray]:
    """At most ``steps`` times the tokens (B,) that ``choose`` takes from the last logits (B, V)."""
    cache, new, ended = model.new_cache(len(ids)), ids, np.zeros(len(ids), bool)
    for _ in range(steps):
        logits = model(new, cache=cache).data[:, -1]
        tokens = choose(logits if process is None else process(logits, ids))
        tokens = np.where(ended, pad, tokens)
        yield tokens
        ended |= tokens == eos
        if ended.all():
            return
        new = tokens[:, None]
        ids = np.concatenate([ids, new], axis=1)


def _decode(what: str, model: Any, ids: Any, steps: int, *choice: Any) -> np.ndarray:
    ids = checked_prompt(what, model, ids, steps)
    with evaluating(model):
        return np.stack([*ids.T, *each_token(model, ids, steps, *choice)], axis=1)
