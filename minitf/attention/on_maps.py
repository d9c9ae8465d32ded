"""What attentions over maps share: a primitive of q, k, v and a table of biases for offsets, its vjp, and its operands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minitf import autodiff as mt
from minitf.autodiff.dtypes import common_dtype
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import Primitive, Tensor, as_tensor, bind


def primitives(
    name: str, forward: Callable[..., Any], backward: Callable[..., Any], decomposition: Callable[..., Any]
) -> tuple[Primitive, Primitive]:
    """``name`` of (q, k, v, bias or None), with the outputs (out, lse), and ``name_vjp`` of these, those and their cotangents.

    forward, backward: the implementations; backward takes ``of_bias``, whether the bias's cotangent is asked for, and
    returns an array of no size if not. decomposition: of the forward, in public operations; it is differentiated for more.
    """

    def decomposed_vjp(
        q: Any, k: Any, v: Any, bias: Any, out: Any, lse: Any, g: Any, g_lse: Any, *, of_bias: bool, **choices: Any
    ) -> tuple[Tensor, ...]:
        given = (q, k, v, bias) if of_bias else (q, k, v)
        found = mt.vjp(lambda q, k, v, b=bias: decomposition(q, k, v, b, **choices), *given)[1]((g, g_lse))
        return found if of_bias else (*found, mt.zeros((0,), q.dtype))

    def pull(g: Any, needed: list[int], out: Any, args: Any, choices: dict[str, Any]) -> list[Any]:
        found = bind(vjp_p, *args, *out, *g, of_bias=3 in needed, **choices)
        return [found[i] for i in needed]

    p = Primitive(name, forward, outputs="many", decomposition=decomposition)
    vjp_p = Primitive(f"{name}_vjp", backward, outputs="many", decomposition=decomposed_vjp)
    p.vjp = pull
    return p, vjp_p


def operands(
    what: str, q: Tensor, k: Tensor, v: Tensor, bias: Any, table: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """q, k, v and the bias, of the shape ``table``, in their common dtype; raises ShapeError for a bias of another shape."""
    given = [q, k, v]
    if bias is not None:
        given.append(as_tensor(bias))
        if given[3].shape != table:
            raise ShapeError(f"{what}: bias must be {table}, one entry a head and offset, got {given[3].shape}")
    dtype = common_dtype(*(x.dtype for x in given))
    q, k, v, *biases = (mt.store(mt.astype(x, dtype)) for x in given)
    return q, k, v, biases[0] if biases else None
