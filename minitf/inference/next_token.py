"""Which token may come next, and how probable it is: what happens between a model's logits and a draw.

Penalties and bans change logits (B, V), given the texts ids (B, T) so far:

repetition_penalty     z / θ or z θ, once for a token that occurs        (Keskar and others, CTRL)
occurrence_penalty     z - presence [count > 0] - frequency count
no_repeat_ngram        -inf for a token that would complete an n-gram that occurs

``next_token_probabilities`` makes probabilities of them, cut to the tokens worth drawing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import as_tensor
from minitf.registry import implements

#: (logits (B, V), ids (B, T)) -> logits (B, V), such as ``lambda logits, ids: repetition_penalty(logits, ids, 1.2)``
Process = Callable[[np.ndarray, np.ndarray], np.ndarray]


@implements("ctrl")
def repetition_penalty(logits: Any, ids: Any, penalty: float, mode: str = "signed") -> np.ndarray:
    """Logits (B, V) in which the tokens that occur in ids (B, T) are less likely, once each, however often they occur.

    mode: "signed" divides positive logits by ``penalty`` and multiplies negative ones with it; "paper" divides both, as
    CTRL's paper writes it, which makes tokens with negative logits more likely. A penalty of 1 changes nothing.
    """
    logits, ids = _rows("repetition_penalty", logits, ids)
    if not 0 < penalty < np.inf:
        raise ValueError(f"repetition_penalty: penalty must be positive, got {penalty!r}")
    if mode not in ("signed", "paper"):
        raise ValueError(f"repetition_penalty: mode must be 'signed' or 'paper', got {mode!r}")
    less = np.where((logits < 0) & (mode == "signed"), logits * penalty, logits / penalty)
    return np.where(_counts(ids, logits.shape) > 0, less, logits)


def occurrence_penalty(logits: Any, ids: Any, *, presence: float = 0.0, frequency: float = 0.0) -> np.ndarray:
    """Logits (B, V) less ``presence`` for each token that occurs in ids (B, T), less ``frequency`` for every time it does.

    Negative penalties are rewards. ids are what counts: all of the text, or only what was written after the prompt.
    """
    logits, ids = _rows("occurrence_penalty", logits, ids)
    for name, value in (("presence", presence), ("frequency", frequency)):
        if not np.isfinite(value):
            raise ValueError(f"occurrence_penalty: {name} must be finite, got {value!r}")
    counts = _counts(ids, logits.shape)
    return logits - (presence * (counts > 0) + frequency * counts).astype(logits.dtype)


def no_repeat_ngram(logits: Any, ids: Any, n: int) -> np.ndarray:
    """Logits (B, V), -inf for the tokens with which ids (B, T) would end in ``n`` tokens that they contain already."""
    logits, ids = _rows("no_repeat_ngram", logits, ids)
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"no_repeat_ngram: n must be an integer of at least 1, got {n!r}")
    T = ids.shape[1]
    if n <= T:
        ngrams = np.lib.stride_tricks.sliding_window_view(ids, n, axis=1)  # (B, T - n + 1, n)
        begun = (ngrams[..., :-1] == ids[:, None, T - n + 1 :]).all(-1)
        rows, places = np.nonzero(begun)
        logits[rows, ngrams[rows, places, -1]] = -np.inf
    return logits


def _rows(what: str, logits: Any, ids: Any) -> tuple[np.ndarray, np.ndarray]:
    """Copies of logits (B, V), floating, and ids (B, T), if they are that."""
    logits, ids = np.array(as_tensor(logits).data), as_tensor(ids).data
    if logits.ndim != 2 or ids.ndim != 2 or len(logits) != len(ids):
        raise ShapeError(f"{what}: needs logits (B, V) and ids (B, T), got shapes {logits.shape} and {ids.shape}")
    return logits if logits.dtype.kind == "f" else logits.astype(np.float64), ids


def _counts(ids: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(B, V) how often each token occurs in its row of ids (B, T)."""
    counts = np.zeros(shape, int)
    np.add.at(counts, (np.arange(len(ids))[:, None], ids), 1)
    return counts


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """log softmax of logits (*, V), in float64."""
    z = logits - logits.max(-1, keepdims=True).astype(np.float64)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


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


def draw_tokens(p: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(B,) tokens drawn from probabilities (B, V)."""
    up_to = np.cumsum(p, -1)
    up_to /= up_to[:, -1:]  # exactly 1 from the last possible token on, which a draw below 1 cannot pass
    return (up_to <= rng.random((len(p), 1))).sum(-1)
