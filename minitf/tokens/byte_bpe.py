"""Byte-pair encoding of bytes: nothing is ever unknown, and any text comes back exactly.

Text is cut into words, numbers, punctuation and space by a published pattern (``pretokenize.PATTERNS``), each piece is
written as UTF-8, and merges start from the 256 bytes. Pieces are shown with GPT-2's characters for bytes: ``Ġ`` is a
space. Ties in training go to the pair of smallest ids; bytes are numbered in the order of their characters.

Radford et al., "Language Models are Unsupervised Multitask Learners" (2019).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from minitf.tokens.bpe import MergingTokenizer, Pair, grow, learn_merges
from minitf.tokens.decoders import ByteLevel as ByteLevelDecoder
from minitf.tokens.pretokenize import ByteLevel, Split, byte_characters
from minitf.tokens.pretokenize import Sequence as CutSequence
from minitf.tokens.tokenizer import word_counts


class ByteBPETokenizer(MergingTokenizer):
    """Lossless byte-pair encoding.

    vocab: pieces in GPT-2's characters, all 256 bytes among them. merges: pairs of pieces, as learned.
    whole_pieces: a piece of the pre-tokenizer that is in ``vocab`` is taken as it is, whatever the merges say (Llama 3).
    """

    def __init__(
        self,
        vocab: Mapping[str, int] | Sequence[str],
        merges: Iterable[Pair],
        *,
        whole_pieces: bool = False,
        **parts: Any,
    ):
        super().__init__(vocab, merges, **{"pre_tokenizer": ByteLevel(), "decoder": ByteLevelDecoder(), **parts})
        missing = [byte for byte, character in enumerate(byte_characters()) if character not in self.vocab]
        if missing:
            raise ValueError(
                f"ByteBPETokenizer: vocab must hold all 256 bytes; it lacks {byte_characters()[missing[0]]!r} for byte "
                f"{missing[0]:#04x}"
            )
        self.whole_pieces = whole_pieces

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str],
        vocab_size: int,
        *,
        specials: Sequence[str] = (),
        pattern: str = "gpt2",
        add_prefix_space: bool = False,
    ) -> ByteBPETokenizer:
        """Learns merges until there are ``vocab_size`` pieces, or no pair is left.

        specials: special tokens; they get the first ids. pattern: a name of ``pretokenize.PATTERNS``.
        add_prefix_space: a text that does not start with a space gets one, so that its first word is like the others.
        """
        vocab = [*dict.fromkeys(specials), *sorted(byte_characters())]
        if vocab_size < len(vocab):
            raise ValueError(
                f"ByteBPETokenizer.train: {vocab_size} pieces are too few: bytes and specials take {len(vocab)}"
            )
        if pattern == "gpt2":
            cut: Any = ByteLevel(add_prefix_space)
        else:
            cut = CutSequence((Split(pattern), ByteLevel(add_prefix_space, use_regex=False)))
        words = {tuple(word): count for word, count in word_counts(texts, cut).items()}
        merges = learn_merges(words, {piece: id for id, piece in enumerate(vocab)})
        return cls(*grow(vocab, merges, vocab_size), added=specials, pre_tokenizer=cut, decoder=ByteLevelDecoder())

    def _symbols(self, word: str) -> str:
        return word

    def _whole(self, piece: str) -> list[str]:
        return [piece] if self.whole_pieces and piece in self.vocab else super()._whole(piece)

    def _model(self) -> dict[str, Any]:
        return {**super()._model(), "ignore_merges": self.whole_pieces}
