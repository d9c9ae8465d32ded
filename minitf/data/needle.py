"""A needle in a haystack: something to be found again in a long context.

needle_retrieval(B, T, V, rng=rng)              token ids: pairs of key and value among noise, a key last
make_passkey(4000, depth=0.5, rng=rng)          text: a number among sentences that say nothing
"""

from __future__ import annotations

import numpy as np

from minitf.data.corruption import IGNORED
from minitf.data.text_task import Posed
from minitf.nn.init import generator

FILLER = (
    "The road goes up the hill. ",
    "A bird sat on the gate. ",
    "The water in the well is cold. ",
    "Snow fell all night. ",
    "Somebody left the lamp on. ",
)
NAMES = ("red", "green", "blue", "white", "black", "brown", "gray", "pink")
BEGINNING = "A text about nothing follows; hidden in it is a pass key. Remember the pass key.\n"


def needle_retrieval(
    B: int, T: int, V: int, *, pairs: int = 4, questions: int = 1, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a key and its value at random places among noise, then keys of some of them: (inputs, targets) ``(B, T)``.

    Noise ids are below V / 2, keys (different) from there to 3 V / 4, values above. Targets are -100 except at the last
    ``questions`` places, where different keys stand and the value of each is asked for.

    Raises ValueError if T or V is too small for that.
    """
    half, quarter = V // 2, V // 4
    room = T - questions - 2 * pairs
    if not 1 <= questions <= pairs <= quarter or room < 0:
        raise ValueError(
            f"needle_retrieval: needs 1 <= questions <= pairs <= V / 4 and T >= 2 pairs + questions, got "
            f"questions={questions}, pairs={pairs}, V={V}, T={T}"
        )
    inputs = generator(rng).integers(0, half, (B, T))
    targets = np.full((B, T), IGNORED)
    for b in range(B):
        keys = half + rng.permutation(quarter)[:pairs]
        values = rng.integers(half + quarter, V, pairs)
        # where the pairs would be if each had one place only
        places = np.sort(rng.choice(room + pairs, pairs, replace=False)) + np.arange(pairs)
        inputs[b, places], inputs[b, places + 1] = keys, values
        asked = rng.permutation(pairs)[:questions]
        inputs[b, T - questions :], targets[b, T - questions :] = keys[asked], values[asked]
    return inputs, targets


def make_passkey(
    length: int, *, depth: float | None = None, digits: int = 5, needles: int = 1, rng: np.random.Generator
) -> Posed:
    """A text of at most ``length`` characters, as long as whole sentences allow, with a number in it that it asks for.

    depth: where among the filling sentences the number stands, 0 first and 1 last; by default uniform. needles: how many
    different numbers there are, each of another color; the one asked for is at ``depth``, the others anywhere.

    Raises ValueError if ``length`` is too small, or there are not as many colors.
    """
    if not 1 <= needles <= len(NAMES) or digits < 1 or (depth is not None and not 0 <= depth <= 1):
        raise ValueError(
            f"make_passkey: needs 1 to {len(NAMES)} needles, digits >= 1 and a depth from 0 to 1, got {needles}, {digits} "
            f"and {depth}"
        )
    colors = generator(rng).permutation(list(NAMES))[:needles].tolist()
    numbers: dict[str, None] = {}
    while len(numbers) < needles:
        numbers["".join(map(str, rng.integers(0, 10, digits)))] = None
    facts = [f"The {color} pass key is {number}. " for color, number in zip(colors, numbers, strict=True)]
    question = f"\nWhat is the {colors[0]} pass key? The {colors[0]} pass key is"
    left = length - len(BEGINNING) - len(question) - sum(map(len, facts))
    if left < 0:
        raise ValueError(f"make_passkey: the question alone takes {length - left} characters, more than {length}")
    sentences = []
    while left >= len(sentence := FILLER[len(sentences) % len(FILLER)]):
        sentences.append(sentence)
        left -= len(sentence)
    depths = [rng.random() if depth is None else depth, *rng.random(needles - 1)]
    places = [round(at * len(sentences)) for at in depths]
    # the last ones first, so that the places of the others stay
    for place, fact in sorted(zip(places, facts, strict=True), reverse=True):
        sentences.insert(place, fact)
    return Posed(f"{BEGINNING}{''.join(sentences)}{question}", f" {next(iter(numbers))}")
