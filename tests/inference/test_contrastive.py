"""Contrastive search, written out without a cache, one text and one candidate at a time."""

import math

import numpy as np
import pytest

import minitf as mt
from minitf.inference.decoding import contrastive_search, greedy
from minitf.models.transformer import Decoder

V = 7


def model(seed, **options):
    made = Decoder(V, 8, 2, 2, max_length=40, rng=np.random.default_rng(seed), **options)
    made.embedding.weight.data *= 30
    return made.eval()


def in_loops(m, text, steps, k, alpha):
    cosine = lambda a, b: float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
    for _ in range(steps):
        logits = m(np.array([text])).data[0, -1]
        p = np.exp(logits - logits.max())
        p /= p.sum()
        scored = []
        for v in sorted(range(V), key=lambda v: (-p[v], v))[:k]:
            *before, mine = m.hidden(np.array([[*text, v]])).data[0]
            scored.append(((1 - alpha) * p[v] - alpha * max(cosine(mine, other) for other in before), v))
        text = [*text, max(scored, key=lambda pair: pair[0])[1]]
    return text


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("k", [3, V])
def test_in_loops(alpha, k):
    prompts = np.array([[1, 2, 3], [4, 0, 4]])
    for seed, position in enumerate(("learned", "rotary")):
        m = model(seed, position=position)
        got = contrastive_search(m, prompts, 5, top_k=k, alpha=alpha)
        assert got.tolist() == [in_loops(m, prompt, 5, k, alpha) for prompt in prompts.tolist()]


def test_without_the_penalty_or_a_choice_it_is_greedy():
    m, prompts = model(2), np.array([[1, 2], [3, 4]])
    want = greedy(m, prompts, 10)
    np.testing.assert_array_equal(contrastive_search(m, prompts, 10, top_k=5, alpha=0.0), want)
    np.testing.assert_array_equal(contrastive_search(m, prompts, 10, top_k=1, alpha=0.9), want)
    assert (contrastive_search(m, prompts, 10, top_k=5, alpha=0.9) != want).any()


def test_a_token_costs_top_k_positions():
    m, k, T, steps = model(0), 3, 4, 5
    with mt.cost() as c:
        contrastive_search(m, [[1, 2, 3, 4]], steps, top_k=k)
    D, L = 8, 2
    positions, pairs = T + k * steps, T * T + k * sum(T + 1 + s for s in range(steps))
    assert c.macs == positions * L * 12 * D * D + steps * D * V + 2 * L * pairs * D


def test_ends_and_pads():
    m, prompts = model(1), np.array([[1, 2], [3, 4]])
    free = contrastive_search(m, prompts, 8)
    eos = int(free[0, 3])
    got = contrastive_search(m, prompts, 8, eos=eos, pad=6)
    n = 1 + free[0, 2:].tolist().index(eos)
    assert got[0, 2 : 2 + n].tolist() == free[0, 2 : 2 + n].tolist()
    assert (got[0, 2 + n :] == 6).all()


def test_refuses():
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\], got 1\.5"):
        contrastive_search(model(0), [[1]], 1, alpha=1.5)
    with pytest.raises(ValueError, match="top_k must be at most V = 7, got 8"):
        contrastive_search(model(0), [[1]], 1, top_k=8)
    with pytest.raises(ValueError, match="top_k must be an integer of at least 1, got 0"):
        contrastive_search(model(0), [[1]], 1, top_k=0)
