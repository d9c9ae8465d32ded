"""The unigram language model: every piece has a probability, and a text is cut in the most probable way.

    P(pieces) = prod p(piece)        encoding: the cut of largest P (Viterbi), or one drawn in proportion to P ** alpha

Training by expectation maximization, from many pieces down to few:

    seed      substrings with the largest count x length, and all characters
    E-step    expected count c of every piece over all cuts of every word (forward-backward, in logarithms)
    M-step    log p = digamma(c) - digamma(sum c), which favors few pieces; pieces with c < 0.5 go
    prune     drop the pieces whose loss costs the likelihood least, down to a fraction; repeat

Characters stay always, with c no smaller than 0.5 (choice). The loss of a piece is SentencePiece's estimate: its
occurrences in the best cuts are cut the second-best way instead.

Kudo, "Subword Regularization" (2018); the details are those of SentencePiece. Its forward-backward pass over a word of
n characters with pieces of up to m costs O(n m); here all words take the step to the same position at once.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from minitf.nn.init import generator
from minitf.tokens.decoders import ByteFallback, Fuse, Metaspace
from minitf.tokens.decoders import Sequence as DecoderSequence
from minitf.tokens.pretokenize import Metaspace as Cut
from minitf.tokens.tokenizer import Tokenizer, word_counts

#: an unknown character costs this much more than the least probable piece (nats)
UNKNOWN_PENALTY = 10.0


class Lattice:
    """All cuts of all ``words`` into ``pieces`` (numbered), as edges between positions."""

    def __init__(self, words: Sequence[str], pieces: Mapping[str, int]):
        longest = max(map(len, pieces), default=0)
        first = np.cumsum([0, *(len(word) + 1 for word in words)])
        rows = [
            (first[w] + start, first[w] + end, end, piece)
            for w, word in enumerate(words)
            for start in range(len(word))
            for end in range(start + 1, min(len(word), start + longest) + 1)
            if (piece := pieces.get(word[start:end])) is not None
        ]
        table = np.array(rows, np.int64).reshape(-1, 4)
        table = table[np.lexsort((table[:, 0], table[:, 1], table[:, 2]))]
        self.start, self.end, level, self.piece = table.T
        self.first, self.last = first[:-1], first[1:] - 1
        self.nodes, self.word_of = int(first[-1]), np.repeat(np.arange(len(words)), np.diff(first))
        self._levels = _runs(level)

    def without(self, dropped: np.ndarray) -> Lattice:
        """The lattice without the pieces where ``dropped`` is True."""
        kept = ~dropped[self.piece]
        other = object.__new__(Lattice)
        other.__dict__.update(self.__dict__)
        other.start, other.end, other.piece = self.start[kept], self.end[kept], self.piece[kept]
        level = other.end - other.first[other.word_of[other.end]]
        other._levels = _runs(level)
        return other

    def forward(self, score: np.ndarray) -> np.ndarray:
        """log of the summed probability of all cuts from the beginning of a word to each position."""
        alpha = np.full(self.nodes, -np.inf)
        alpha[self.first] = 0.0
        for edges in self._levels:
            value = alpha[self.start[edges]] + score[self.piece[edges]]
            runs = np.flatnonzero(np.diff(self.end[edges], prepend=-1))
            alpha[self.end[edges][runs]] = np.logaddexp.reduceat(value, runs)
        return alpha

    def expected_counts(self, score: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, float]:
        """(expected count of every piece, log-likelihood); ``times`` says how often each word occurs."""
        alpha = self.forward(score)
        beta = np.full(self.nodes, -np.inf)
        beta[self.last] = 0.0
        for edges in reversed(self._levels):
            np.logaddexp.at(beta, self.start[edges], score[self.piece[edges]] + beta[self.end[edges]])
        total = alpha[self.last]
        word = self.word_of[self.start]
        posterior = np.exp(alpha[self.start] + score[self.piece] + beta[self.end] - total[word])
        counts = np.bincount(self.piece, posterior * times[word], len(score))
        return counts, float(total @ times)

    def best_counts(self, score: np.ndarray, times: np.ndarray) -> np.ndarray:
        """How often every piece occurs in the best cuts."""
        best = np.full(self.nodes, -np.inf)
        best[self.first] = 0.0
        edge = np.full(self.nodes, -1)
        for edges in self._levels:
            value = best[self.start[edges]] + score[self.piece[edges]]
            end = self.end[edges]
            runs = np.flatnonzero(np.diff(end, prepend=-1))
            best[end[runs]] = np.maximum.reduceat(value, runs)
            top = np.flatnonzero(value == best[end])[::-1]  # of equals the first, the longest piece, is written last
            edge[end[top]] = np.arange(edges.start, edges.stop)[top]
        counts = np.zeros(len(score))
        node = self.last[self.last > self.first]
        while node.size:
            used = edge[node]
            np.add.at(counts, self.piece[used], times[self.word_of[node]])
            node = self.start[used]
            node = node[node > self.first[self.word_of[node]]]
        return counts


def _runs(level: np.ndarray) -> list[slice]:
    """Where sorted ``level`` is constant."""
    cuts = [*np.flatnonzero(np.diff(level, prepend=-1)).tolist(), len(level)]
    return [slice(a, b) for a, b in itertools.pairwise(cuts)]


def digamma(x: np.ndarray) -> np.ndarray:
    """The derivative of log Γ for x > 0."""
    from scipy.special import psi

    return psi(x)


def seed_pieces(counts: Mapping[str, int], size: int, max_length: int = 16) -> dict[str, float]:
    """Characters, and up to ``size`` substrings that occur twice or more, with their log share of count x length."""
    characters: Counter[str] = Counter()
    substrings: Counter[str] = Counter()
    for word, count in counts.items():
        for start in range(len(word)):
            characters[word[start]] += count
            for end in range(start + 2, min(len(word), start + max_length) + 1):
                substrings[word[start:end]] += count
    scored = sorted(((-n * len(s), s) for s, n in substrings.items() if n >= 2))[:size]
    weight = {**dict(sorted(characters.items())), **{s: -negative for negative, s in scored}}
    total = math.log(sum(weight.values()) or 1)
    return {piece: math.log(w) - total for piece, w in weight.items()}


def train_unigram(
    counts: Mapping[str, int],
    size: int,
    *,
    seed_size: int = 100_000,
    max_length: int = 16,
    steps: int = 2,
    shrink: float = 0.75,
) -> dict[str, float]:
    """``size`` pieces with their log-probabilities, learned from words and their counts; the likeliest first.

    steps: EM steps between two prunings. shrink: the fraction of pieces that a pruning keeps.
    """
    if not 0 < shrink < 1 or steps < 1:
        raise ValueError(f"train_unigram: shrink is between 0 and 1, steps at least 1; got {shrink} and {steps}")
    counts = {word: count for word, count in counts.items() if word and count > 0}
    pieces = seed_pieces(counts, seed_size, max_length)
    names, score = list(pieces), np.array(list(pieces.values()))
    required = np.array([len(name) == 1 for name in names], bool)
    if size < required.sum():
        raise ValueError(f"train_unigram: {size} pieces are too few for {required.sum()} characters")
    words, times = list(counts), np.array(list(counts.values()), float)
    lattice = Lattice(words, {name: i for i, name in enumerate(names)})
    alive = np.ones(len(names), bool)
    target = max(size, int(size * 1.1))
    while True:
        for _ in range(steps):
            expected, _ = lattice.expected_counts(score, times)
            alive &= required | (expected >= 0.5)
            expected = np.where(required, np.maximum(expected, 0.5), expected)
            score = np.full(len(names), -np.inf)
            score[alive] = digamma(expected[alive]) - digamma(expected[alive].sum())
            lattice = lattice.without(~alive)
        if alive.sum() <= target:
            break
        keep = max(target, int(shrink * alive.sum()))
        loss = _losses(names, score, alive, lattice.best_counts(score, times))
        loss[required] = np.inf
        alive[:] = False
        alive[np.lexsort((np.arange(len(names)), -loss))[:keep]] = True
        alive &= loss > -np.inf
        lattice = lattice.without(~alive)
    order = np.lexsort((np.arange(len(names)), -score, ~required))[:size]
    kept = [i for i in order if alive[i]]
    return {names[i]: float(score[i]) for i in sorted(kept, key=lambda i: (-score[i], names[i]))}


def _losses(names: list[str], score: np.ndarray, alive: np.ndarray, used: np.ndarray) -> np.ndarray:
    """How much likelihood every piece is worth; -inf for those that no best cut uses, or that are none themselves."""
    table = {names[i]: float(score[i]) for i in np.flatnonzero(alive)}
    index = {name: i for i, name in enumerate(names)}
    total = used.sum()
    loss = np.full(len(names), -np.inf)
    for i in np.flatnonzero(alive & (used > 0)):
        name, own = names[i], table.pop(names[i])
        other = best_cut(name, table, -math.inf)
        table[name] = own
        if other is None:
            loss[i] = np.inf
            continue
        if sum(table[part] for part in other) > own:
            continue
        total_without = math.log(total + used[i] * (len(other) - 1))
        without = sum(math.log(used[index[part]] + used[i]) - total_without for part in other)
        loss[i] = used[i] / total * (math.log(used[i]) - math.log(total) - without)
    return loss


def best_cut(word: str, score: Mapping[str, float], unknown: float, longest: int | None = None) -> list[str] | None:
    """The cut of ``word`` of largest summed ``score``; of equals, the one with the longest last pieces.

    unknown: the score of a character that is no piece; -inf: there is none, and None is returned where nothing fits.
    """
    longest = max(map(len, score), default=0) if longest is None else longest
    best = [0.0] + [-math.inf] * len(word)
    before = [-1] * (len(word) + 1)
    for start in range(len(word)):
        if before[start] < 0 and start:
            continue
        single = False
        for end in range(start + 1, min(len(word), start + longest) + 1):
            value = score.get(word[start:end])
            if value is not None:
                single = single or end == start + 1
                if before[end] < 0 or best[start] + value > best[end]:
                    best[end], before[end] = best[start] + value, start
        if not single and unknown > -math.inf and (before[start + 1] < 0 or best[start] + unknown > best[start + 1]):
            best[start + 1], before[start + 1] = best[start] + unknown, start
    if word and before[-1] < 0:
        return None
    cuts, end = [len(word)], len(word)
    while end:
        end = before[end]
        cuts.append(end)
    return [word[a:b] for a, b in itertools.pairwise(reversed(cuts))]


def sample_cut(
    word: str, score: Mapping[str, float], unknown: float, alpha: float, rng: np.random.Generator
) -> list[str]:
    """A cut drawn with probability in proportion to exp(alpha x its score): filter forward, sample backward."""
    longest = max(map(len, score), default=0)
    total = [0.0] + [-math.inf] * len(word)
    edges: list[list[tuple[int, float]]] = [[] for _ in total]
    for end in range(1, len(word) + 1):
        for start in range(max(0, end - max(longest, 1)), end):
            value = score.get(word[start:end], unknown if end == start + 1 else None)
            if value is not None:
                edges[end].append((start, total[start] + alpha * value))
        top = max(value for _, value in edges[end])
        total[end] = top + math.log(sum(math.exp(value - top) for _, value in edges[end]))
    parts, end = [], len(word)
    while end:
        starts, values = zip(*edges[end], strict=True)
        weight = np.cumsum(np.exp(np.array(values) - total[end]))
        start = starts[min(int(np.searchsorted(weight, rng.random() * weight[-1], "right")), len(starts) - 1)]
        parts.append(word[start:end])
        end = start
    return parts[::-1]


class UnigramTokenizer(Tokenizer):
    """The unigram language model's tokenizer, with SentencePiece's visible spaces.

    pieces: (piece, log-probability) in the order of their ids. unk: the piece for what is unknown; a run of unknown
    characters is one. None: unknown characters raise ValueError.
    byte_fallback: unknown characters are their bytes, pieces ``<0x00>`` to ``<0xFF>``, instead.
    """

    model = "Unigram"

    def __init__(
        self,
        pieces: Iterable[tuple[str, float]],
        *,
        unk: str | None = "<unk>",
        byte_fallback: bool = False,
        **parts: Any,
    ):
        scored = [(piece, float(score)) for piece, score in pieces]
        if not scored:
            raise ValueError("UnigramTokenizer: there must be at least one piece")
        for piece, score in scored:
            if not piece or not math.isfinite(score):
                raise ValueError(f"UnigramTokenizer: pieces are not empty and scores finite, got {(piece, score)}")
        added = [] if unk is None else [unk]
        defaults = {"added": added, "pre_tokenizer": Cut(), "decoder": _decoder(byte_fallback)}
        super().__init__([piece for piece, _ in scored], **{**defaults, **parts})
        if unk is not None and unk not in self.vocab:
            raise ValueError(f"UnigramTokenizer: unk = {unk!r} is no piece")
        if byte_fallback:
            missing = [byte for byte in range(256) if f"<0x{byte:02X}>" not in self.vocab]
            if missing:
                raise ValueError(f"UnigramTokenizer: byte_fallback needs the piece '<0x{missing[0]:02X}>'")
        self.scores = dict(scored)
        self.unk, self.byte_fallback = unk, byte_fallback
        self._unknown = min(self.scores.values()) - UNKNOWN_PENALTY
        self._longest = max(map(len, self.scores))
        self._cache: dict[str, list[int]] = {}

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str] | Mapping[str, int],
        vocab_size: int,
        *,
        specials: Sequence[str] = ("<unk>",),
        byte_fallback: bool = False,
        normalizer: Any = None,
        **choices: Any,
    ) -> UnigramTokenizer:
        """Learns ``vocab_size`` pieces, ``specials`` and the 256 bytes of ``byte_fallback`` among them.

        texts: a text, several, or words (as ``Metaspace`` makes them) with counts. specials: the first ids; the first
        of them is for what is unknown. choices: of ``train_unigram``.
        """
        cut = Cut()
        if not isinstance(texts, Mapping):
            texts = word_counts(texts, lambda text: cut(text if normalizer is None else normalizer(text)))
        fixed = [*specials, *(f"<0x{byte:02X}>" for byte in range(256) if byte_fallback)]
        learned = train_unigram(texts, vocab_size - len(fixed), **choices)
        pieces = [*((piece, 0.0) for piece in fixed), *((p, s) for p, s in learned.items() if p not in fixed)]
        return cls(
            pieces, unk=specials[0] if specials else None, byte_fallback=byte_fallback, added=specials,
            normalizer=normalizer, pre_tokenizer=cut, decoder=_decoder(byte_fallback),
        )  # fmt: skip

    def encode(
        self,
        text: str,
        pair: str | None = None,
        *,
        before: Iterable[str] = (),
        after: Iterable[str] = (),
        add_special_tokens: bool = True,
        alpha: float | None = None,
        rng: np.random.Generator | None = None,
    ) -> np.ndarray:
        """As ``Tokenizer.encode``; with ``alpha`` cuts are drawn in proportion to P ** alpha instead of the best."""
        if alpha is None:
            return self._encode(text, pair, before, after, add_special_tokens, self._piece)
        if not 0 <= alpha < math.inf:
            raise ValueError(f"encode: alpha must be finite and not negative, got {alpha!r}")
        drawn, strength = generator(rng), alpha

        def piece(word: str) -> list[int]:
            return self._named(sample_cut(word, self.scores, self._unknown, strength, drawn))

        return self._encode(text, pair, before, after, add_special_tokens, piece)

    def _piece(self, piece: str) -> list[int]:
        found = self._cache.get(piece)
        if found is None:
            if len(self._cache) >= 2**16:
                self._cache.clear()
            cut = best_cut(piece, self.scores, self._unknown, self._longest) or []
            found = self._cache[piece] = self._named(cut)
        return found

    def _named(self, cut: list[str]) -> list[int]:
        ids: list[int] = []
        for known, run in itertools.groupby(cut, self.vocab.__contains__):
            if known:
                ids += [self.vocab[part] for part in run]
            elif self.byte_fallback:
                ids += [self.vocab[f"<0x{byte:02X}>"] for byte in "".join(run).encode("utf-8", "surrogatepass")]
            elif self.unk is not None:
                ids.append(self.vocab[self.unk])
            else:
                raise ValueError(f"encode: {''.join(run)!r} is unknown, and the tokenizer has no piece for that")
        return ids

    def _model(self) -> dict[str, Any]:
        return {
            "unk_id": None if self.unk is None else self.vocab[self.unk],
            "vocab": [[piece, score] for piece, score in self.scores.items()],
            "byte_fallback": self.byte_fallback,
        }


def _decoder(byte_fallback: bool) -> Any:
    return DecoderSequence((ByteFallback(), Metaspace(), Fuse())) if byte_fallback else Metaspace()
