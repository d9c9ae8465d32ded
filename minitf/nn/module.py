"""``Module``: a plain object whose attributes are parameters, buffers and other modules.

Nothing is registered: a module's parts are found by walking its attributes, in the order in which they were assigned.
``Parameter``s, ``Buffer``s and ``Module``s count, also inside lists, tuples and dicts; a name is the path of attribute
names, list positions and dict keys that leads there (``blocks.0.attention.q.weight``). What is reachable along two
paths (tied weights, a shared block) is one thing, and has the name of the first.

    class FeedForward(Module):
        def __init__(self, D: int, F: int, *, rng: np.random.Generator):
            self.up = Linear(D, F, rng=rng)
            self.down = Linear(F, D, rng=rng)

        def forward(self, x):
            return self.down(gelu(self.up(x)))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self

import numpy as np

from minitf.autodiff.config import current
from minitf.autodiff.cost import scope
from minitf.autodiff.dtypes import as_dtype, is_complex, is_floating, is_inexact
from minitf.autodiff.errors import ShapeError, did_you_mean
from minitf.autodiff.tensor import Tensor, as_tensor, interpreters

_unfilled: ContextVar[bool] = ContextVar("unfilled", default=False)


@contextmanager
def unfilled() -> Iterator[None]:
    """Inside, new parameters have a shape and a dtype but no memory, and nothing is drawn for them.

    For a model whose values come from a file: ``load_state_dict`` fills it. Until then its parameters read as zeros and
    cannot be written to.
    """
    token = _unfilled.set(True)
    try:
        yield
    finally:
        _unfilled.reset(token)


def is_unfilled() -> bool:
    return _unfilled.get()


def placeholder(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Zeros that take no memory, read-only."""
    return np.broadcast_to(np.zeros((), dtype), shape)


class Parameter(Tensor):
    """A leaf Tensor that belongs to a module and is trained.

    data: copied, since optimizers update a parameter in place.
    dtype: default: the configured one (``mt.config``); its complex partner for complex data.
    """

    __slots__ = ()

    def __init__(self, data: Any, dtype: Any = None, requires_grad: bool = True):
        value = as_tensor(data).data
        if dtype is None:
            dtype = _partner(current().dtype, value.dtype)
        dtype = as_dtype(dtype)
        data = placeholder(value.shape, dtype) if is_unfilled() else np.array(value, dtype=dtype, order="C")
        super().__init__(data, requires_grad=requires_grad)

    def __reduce__(self) -> tuple[Any, ...]:  # copies and pickles are leaves of their own
        return Parameter, (self.data, self.dtype, self.requires_grad)

    def __repr__(self) -> str:
        return f"Parameter{super().__repr__().removeprefix('tensor')}"


class Buffer(Tensor):
    """A Tensor that belongs to a module and its ``state_dict`` but is not trained: running statistics, tables.

    The data is copied and keeps its dtype; ``Module.astype`` casts floating buffers. Assign a new Buffer to change it.
    """

    __slots__ = ()

    def __init__(self, data: Any, dtype: Any = None):
        super().__init__(np.array(as_tensor(data).data, dtype=None if dtype is None else as_dtype(dtype)))

    def __reduce__(self) -> tuple[Any, ...]:
        return Buffer, (self.data, self.dtype)

    def __repr__(self) -> str:
        return f"Buffer{super().__repr__().removeprefix('tensor')}"


def _partner(dtype: np.dtype, like: np.dtype) -> np.dtype:
    """``dtype``, or the complex dtype of its precision if ``like`` is complex."""
    return np.result_type(dtype, np.complex64) if is_complex(like) else dtype


def require_sizes(layer: str, **sizes: Any) -> None:
    """Raises ShapeError unless all of the ``sizes`` that ``layer`` is made with are positive integers."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
            raise ShapeError(f"{layer}: {name} must be a positive integer, got {size!r}")


class Module:
    """What layers and models are made of: parameters, other modules, and a ``forward``.

    training: True until ``eval()``; dropout and the like look at it.
    """

    training = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward method; a Module says there what it computes")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not interpreters():
            return self.forward(*args, **kwargs)
        with scope(self):  # somebody counts: what happens inside is this module's
            return self.forward(*args, **kwargs)

    # -- the parts ----------------------------------------------------------------------------------------------

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(name, module) for this module (its name is ``prefix``) and all below it, parents first, each once."""
        seen: set[int] = set()

        def walk(module: Module, name: str) -> Iterator[tuple[str, Module]]:
            if id(module) in seen:
                return
            seen.add(id(module))
            yield name, module
            for child_name, child in module._own(Module):
                yield from walk(child, f"{name}.{child_name}" if name else child_name)

        return walk(self, prefix)

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(name, parameter) of this module and all below it; tied parameters once, under their first name."""
        return self._named(Parameter)

    def parameters(self) -> Iterator[Parameter]:
        """The parameters of this module and all below it, each once."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """(name, buffer) of this module and all below it, each once."""
        return self._named(Buffer)

    def buffers(self) -> Iterator[Buffer]:
        """The buffers of this module and all below it, each once."""
        return (buffer for _, buffer in self.named_buffers())

    def named_generators(self) -> Iterator[tuple[str, np.random.Generator]]:
        """(name, generator) of the random generators of this module and all below it, each once."""
        return self._named(np.random.Generator)

    def _own(self, kind: type | tuple[type, ...]) -> Iterator[tuple[str, Any]]:
        """(name, thing) for things of ``kind`` that belong to this module itself, in attribute order."""

        def walk(value: Any, name: str) -> Iterator[tuple[str, Any]]:
            if isinstance(value, kind):
                yield name, value
            elif isinstance(value, dict):
                for key, item in value.items():
                    yield from walk(item, f"{name}.{key}")
            elif isinstance(value, (list, tuple)):
                for i, item in enumerate(value):
                    yield from walk(item, f"{name}.{i}")

        for name, value in vars(self).items():
            yield from walk(value, name)

    def _named(self, kind: type | tuple[type, ...]) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for name, thing in self._places(kind):
            if id(thing) not in seen:
                seen.add(id(thing))
                yield name, thing

    def _places(self, kind: type | tuple[type, ...]) -> Iterator[tuple[str, Any]]:
        """Like ``_named``, but a tied thing under each of its names."""
        for prefix, module in self.named_modules():
            for name, thing in module._own(kind):
                yield (f"{prefix}.{name}" if prefix else name), thing

    # -- state --------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, np.ndarray]:
        """The values of all parameters and buffers by name, copied."""
        return {name: value.data.copy() for name, value in self._named((Parameter, Buffer))}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> Self:
        """Copies values by name into parameters and buffers, cast to the dtype that is there.

        state: name -> array, as ``state_dict`` returns it.
        strict: missing and unexpected names are errors; otherwise they are left alone.

        Raises ValueError that lists everything that does not fit; nothing is loaded then.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"load_state_dict: needs a mapping from names to arrays, got {type(state).__name__}")
        known = dict(self._named((Parameter, Buffer)))
        first = {id(value): name for name, value in known.items()}
        tied = {name: first[id(value)] for name, value in self._places((Parameter, Buffer)) if name not in known}
        problems = []
        if strict:
            problems += [f"missing: {name} {known[name].shape}" for name in known if name not in state]
            for name in state:
                if name in tied:
                    problems.append(f"unexpected: {name} is tied to {tied[name]}, which holds its value; leave it out")
                elif name not in known:
                    problems.append(f"unexpected: {name}{did_you_mean(name, known)}")
        values = {name: as_tensor(state[name]).data for name in known if name in state}
        for name, value in values.items():
            mine = known[name]
            if value.shape != mine.shape:
                problems.append(f"shape: {name} is {mine.shape} here, {value.shape} in the state")
            elif _kind(value.dtype) != _kind(mine.dtype):
                problems.append(f"dtype: {name} is {mine.dtype} here, {value.dtype} in the state")
        if problems:
            told = "\n  ".join(problems)
            raise ValueError(f"load_state_dict of {type(self).__name__}: nothing was loaded, because of\n  {told}")
        for name, value in values.items():
            if not known[name].data.flags.writeable:  # it was made ``unfilled``
                known[name].data = np.empty(value.shape, known[name].dtype)
            known[name].data[...] = value
        return self

    def train(self, mode: bool = True) -> Self:
        """Sets ``training`` here and below."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """``train(False)``."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forgets the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Thaws (or with False freezes) all parameters."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def astype(self, dtype: Any) -> Self:
        """Casts all floating parameters and buffers (complex ones to the complex partner), in place."""
        dtype = as_dtype(dtype)
        if not is_floating(dtype):
            raise TypeError(f"astype: parameters need a floating dtype such as 'float32', got {dtype}")
        for _, value in self._named((Parameter, Buffer)):
            if is_inexact(value.dtype):
                value.data = value.data.astype(_partner(dtype, value.dtype))
                value.grad = None
        return self

    # -- what it looks like -------------------------------------------------------------------------------------

    def summary(self) -> str:
        """A table with a line a module: its name, class, own parameters and their shapes; and the total."""
        seen: set[int] = set()
        rows = [("module", "class", "parameters", "shapes")]
        for name, module in self.named_modules():
            own = [(n, p) for n, p in module._own(Parameter) if id(p) not in seen]
            tied = [n for n, p in module._own(Parameter) if id(p) in seen]
            seen.update(id(p) for _, p in own)
            shapes = [f"{n} {p.shape}" for n, p in own] + [f"{n} tied" for n in tied]
            count = f"{sum(p.size for _, p in own):,}" if own else "-"
            rows.append((name or ".", type(module).__name__, count, ", ".join(shapes)))
        total, trainable = count_parameters(self), count_parameters(self, trainable=True)
        rows.append(("total", "", f"{total:,}", "" if total == trainable else f"{trainable:,} of them trainable"))
        wide = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [
            f"{name:<{wide[0]}}  {kind:<{wide[1]}}  {count:>{wide[2]}}  {shapes}".rstrip()
            for name, kind, count, shapes in rows
        ]
        rule = "-" * max(map(len, lines))
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])

    def extra_repr(self) -> str:
        """What ``repr`` shows between the parentheses: the choices this module was made with."""
        return ""

    def __repr__(self) -> str:
        children = [f"{name}: {child!r}" for name, child in self._own(Module)]
        if not children:
            return f"{type(self).__name__}({self.extra_repr()})"
        inside = "\n".join([self.extra_repr(), *children] if self.extra_repr() else children)
        return f"{type(self).__name__}(\n  " + inside.replace("\n", "\n  ") + "\n)"


def _kind(dtype: np.dtype) -> str:
    return "floating" if is_floating(dtype) else {"u": "i"}.get(dtype.kind, dtype.kind)


def count_parameters(module: Module, trainable: bool = False) -> int:
    """The number of scalars in the parameters of ``module``, tied ones once.

    trainable: only those of parameters that receive gradients.
    """
    return sum(p.size for p in module.parameters() if p.requires_grad or not trainable)


def functional_call(module: Module, values: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
    """``module(*args, **kwargs)`` with ``values`` in place of the parameters and buffers of these names.

    This makes a module a function of its parameters, for ``mt.grad``, ``mt.hvp`` and the like:

        def loss(parameters):
            return cross_entropy(functional_call(model, parameters, ids), targets)

        gradients = mt.grad(loss)({name: p.data for name, p in model.named_parameters()})

    A tied parameter is replaced everywhere. The module is as before when the call returns or raises.

    Raises ValueError for unknown names and wrong shapes.
    """
    known = dict(module._places((Parameter, Buffer)))
    replacement: dict[int, Tensor] = {}
    for name, value in values.items():
        if name not in known:
            raise ValueError(
                f"functional_call: {type(module).__name__} has no parameter {name!r}{did_you_mean(name, known)}"
            )
        value = as_tensor(value)
        if value.shape != known[name].shape:
            raise ValueError(f"functional_call: {name} has shape {known[name].shape}, got a value of {value.shape}")
        replacement[id(known[name])] = value
    before: list[tuple[dict[str, Any], str, Any]] = []
    for part in list(module.modules()):
        attributes = vars(part)
        for name, value in attributes.items():
            replaced = _replaced(value, lambda leaf: replacement.get(id(leaf), leaf))
            if replaced is not value:
                before.append((attributes, name, value))
    try:
        for attributes, name, value in before:
            attributes[name] = _replaced(value, lambda leaf: replacement.get(id(leaf), leaf))
        return module(*args, **kwargs)
    finally:
        for attributes, name, value in before:
            attributes[name] = value


def _replaced(value: Any, exchange: Callable[[Any], Any]) -> Any:
    """``value`` with ``exchange`` applied to what its lists, tuples and dicts hold; itself if nothing changes."""
    if isinstance(value, dict):
        new = {key: _replaced(item, exchange) for key, item in value.items()}
        return new if any(new[key] is not value[key] for key in value) else value
    if isinstance(value, (list, tuple)):
        items = [_replaced(item, exchange) for item in value]
        if all(a is b for a, b in zip(items, value, strict=True)):
            return value
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return exchange(value)
