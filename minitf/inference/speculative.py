"""Speculative decoding: a small model guesses, the large one checks several guesses at once, and nothing is lost.

The draft model q proposes x_1 .. x_n. The target p sees them all in one pass. x_i stays with probability

    min(1, p(x_i) / q(x_i));      the first that does not is replaced by a draw from max(p - q, 0), normalized,

and if all stay, one more token comes from p for nothing. Every token has exactly the distribution that sampling from p
alone gives: q(x) min(1, p(x) / q(x)) + (1 - sum of min(p, q)) max(p - q, 0)(x) / (1 - sum of min(p, q)) = p(x).

A pass of the target yields between 1 and n + 1 tokens (Leviathan and others; Chen and others).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.inference.next_token import draw_tokens, next_token_probabilities
from minitf.inference.prompt import checked_prompt, evaluating
from minitf.nn.init import generator


def speculative_decode(
    target: Any, draft: Any, ids: Any, steps: int, *, rng: np.random.Generator, guesses: int = 4, **cuts: Any
) -> tuple[np.ndarray, int]:
    """``sample(target, ids, steps)``, with fewer passes of ``target``.

    ids: (1, T); rows of a batch would accept different numbers of guesses. guesses: tokens that ``draft`` proposes at a
    time. cuts: temperature, top_k and so on, of both models; see ``next_token_probabilities``.

    Returns ids (1, T + steps) and the number of passes of the target.
    """
    rng = generator(rng)
    if guesses < 1:
        raise ValueError(f"speculative_decode: guesses must be at least 1, got {guesses}")
    ids = checked_prompt("speculative_decode", target, ids, steps)
    checked_prompt("speculative_decode", draft, ids, steps)
    if len(ids) != 1:
        raise ShapeError(f"speculative_decode: decodes one text at a time, ids (1, T), got shape {ids.shape}")
    end, passes = ids.shape[1] + steps, 0
    with evaluating(target, draft):
        caches = {model: model.new_cache(1) for model in (target, draft)}

        def probabilities(model: Any, text: np.ndarray, last: int) -> np.ndarray:
            """(last, V) of the tokens after the last positions, whatever of the text the cache has seen."""
            seen = min(caches[model].length, text.shape[1] - last)
            caches[model].crop(seen)
            logits = model(text[:, seen:], cache=caches[model]).data[0, -last:]
            return next_token_probabilities(logits, **cuts)

        while ids.shape[1] < end:
            text, q = ids, []
            for _ in range(min(guesses, end - ids.shape[1] - 1)):
                q.append(probabilities(draft, text, 1)[0])
                text = np.append(text, draw_tokens(q[-1][None], rng)[None], axis=1)
            p = probabilities(target, text, len(q) + 1)
            passes += 1
            ids = np.append(ids, [_checked(text[0, ids.shape[1] :], p, q, rng)], axis=1)
    return ids, passes


def _checked(guessed: np.ndarray, p: np.ndarray, q: list[np.ndarray], rng: np.random.Generator) -> list[int]:
    """The guesses that stay, and the one token behind them."""
    for i, token in enumerate(guessed):
        if rng.random() * q[i][token] >= p[i][token]:
            rest = np.maximum(p[i] - q[i], 0)
            return [*guessed[:i], int(draw_tokens(rest[None], rng)[0])]
    return [*guessed, int(draw_tokens(p[len(guessed)][None], rng)[0])]
