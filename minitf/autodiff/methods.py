"""Attaches the array operations to ``Tensor`` as operators and methods, and to NumPy's ufuncs."""

from __future__ import annotations

from typing import Any

from minitf.autodiff.ops import broadcast, contract, elementwise, index, order, reduce, shape
from minitf.autodiff.ops.elementwise import _operand
from minitf.autodiff.reverse import backward
from minitf.autodiff.tensor import Tensor

Tensor.backward = backward  # pyright: ignore[reportAttributeAccessIssue]


def _reflected(operation: Any) -> Any:
    return lambda self, other: operation(other, self)


_BINARY = {
    "add": elementwise.add,
    "sub": elementwise.subtract,
    "mul": elementwise.multiply,
    "truediv": elementwise.divide,
    "floordiv": elementwise.floor_divide,
    "mod": elementwise.mod,
    "pow": elementwise.power,
    "matmul": contract.matmul,
    "and": elementwise.bitwise_and,
    "or": elementwise.bitwise_or,
    "xor": elementwise.bitwise_xor,
}
for _name, _operation in _BINARY.items():
    setattr(Tensor, f"__{_name}__", _operation)
    setattr(Tensor, f"__r{_name}__", _reflected(_operation))
for _name, _operation in {
    "lt": elementwise.less,
    "le": elementwise.less_equal,
    "gt": elementwise.greater,
    "ge": elementwise.greater_equal,
    "eq": elementwise.equal,
    "ne": elementwise.not_equal,
}.items():
    setattr(Tensor, f"__{_name}__", _operation)
for _name, _operation in {
    "neg": elementwise.negative,
    "abs": elementwise.abs,
    "invert": elementwise.invert,
    "getitem": index.index,
}.items():
    setattr(Tensor, f"__{_name}__", _operation)

for _module, _names in {
    broadcast: ("sum", "astype", "conj"),
    elementwise: ("exp", "log", "sqrt", "tanh", "sin", "cos", "clip", "square"),
    reduce: ("mean", "var", "std", "max", "min", "prod", "cumsum", "argmax", "argmin", "any", "all", "logsumexp"),
    shape: ("swapaxes", "squeeze", "ravel", "repeat", "split"),
    order: ("argsort", "sort"),
    contract: ("dot",),
}.items():
    for _name in _names:
        setattr(Tensor, _name, getattr(_module, _name))


def _spread(operation: Any) -> Any:
    """A method that takes its tuple also as separate arguments: x.reshape(2, 3) and x.reshape((2, 3))."""

    def method(self: Tensor, *arguments: Any) -> Tensor:
        if len(arguments) == 1 and (isinstance(arguments[0], (tuple, list)) or arguments[0] is None):
            return operation(self, arguments[0])
        return operation(self, arguments or None)

    method.__doc__ = operation.__doc__
    return method


for _name, _operation in {"reshape": broadcast.reshape, "transpose": shape.transpose}.items():
    setattr(Tensor, _name, _spread(_operation))

Tensor.T = property(lambda self: shape.transpose(self), doc="All axes reversed.")  # pyright: ignore
Tensor.mT = property(lambda self: shape.swapaxes(self, -1, -2), doc="The last two axes exchanged.")  # pyright: ignore
Tensor.real = property(broadcast.real, doc="The real part.")  # pyright: ignore
Tensor.imag = property(broadcast.imag, doc="The imaginary part.")  # pyright: ignore

_UFUNCS = {
    "true_divide": elementwise.divide,
    "absolute": elementwise.abs,
    "remainder": elementwise.mod,
    "conjugate": broadcast.conj,
    "matmul": contract.matmul,
    "rint": elementwise.round,
}


def _array_ufunc(self: Tensor, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """np.exp(tensor) and ndarray + tensor give Tensors, through the operation of the same name."""
    operation = _UFUNCS.get(ufunc.__name__) or getattr(elementwise, ufunc.__name__, None)
    if method != "__call__" or kwargs or operation is None:
        return NotImplemented
    return operation(*(_operand(x) for x in inputs))


Tensor.__array_ufunc__ = _array_ufunc  # pyright: ignore[reportAttributeAccessIssue]
