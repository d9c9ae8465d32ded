"""Beam search: the most probable text is rarely the one that begins with the most probable token.

A text's score is the log-probability of its new tokens, divided by their number to the power ``length_penalty``. Of all
continuations of the texts that a search follows, it follows the best ones. In diverse beam search (Vijayakumar and
others) groups of beams take turns within a step, and a group loses ``strength`` for a token as often as the groups before
it have just chosen it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minitf.inference.next_token import Process, log_probabilities
from minitf.inference.prompt import checked_prompt, evaluating

#: a score and the new tokens (n,) that have it
Scored = tuple[float, np.ndarray]
#: new ids so far -> ids that may follow
Allowed = Callable[[Sequence[int]], Sequence[int]]


def beam_search(
    model: Any,
    ids: Any,
    steps: int,
    *,
    beams: int,
    eos: int | None = None,
    pad: int = 0,
    length_penalty: float = 1.0,
    early_stopping: bool | str = False,
    returned: int | None = None,
    prefix_allowed: Allowed | None = None,
    process: Process | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The best continuations of the prompts (B, T) that a search over ``beams`` texts at a time finds.

    A text is complete with ``eos``; of the 2 ``beams`` best continuations of a step, those complete that are among the
    first ``beams`` are put aside, of which the best ``beams`` are kept, and the first others go on.
    early_stopping: a prompt is done when ``beams`` texts are complete and (True) no more is asked; (False) the best text
        that goes on would not beat the worst of them if it ended here; ("never") none could ever beat it.
    returned: how many of the best texts, at most ``beams``; fewer can exist, the rest is padding with a score of -inf.
    prefix_allowed: the tokens that may follow the new ones so far, such as a ``TokenTrie``'s ``allowed``.
    process: changes log-probabilities (B beams, V), given the texts (B beams, T + n), before they are added up.

    Returns ids (B, T + n), n at most ``steps``, padded with ``pad`` behind ``eos``; and the scores (B,). With ``returned``
    these are (B, returned, T + n) and (B, returned), the best first. Ties go to the earlier beam, then to the lower id.
    """
    rules = _Rules("beam_search", beams, eos, length_penalty, early_stopping, prefix_allowed)
    if returned is not None and not 1 <= returned <= beams:
        raise ValueError(f"beam_search: returned must be from 1 to beams = {beams}, got {returned!r}")
    ids = checked_prompt("beam_search", model, ids, steps)
    found = _search(model, ids, steps, rules, 1, 0.0, pad, process)
    texts, scores = _padded(ids, [best for (best,) in found], 1 if returned is None else returned, pad)
    return (texts[:, 0], scores[:, 0]) if returned is None else (texts, scores)


def diverse_beam_search(
    model: Any,
    ids: Any,
    steps: int,
    *,
    beams: int,
    groups: int,
    strength: float = 0.5,
    eos: int | None = None,
    pad: int = 0,
    length_penalty: float = 1.0,
    early_stopping: bool | str = False,
    prefix_allowed: Allowed | None = None,
    process: Process | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The best continuation that each of ``groups`` groups of ``beams`` / ``groups`` beams finds; see ``beam_search``.

    What a group lost by choosing what others chose stays in its texts' scores (choice). Groups differ within a step, at
    one place in the text: one that is a token behind may write the same.

    Returns ids (B, groups, T + n) and the scores (B, groups), the first group, which loses nothing, first.
    """
    if groups < 1 or beams % groups:
        raise ValueError(f"diverse_beam_search: groups must divide beams = {beams}, got {groups}")
    if not 0 <= strength < np.inf:
        raise ValueError(f"diverse_beam_search: strength must not be negative, got {strength!r}")
    rules = _Rules("diverse_beam_search", beams // groups, eos, length_penalty, early_stopping, prefix_allowed)
    ids = checked_prompt("diverse_beam_search", model, ids, steps)
    found = _search(model, ids, steps, rules, groups, strength, pad, process)
    texts, scores = _padded(np.repeat(ids, groups, axis=0), [best for prompt in found for best in prompt], 1, pad)
    return texts.reshape(len(ids), groups, -1), scores.reshape(len(ids), groups)


class TokenTrie:
    """A set of sequences of ids, of which it can be asked how they go on.

    Those of different lengths should all end in ``eos``, so that the search knows when one is complete.
    """

    def __init__(self, sequences: Iterable[Iterable[int]]):
        self.root: dict[int, Any] = {}
        for sequence in sequences:
            node = self.root
            for token in sequence:
                node = node.setdefault(int(token), {})

    def allowed(self, prefix: Iterable[int]) -> list[int]:
        """The ids, ascending, that follow ``prefix`` in some sequence; none if no sequence goes on like that."""
        node = self.root
        for token in prefix:
            node = node.get(int(token), {})
        return sorted(node)


@dataclass
class _Rules:
    what: str
    beams: int
    eos: int | None
    length_penalty: float
    early_stopping: bool | str
    prefix_allowed: Allowed | None

    def __post_init__(self) -> None:
        if self.beams < 1:
            raise ValueError(f"{self.what}: beams must be at least 1, got {self.beams}")
        if self.early_stopping not in (True, False, "never"):
            raise ValueError(f"{self.what}: early_stopping must be True, False or 'never', got {self.early_stopping!r}")


class _Beams:
    """The texts that one search follows, and those that it has completed."""

    def __init__(self, rules: _Rules, steps: int):
        self.rules, self.steps = rules, steps
        self.scores = np.full(rules.beams, -np.inf)
        self.scores[0] = 0  # all beams begin with the same text, which counts once
        self.complete: list[Scored] = []
        self.done = False

    def advance(self, logp: np.ndarray, written: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """From logp (beams, V) of what follows ``written`` (beams, n): the beams that go on, and with which tokens."""
        beams, V = logp.shape
        length = written.shape[1] + 1
        total = self.scores[:, None] + self._allowed(logp, written)
        best = np.argsort(-total.reshape(-1), kind="stable")[: 2 * beams]
        rows, tokens, kept = np.zeros(beams, int), np.zeros(beams, int), 0
        self.scores = np.full(beams, -np.inf)
        for rank, place in enumerate(best):
            beam, token = divmod(int(place), V)
            score = total[beam, token]
            if token == self.rules.eos:
                if rank < beams and score > -np.inf:
                    self.complete.append((score / length**self.rules.length_penalty, np.append(written[beam], token)))
            elif kept < beams:
                rows[kept], tokens[kept], self.scores[kept] = beam, token, score
                kept += 1
        self.complete = sorted(self.complete, key=lambda scored: -scored[0])[:beams]
        self.done = self._finished(length)
        return rows, tokens

    def _allowed(self, logp: np.ndarray, written: np.ndarray) -> np.ndarray:
        if self.rules.prefix_allowed is None:
            return logp
        out = np.full_like(logp, -np.inf)
        for beam in np.flatnonzero(self.scores > -np.inf):
            tokens = list(self.rules.prefix_allowed(written[beam].tolist()))
            out[beam, tokens] = logp[beam, tokens]
        return out

    def _finished(self, length: int) -> bool:
        best = self.scores.max()
        if best == -np.inf:  # nothing goes on
            return True
        if len(self.complete) < self.rules.beams:
            return False
        if self.rules.early_stopping is True:
            return length < self.steps  # in the last step all texts end, and compete
        longest = self.rules.early_stopping == "never" and self.rules.length_penalty > 0
        return best / (self.steps if longest else length) ** self.rules.length_penalty <= self.complete[-1][0]

    def best(self, written: np.ndarray) -> list[Scored]:
        """All scored texts, the best first; what still goes on, ``written`` (beams, n), competes as it is."""
        scores = self.scores / max(1, written.shape[1]) ** self.rules.length_penalty
        going = [] if self.done else [scored for scored in zip(scores, written, strict=True) if scored[0] > -np.inf]
        return sorted([*self.complete, *going], key=lambda scored: -scored[0])


def _search(
    model: Any,
    ids: np.ndarray,
    steps: int,
    rules: _Rules,
    groups: int,
    strength: float,
    pad: int,
    process: Process | None,
) -> list[list[list[Scored]]]:
    """For each prompt and each group its scored texts, the best first."""
    B, T = ids.shape
    n = groups * rules.beams
    searches = [[_Beams(rules, steps) for _ in range(groups)] for _ in range(B)]
    texts = np.repeat(ids, n, axis=0)
    by_group = lambda x: x.reshape(B, groups, rules.beams, -1)
    with evaluating(model):
        cache, new = model.new_cache(B), ids
        for step in range(steps):
            logp = log_probabilities(model(new, cache=cache).data[:, -1])
            if step == 0:  # the prompts were read once each
                logp = np.repeat(logp, n, axis=0)
            logp = by_group(logp if process is None else process(logp, texts))
            written = by_group(texts[:, T:])
            rows, tokens = np.zeros((B, groups, rules.beams), int), np.full((B, groups, rules.beams), pad)
            for b, prompt in enumerate(searches):
                said = np.zeros(logp.shape[-1])
                for g, search in enumerate(prompt):
                    if not search.done:
                        rows[b, g], tokens[b, g] = search.advance(logp[b, g] - strength * said, written[b, g])
                        np.add.at(said, tokens[b, g][search.scores > -np.inf], 1)
            chosen = (rows + rules.beams * np.arange(B * groups).reshape(B, groups, 1)).reshape(-1)
            new = tokens.reshape(-1, 1)
            texts = np.concatenate([texts[chosen], new], axis=1)
            if cache is not None:
                cache.reorder(chosen // n if step == 0 else chosen)
            if all(search.done for prompt in searches for search in prompt):
                break
    written = by_group(texts[:, T:])
    return [[search.best(written[b, g]) for g, search in enumerate(prompt)] for b, prompt in enumerate(searches)]


def _padded(ids: np.ndarray, found: list[list[Scored]], returned: int, pad: int) -> tuple[np.ndarray, np.ndarray]:
    """(B, returned, T + n) texts behind their prompts and (B, returned) scores."""
    B, T = ids.shape
    n = max((len(text) for best in found for _, text in best[:returned]), default=0)
    texts = np.full((B, returned, T + n), pad, ids.dtype)
    texts[:, :, :T] = ids[:, None]
    scores = np.full((B, returned), -np.inf)
    for b, best in enumerate(found):
        for i, (score, text) in enumerate(best[:returned]):
            texts[b, i, T : T + len(text)], scores[b, i] = text, score
    return texts, scores
