"""Text as it is written: tokens one at a time, and pieces of text that end where characters end.

    for piece in text_pieces(stream(model, prompt, 200, rng=rng, top_p=0.9), tokenizer, stop=["\\n\\n"]):
        print(piece, end="", flush=True)

A character may take several tokens (in UTF-8, up to four bytes), and a stop text, too. What could be the beginning of
one is held back until it is clear. The pieces put together are the text that decoding all tokens at once gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.inference.decoding import drawing, each_token, most_probable
from minitf.inference.next_token import Process
from minitf.inference.prompt import checked_prompt, evaluating

#: what a tokenizer's ``decode`` writes for bytes that are no character, or not yet one
UNKNOWN = "\ufffd"


def stream(
    model: Any,
    ids: Any,
    steps: int,
    *,
    rng: np.random.Generator | None = None,
    process: Process | None = None,
    eos: int | None = None,
    **cuts: Any,
) -> Iterator[int]:
    """The tokens that ``sample`` would append to the prompt ids (1, T), each as soon as it is known; ``eos`` is the last.

    rng: without it, those of ``greedy``. cuts: temperature, top_k and so on, see ``next_token_probabilities``.
    """
    ids = checked_prompt("stream", model, ids, steps)
    if len(ids) != 1:
        raise ShapeError(f"stream: writes one text at a time, ids (1, T), got shape {ids.shape}")
    if rng is None and cuts:
        raise ValueError(f"stream: {next(iter(cuts))} is for sampling; give rng, or leave it out to be greedy")
    tokens = each_token(model, ids, steps, most_probable if rng is None else drawing(rng, **cuts), process, eos)

    def one_by_one() -> Iterator[int]:
        while True:
            with evaluating(model):  # not while the caller has the token: there, the model is in the caller's mode
                token = next(tokens, None)
            if token is None:
                return
            yield int(token[0])

    return one_by_one()


def text_pieces(tokens: Iterable[int], tokenizer: Any, *, stop: Sequence[str] = ()) -> Iterator[str]:
    """The text of ``tokens`` in pieces, none of them empty, as they come.

    tokenizer: with ``decode(ids)``. stop: the text ends before the first place where one of these begins, and no more
    tokens are asked for.
    """
    if isinstance(stop, str) or not all(stop):
        raise ValueError(f"text_pieces: stop must be a sequence of texts that are not empty, got {stop!r}")

    def pieces() -> Iterator[str]:
        held = ""
        for piece in _whole_characters(tokens, tokenizer):
            held += piece
            found = [held.index(text) for text in stop if text in held]
            if found:
                if min(found):
                    yield held[: min(found)]
                return
            begun = max((n for text in stop for n in range(1, len(text)) if held.endswith(text[:n])), default=0)
            if begun < len(held):
                yield held[: len(held) - begun]
                held = held[len(held) - begun :]
        if held:
            yield held

    return pieces()


def _whole_characters(tokens: Iterable[int], tokenizer: Any) -> Iterator[str]:
    """Pieces of text; of bytes that may yet become a character nothing is said until they do, or cannot."""
    waiting: list[int] = []
    said = 0  # characters of the waiting tokens that are out already
    for token in tokens:
        waiting.append(token)
        text = tokenizer.decode(waiting)
        known = len(text) - text.endswith(UNKNOWN)
        if known > said:
            yield text[said:known]
        waiting, said = (waiting, known) if known < len(text) else ([], 0)
    if waiting and (rest := tokenizer.decode(waiting)[said:]):
        yield rest
