"""Online softmax: see README.md for the task."""

import numpy as np


def update(
    m: np.ndarray, s: np.ndarray, o: np.ndarray, logits: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The state after reading one more block.

    m, s (T,) and o (T, W) are the state so far; logits (T, b), v (b, W). Returns the new m, s and o.
    """
    raise NotImplementedError


def merge(
    m1: np.ndarray, s1: np.ndarray, o1: np.ndarray, m2: np.ndarray, s2: np.ndarray, o2: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The state of all keys from the states of two parts of them: (T,), (T,) and (T, W)."""
    raise NotImplementedError


def finish(m: np.ndarray, s: np.ndarray, o: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Output (T, W) and log-sum-exp (T,) of a state; 0 and -inf where nothing could be attended."""
    raise NotImplementedError


def online_attention(logits: np.ndarray, v: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Output (T, W) and log-sum-exp (T,) for logits (T, S) and v (S, W), ``block`` keys at a time."""
    raise NotImplementedError
