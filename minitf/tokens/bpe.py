"""Byte-pair encoding: start from characters and merge, again and again, the pair that is adjacent most often.

    training    words = characters, the last with the mark </w>
                repeat: (a, b) = the most frequent adjacent pair; every a b in the words becomes ab
    encoding    repeat: of the pairs that are adjacent, merge the one that was learned first, the leftmost of them

Ties in training go to the lexicographically smallest pair. Counting again after every merge costs O(merges x corpus);
here a merge costs only the words that hold the pair, found through an index, and their pairs' new counts. A word of n
symbols is encoded in O(n log n).

Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units" (2016). The mark is part of the last
character's symbol, as in their released code since version 0.2, so that no merges is exactly one token a character.
``bpe_dropout``: Provilkov et al., "BPE-Dropout" (2020).
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from minitf.nn.init import generator
from minitf.tokens.decoders import BPEDecoder
from minitf.tokens.pretokenize import WhitespaceSplit
from minitf.tokens.tokenizer import Tokenizer, word_counts

Pair = tuple[str, str]


def learn_merges(words: Mapping[tuple[str, ...], int], ids: dict[str, int] | None = None) -> Iterator[Pair]:
    """The merges that byte-pair encoding learns from ``words``, symbols and how often they occur; until none is left.

    ids: numbers of the symbols. If given, ties go to the pair of smallest numbers, and merges get the next ones.
    """
    symbols, times = [list(word) for word in words], list(words.values())
    counts: Counter[Pair] = Counter()
    where: defaultdict[Pair, set[int]] = defaultdict(set)
    for i, word in enumerate(symbols):
        for pair in itertools.pairwise(word):
            counts[pair] += times[i]
            where[pair].add(i)

    def entry(pair: Pair) -> tuple[int, Any, Pair]:
        return -counts[pair], pair if ids is None else (ids[pair[0]], ids[pair[1]]), pair

    heap = [entry(pair) for pair in counts]
    heapq.heapify(heap)
    while heap:
        count, _, pair = heapq.heappop(heap)
        if -count != counts[pair] or not count:
            continue  # outdated: each change of a count put a new entry on the heap
        yield pair
        if ids is not None:
            ids.setdefault("".join(pair), len(ids))
        changed: Counter[Pair] = Counter()
        for i in where.pop(pair):
            before = symbols[i]
            symbols[i] = after = merged(before, pair, "".join(pair))
            for old in itertools.pairwise(before):
                changed[old] -= times[i]
                where[old].discard(i)
            for new in itertools.pairwise(after):
                changed[new] += times[i]
                where[new].add(i)
        for other, change in changed.items():
            if change:
                counts[other] += change
                if counts[other]:
                    heapq.heappush(heap, entry(other))


def merged(symbols: Sequence[str], pair: Pair, new: str) -> list[str]:
    """``symbols`` with every occurrence of ``pair`` made ``new``, from the left."""
    found: list[str] = []
    for symbol in symbols:
        if (
            found and symbol == pair[1] and found[-1] == pair[0]
        ):  # new is longer than pair[0], and so never merged again
            found[-1] = new
        else:
            found.append(symbol)
    return found


def merge_by_rank(symbols: Sequence[str], ranks: Mapping[Pair, int]) -> list[str]:
    """Merges the adjacent pair of lowest rank, the leftmost of equals, until none of ``ranks`` is left."""
    parts: list[str | None] = list(symbols)
    after = list(range(1, len(parts) + 1))
    before = list(range(-1, len(parts) - 1))
    heap = [(ranks[pair], i, pair) for i, pair in enumerate(itertools.pairwise(symbols)) if pair in ranks]
    heapq.heapify(heap)
    while heap:
        _, left, pair = heapq.heappop(heap)
        right = after[left]
        if parts[left] != pair[0] or right == len(parts) or parts[right] != pair[1]:
            continue  # one half was merged elsewhere
        parts[left], parts[right] = pair[0] + pair[1], None
        after[left] = after[right]
        if after[left] < len(parts):
            before[after[left]] = left
        for start in (before[left], left):
            if start >= 0 and after[start] < len(parts):
                new = (str(parts[start]), str(parts[after[start]]))
                if new in ranks:
                    heapq.heappush(heap, (ranks[new], start, new))
    return [part for part in parts if part is not None]


def bpe_dropout(
    word: Sequence[str], merges: Sequence[Pair] | Mapping[Pair, int], p: float, rng: np.random.Generator
) -> list[str]:
    """Merges as byte-pair encoding does, but each candidate is left out with probability ``p`` in each step.

    In a step every adjacent pair that can be merged is dropped by itself; of those left the lowest rank, leftmost, is
    merged. It ends when none is left: p = 0 is byte-pair encoding, p = 1 leaves ``word`` (symbols) as it is.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"bpe_dropout: p is a probability, got {p!r}")
    rng = generator(rng)
    ranks = merges if isinstance(merges, Mapping) else {pair: rank for rank, pair in enumerate(merges)}
    parts = list(word)
    while True:
        known = [(ranks[pair], i) for i, pair in enumerate(itertools.pairwise(parts)) if pair in ranks]
        kept = [one for one, draw in zip(known, rng.random(len(known)), strict=True) if draw >= p]
        if not kept:
            return parts
        _, i = min(kept)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


def marked(word: str, suffix: str | None = "</w>") -> tuple[str, ...]:
    """The characters of a word, ``suffix`` at the last."""
    return (*word[:-1], word[-1] + (suffix or "")) if word else ()


class MergingTokenizer(Tokenizer):
    """What the two kinds of byte-pair encoding share: merges, in the order in which they were learned."""

    model = "BPE"

    def __init__(self, vocab: Mapping[str, int] | Sequence[str], merges: Iterable[Pair], **parts: Any):
        super().__init__(vocab, **parts)
        self.merges: list[Pair] = [(a, b) for a, b in merges]
        self.ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        for rank, (a, b) in enumerate(self.merges):
            for symbol in (a, b, a + b):
                if symbol not in self.vocab:
                    raise ValueError(
                        f"{type(self).__name__}: merge {rank}, {(a, b)}, needs {symbol!r}, no piece of vocab"
                    )
        if len(self.ranks) != len(self.merges):
            twice = next(pair for pair, count in Counter(self.merges).items() if count > 1)
            raise ValueError(f"{type(self).__name__}: the merge {twice} is there twice")
        self._cache: dict[str, list[int]] = {}

    def encode(
        self,
        text: str,
        pair: str | None = None,
        *,
        before: Iterable[str] = (),
        after: Iterable[str] = (),
        add_special_tokens: bool = True,
        dropout: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> np.ndarray:
        """As ``Tokenizer.encode``; with ``dropout`` each merge is skipped with that probability (``bpe_dropout``)."""
        if not dropout:
            return self._encode(text, pair, before, after, add_special_tokens, self._piece)
        drawn = generator(rng)

        def piece(word: str) -> list[int]:
            return [self.vocab[part] for part in bpe_dropout(self._symbols(word), self.ranks, dropout, drawn)]

        return self._encode(text, pair, before, after, add_special_tokens, piece)

    def segment_with_merges(self, text: str, n_merges: int) -> list[str]:
        """The tokens of ``text`` with only the first ``n_merges`` merges, added tokens not looked for; 0: characters."""
        if not 0 <= n_merges <= len(self.merges):
            raise ValueError(f"segment_with_merges: n_merges must be 0 to {len(self.merges)}, got {n_merges}")
        ranks = dict(itertools.islice(self.ranks.items(), n_merges))
        return [part for word in self.words(text) for part in merge_by_rank(self._symbols(word), ranks)]

    def _symbols(self, word: str) -> Sequence[str]:
        """The pieces of the vocabulary that merging starts from."""
        raise NotImplementedError

    def _piece(self, piece: str) -> list[int]:
        found = self._cache.get(piece)
        if found is None:
            if len(self._cache) >= 2**16:
                self._cache.clear()
            found = self._cache[piece] = [self.vocab[part] for part in self._whole(piece)]
        return found

    def _whole(self, piece: str) -> list[str]:
        return merge_by_rank(self._symbols(piece), self.ranks)

    def _model(self) -> dict[str, Any]:
        return {
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": self.vocab,
            "merges": [list(pair) for pair in self.merges],
        }


class BPETokenizer(MergingTokenizer):
    """Byte-pair encoding of words of characters.

    vocab, merges: as ``train`` makes them. unk: the piece for characters that are none; None leaves them out.
    suffix: the mark at the end of words, or None. fuse_unk: one ``unk`` for a run of unknown characters.
    """

    def __init__(
        self,
        vocab: Mapping[str, int] | Sequence[str],
        merges: Iterable[Pair],
        *,
        unk: str | None = "<unk>",
        suffix: str | None = "</w>",
        fuse_unk: bool = False,
        **parts: Any,
    ):
        added = [] if unk is None else [unk]
        defaults = {"added": added, "pre_tokenizer": WhitespaceSplit(), "decoder": BPEDecoder(suffix or "")}
        super().__init__(vocab, merges, **{**defaults, **parts})
        if unk is not None and unk not in self.vocab:
            raise ValueError(f"BPETokenizer: unk = {unk!r} is no piece of vocab")
        self.unk, self.suffix, self.fuse_unk = unk, suffix, fuse_unk

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str] | Mapping[str, int],
        vocab_size: int,
        *,
        specials: Sequence[str] = ("<unk>",),
        suffix: str = "</w>",
        normalizer: Any = None,
    ) -> BPETokenizer:
        """Learns merges until there are ``vocab_size`` pieces, or no pair is left.

        texts: a text, several, or words with their counts. specials: the first ids; the first of them is for unknown
        characters. The characters of ``texts``, in order, inside words and at their ends, come next.
        """
        cut = WhitespaceSplit()
        if isinstance(texts, Mapping):
            counts = Counter({word: count for word, count in texts.items() if word})
        else:
            counts = word_counts(texts, lambda text: cut(text if normalizer is None else normalizer(text)))
        words = {marked(word, suffix): count for word, count in counts.items() if count > 0}
        alphabet = sorted({c for word in words for symbol in word for c in (symbol[0], symbol[0] + suffix)})
        vocab = list(dict.fromkeys([*specials, *alphabet]))
        if vocab_size < len(vocab):
            raise ValueError(
                f"BPETokenizer.train: {vocab_size} pieces are too few: {len(specials)} special tokens and "
                f"{len(alphabet)} characters take {len(vocab)}"
            )
        pieces, merges = grow(vocab, learn_merges(words), vocab_size)
        return cls(
            pieces, merges, unk=specials[0] if specials else None, suffix=suffix, added=specials,
            normalizer=normalizer, pre_tokenizer=cut, decoder=BPEDecoder(suffix),
        )  # fmt: skip

    def _symbols(self, word: str) -> list[str]:
        found: list[str] = []
        unknown = False
        for symbol in marked(word, self.suffix):
            known = symbol in self.vocab
            if known:
                found.append(symbol)
            elif self.unk is not None and not (unknown and self.fuse_unk):
                found.append(self.unk)
            unknown = not known
        return found

    def _model(self) -> dict[str, Any]:
        chosen = {"unk_token": self.unk, "end_of_word_suffix": self.suffix, "fuse_unk": self.fuse_unk}
        return {**super()._model(), **chosen}


def grow(vocab: Iterable[str], merges: Iterator[Pair], vocab_size: int) -> tuple[list[str], list[Pair]]:
    """``vocab`` with what ``merges`` make, up to ``vocab_size`` pieces, and the merges taken."""
    pieces, taken = dict.fromkeys(vocab), []
    while len(pieces) < vocab_size and (pair := next(merges, None)):
        taken.append(pair)
        pieces["".join(pair)] = None
    return list(pieces), taken


def segment_with_merges(word: str, merges: Sequence[Pair], n_merges: int, suffix: str | None = "</w>") -> list[str]:
    """One word cut by the first ``n_merges`` of ``merges``; 0 gives characters, the last with its mark."""
    return merge_by_rank(marked(word, suffix), {pair: rank for rank, pair in enumerate(merges[:n_merges])})
