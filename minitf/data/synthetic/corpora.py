"""Small corpora whose distribution is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minitf.nn.init import generator


def zipf_tokens(V: int, n: int, s: float = 1.0, *, rng: np.random.Generator) -> np.ndarray:
    """n independent ids below V, id i with probability in proportion to (i + 1)^-s."""
    weight = np.arange(1, V + 1) ** -float(s)
    return generator(rng).choice(V, n, p=weight / weight.sum())


def domain_mixture(
    K: int, V: int, documents: int, T: int, *, concentration: float = 0.1, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Documents ``(documents, T)`` of K domains, the domain of each ``(documents,)``, and what the domains are ``(K, V, V)``.

    A domain is a Markov chain: [k, i, j] is the probability of j after i, rows drawn from a Dirichlet distribution of this
    ``concentration``. Documents begin with a uniformly random id, and domains are uniformly random.
    """
    chains = generator(rng).dirichlet(np.full(V, concentration), (K, V))
    domains = rng.integers(0, K, documents)
    ids = np.empty((documents, T), np.int64)
    ids[:, 0] = rng.integers(0, V, documents)
    edges = np.cumsum(chains, axis=-1)
    for t in range(1, T):
        # rounding may leave the last edge below 1
        below = rng.random((documents, 1)) * edges[domains, ids[:, t - 1], -1:]
        ids[:, t] = np.argmax(edges[domains, ids[:, t - 1]] > below, axis=1)
    return ids, domains, chains


def facts(
    subjects: int = 40, relations: Sequence[str] = ("lives in", "works as", "likes"), objects: int = 10, *,
    rng: np.random.Generator,
) -> list[tuple[str, str, str]]:  # fmt: skip
    """(subject, relation, object) for each subject and relation, in this order; each relation has objects of its own.

    Names are different words of three syllables, objects of two.
    """
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    words: dict[str, None] = {}

    def word(length: int) -> str:
        while (new := "".join(generator(rng).choice(syllables, length))) in words:
            pass
        words[new] = None
        return new

    names = [word(3).capitalize() for _ in range(subjects)]
    possible = {relation: [word(2) for _ in range(objects)] for relation in relations}
    return [
        (name, relation, possible[relation][int(rng.integers(objects))]) for name in names for relation in relations
    ]


def reversal_translation(
    n: int, V: int, *, shortest: int = 1, longest: int = 8, rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """n pairs (source, target): the words of the source, ids below V, backwards and each by its word of the other language,
    V to 2 V - 1. The dictionary is a random permutation, lengths are uniform. (choice)"""
    dictionary = V + generator(rng).permutation(V)
    sources = [rng.integers(0, V, int(rng.integers(shortest, longest + 1))) for _ in range(n)]
    return [(source, dictionary[source[::-1]]) for source in sources]
