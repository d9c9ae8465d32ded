"""The backward sweep: from the cotangents of some nodes to those of the leaves.

Node ids grow in the order of execution, so a heap of pending nodes, largest id first, visits every node after all its
consumers and before anything it was computed from: no recursion, no sort, and what a node saved can be freed as soon
as it has been visited.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Any

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import TAPE, Leaf, Selection, Tensor, as_tensor, plain

FREED = (
    "this part of the graph was already swept backwards and its saved values were freed; "
    "pass retain_graph=True to the first backward(), or use mt.vjp, whose pullback can be called again"
)


def sweep(roots: Iterable[tuple[Any, Tensor]], *, consume: bool, stop: int = 0) -> dict[Any, Tensor]:
    """Pulls cotangents back from ``roots`` (pairs of node and cotangent) to the leaves.

    consume: free what nodes saved as they are visited.
    stop: treat nodes with an id up to this one as leaves.

    Returns the cotangent of every leaf that was reached.
    """
    pending: list[tuple[int, Any]] = []
    cotangents: dict[Any, Any] = {}
    leaves: dict[Any, Tensor] = {}

    def deliver(node: Any, g: Any) -> None:
        where = leaves if node.id <= stop else cotangents
        known = where.get(node)
        if known is not None:
            where[node] = known + g
        else:
            where[node] = g
            if where is cotangents:
                heappush(pending, (-node.id, node))

    for node, g in roots:
        deliver(node, g)
    while pending:
        _, node = heappop(pending)
        g = cotangents.pop(node)
        if isinstance(node, Selection):
            parts = cotangents.get(node.parent)
            if parts is None:
                parts = cotangents[node.parent] = {}
                heappush(pending, (-node.parent.id, node.parent))
            parts[node.index] = g
            continue
        primitive, args, out, parents = node.primitive, node.args, node.out, node.parents
        if args is None:
            raise RuntimeError(f"backward: {FREED}")
        if primitive.many:
            g = tuple([g[i] if i in g else plain(np.zeros(o.shape, o.dtype)) for i, o in enumerate(out)])
        pulled = primitive.vjp(g, [i for i, _ in parents], out, args, node.params)
        if consume:
            node.args = node.out = node.params = None
            node.parents = ()
        for (_, parent), part in zip(parents, pulled, strict=True):
            if part is not None:
                deliver(parent, part)
    return leaves


def backward(root: Tensor, gradient: Any = None, *, retain_graph: bool = False) -> None:
    """Adds the gradient of ``root`` to the ``grad`` of every leaf it depends on; ``Tensor.backward``.

    gradient: the cotangent of ``root``, needed unless it has one element.
    retain_graph: keep what the forward pass saved, to call ``backward`` again; it is freed otherwise.
    """
    if root.trace is not TAPE:
        if root.trace is not None and root.trace.active:
            raise RuntimeError("backward: this Tensor belongs to a transformation; use what mt.grad or mt.vjp return")
        raise RuntimeError(
            "backward: nothing to differentiate, no leaf with requires_grad=True leads to this Tensor (or it was "
            "computed inside mt.no_grad())"
        )
    if gradient is None:
        if root.size != 1:
            raise ShapeError(f"backward: a Tensor of shape {root.shape} needs its cotangent: backward(gradient)")
        gradient = plain(np.ones(root.shape, root.dtype))
    gradient = as_tensor(gradient)
    if gradient.shape != root.shape:
        raise ShapeError(f"backward: the cotangent has shape {gradient.shape}, the Tensor {root.shape}")
    leaves = (
        {root.node: gradient}
        if isinstance(root.node, Leaf)
        else sweep([(root.node, gradient)], consume=not retain_graph)
    )
    for leaf, g in leaves.items():
        owner = leaf.tensor
        assert owner is not None  # leaves of the tape belong to a Tensor
        owner.grad = g if owner.grad is None else owner.grad + g
