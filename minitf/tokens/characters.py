"""Characters as tokens: byte-pair encoding before its first merge, with spaces and line ends as characters like others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from minitf.tokens.bpe import BPETokenizer
from minitf.tokens.decoders import Fuse


class CharacterTokenizer(BPETokenizer):
    """One token for each character.

    vocab: characters and special tokens, by id. unk: the piece for characters that are none; None leaves them out.
    A ``tokenizer.json`` holds it as what it is, a BPE model without merges.
    """

    def __init__(self, vocab: Mapping[str, int] | Sequence[str], *, unk: str | None = "<unk>", **parts: Any):
        super().__init__(vocab, [], unk=unk, suffix=None, **{"pre_tokenizer": None, "decoder": Fuse(), **parts})
        if longer := [piece for piece in self.vocab if len(piece) != 1 and piece not in self.added]:
            raise ValueError(f"CharacterTokenizer: {longer[0]!r} is neither one character nor a special token")

    @classmethod
    def train(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, texts: str | Iterable[str], *, specials: Sequence[str] = ("<unk>",), normalizer: Any = None
    ) -> CharacterTokenizer:
        """All characters of ``texts``, in order, behind ``specials``, whose first is for unknown characters."""
        texts = [texts] if isinstance(texts, str) else texts
        found = {c for text in texts for c in (text if normalizer is None else normalizer(text))}
        vocab = list(dict.fromkeys([*specials, *sorted(found)]))
        return cls(vocab, unk=specials[0] if specials else None, added=specials, normalizer=normalizer)

    def _piece(self, piece: str) -> list[int]:
        return [self.vocab[symbol] for symbol in self._symbols(piece)]  # a whole text: nothing to remember
