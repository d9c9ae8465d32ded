"""What the engine itself costs per recorded operation, forward and backward together: `make bench`.

On scalars nearly all of the time is overhead; NumPy's own share is the row named "numpy". Divide by NODES: the target is
10 microseconds a node. Nothing here asserts a time.
"""

import numpy as np
import pytest

import minitf as mt

NODES = 1000


def chain(operation, start):
    x = start
    for _ in range(NODES):
        x = operation(x)
    return x


@pytest.mark.parametrize(
    ("name", "operation"),
    [("add", lambda x: x + 1.0), ("multiply", lambda x: x * 1.001), ("tanh", mt.tanh), ("numpy", None)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_forward_and_backward(benchmark, name, operation):
    benchmark.extra_info["nodes"] = NODES
    leaf = mt.tensor(0.5, requires_grad=True)

    def run():
        if operation is None:
            return chain(lambda x: x + 1.0, np.asarray(0.5))
        leaf.grad = None
        chain(operation, leaf).backward()
        return leaf.grad

    assert np.isfinite(np.asarray(benchmark(run)))


def test_untraced_operation(benchmark):
    x = mt.tensor(0.5)
    assert benchmark(lambda: chain(lambda y: y + 1.0, x)).item() == 0.5 + NODES
