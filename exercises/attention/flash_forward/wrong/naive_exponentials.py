"""Takes exponentials of the logits as they are, and needs no maximum then."""

import numpy as np


def keys_before(i: int, T: int, S: int, causal: bool) -> int:
    """How many keys the queries before the i-th may attend to, all together."""
    return max(0, i + S - T) if causal else S


def n_tiles(T: int, S: int, *, block_q: int, block_k: int, causal: bool) -> int:
    stops = (min(i + block_q, T) for i in range(0, T, block_q))
    return sum(len(range(0, keys_before(stop, T, S, causal), block_k)) for stop in stops)


def flash_attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, *, block_q: int, block_k: int, causal: bool
) -> tuple[np.ndarray, np.ndarray]:
    T, S = len(q), len(k)
    out, lse = np.empty((T, v.shape[1])), np.empty(T)
    for i in range(0, T, block_q):
        queries = np.arange(i, min(i + block_q, T))
        s, o = np.zeros(len(queries)), np.zeros((len(queries), v.shape[1]))
        for j in range(0, keys_before(i + len(queries), T, S, causal), block_k):
            keys = np.arange(j, min(j + block_k, S))
            logits = q[queries] @ k[keys].T / np.sqrt(q.shape[1])
            if causal:
                logits = np.where(keys <= queries[:, None] + S - T, logits, -np.inf)
            weights = np.exp(logits)
            s = s + weights.sum(axis=1)
            o = o + weights @ v[keys]
        heard = np.where(s > 0, s, 1.0)
        out[queries], lse[queries] = o / heard[:, None], np.log(s)
    return out, lse
