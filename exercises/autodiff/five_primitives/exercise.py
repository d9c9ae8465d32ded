"""Reverse mode for five primitives: see README.md for the task."""

import numpy as np


def evaluate(tape: list[tuple[str, tuple[int, ...]]], inputs: list[np.ndarray]) -> list[np.ndarray]:
    """All values: the inputs, then the result of each line of the tape."""
    raise NotImplementedError


def vjp(primitive: str, g: np.ndarray, args: list[np.ndarray]) -> list[np.ndarray]:
    """The cotangents of the arguments of one line, from the cotangent g of its result.

    primitive: "add", "multiply", "matmul", "exp" or "sum".
    """
    raise NotImplementedError


def gradient(tape: list[tuple[str, tuple[int, ...]]], inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The derivatives of the last value, a number, with respect to each input, in the input's shape."""
    raise NotImplementedError
