"""Tensors, primitives, and the one function through which every operation goes: ``bind``.

A ``Tensor`` wraps one ndarray. It may also belong to a *trace*: a running transformation (``grad``, ``jvp``, ...), or
the tape that starts at leaves with ``requires_grad``. A Tensor of a trace knows its *primal*, the same value one level
further down, and its *node*: what the trace remembers about it (how it was computed, or its tangent).

    bind(primitive, *args, **params)

finds the innermost active trace among the arguments and lets it process the operation on the primals, which is again
``bind``, one level lower. At the bottom nothing is traced and the primitive is evaluated on ndarrays, by the active
interpreter (``cost``, ``precision``) if there is one. Levels only ever grow, so nested transformations cannot be
confused; an operation without a traced argument records nothing.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakValueDictionary

import numpy as np

from minitf.autodiff.dtypes import as_dtype, is_inexact
from minitf.autodiff.errors import ShapeError, broadcast_message, describe
from minitf.autodiff.interop import to_numpy

#: what array operations accept
ArrayLike: TypeAlias = "Tensor | np.ndarray | np.generic | complex | float | int | bool | Sequence[Any]"

_levels = itertools.count(1)
#: traces at or below this level do not record here (see ``no_grad``)
_floor: ContextVar[int] = ContextVar("minitf_floor", default=-1)
#: the interpreters that evaluate primitives here, innermost last
_interpreters: ContextVar[tuple[Any, ...]] = ContextVar("minitf_interpreters", default=())


class Trace:
    """One level of recording. Subclasses say how an operation is processed."""

    __slots__ = ("active", "level")

    def __init__(self, level: int | None = None):
        self.level = next(_levels) if level is None else level
        self.active = True

    def process(self, primitive: Primitive, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        raise NotImplementedError


class Primitive:
    """An operation with rules in tables.

    name: what error messages call it.
    impl: the operation on ndarrays (and Python scalars).
    outputs: "one", or "many" if ``impl`` returns a tuple.
    vjp, jvp, cost: filled by the ``def...`` functions of ``minitf.autodiff.rules``. A primitive without vjp, jvp and
        decomposition has integer or piecewise constant results: its outputs are constants to every trace.
    decomposition: the same function written with smaller operations; used for the derivatives of fused kernels that
        have none of their own, and by ``precision``, which must see every rounding.
    saves: what the backward sweep needs: positions of arguments and "out", for all arguments alike (a set) or for the
        gradient of each (a tuple of sets); None means everything. The rest is replaced by its shape and dtype, so
        that nothing is kept alive without need.
    """

    __slots__ = ("cost", "decomposition", "impl", "jvp", "many", "name", "saves", "vjp")

    def __init__(
        self,
        name: str,
        impl: Callable[..., Any],
        *,
        outputs: str = "one",
        decomposition: Callable[..., Any] | None = None,
    ):
        self.name = name
        self.impl = impl
        self.many = outputs == "many"
        self.vjp: Callable[..., Any] | None = None
        self.jvp: Callable[..., Any] | None = None
        self.cost: Callable[..., Any] | None = None
        self.decomposition = decomposition
        self.saves: frozenset[int | str] | tuple[frozenset[int | str], ...] | None = None

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    @property
    def constant(self) -> bool:
        return self.vjp is None and self.jvp is None and self.decomposition is None

    def evaluate(self, arrays: list[Any], params: dict[str, Any]) -> Any:
        """The value on plain arrays, by the innermost interpreter; the bottom of ``bind``."""
        interpreters = _interpreters.get()
        try:
            out = interpret(interpreters, self, arrays, params) if interpreters else self.impl(*arrays, **params)
        except (ValueError, IndexError) as error:
            raise explain(self, error, arrays) from error
        return tuple([plain(o) for o in out]) if self.many else plain(out)


class Interpreter:
    """What evaluates primitives in a context (``evaluate``), or is told about each after the fact (``observe``).

    evaluate(primitive, arrays, params): the outputs. Of several interpreters that evaluate, the innermost one does.
    observe(primitive, arrays, params, outputs): every observer is told what was evaluated, by whomever.

    Interpreters are context managers, in force inside their ``with`` blocks.
    """

    evaluate: Callable[..., Any] | None = None
    observe: Callable[..., Any] | None = None

    def decomposition(self, primitive: Primitive) -> Callable[..., Any] | None:
        """What this evaluates instead of ``primitive``, written with smaller operations, if anything."""
        return primitive.decomposition

    def __enter__(self) -> Any:
        _interpreters.set((*_interpreters.get(), self))
        return self

    def __exit__(self, *_: object) -> None:
        _interpreters.set(_interpreters.get()[:-1])


def evaluator() -> Any:
    """The interpreter that evaluates primitives here, or None."""
    return next((i for i in reversed(_interpreters.get()) if i.evaluate is not None), None)


def interpret(interpreters: tuple[Any, ...], primitive: Primitive, arrays: list[Any], params: dict[str, Any]) -> Any:
    """Evaluates ``primitive`` under ``interpreters``, innermost last."""
    by = evaluator()
    if by is None:
        out = primitive.impl(*arrays, **params)
    elif (smaller := by.decomposition(primitive)) is not None:
        wrapped = [plain(a) if isinstance(a, np.ndarray) else a for a in arrays]
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # as quiet as the primitive itself
            out = smaller(*wrapped, **params)
        return tuple(o.data for o in out) if primitive.many else out.data
    else:
        out = by.evaluate(primitive, arrays, params)
    outputs = tuple(np.asarray(o) for o in (out if primitive.many else (out,)))
    for interpreter in interpreters:
        if interpreter.observe is not None:
            interpreter.observe(primitive, arrays, params, outputs)
    return outputs if primitive.many else outputs[0]


def explain(primitive: Primitive, error: Exception, arrays: list[Any]) -> Exception:
    """The error with the operation's name and its arguments' shapes, of the type a caller would expect."""
    if isinstance(error, ShapeError):
        return error
    shapes = [np.shape(a) for a in arrays if not isinstance(a, (tuple, list, str))]
    reason = ""
    if "broadcast" in str(error):
        reason = broadcast_message(shapes)
    told = ", ".join(describe(a) for a in arrays)
    message = f"{primitive.name}: {reason or error} (arguments: {told})"
    if isinstance(error, np.linalg.LinAlgError):
        return np.linalg.LinAlgError(message)
    if isinstance(error, IndexError) and not isinstance(error, np.exceptions.AxisError):
        return IndexError(message)
    return ShapeError(message)


def bind(primitive: Primitive, *args: Any, **params: Any) -> Any:
    """Applies ``primitive``: recorded by the innermost active trace among ``args``, evaluated if there is none."""
    trace = None
    level = _floor.get()
    arrays = []
    for a in args:
        if isinstance(a, Tensor):
            arrays.append(a.data)
            t = a.trace
            if t is not None and t.level > level and t.active:
                trace = t
                level = t.level
        else:
            arrays.append(a)
    if trace is None or primitive.constant:
        return primitive.evaluate(arrays, params)
    return trace.process(primitive, args, params)


def plain(data: Any) -> Tensor:
    """An untraced Tensor around ``data``."""
    tensor = _new_tensor()
    tensor.data = data if isinstance(data, np.ndarray) else np.asarray(data)
    tensor.trace = tensor.primal = tensor.node = tensor.grad = None
    return tensor


def traced(primal: Tensor, trace: Trace, node: Any) -> Tensor:
    """``primal`` as a Tensor of ``trace``, which remembers ``node`` about it."""
    tensor = _new_tensor()
    tensor.data = primal.data
    tensor.trace = trace
    tensor.primal = primal
    tensor.node = node
    tensor.grad = None
    return tensor


def lower(x: Any, trace: Trace) -> Any:
    """``x`` one level below ``trace``; anything that does not belong to it is returned as it is."""
    if isinstance(x, Tensor) and x.trace is trace:
        return x.primal if x.primal is not None else plain(x.data)
    return x


class Tensor:
    """An n-dimensional array that can be differentiated.

    data: an ndarray, or anything ``np.asarray`` takes; torch and jax arrays too (bfloat16 by its bits). Shared, not
        copied, when it already is an ndarray.
    dtype: cast to this; default: what the data has.
    requires_grad: makes this a leaf; ``loss.backward()`` adds to its ``grad``. Floating and complex dtypes only.

    Tensors are values: operations return new ones, and there is no assignment into them.
    """

    __slots__ = ("__weakref__", "data", "grad", "node", "primal", "trace")

    data: np.ndarray
    trace: Trace | None
    primal: Tensor | None
    node: Any
    grad: Tensor | None

    def __init__(self, data: Any, dtype: Any = None, requires_grad: bool = False):
        array = data.data if isinstance(data, Tensor) else to_numpy(data)
        self.data = array if dtype is None else array.astype(as_dtype(dtype), copy=False)
        self.trace = self.primal = self.node = self.grad = None
        if requires_grad:
            self.requires_grad = True

    # -- what it is ---------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def nbytes(self) -> int:
        return self.data.nbytes

    @property
    def requires_grad(self) -> bool:
        """True for a leaf, and for what was computed from one while recording."""
        return self.trace is TAPE

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self.trace is not None and not isinstance(self.node, Leaf):
            raise ValueError("requires_grad can be set on leaves only; this Tensor is the result of an operation")
        if value and not is_inexact(self.dtype):
            raise TypeError(f"only floating and complex Tensors can require gradients, this one is {self.dtype}")
        self.trace, self.node = (TAPE, Leaf(self)) if value else (None, None)
        if value:
            LEAVES[id(self)] = self

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a 0-dimensional Tensor has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        text = np.array2string(self.data, separator=", ", prefix="tensor(", threshold=100)
        kind = "" if self.dtype in (np.float64, np.int64, np.bool_) else f", dtype={self.dtype}"
        return f"tensor({text}{kind}{', requires_grad=True' if self.requires_grad else ''})"

    __hash__ = object.__hash__

    # -- out of the engine --------------------------------------------------------------------------------------

    def numpy(self) -> np.ndarray:
        """The values as an ndarray, shared and not copied; gradients do not follow."""
        return self.data

    def item(self) -> Any:
        """The value of a one-element Tensor as a Python number."""
        if self.size != 1:
            raise ShapeError(f"item: only a Tensor of one element has a single value, this one has shape {self.shape}")
        return self.data.item()

    def tolist(self) -> Any:
        return self.data.tolist()

    def _leaves_the_engine(self) -> None:
        """Refuses what would lose a derivative unnoticed: NumPy, SciPy or math asking for the values of a traced Tensor."""
        if self.trace is not None and self.trace is not TAPE and self.trace.active:
            raise TypeError(
                "a Tensor inside grad, vjp or jvp cannot become an ndarray or a float by itself, its derivative would be "
                "lost: use the function of mt, or say x.numpy(), x.item() or mt.stop_gradient(x) if that is what you want"
            )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        self._leaves_the_engine()
        if dtype is not None and dtype != self.data.dtype:
            if copy is False:
                raise ValueError(f"a {self.dtype} Tensor cannot become {dtype} without a copy")
            return self.data.astype(dtype)
        return self.data.copy() if copy else self.data

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(f"the truth value of a Tensor of shape {self.shape} is ambiguous; use mt.any or mt.all")
        return bool(self.data)

    def __float__(self) -> float:
        self._leaves_the_engine()
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise TypeError(f"only an integer Tensor can be an index, this one is {self.dtype}")
        return int(self.item())

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError("Tensors are values and cannot be assigned into; use mt.where, mt.index_put or mt.index_add")

    # -- gradients ----------------------------------------------------------------------------------------------

    def detach(self) -> Tensor:
        """The same values, a constant to every transformation."""
        return plain(self.data)

    def zero_grad(self) -> None:
        self.grad = None

    # The array operations are attached by ``minitf.autodiff.methods``, which knows them all.
    if TYPE_CHECKING:
        T: Tensor
        mT: Tensor
        real: Tensor
        imag: Tensor

        def backward(self, gradient: Any = None, *, retain_graph: bool = False) -> None: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __floordiv__(self, other: Any) -> Tensor: ...
        def __rfloordiv__(self, other: Any) -> Tensor: ...
        def __mod__(self, other: Any) -> Tensor: ...
        def __rmod__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __and__(self, other: Any) -> Tensor: ...
        def __rand__(self, other: Any) -> Tensor: ...
        def __or__(self, other: Any) -> Tensor: ...
        def __ror__(self, other: Any) -> Tensor: ...
        def __xor__(self, other: Any) -> Tensor: ...
        def __rxor__(self, other: Any) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __eq__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __getitem__(self, index: Any) -> Tensor: ...
        def __getattr__(self, name: str) -> Any: ...


_new_tensor = functools.partial(Tensor.__new__, Tensor)


class Leaf:
    """The node of a value that a reverse trace starts from."""

    __slots__ = ("id", "tensor")

    def __init__(self, tensor: Tensor | None = None):
        self.id = 0
        self.tensor = tensor


class Node:
    """One recorded operation: what was applied to what, and whose nodes its arguments are.

    parents: (position of the argument, its node). Ids grow in the order of execution, so every consumer of a node has
    a larger id: the backward sweep needs no other order.
    """

    __slots__ = ("args", "id", "out", "params", "parents", "primitive")

    def __init__(self, primitive: Primitive, args: Any, params: Any, out: Any, parents: list[tuple[int, Any]]):
        self.id = next(_node_ids)
        self.primitive = primitive
        self.args = args
        self.params = params
        self.out = out
        self.parents = parents


class Selection:
    """The node of one output of an operation with many."""

    __slots__ = ("id", "index", "parent")

    def __init__(self, parent: Node, index: int):
        self.id = next(_node_ids)
        self.parent = parent
        self.index = index


class Spec:
    """Shape and dtype of an argument whose values the backward sweep does not need."""

    __slots__ = ("dtype", "shape")

    def __init__(self, array: np.ndarray):
        self.shape = array.shape
        self.dtype = array.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)


_node_ids = itertools.count(1)


class ReverseTrace(Trace):
    """Remembers how values were computed, for a sweep backwards (``minitf.autodiff.reverse``)."""

    __slots__ = ()

    def process(self, primitive: Primitive, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        if primitive.vjp is None:
            assert primitive.decomposition is not None, primitive
            return primitive.decomposition(*args, **params)
        primals = list(args)
        parents = []
        for i, a in enumerate(args):
            if isinstance(a, Tensor) and a.trace is self:
                parents.append((i, a.node))
                primals[i] = a.primal if a.primal is not None else plain(a.data)
        # nothing lies below the tape, so nothing has to be looked for there
        if self is TAPE:
            out = primitive.evaluate([a.data if isinstance(a, Tensor) else a for a in args], params)
        else:
            out = bind(primitive, *primals, **params)
        saved_out = out
        saves = primitive.saves
        if saves is not None:
            if isinstance(saves, tuple):
                saves = (
                    saves[parents[0][0]] if len(parents) == 1 else frozenset().union(*(saves[i] for i, _ in parents))
                )
            for i, a in enumerate(primals):
                if i not in saves and isinstance(a, (Tensor, np.ndarray)):
                    primals[i] = Spec(a.data if isinstance(a, Tensor) else a)
            if "out" not in saves:
                saved_out = tuple([Spec(o.data) for o in out]) if primitive.many else Spec(out.data)
        node = Node(primitive, primals, params, saved_out, parents)
        if primitive.many:
            return tuple(traced(o, self, Selection(node, i)) if is_inexact(o.dtype) else o for i, o in enumerate(out))
        return traced(out, self, node)


#: every live Tensor that was ever made a leaf, by id: what ``cost`` counts as parameters
LEAVES: WeakValueDictionary[int, Tensor] = WeakValueDictionary()
#: the trace of leaves with ``requires_grad``, below every transformation
TAPE = ReverseTrace(level=0)


class no_grad:
    """Records nothing inside, neither for leaves nor for transformations that were started outside.

    A context manager, also usable as a decorator. Transformations started inside work as usual.
    """

    def __enter__(self) -> None:
        self._token = _floor.set(next(_levels))

    def __exit__(self, *_: object) -> None:
        _floor.reset(self._token)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def quiet(*args: Any, **kwargs: Any) -> Any:
            with no_grad():
                return function(*args, **kwargs)

        return quiet


def interpreters() -> tuple[Any, ...]:
    """The interpreters in force here, innermost last."""
    return _interpreters.get()


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor of ``data`` (copied): lists, scalars, ndarrays, torch and jax arrays. See ``Tensor``."""
    result = Tensor(data, dtype, requires_grad=False)
    result.data = np.array(result.data)
    if requires_grad:
        result.requires_grad = True
    return result


def as_tensor(x: Any) -> Tensor:
    """``x`` as a Tensor, unchanged if it is one; the data is shared where possible."""
    return x if isinstance(x, Tensor) else Tensor(x)
