"""WordPiece: each word is cut greedily, the longest piece of the vocabulary first; later pieces carry ``##``.

    encoding    longest prefix of the word in the vocabulary, then the longest ## piece of the rest, ...
                no match anywhere: the whole word is [UNK]
    training    start from characters; merge the pair with the largest count(ab) / (count(a) count(b)), again and again

The score prefers pairs whose halves occur little without each other, where byte-pair encoding takes what is frequent;
score="count" trains by frequency, as most released vocabularies were. Ties go to the lexicographically smallest pair.

Schuster and Nakajima, "Japanese and Korean voice search" (2012); Devlin et al., "BERT" (2019).
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from minitf.tokens.bpe import merged
from minitf.tokens.decoders import WordPiece
from minitf.tokens.normalizers import BertNormalizer
from minitf.tokens.post_processors import TemplateProcessing
from minitf.tokens.pretokenize import BertPreTokenizer
from minitf.tokens.tokenizer import Tokenizer, word_counts

SCORES = ("likelihood", "count")
#: BERT's special tokens; unknown words are the second
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train_wordpiece(
    words: Mapping[str, int],
    vocab_size: int,
    *,
    score: str = "likelihood",
    prefix: str = "##",
    specials: Sequence[str] = SPECIALS,
    count_dtype: Any = np.int64,
) -> list[str]:
    """The pieces that are learned from ``words`` and their counts: ``specials``, characters, then merges in order.

    score: "likelihood" or "count". count_dtype: the integers that words were counted with; in narrow ones large counts
    wrap, as they did in a released vocabulary, and words whose count is not positive are lost.
    """
    if score not in SCORES:
        raise ValueError(f"train_wordpiece: score must be one of {', '.join(SCORES)}, got {score!r}")
    limits = np.iinfo(count_dtype)
    size = int(limits.max) - int(limits.min) + 1
    wrapped = {word: (count - int(limits.min)) % size + int(limits.min) for word, count in words.items() if word}
    symbols = [[word[0], *(prefix + c for c in word[1:])] for word, count in wrapped.items() if count > 0]
    times = [count for count in wrapped.values() if count > 0]
    pieces = dict.fromkeys([*specials, *sorted({symbol for word in symbols for symbol in word})])
    if vocab_size < len(pieces):
        raise ValueError(
            f"train_wordpiece: {vocab_size} pieces are too few: special tokens and characters take {len(pieces)}"
        )

    single: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    where: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    beside: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)  # the pairs that a symbol is half of

    def count(i: int, sign: int) -> None:
        for symbol in symbols[i]:
            single[symbol] += sign * times[i]
        for pair in itertools.pairwise(symbols[i]):
            pairs[pair] += sign * times[i]
            (where[pair].add if sign > 0 else where[pair].discard)(i)
            for symbol in pair:
                beside[symbol].add(pair)

    def value(pair: tuple[str, str]) -> float:
        return pairs[pair] / (single[pair[0]] * single[pair[1]]) if score == "likelihood" else pairs[pair]

    for i in range(len(symbols)):
        count(i, 1)
    heap = [(-value(pair), pair) for pair in pairs]
    heapq.heapify(heap)
    while heap and len(pieces) < vocab_size:
        best, pair = heapq.heappop(heap)
        if not pairs[pair] or -best != value(pair):
            continue  # outdated: each change of a score put a new entry on the heap
        new = pair[0] + pair[1].removeprefix(prefix)
        pieces[new] = None
        for i in sorted(where[pair]):
            count(i, -1)
            symbols[i] = merged(symbols[i], pair, new)
            count(i, 1)
        for other in set().union(*(beside[symbol] for symbol in (*pair, new))):  # no other score has changed
            if pairs[other]:
                heapq.heappush(heap, (-value(other), other))
    return list(pieces)


class WordPieceTokenizer(Tokenizer):
    """BERT's tokenizer.

    vocab: pieces, those inside words with ``prefix``. unk: the piece for words that cannot be cut.
    max_characters: longer words are ``unk``.
    """

    model = "WordPiece"

    def __init__(
        self,
        vocab: Mapping[str, int] | Sequence[str],
        *,
        unk: str = "[UNK]",
        prefix: str = "##",
        max_characters: int = 100,
        **parts: Any,
    ):
        defaults = {
            "added": [name for name in SPECIALS if name in vocab],
            "normalizer": BertNormalizer(),
            "pre_tokenizer": BertPreTokenizer(),
            "decoder": WordPiece(prefix),
        }
        super().__init__(vocab, **{**defaults, **parts})
        if unk not in self.vocab:
            raise ValueError(f"WordPieceTokenizer: unk = {unk!r} is no piece of vocab")
        if max_characters < 0:
            raise ValueError(f"WordPieceTokenizer: max_characters must not be negative, got {max_characters}")
        self.unk, self.prefix, self.max_characters = unk, prefix, max_characters
        self._longest = max(map(len, self.vocab))

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str] | Mapping[str, int],
        vocab_size: int,
        *,
        lowercase: bool = True,
        score: str = "likelihood",
    ) -> WordPieceTokenizer:
        """Learns ``vocab_size`` pieces from texts, or from words with their counts; see ``train_wordpiece``.

        lowercase: lower case and no accents, as BERT's uncased models. Texts are framed by [CLS] and [SEP].
        """
        normalizer, cut = BertNormalizer(lowercase=lowercase), BertPreTokenizer()
        if not isinstance(texts, Mapping):
            texts = word_counts(texts, lambda text: cut(normalizer(text)))
        pieces = train_wordpiece(texts, vocab_size, score=score)
        ids = {piece: id for id, piece in enumerate(pieces)}
        around = TemplateProcessing.of("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ids)
        return cls(
            ids, added=SPECIALS, normalizer=normalizer, pre_tokenizer=cut, post_processor=around, decoder=WordPiece()
        )

    def _piece(self, piece: str) -> list[int]:
        unknown = [self.vocab[self.unk]]
        if len(piece) > self.max_characters:
            return unknown
        ids, start = [], 0
        while start < len(piece):
            mark = self.prefix if start else ""
            for end in range(min(len(piece), start + self._longest), start, -1):
                id = self.vocab.get(mark + piece[start:end])
                if id is not None:
                    ids.append(id)
                    start = end
                    break
            else:
                return unknown
        return ids

    def _model(self) -> dict[str, Any]:
        return {
            "unk_token": self.unk,
            "continuing_subword_prefix": self.prefix,
            "max_input_chars_per_word": self.max_characters,
            "vocab": self.vocab,
        }
