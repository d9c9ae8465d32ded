"""ListOps (Nangia and Bowman) as in the Long Range Arena: nested operations on lists of digits, answered by a digit.

[MAX 4 [MIN 2 7 ] 3 ]    is 4
"""

from __future__ import annotations

import numpy as np

from minitf.nn.init import generator

#: id 0 pads
TOKENS = ("<pad>", *map(str, range(10)), "[MIN", "[MAX", "[MED", "[SM", "]")
IDS = {token: i for i, token in enumerate(TOKENS)}
#: what an operation makes of its arguments; the median of an even number of them is cut to an integer
OPERATIONS = {
    "[MIN": min,
    "[MAX": max,
    "[MED": lambda values: int(np.median(values)),
    "[SM": lambda values: sum(values) % 10,
}
DIGIT = 0.25


def generate_listops(
    n: int,
    *,
    min_length: int = 500,
    max_length: int = 2000,
    max_depth: int = 10,
    max_args: int = 10,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """n different expressions: ids ``(n, T)``, padded with 0 to the longest, and their values ``(n,)``, 0 to 9.

    A node is a digit with probability 3/4, or at ``max_depth``; otherwise an operation on 2 to ``max_args`` nodes, all
    uniform. Kept are expressions with more than ``min_length`` and fewer than ``max_length`` tokens.
    """
    if n < 1 or max_args < 2 or max_depth < 1 or not max_length > min_length + 1:
        raise ValueError(
            f"generate_listops: needs n, max_depth >= 1, max_args >= 2, and lengths between min_length and max_length, "
            f"got n={n}, max_depth={max_depth}, max_args={max_args}, {min_length} and {max_length}"
        )
    generator(rng)
    found: dict[tuple[str, ...], int] = {}
    while len(found) < n:
        tokens, value = _tree(1, max_depth, max_args, rng)
        if min_length < len(tokens) < max_length:
            found[tuple(tokens)] = value
    ids = np.zeros((n, max(map(len, found))), np.int64)
    for row, tokens in zip(ids, found, strict=True):
        row[: len(tokens)] = [IDS[token] for token in tokens]
    return ids, np.array(list(found.values()))


def _tree(depth: int, max_depth: int, max_args: int, rng: np.random.Generator) -> tuple[list[str], int]:
    if depth >= max_depth or rng.random() > DIGIT:
        digit = int(rng.integers(0, 10))
        return [str(digit)], digit
    args = int(rng.integers(2, max_args + 1))
    name = list(OPERATIONS)[int(rng.integers(len(OPERATIONS)))]
    parts = [_tree(depth + 1, max_depth, max_args, rng) for _ in range(args)]
    value = OPERATIONS[name]([value for _, value in parts])
    return [name, *(token for tokens, _ in parts for token in tokens), "]"], value
