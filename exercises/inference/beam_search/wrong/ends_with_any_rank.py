"""Puts aside every complete text among the 2 · beams continuations."""

import numpy as np


def score(logprob: float, length: int, length_penalty: float) -> float:
    return logprob / length**length_penalty


def expand(scores: np.ndarray, logp: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    total = (scores[:, None] + logp).reshape(-1)
    best = np.argsort(-total, kind="stable")[:n]
    return best // logp.shape[1], best % logp.shape[1], total[best]


def beam_search(
    logp: np.ndarray, start: int, *, beams: int, eos: int | None, length_penalty: float
) -> tuple[np.ndarray, float]:
    scores = np.full(beams, -np.inf)
    scores[0] = 0
    texts = [[start] for _ in range(beams)]
    complete = []
    for step, table in enumerate(logp):
        last = [text[-1] for text in texts]
        going = []
        for beam, token, total in zip(*expand(scores, table[last], 2 * beams), strict=True):
            text = [*texts[beam], int(token)]
            if token == eos:
                complete.append((score(total, step + 1, length_penalty), text))
            elif len(going) < beams:
                going.append((total, text))
        texts = [text for _, text in going]
        scores = np.array([total for total, _ in going])
        if not going:
            break
    complete += [(score(total, len(logp), length_penalty), text) for total, text in zip(scores, texts, strict=True)]
    best, text = max(complete, key=lambda pair: pair[0])
    return np.array(text[1:]), float(best)
