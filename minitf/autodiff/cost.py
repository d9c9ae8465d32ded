"""``cost``: what a computation costs, counted while it runs.

    with mt.cost() as c:
        loss = model(x).sum()
        loss.backward()
    print(c.table())
    c.flops, c.macs, c.bytes_read, c.bytes_written, c.parameters, c.peak_bytes

The rules, all exact and in one place:

- A multiply-add is 2 FLOPs and 1 MAC. MACs are counted for matrix products and convolutions (``einsum`` runs on
  ``matmul``); FLOPs everywhere. An elementwise operation is 1 FLOP per element of its result, whatever function it
  is; a sum of n elements is n - 1. Comparisons, logic, selection, look-ups and moves cost no FLOPs.
- A primitive reads each of its arguments once and writes its results; memory that broadcasting repeats counts once, a
  look-up reads what it returns and its indices. A result that shares memory with an argument (a view) costs nothing.
  A boolean is 1 byte.
- Everything is charged as executed: the fused kernel when that is what ran, and the backward sweep like everything
  else (put it into a context of its own to see it apart). Contexts nest, each counts what happens inside it.
- ``peak_bytes`` is the largest size at any time of the results that were alive together: they count from the moment a
  primitive of this context returned them until Python frees them. Scratch memory inside a primitive does not count.
- ``parameters`` are the elements of the leaves (Tensors that ever required gradients) that some primitive read.
"""

from __future__ import annotations

import html
import math
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from minitf.autodiff.dtypes import is_inexact
from minitf.autodiff.ops.index import index_p, take_along_p
from minitf.autodiff.tensor import LEAVES, TAPE, Interpreter, Node, Primitive, Selection, Tensor, interpreters
from minitf.autodiff.tree import tree_leaves, tree_map


@dataclass
class Row:
    """What the calls of one primitive, or the calls inside one scope, cost together."""

    calls: int = 0
    flops: int = 0
    macs: int = 0
    bytes_read: int = 0
    bytes_written: int = 0

    def charge(self, flops: int, macs: int, bytes_read: int, bytes_written: int) -> None:
        self.calls += 1
        self.flops += flops
        self.macs += macs
        self.bytes_read += bytes_read
        self.bytes_written += bytes_written


COLUMNS = tuple(field.name for field in fields(Row))


class cost(Interpreter):
    """A context that counts what the operations inside it cost; see the module's docstring for the rules.

    flops, macs, bytes_read, bytes_written, calls, parameters, peak_bytes: the totals.
    by_primitive: name -> ``Row``. by_scope: dotted path of a module (or ``scope``) -> ``Row`` of all that ran inside
        it, the modules below it included.
    """

    def __init__(self) -> None:
        self.total = Row()
        self.by_primitive: dict[str, Row] = {}
        self.by_scope: dict[str, Row] = {}
        self.parameters = 0
        self.peak_bytes = 0
        self._live_bytes = 0
        self._live: dict[int, weakref.ref[np.ndarray]] = {}
        self._leaves = _Leaves()
        self._touched: set[tuple[int, int]] = set()

    calls = property(lambda self: self.total.calls)
    flops = property(lambda self: self.total.flops)
    macs = property(lambda self: self.total.macs)
    bytes_read = property(lambda self: self.total.bytes_read)
    bytes_written = property(lambda self: self.total.bytes_written)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._live.clear()
        self._leaves = _Leaves()

    def observe(self, primitive: Primitive, arrays: list[Any], params: dict[str, Any], outputs: Any) -> None:
        read = [a for a in arrays if isinstance(a, np.ndarray)]
        sources = {id(owner(a)) for a in read}
        fresh = [o for o in outputs if id(owner(o)) not in sources]
        flops, macs = 0, 0
        if primitive.cost is not None:
            flops, macs = primitive.cost(outputs if primitive.many else outputs[0], *arrays, **params)
        written = sum(_memory(o) for o in fresh)
        charge = (int(flops), int(macs), _bytes_read(primitive, read, params, written) if fresh else 0, written)
        self.total.charge(*charge)
        self.by_primitive.setdefault(primitive.name, Row()).charge(*charge)
        for path in dict.fromkeys(_scopes.get().paths):
            self.by_scope.setdefault(path, Row()).charge(*charge)
        for o in fresh:
            self._keep(owner(o))
        for a in read:
            self._touch(a)

    def _keep(self, buffer: np.ndarray) -> None:
        """Counts ``buffer`` until it is freed."""
        key, size = id(buffer), buffer.nbytes
        if key in self._live:
            return

        def freed(_: Any) -> None:
            del self._live[key]
            self._live_bytes -= size

        self._live[key] = weakref.ref(buffer, freed)
        self._live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self._live_bytes)

    def _touch(self, a: np.ndarray) -> None:
        for place, size in self._leaves.under(a):
            if place not in self._touched:
                self._touched.add(place)
                self.parameters += size

    # -- reports ------------------------------------------------------------------------------------------------

    def rows(self, by: str = "primitive") -> list[dict[str, Any]]:
        """The rows as data, one dict each: by "primitive" (most FLOPs first) or by "scope" (in order of execution)."""
        if by not in ("primitive", "scope"):
            raise ValueError(f"cost: rows are by 'primitive' or by 'scope', got {by!r}")
        table = self.by_primitive if by == "primitive" else self.by_scope
        rows: list[dict[str, Any]] = [
            {by: name} | {column: getattr(row, column) for column in COLUMNS} for name, row in table.items()
        ]
        if by == "primitive":
            rows.sort(key=lambda row: (-row["flops"], -row["bytes_written"], row[by]))
        return rows

    def table(self, by: str = "primitive") -> str:
        """The rows as text, with the totals below."""
        lines = self._cells(by)
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        text = [
            "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
            for line in lines
        ]
        rule = "-" * len(text[0])
        body = [text[0], rule, *text[1:-1], rule, text[-1]]
        return "\n".join(
            [*body, f"{self.parameters:,} parameters touched, {self.peak_bytes:,} bytes alive at the peak"]
        )

    __str__ = table

    def _repr_html_(self) -> str:
        head, *body = [[html.escape(cell) for cell in line] for line in self._cells("primitive")]
        top = "".join(f"<th>{cell}</th>" for cell in head)
        rows = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in line) + "</tr>" for line in body)
        return f"<table><thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table>"

    def _cells(self, by: str) -> list[list[str]]:
        lines = [[by, *(column.replace("_", " ") for column in COLUMNS)]]
        for row in self.rows(by):
            lines.append([row[by] or "(the model)", *(f"{row[column]:,}" for column in COLUMNS)])
        return [*lines, ["total", *(f"{getattr(self.total, column):,}" for column in COLUMNS)]]


def owner(a: np.ndarray) -> np.ndarray:
    """The array that owns the memory ``a`` is a view of, as far as NumPy knows."""
    base: Any = a
    while (base := getattr(base, "base", None)) is not None:
        if isinstance(base, np.ndarray):
            a = base
    return a


def _bytes_read(primitive: Primitive, arrays: list[np.ndarray], params: dict[str, Any], written: int) -> int:
    indices = sum(a.nbytes for value in params.values() for a in tree_leaves(value) if isinstance(a, np.ndarray))
    if primitive in (index_p, take_along_p):
        return written + indices
    return indices + sum(_memory(a) for a in arrays)


def _memory(a: np.ndarray) -> int:
    """The bytes that ``a`` occupies; where broadcasting or overlapping windows repeat elements, they count once."""
    count = math.prod(n for n, stride in zip(a.shape, a.strides, strict=True) if stride or n == 0)
    return min(count * a.itemsize, owner(a).nbytes)


class _Leaves:
    """Finds the leaf that an array is (a view of), by the memory both live in."""

    def __init__(self) -> None:
        self.known = -1
        self.buffers: dict[int, tuple[np.ndarray, list[tuple[int, int, int]]]] = {}

    def under(self, a: np.ndarray) -> list[tuple[tuple[int, int], int]]:
        """((address, bytes), elements) of the leaves that share memory with ``a``."""
        if len(LEAVES) != self.known:
            self.known = len(LEAVES)
            self.buffers = {}
            for leaf in list(LEAVES.values()):
                buffer = owner(leaf.data)
                low, high = np.lib.array_utils.byte_bounds(leaf.data)
                self.buffers.setdefault(id(buffer), (buffer, []))[1].append((low, high, leaf.size))
        entry = self.buffers.get(id(owner(a)))
        if entry is None or a.size == 0:
            return []
        first, last = np.lib.array_utils.byte_bounds(a)
        return [((low, high), size) for low, high, size in entry[1] if low < last and first < high]


# -- scopes -------------------------------------------------------------------------------------------------------


class _Path(NamedTuple):
    """paths: the scopes entered, outermost first. names: of the modules below the outermost one, by id."""

    paths: tuple[str, ...] = ()
    prefix: str = ""
    names: dict[int, str] | None = None


_scopes: ContextVar[_Path] = ContextVar("minitf_scopes", default=_Path())  # noqa: B039  # a tuple


class scope:
    """A ``with`` block whose cost is also charged to a row of ``by_scope``, and to those of the scopes around it.

    what: a name, joined to the enclosing scope's by a dot; or a module, which gets the dotted path by which
        ``named_modules()`` of the outermost module knows it ("" for that module itself).

    Costs next to nothing when nobody counts.
    """

    __slots__ = ("_token", "what")

    def __init__(self, what: Any):
        self.what = what

    def __enter__(self) -> None:
        self._token = _scopes.set(_entered(self.what)) if interpreters() else None

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _scopes.reset(self._token)


def _entered(what: Any) -> _Path:
    paths, prefix, names = _scopes.get()
    inner = paths[-1] if paths else ""
    if isinstance(what, str):
        return _Path((*paths, _joined(inner, what)), prefix, names)
    if names is None:
        prefix, names = inner, {id(module): name for name, module in what.named_modules()}
    elif id(what) not in names:  # a module that is no part of the outermost one
        prefix = _joined(inner, type(what).__name__)
        names = {id(module): name for name, module in what.named_modules()}
    return _Path((*paths, _joined(prefix, names[id(what)])), prefix, names)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


# -- what the backward sweep keeps --------------------------------------------------------------------------------


def saved_bytes(function: Callable[..., Any], *args: Any, itemsize: int | None = None) -> int:
    """The bytes of the arrays that ``function(*args)`` keeps for its backward sweep.

    Every buffer counts once, a boolean 1 byte. The floating arrays in ``args`` are differentiated with respect to and
    count if they are kept; parameters (leaves the function closes over) never count.
    itemsize: bytes of a floating or complex number, instead of what the arrays have: 2 for a 16-bit format.
    """
    inputs: list[Tensor] = []

    def leaf(x: Any) -> Any:
        if not isinstance(x, (Tensor, np.ndarray)) or not is_inexact(x.dtype):
            return x
        inputs.append(Tensor(x.data if isinstance(x, Tensor) else x, requires_grad=True))
        return inputs[-1]

    out = function(*tree_map(leaf, args))
    given = {id(owner(x.data)) for x in inputs}
    closed_over = {id(owner(p.data)) for p in list(LEAVES.values())} - given
    kept: dict[int, np.ndarray] = {}
    for value in _saved(out):
        buffer = owner(value)
        if id(buffer) not in closed_over:
            kept[id(buffer)] = buffer
    return sum(b.size * (itemsize if itemsize and is_inexact(b.dtype) else b.itemsize) for b in kept.values())


def _saved(out: Any) -> list[np.ndarray]:
    """The arrays in the graph that leads to ``out``."""
    pending = [x.node for x in tree_leaves(out) if isinstance(x, Tensor) and x.trace is TAPE]
    seen: set[Any] = set()
    found: list[np.ndarray] = []
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        if isinstance(node, Selection):
            pending.append(node.parent)
        elif isinstance(node, Node):
            pending.extend(parent for _, parent in node.parents)
            for value in tree_leaves((list(node.args), node.out, node.params)):
                if isinstance(value, (Tensor, np.ndarray)):
                    found.append(value.data if isinstance(value, Tensor) else value)
    return found


# ``minitf.autodiff.cost`` is this class to whoever looks it up in the package: let the module's names be there too.
cost.scope = scope  # pyright: ignore[reportAttributeAccessIssue]
cost.saved_bytes = staticmethod(saved_bytes)  # pyright: ignore[reportAttributeAccessIssue]
