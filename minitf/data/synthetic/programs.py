"""Problems whose answer takes a computation."""

from __future__ import annotations

import bisect
from string import ascii_lowercase

import numpy as np

from minitf.data.text_task import Posed
from minitf.nn.init import generator


def variable_assignment(variables: int, *, known: int = 1, rng: np.random.Generator) -> Posed:
    """ "d=7;b=d;x=b;x?" and "7": the first ``known`` variables have digits, the others are one of those before, uniformly.

    Names are different letters in random order; one of the variables that are no digits (if there are any) is asked for.
    """
    if not 1 <= known <= variables <= len(ascii_lowercase):
        raise ValueError(f"variable_assignment: needs 1 <= known <= variables <= 26, got {known} and {variables}")
    names = generator(rng).permutation(list(ascii_lowercase))[:variables].tolist()
    right = [str(rng.integers(0, 10)) for _ in range(known)]
    values = list(right)
    for i in range(known, variables):
        source = int(rng.integers(0, i))
        right.append(names[source])
        values.append(values[source])
    asked = int(rng.integers(min(known, variables - 1), variables))
    clauses = "".join(f"{name}={value};" for name, value in zip(names, right, strict=True))
    return Posed(f"{clauses}{names[asked]}?", values[asked])


def arithmetic_expression(ops: int, *, modulus: int = 10, rng: np.random.Generator) -> Posed:
    """ "((3+4)*2)=" and the value modulo ``modulus``: digits and ``ops`` operations of + - *, all in brackets.

    What the last operation leaves to its left side is uniform, and so on down. (choice)
    """

    def grow(n: int) -> tuple[str, int]:
        if n == 0:
            digit = int(rng.integers(0, 10))
            return str(digit), digit
        to_the_left = int(rng.integers(0, n))
        (left, a), (right, b) = grow(to_the_left), grow(n - 1 - to_the_left)
        op = "+-*"[int(rng.integers(0, 3))]
        return f"({left}{op}{right})", (a + b if op == "+" else a - b if op == "-" else a * b) % modulus

    generator(rng)
    if ops < 0:
        raise ValueError(f"arithmetic_expression: ops must not be negative, got {ops}")
    text, value = grow(ops)
    return Posed(f"{text}=", str(value % modulus))


def longest_increasing_subsequence(n: int, *, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """A uniformly random permutation of 0 .. n - 1, and the length of its longest increasing subsequence."""
    sequence = generator(rng).permutation(n)
    ends: list[int] = []  # the least end of an increasing subsequence of each length
    for x in sequence.tolist():
        place = bisect.bisect_left(ends, x)
        ends[place : place + 1] = [x]
    return sequence, len(ends)


def dyck(pairs: int, kinds: int = 1, *, rng: np.random.Generator) -> np.ndarray:
    """A balanced word of brackets, uniform among all of this length: id 2 k opens and 2 k + 1 closes kind k.

    Of the rotations of n + 1 ups and n downs in any order, exactly one stays above where it began (the cycle lemma); without
    its first up it is a balanced word, and all come out as often.
    """
    if pairs < 0 or kinds < 1:
        raise ValueError(f"dyck: needs pairs >= 0 and kinds >= 1, got {pairs} and {kinds}")
    steps = generator(rng).permutation([1] * (pairs + 1) + [-1] * pairs)
    heights = np.concatenate([[0], np.cumsum(steps)])
    lowest = int(np.flatnonzero(heights[:-1] == heights[:-1].min())[-1])
    word, stack = [], []
    for step in np.roll(steps, -lowest)[1:].tolist():
        if step > 0:
            stack.append(int(rng.integers(kinds)))
        word.append(2 * stack[-1] if step > 0 else 2 * stack.pop() + 1)
    return np.array(word, np.int64)


def graph_connectivity(nodes: int, edges: int, *, rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int], bool]:
    """Different random edges ``(edges, 2)`` of an undirected graph without loops, two different nodes, and whether a path
    joins them."""
    possible = np.stack(np.triu_indices(nodes, 1), axis=1)
    if nodes < 2 or not 0 <= edges <= len(possible):
        raise ValueError(f"graph_connectivity: {nodes} nodes have 0 to {len(possible)} edges, got {edges}")
    chosen = generator(rng).permuted(possible[rng.choice(len(possible), edges, replace=False)], axis=1)
    a, b = (int(node) for node in rng.choice(nodes, 2, replace=False))
    component = np.arange(nodes)
    for i, j in chosen:
        component[component == component[i]] = component[j]
    return chosen, (a, b), bool(component[a] == component[b])
