"""Nested containers of Tensors: what transformations accept where one Tensor would do.

Dicts (in sorted key order), lists, tuples and named tuples are containers, ``None`` is an empty one; everything else
is a leaf.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def tree_flatten(tree: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """The leaves of ``tree`` and a function that puts as many leaves back into the same structure."""
    leaves: list[Any] = []

    def take(node: Any) -> Callable[[Any], Any]:
        if node is None:
            return lambda source: None
        if isinstance(node, dict):
            builders = {key: take(node[key]) for key in sorted(node)}
            order = list(node)

            def build_dict(source: Any) -> Any:
                built = {key: build(source) for key, build in builders.items()}
                return {key: built[key] for key in order}

            return build_dict
        if isinstance(node, tuple) and hasattr(node, "_fields"):
            parts = [take(child) for child in node]
            return lambda source: type(node)(*(build(source) for build in parts))
        if isinstance(node, (list, tuple)):
            kind = type(node)
            parts = [take(child) for child in node]
            return lambda source: kind(build(source) for build in parts)
        leaves.append(node)
        return next

    build = take(tree)
    return leaves, lambda values: build(iter(values))


def tree_leaves(tree: Any) -> list[Any]:
    return tree_flatten(tree)[0]


def tree_map(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """``function`` applied to every leaf, and to the leaves of ``others`` in the same places."""
    leaves, build = tree_flatten(tree)
    rest = [tree_leaves(other) for other in others]
    for other in rest:
        if len(other) != len(leaves):
            raise ValueError(f"tree_map: the trees have {len(leaves)} and {len(other)} leaves")
    return build([function(*values) for values in zip(leaves, *rest, strict=True)])
