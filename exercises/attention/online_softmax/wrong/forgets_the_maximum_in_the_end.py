"""Returns log s for the log-sum-exp."""

import numpy as np


def relative(x: np.ndarray, m: np.ndarray) -> np.ndarray:
    """exp(x - m), where m = -inf means that all x are: then 0, and not NaN."""
    return np.exp(x - np.where(np.isfinite(m), m, 0.0))


def update(
    m: np.ndarray, s: np.ndarray, o: np.ndarray, logits: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    new = np.maximum(m, logits.max(axis=1, initial=-np.inf))
    correction = relative(m, new)
    weights = relative(logits, new[:, None])
    return new, correction * s + weights.sum(axis=1), correction[:, None] * o + weights @ v


def merge(
    m1: np.ndarray, s1: np.ndarray, o1: np.ndarray, m2: np.ndarray, s2: np.ndarray, o2: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    m = np.maximum(m1, m2)
    c1, c2 = relative(m1, m), relative(m2, m)
    return m, c1 * s1 + c2 * s2, c1[:, None] * o1 + c2[:, None] * o2


def finish(m: np.ndarray, s: np.ndarray, o: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    heard = np.where(s > 0, s, 1.0)  # with a key of its own, s is at least 1
    return o / heard[:, None], np.log(heard)


def online_attention(logits: np.ndarray, v: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    T, S = logits.shape
    m, s, o = np.full(T, -np.inf), np.zeros(T), np.zeros((T, v.shape[1]))
    for start in range(0, S, block):
        m, s, o = update(m, s, o, logits[:, start : start + block], v[start : start + block])
    return finish(m, s, o)
