"""Beam search: see README.md for the task."""

import numpy as np


def score(logprob: float, length: int, length_penalty: float) -> float:
    """What texts of different lengths are compared by."""
    raise NotImplementedError


def expand(scores: np.ndarray, logp: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The n best continuations: beams (n,), tokens (n,) and log-probabilities (n,).

    scores (beams,) of the texts so far; logp (beams, V) of the next tokens.
    """
    raise NotImplementedError


def beam_search(
    logp: np.ndarray, start: int, *, beams: int, eos: int | None, length_penalty: float
) -> tuple[np.ndarray, float]:
    """The new tokens of the best text that is found, at most N, and its score.

    logp (N, V, V): of step, token before, next token.
    """
    raise NotImplementedError
