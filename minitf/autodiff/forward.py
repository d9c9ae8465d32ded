"""Forward mode: a trace whose Tensors carry their tangents along."""

from __future__ import annotations

from typing import Any

from minitf.autodiff.dtypes import is_inexact
from minitf.autodiff.tensor import Primitive, Tensor, Trace, bind, plain, traced


class ForwardTrace(Trace):
    """The node of a Tensor is its tangent, a Tensor one level further down."""

    __slots__ = ()

    def process(self, primitive: Primitive, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        if primitive.jvp is None:
            if primitive.decomposition is None:
                raise NotImplementedError(
                    f"{primitive.name} has no forward-mode rule; use reverse mode (mt.vjp, mt.grad)"
                )
            return primitive.decomposition(*args, **params)
        primals = list(args)
        tangents: list[Any] = [None] * len(args)
        for i, a in enumerate(args):
            if isinstance(a, Tensor) and a.trace is self:
                primals[i] = a.primal if a.primal is not None else plain(a.data)
                tangents[i] = a.node
        out = bind(primitive, *primals, **params)
        tangent = primitive.jvp(tangents, out, primals, params)
        if tangent is None:
            return out
        if primitive.many:
            return tuple(
                o if t is None or not is_inexact(o.dtype) else traced(o, self, t)
                for o, t in zip(out, tangent, strict=True)
            )
        return traced(out, self, tangent)
