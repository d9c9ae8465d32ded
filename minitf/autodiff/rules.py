"""The rule tables: how a primitive is differentiated and what it costs, one line each beside the primitive.

    defvjp(multiply_p, lambda g, out, x, y: unbroadcast(g * conj(y), x),
                       lambda g, out, x, y: unbroadcast(g * conj(x), y))
    defjvp(multiply_p, lambda t, out, x, y: t * y, lambda t, out, x, y: x * t)

A vjp rule takes the cotangent ``g`` of the output, the output and the arguments, and returns the cotangent of its
argument; a jvp rule takes the tangent ``t`` of its argument and returns what that contributes to the output's. Rules
are written with public operations, so what they compute can itself be recorded: that is where higher derivatives
come from. Cotangents of complex values follow PyTorch's convention (the gradient of a real loss is
dL/d(re) + i dL/d(im)): a vjp multiplies with the conjugate of what the jvp multiplies with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minitf.autodiff.tensor import Primitive, Tensor, bind

Rule = Callable[..., Any]


def defvjp(primitive: Primitive, *rules: Rule | None, saves: tuple[Any, ...] | None = None) -> None:
    """One rule ``(g, out, *args, **params)`` an argument; None: the argument has no gradient.

    saves: what the rules need, (0, "out") for all of them or ((1,), (0,)) for each; see ``Primitive.saves``.
    """

    def pull(g: Any, needed: list[int], out: Any, args: list[Any], params: dict[str, Any]) -> list[Any]:
        return [None if rules[i] is None else rules[i](g, out, *args, **params) for i in needed]  # pyright: ignore

    primitive.vjp = pull
    if saves and isinstance(saves[0], tuple):
        primitive.saves = tuple(frozenset(needs) for needs in saves)
    else:
        primitive.saves = None if saves is None else frozenset(saves)


def defvjp_argnum(primitive: Primitive, rule: Rule, saves: tuple[int | str, ...] | None = None) -> None:
    """One rule ``(argnum, g, out, args, params)`` for all arguments, of which there may be any number."""

    def pull(g: Any, needed: list[int], out: Any, args: list[Any], params: dict[str, Any]) -> list[Any]:
        return [rule(i, g, out, args, params) for i in needed]

    primitive.vjp = pull
    primitive.saves = None if saves is None else frozenset(saves)


def defvjp_all(primitive: Primitive, rule: Rule, saves: tuple[int | str, ...] | None = None) -> None:
    """One rule ``(g, out, *args, **params)`` that returns the cotangents of all arguments at once, as a tuple.

    For primitives with many outputs ``g`` and ``out`` are tuples.
    """

    def pull(g: Any, needed: list[int], out: Any, args: list[Any], params: dict[str, Any]) -> list[Any]:
        cotangents = rule(g, out, *args, **params)
        return [cotangents[i] for i in needed]

    primitive.vjp = pull
    primitive.saves = None if saves is None else frozenset(saves)


def defjvp(primitive: Primitive, *rules: Rule | str | None) -> None:
    """One rule ``(t, out, *args, **params)`` an argument; "linear": the primitive itself, applied to the tangent."""

    def push(tangents: list[Any], out: Any, args: list[Any], params: dict[str, Any]) -> Any:
        total = None
        for i, t in enumerate(tangents):
            rule = rules[i] if t is not None else None
            if rule is None:
                continue
            if rule == "linear":
                part = bind(primitive, *args[:i], t, *args[i + 1 :], **params)
            else:
                part = rule(t, out, *args, **params)  # pyright: ignore[reportCallIssue]
            total = part if total is None else total + part
        return total

    primitive.jvp = push


def defjvp_all(primitive: Primitive, rule: Rule) -> None:
    """One rule ``(tangents, out, *args, **params)``; tangents are None where an argument has none.

    Returns the output's tangent, a tuple for primitives with many outputs.
    """

    def push(tangents: list[Any], out: Any, args: list[Any], params: dict[str, Any]) -> Any:
        return rule(tangents, out, *args, **params)

    primitive.jvp = push


def deflinear(primitive: Primitive, *transposes: Rule) -> None:
    """A primitive linear in each of its arguments alone: the jvp is the primitive, the vjp rules are given.

    A rule of a one-argument primitive needs no values, only shapes, so nothing is saved.
    """
    defvjp(primitive, *transposes, saves=() if len(transposes) == 1 else None)
    defjvp(primitive, *(["linear"] * len(transposes)))


def defcost(primitive: Primitive, rule: Rule) -> None:
    """``rule(out, *arrays, **params) -> (flops, macs)``; a primitive without a rule only moves data."""
    primitive.cost = rule


def is_differentiable(x: Any) -> bool:
    """True for Tensors that can carry a gradient."""
    from minitf.autodiff.dtypes import is_inexact

    return isinstance(x, Tensor) and is_inexact(x.dtype)
