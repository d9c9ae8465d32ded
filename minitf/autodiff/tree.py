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
    build = _take(tree, leaves)
    return leaves, lambda values: build(iter(values))


def _take(node: Any, leaves: list[Any]) -> Callable[[Any], Any]:
    """Appends the leaves of ``node``; returns what rebuilds it from an iterator of as many."""
    if node is None:
        return lambda source: None
    if isinstance(node, dict):
        builders = {key: _take(node[key], leaves) for key in sorted(node)}
        order = list(node)

        def build_dict(source: Any) -> Any:
            built = {key: build(source) for key, build in builders.items()}
            return {key: built[key] for key in order}

        return build_dict
    if isinstance(node, (list, tuple)):
        kind = type(node)
        parts = [_take(child, leaves) for child in node]
        if hasattr(node, "_fields"):
            return lambda source: kind(*(build(source) for build in parts))
        return lambda source: kind(build(source) for build in parts)
    leaves.append(node)
    return next


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
