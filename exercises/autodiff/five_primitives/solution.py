"""Reverse mode in NumPy."""

import numpy as np

#: what a primitive computes from its arguments
FORWARD = {"add": np.add, "multiply": np.multiply, "matmul": np.matmul, "exp": np.exp, "sum": np.sum}
#: the cotangents of its arguments, from that of its result and from the arguments
BACKWARD = {
    "add": lambda g, x, y: [g, g],
    "multiply": lambda g, x, y: [g * y, g * x],
    "matmul": lambda g, x, y: [g @ y.T, x.T @ g],
    "exp": lambda g, x: [g * np.exp(x)],
    "sum": lambda g, x: [np.full(x.shape, g)],
}


def evaluate(tape: list[tuple[str, tuple[int, ...]]], inputs: list[np.ndarray]) -> list[np.ndarray]:
    values = list(inputs)
    for primitive, indices in tape:
        values.append(FORWARD[primitive](*(values[i] for i in indices)))
    return values


def vjp(primitive: str, g: np.ndarray, args: list[np.ndarray]) -> list[np.ndarray]:
    return BACKWARD[primitive](g, *args)


def gradient(tape: list[tuple[str, tuple[int, ...]]], inputs: list[np.ndarray]) -> list[np.ndarray]:
    values = evaluate(tape, inputs)
    cotangents = [np.zeros(np.shape(x)) for x in values]
    cotangents[-1] = np.ones(())
    for number in reversed(range(len(tape))):
        primitive, indices = tape[number]
        parts = vjp(primitive, cotangents[len(inputs) + number], [values[i] for i in indices])
        for i, part in zip(indices, parts, strict=True):
            # Not +=, which would also change every other place that holds the same array, as both arguments of add do.
            cotangents[i] = cotangents[i] + part
    return cotangents[: len(inputs)]
