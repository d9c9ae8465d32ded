"""Choosing the next token, with the cache that makes decoding linear in length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import as_tensor, no_grad
from minitf.nn.init import generator


def repetition_penalty(logits: Any, ids: Any, penalty: float, mode: str = "signed") -> np.ndarray:
    """Logits (B, V) in which the tokens that occur in ids (B, T) are less likely, once each, however often they occur.

    mode: "signed" divides positive logits by ``penalty`` and multiplies negative ones with it; "paper" divides both, as
    CTRL's paper writes it, which makes tokens with negative logits more likely. A penalty of 1 changes nothing.
    """
    logits, ids = np.array(as_tensor(logits).data), as_tensor(ids).data
    if logits.ndim != 2 or ids.ndim != 2 or len(logits) != len(ids):
        raise ShapeError(
            f"repetition_penalty: needs logits (B, V) and ids (B, T), got shapes {logits.shape} and {ids.shape}"
        )
    if not 0 < penalty < np.inf:
        raise ValueError(f"repetition_penalty: penalty must be positive, got {penalty!r}")
    if mode not in ("signed", "paper"):
        raise ValueError(f"repetition_penalty: mode must be 'signed' or 'paper', got {mode!r}")
    occurs = np.zeros(logits.shape, bool)
    np.put_along_axis(occurs, ids, True, axis=1)
    less = logits / penalty
    return np.where(occurs, np.where((logits < 0) & (mode == "signed"), logits * penalty, less), logits)


def next_token_probabilities(
    logits: Any,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    typical_p: float | None = None,
) -> np.ndarray:
    """(*, V) probabilities in float64 from logits (*, V), of which -inf is legal: divided by ``temperature``, then cut, in
    this order, to

    - the ``top_k`` largest,
    - the smallest set of most probable tokens with total probability at least ``top_p``,
    - those at least ``min_p`` times as probable as the most probable one,
    - the smallest set with total probability at least ``typical_p`` of those whose surprise -log p is closest to the
      expected one, the entropy.

    Ties go to the lowest id.

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
    if min_p is not None and not 0 <= min_p <= 1:
        raise ValueError(f"sample: min_p must be in [0, 1], or None, got {min_p!r}")
    if typical_p is not None and not 0 < typical_p <= 1:
        raise ValueError(f"sample: typical_p must be in (0, 1], or None, got {typical_p!r}")
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
        _keep_first(ranked, top_p)
    if min_p is not None:
        ranked[ranked < min_p * ranked[..., :1]] = 0
        ranked /= ranked.sum(-1, keepdims=True)
    if typical_p is not None and typical_p < 1:
        surprise = -np.log(np.where(ranked > 0, ranked, 1))
        entropy = np.sum(ranked * surprise, -1, keepdims=True)
        unusual = np.where(ranked > 0, np.abs(surprise - entropy), np.inf)
        closest = np.lexsort((order, unusual), axis=-1)
        ranked, order = (np.take_along_axis(x, closest, -1) for x in (ranked, order))
        _keep_first(ranked, typical_p)
    out = np.zeros_like(p)
    np.put_along_axis(out, order, ranked, -1)
    return out


def _keep_first(ranked: np.ndarray, total: float) -> None:
    """Clears probabilities (*, V) behind the first that reach ``total`` together; the rest sum to 1 again."""
    before = np.cumsum(ranked, -1)[..., :-1]
    ranked[..., 1:][before >= total] = 0
    ranked /= ranked.sum(-1, keepdims=True)


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
    min_p: float | None = None,
    typical_p: float | None = None,
) -> np.ndarray:
    """The prompt ids (B, T) followed by ``steps`` sampled tokens; see ``next_token_probabilities``."""
    rng = generator(rng)
    cuts = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "typical_p": typical_p}
    return _decode(
        "sample", model, ids, steps, lambda logits: draw_tokens(next_token_probabilities(logits, **cuts), rng)
    )


def draw_tokens(p: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(B,) tokens drawn from probabilities (B, V)."""
    up_to = np.cumsum(p, -1)
    up_to /= up_to[:, -1:]  # exactly 1 from the last possible token on, which a draw below 1 cannot pass
    return (up_to <= rng.random((len(p), 1))).sum(-1)


def beam_search(
    model: Any,
    ids: Any,
    steps: int,
    *,
    beams: int,
    eos: int | None = None,
    pad: int = 0,
    length_penalty: float = 1.0,
    early_stopping: bool | str = False,
) -> tuple[np.ndarray, np.ndarray]:
    """The best continuations of the prompts (B, T) that a search over ``beams`` texts at a time finds.

    A text's score is its new tokens' log-probability divided by their number to the power ``length_penalty``. It is
    complete with ``eos``; of the 2 ``beams`` best continuations of a step, those complete that are among the first
    ``beams`` are put aside, of which the best ``beams`` are kept, and the first others go on.
    early_stopping: a prompt is done when ``beams`` texts are complete and (True) no more is asked; (False) the best text
    that goes on would not beat the worst of them if it ended here; ("never") none could ever beat it.

    Returns ids (B, T + n), n at most ``steps``, padded with ``pad`` behind ``eos``; and the scores (B,). Ties go to the
    earlier beam, then to the lower id.
    """
    if beams < 1:
        raise ValueError(f"beam_search: beams must be at least 1, got {beams}")
    if early_stopping not in (True, False, "never"):
        raise ValueError(f"beam_search: early_stopping must be True, False or 'never', got {early_stopping!r}")
    ids = _prompt("beam_search", model, ids, steps)
    B, T = ids.shape
    complete: list[list[tuple[float, np.ndarray]]] = [[] for _ in range(B)]
    done = np.zeros(B, bool)
    scores = np.full((B, beams), -np.inf)
    scores[:, 0] = 0  # all beams begin with the same text, which counts once
    texts = np.repeat(ids, beams, axis=0)

    def finished(b: int, length: int) -> bool:
        if len(complete[b]) < beams:
            return False
        if early_stopping is True:
            return True
        longest = early_stopping == "never" and length_penalty > 0
        return scores[b].max() / (steps if longest else length) ** length_penalty <= complete[b][-1][0]

    with _decoding(model):
        cache, new = model.new_cache(len(texts)), texts
        for length in range(1, steps + 1):
            logits = model(new, cache=cache).data[:, -1].astype(np.float64)
            top = logits.max(-1, keepdims=True)
            logp = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
            V = logp.shape[-1]
            total = (scores.reshape(-1, 1) + logp).reshape(B, beams * V)
            best = np.argsort(-total, axis=-1, kind="stable")[:, : 2 * beams]
            rows, tokens = np.zeros((B, beams), int), np.full((B, beams), pad)
            for b in np.flatnonzero(~done):
                kept = 0
                for rank, place in enumerate(best[b]):
                    beam, token = divmod(int(place), V)
                    if token == eos:
                        if rank < beams and total[b, place] > -np.inf:
                            text = np.append(texts[b * beams + beam, T:], token)
                            complete[b].append((total[b, place] / length**length_penalty, text))
                            complete[b] = sorted(complete[b], key=lambda entry: -entry[0])[:beams]
                    elif kept < beams:
                        rows[b, kept], tokens[b, kept], scores[b, kept] = beam, token, total[b, place]
                        kept += 1
                scores[b, kept:] = -np.inf
            chosen = (np.arange(B)[:, None] * beams + rows).reshape(-1)
            new = tokens.reshape(-1, 1)
            texts = np.concatenate([texts[chosen], new], axis=1)
            if cache is not None:
                cache.reorder(chosen)
            done |= [finished(b, length) for b in range(B)]
            if done.all():
                break
    return _best_texts(ids, texts.reshape(B, beams, -1), scores, complete, done, length_penalty, pad)


def _best_texts(
    ids: np.ndarray, texts: np.ndarray, scores: np.ndarray, complete: Any, done: Any, length_penalty: float, pad: int
) -> tuple[np.ndarray, np.ndarray]:
    T, length = ids.shape[1], texts.shape[2] - ids.shape[1]
    best = []
    for b, entries in enumerate(complete):
        if not done[b] and length:  # what still goes on competes, with the length that it has
            entries = [*entries, *zip(scores[b] / length**length_penalty, texts[b, :, T:], strict=True)]
        best.append(max(entries, key=lambda entry: entry[0], default=(0.0, ids[b, :0])))
    longest = max((len(text) for _, text in best), default=0)
    padded = [np.append(text, np.full(longest - len(text), pad, ids.dtype)) for _, text in best]
    return np.concatenate([ids, np.array(padded, ids.dtype).reshape(len(ids), longest)], axis=1), np.array(
        [score for score, _ in best]
    )


def _decode(what: str, model: Any, ids: Any, steps: int, choose: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """``ids`` and ``steps`` tokens that ``choose`` takes from the last logits (B, V)."""
    ids = _prompt(what, model, ids, steps)
    with _decoding(model):
        cache, new = model.new_cache(ids.shape[0]), ids
        for _ in range(steps):
            new = choose(model(new, cache=cache).data[:, -1])[:, None]
            ids = np.concatenate([ids, new], axis=1)
    return ids


def _prompt(what: str, model: Any, ids: Any, steps: int) -> np.ndarray:
    """A copy of the prompt, checked, as are the other arguments that all decoders have."""
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
def _decoding(*models: Any) -> Iterator[None]:
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
