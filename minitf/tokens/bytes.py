"""Bytes as tokens: no training, no unknown token, any text comes back exactly.

id 0            padding
id 1 ... 256    the byte id - 1 of the text in UTF-8
id 257 ...      special tokens, in the order given
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from minitf.autodiff.tensor import Tensor, as_tensor


class ByteTokenizer:
    """Text to ids and back, one id a byte.

    specials: names of special tokens. They are never found in text: ``encode`` takes their ids only from
        ``before`` and ``after``.
    """

    pad_id = 0

    def __init__(self, specials: Sequence[str] = ("<bos>", "<eos>")):
        if isinstance(specials, str) or not all(isinstance(name, str) for name in specials):
            raise TypeError(f"ByteTokenizer: specials must be a sequence of names, got {specials!r}")
        if len(set(specials)) != len(specials):
            raise ValueError(f"ByteTokenizer: a special token is named twice in {tuple(specials)}")
        self.special_ids = {name: 257 + i for i, name in enumerate(specials)}

    @property
    def vocab_size(self) -> int:
        """The number of ids: 257 and one for each special token."""
        return 257 + len(self.special_ids)

    def encode(self, text: str, *, before: Iterable[str] = (), after: Iterable[str] = ()) -> np.ndarray:
        """The ids of ``text``, with those of the special tokens ``before`` and ``after`` around it."""
        if not isinstance(text, str):
            raise TypeError(f"encode: needs a str, got {type(text).__name__}")
        content = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int64) + 1
        return np.concatenate([self._specials(before), content, self._specials(after)])

    def _specials(self, names: Iterable[str]) -> np.ndarray:
        names = [names] if isinstance(names, str) else list(names)
        for name in names:
            if name not in self.special_ids:
                known = ", ".join(self.special_ids) or "none"
                raise ValueError(f"encode: {name!r} is no special token; there are: {known}")
        return np.array([self.special_ids[name] for name in names], np.int64)

    def decode(
        self, ids: Iterable[int] | np.ndarray | Tensor, *, errors: str = "replace", specials: bool = False
    ) -> str:
        """The text of ``ids``.

        errors: what becomes of bytes that are no UTF-8, which a model may generate: "replace" (U+FFFD) or "strict".
        specials: write special tokens as their names; otherwise they are left out. Padding always is.

        Raises ValueError for ids that are no tokens, and for bytes that are no UTF-8 if ``errors`` is "strict".
        """
        if errors not in ("replace", "strict"):
            raise ValueError(f"decode: errors must be 'replace' or 'strict', got {errors!r}")
        ids = self._checked(ids)
        if not specials or not self.special_ids:
            return _text(ids[(ids > 0) & (ids < 257)], errors)
        names = {id: name for name, id in self.special_ids.items()}
        places = np.flatnonzero(ids >= 257)
        pieces = np.split(ids, places)
        parts = [_text(pieces[0][pieces[0] > 0], errors)]
        for piece in pieces[1:]:
            parts += [names[int(piece[0])], _text(piece[1:][piece[1:] > 0], errors)]
        return "".join(parts)

    def _checked(self, ids: Iterable[int] | np.ndarray | Tensor) -> np.ndarray:
        if isinstance(ids, str):
            raise TypeError("decode: needs one sequence of integer ids, got text, which is what it returns")
        if not isinstance(ids, (np.ndarray, Tensor)):
            ids = list(ids) or np.zeros(0, np.int64)
        array = as_tensor(ids).data
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise TypeError(f"decode: needs one sequence of integer ids, got {array.dtype} {array.shape}")
        wrong = np.flatnonzero((array < 0) | (array >= self.vocab_size))
        if wrong.size:
            raise ValueError(
                f"decode: {array[wrong[0]]} at position {wrong[0]} is no token; ids are 0 to {self.vocab_size - 1}"
            )
        return array

    def token(self, id: int) -> str:
        """A readable name of one token: the character, ``\\xHH`` for other bytes, the name of a special token."""
        id = int(self._checked([id])[0])
        if id == self.pad_id:
            return "<pad>"
        if id >= 257:
            return list(self.special_ids)[id - 257]
        character = chr(id - 1)
        return character if id <= 128 and character.isprintable() else f"\\x{id - 1:02x}"

    def __repr__(self) -> str:
        return f"ByteTokenizer({self.vocab_size} tokens)"


def _text(ids: np.ndarray, errors: str) -> str:
    content = (ids - 1).astype(np.uint8).tobytes()
    try:
        return content.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        if errors == "strict":
            raise ValueError(f"decode: the bytes are no UTF-8 text: {error}") from None
        return content.decode("utf-8", "replace")
