"""How probable a model finds a text that is given, and which of several it would choose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import as_tensor
from minitf.inference.next_token import log_probabilities
from minitf.inference.prompt import evaluating
from minitf.registry import implements

NORMALIZATIONS = ("none", "tokens", "unconditional")


def sequence_logprob(model: Any, prompt: Any, continuation: Any) -> float:
    """log p(continuation | prompt): the sum over the continuation's tokens; both are ids, (T,) with T at least 1 and (n,)."""
    prompt, continuation = (as_tensor(x).data for x in (prompt, continuation))
    if prompt.ndim != 1 or continuation.ndim != 1 or len(prompt) == 0:
        raise ShapeError(
            "sequence_logprob: needs a prompt (T,) with T at least 1 and a continuation (n,), got shapes "
            f"{prompt.shape} and {continuation.shape}"
        )
    if len(continuation) == 0:
        return 0.0
    text = np.concatenate([prompt, continuation])
    with evaluating(model):
        logits = model(text[None, :-1]).data[0, len(prompt) - 1 :]
    return float(log_probabilities(logits)[np.arange(len(continuation)), continuation].sum())


def option_scores(
    model: Any, prompt: Any, options: Sequence[Any], *, normalize: str = "none", neutral_prompt: Any = None
) -> np.ndarray:
    """(n,) scores of options, each ids (n_i,), as continuations of the prompt (T,).

    normalize: "none" is the log-probability, which longer options have less of; "tokens" divides it by the number of
    tokens; "unconditional" subtracts the option's log-probability after ``neutral_prompt``, so that what counts is how
    much the prompt speaks for it.
    """
    if normalize not in NORMALIZATIONS:
        known = ", ".join(map(repr, NORMALIZATIONS))
        raise ValueError(f"option_scores: normalize must be one of {known}, got {normalize!r}")
    if (normalize == "unconditional") != (neutral_prompt is not None):
        raise ValueError("option_scores: a neutral_prompt belongs to normalize='unconditional'; give both or neither")
    if len(options) == 0 or any(len(option) == 0 for option in options):
        raise ValueError("option_scores: needs at least one option, and a token in each")
    scores = np.array([sequence_logprob(model, prompt, option) for option in options])
    if normalize == "tokens":
        return scores / [len(option) for option in options]
    if normalize == "unconditional":
        return scores - [sequence_logprob(model, neutral_prompt, option) for option in options]
    return scores


def choose_option(
    model: Any, prompt: Any, options: Sequence[Any], *, normalize: str = "none", neutral_prompt: Any = None
) -> int:
    """Which option has the largest of ``option_scores``; ties go to the first."""
    return int(np.argmax(option_scores(model, prompt, options, normalize=normalize, neutral_prompt=neutral_prompt)))


class Attribution(NamedTuple):
    """Where a text may come from.

    order: (n,) the codes by position, the likeliest source first; ties go to the first.
    posterior: (n,) p(code | text).
    log_likelihood: (n,) mean log p of a token of the text after each code; minus the logarithm of the perplexity.
    """

    order: np.ndarray
    posterior: np.ndarray
    log_likelihood: np.ndarray


@implements("ctrl")
def source_attribution(model: Any, text: Any, codes: Sequence[Any], prior: Any = None) -> Attribution:
    """Which of the codes, ids or sequences of ids, the text (T,) is likely to have been written after, by Bayes' rule:

    p(code | text) proportional to p(text | code) p(code)

    model: a language model trained with these codes in front (``data.control_codes``).
    prior: (n,) positive, divided by its sum; None: all alike, so that the order is that of the perplexities.

    Paper: ctrl, section "Source attribution".
    """
    text, codes = as_tensor(text).data, [np.atleast_1d(np.asarray(code)) for code in codes]
    if text.ndim != 1 or len(text) == 0 or len(codes) == 0:
        raise ShapeError(
            f"source_attribution: needs a text (T,) with T at least 1, and a code; got {text.shape}, {len(codes)} codes"
        )
    weights = np.ones(len(codes)) if prior is None else np.asarray(prior, np.float64)
    if weights.shape != (len(codes),) or not ((weights > 0) & (weights < np.inf)).all():
        raise ValueError(
            f"source_attribution: prior must be {len(codes)} positive numbers, one for each code, got {prior!r}"
        )
    total = np.array([sequence_logprob(model, code, text) for code in codes])
    evidence = log_probabilities(total + np.log(weights))
    return Attribution(np.argsort(-evidence, kind="stable"), np.exp(evidence), total / len(text))
