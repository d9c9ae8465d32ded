"""``@checked``: shape annotations that are held to.

    @checked
    def scores(q: Float[Tensor, "*B T E"], k: Float[Tensor, "*B S E"], mask: Bool[Tensor, "*#B #T #S"] | None): ...

Annotations are jaxtyping's, read as text (so the module needs ``from __future__ import annotations``, and jaxtyping
only for type checkers). Only the outermost checked call looks at its arguments; a call costs a few microseconds.

An annotation is a kind of dtype and the axes, separated by blanks:

    T           an axis; everything named T has the same size           3           an axis of this size
    #T          an axis of size T or 1                                  _           an axis of any size
    *B          any number of axes, the same for everything named B     ...         any number of axes of any size
    *#B         any number of axes that broadcast with the other B      2*E+1       a size computed from other names
"""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

import numpy as np

from minitf.autodiff.dtypes import is_floating
from minitf.autodiff.errors import ShapeError, did_you_mean

F = TypeVar("F", bound=Callable[..., Any])

#: what the dtype classes admit ("b" boolean, "i" integer, "f" real floating, "c" complex), and how errors say it
KINDS = {
    "Float": ("f", "floating"),
    "Int": ("i", "integer"),
    "Bool": ("b", "boolean"),
    "Complex": ("c", "complex"),
    "Inexact": ("fc", "floating or complex"),
    "Num": ("ifc", "a number"),
    "Shaped": ("bifc", "a number or boolean"),
}

#: how many combinations of shapes and dtypes each function remembers as checked
REMEMBERED = 256
_inside: ContextVar[bool] = ContextVar("minitf_checked", default=False)
_kinds: dict[Any, str] = {}


class Axis(NamedTuple):
    """One word of an annotation: a name, a size, or code to compute one; all None: any size."""

    name: str | None = None
    size: int | None = None
    code: Any = None
    ones: bool = False  # size 1 is allowed as well
    many: bool = False  # any number of axes


class Shape(NamedTuple):
    """``kinds[text]``, parsed: the axes before and after the variadic one, if there is one."""

    kinds: str
    noun: str
    text: str
    before: tuple[Axis, ...]
    many: Axis | None
    after: tuple[Axis, ...]


class Check(NamedTuple):
    """What one argument may be: one of ``shapes``, or (``scalars``) a Python number, or None."""

    name: str
    shapes: tuple[Shape, ...]
    scalars: bool
    optional: bool


class Mismatch(Exception):
    """The words after "expected": why a shape does not fit."""


def checked(function: F) -> F:
    """``function``, checking annotated arguments when it is not called from inside another checked call.

    Raises ShapeError naming the function, the argument, both shapes and the axis that disagrees, and TypeError for a
    dtype of the wrong kind. Arguments are passed on untouched.
    """
    parameters = list(inspect.signature(function).parameters.values())
    checks = {p.name: _read(function, p) for p in parameters}
    fixed = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [checks[p.name] for p in parameters if p.kind in fixed]
    rest = next((checks[p.name] for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL), None)
    any_keyword = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    title = function.__name__
    accepted: set[Any] = set()

    @functools.wraps(function)
    def checking(*args: Any, **kwargs: Any) -> Any:
        if _inside.get():
            return function(*args, **kwargs)
        values = [*args, *kwargs.values()] if kwargs else args
        signature = (
            *kwargs,
            *[
                (s, getattr(v, "dtype", None)) if (s := getattr(v, "shape", None)) is not None else type(v)
                for v in values
            ],
        )
        if signature not in accepted:
            if not any_keyword:
                _refuse_unknown(title, kwargs, checks)
            given = [(check, value) for check, value in zip(positional, args, strict=False) if check is not None]
            if rest is not None:
                given += [(rest, value) for value in args[len(positional) :]]
            given += [(check, value) for name, value in kwargs.items() if (check := checks.get(name)) is not None]
            if _verify(title, given):
                if len(accepted) >= REMEMBERED:
                    accepted.clear()
                accepted.add(signature)
        token = _inside.set(True)
        try:
            return function(*args, **kwargs)
        finally:
            _inside.reset(token)

    return checking  # pyright: ignore[reportReturnType]


# -- reading annotations ------------------------------------------------------------------------------------------


def _read(function: Any, parameter: inspect.Parameter) -> Check | None:
    """The check that the parameter's annotation asks for, or None."""
    text = parameter.annotation
    if not isinstance(text, str) or not any(f"{kind}[" in text for kind in KINDS):
        return None
    where = f"{function.__name__}: {parameter.name}"
    shapes, words = [], []
    for part in _alternatives(ast.parse(text, mode="eval").body):
        if isinstance(part, ast.Subscript) and (kind := ast.unparse(part.value).rpartition(".")[2]) in KINDS:
            inner = part.slice
            if not (isinstance(inner, ast.Tuple) and len(inner.elts) == 2):
                raise TypeError(f'{where}: an annotation names an array type and its axes: {kind}[Tensor, "B T D"]')
            axes = inner.elts[1]  # a lone name may have lost its quotes to a formatter
            shapes.append(_shape(where, kind, str(axes.value) if isinstance(axes, ast.Constant) else ast.unparse(axes)))
        else:
            words.append(ast.unparse(part))
    if not shapes:
        return None  # an annotation inside a container: tuple[Float[...], ...]
    optional = "None" in words or parameter.default is None
    return Check(parameter.name, tuple(shapes), any(word != "None" for word in words), optional)


def _alternatives(node: ast.expr) -> list[ast.expr]:
    """The members of ``A | B | C``."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _alternatives(node.left) + _alternatives(node.right)
    return [node]


def _shape(where: str, kind: str, text: str) -> Shape:
    axes = [_axis(where, word) for word in text.split()]
    starred = [i for i, axis in enumerate(axes) if axis.many]
    if len(starred) > 1:
        raise TypeError(f"{where}: {text!r} has two variable numbers of axes; there can be one")
    cut = starred[0] if starred else len(axes)
    many = axes[cut] if starred else None
    return Shape(*KINDS[kind], text, tuple(axes[:cut]), many, tuple(axes[cut + 1 :]))


def _axis(where: str, word: str) -> Axis:
    if word == "...":
        return Axis(many=True)
    name = word.lstrip("*#?")
    prefix = word[: len(word) - len(name)]
    many, ones = "*" in prefix, "#" in prefix
    if name in ("", "_"):
        return Axis(many=many)
    if name.isdigit():
        return Axis(size=int(name), ones=ones)
    if name.isidentifier():
        return Axis(name=name, ones=ones, many=many)
    try:
        return Axis(name=name, code=compile(name, f"<{where}>", "eval"), ones=ones)
    except SyntaxError:
        raise TypeError(f"{where}: {word!r} is no axis: a name, a number, an expression or ...") from None


# -- holding arguments to them ------------------------------------------------------------------------------------


def _verify(title: str, given: list[tuple[Check, Any]]) -> bool:
    """Raises unless ``given`` fits; True if shapes and dtypes alone decided that."""
    simple = True
    sizes: dict[str, int] = {}
    groups: dict[str, tuple[tuple[int, ...], bool]] = {}
    late: list[tuple[Check, Shape, Any]] = []
    for i, (check, value) in enumerate(given):
        try:
            shape, dtype = value.shape, value.dtype
        except AttributeError:
            if (value is None and check.optional) or check.scalars:
                continue
            shape, dtype = _of_python(title, check, value)
            simple = False
        try:
            kind = _kinds[dtype]
        except KeyError:
            kind = _kinds[dtype] = _kind_of(dtype)
        error = None
        for expected in check.shapes:
            if kind not in expected.kinds:
                continue
            trial = (sizes, groups) if len(check.shapes) == 1 else (dict(sizes), dict(groups))
            try:
                if _fit(expected, shape, *trial):
                    late.append((check, expected, shape))
            except Mismatch as mismatch:
                error = error or (expected, mismatch)
            else:
                sizes, groups = trial
                break
        else:
            if error is None:
                _refuse_dtype(title, check, dtype)
            else:
                _refuse_shape(title, check, *error, shape, given[:i])
    for check, expected, shape in late:  # names may be bound by later arguments than the one that computes with them
        try:
            _fit_computed(expected, shape, sizes)
        except Mismatch as mismatch:
            _refuse_shape(title, check, expected, mismatch, shape, given)
    return simple


def _fit(expected: Shape, shape: Any, sizes: dict[str, int], groups: dict[str, Any]) -> bool:
    """Binds names to sizes; True if some axis has to be computed afterwards. Raises Mismatch."""
    before, many, after = expected.before, expected.many, expected.after
    count, fixed = len(shape), len(before) + len(after)
    if count != fixed and (many is None or count < fixed):
        raise Mismatch(f": {'at least ' if many else ''}{fixed} {'axis' if fixed == 1 else 'axes'}")
    computed = False
    for axes, given in ((before, shape), (after, shape[count - len(after) :] if after else ())):
        for axis, n in zip(axes, given, strict=False):
            name = axis.name
            if name is None:
                if axis.size is not None and n != axis.size and not (axis.ones and n == 1):
                    raise Mismatch(f" with an axis of size {axis.size}")
            elif axis.code is not None:
                computed = True
            elif axis.ones and n == 1:
                continue
            elif sizes.setdefault(name, n) != n:
                raise Mismatch(name, sizes[name])
    if many is not None and many.name is not None:
        _fit_group(many, tuple(shape[len(before) : count - len(after)]), groups)
    return computed


def _fit_group(many: Axis, given: tuple[int, ...], groups: dict[str, tuple[tuple[int, ...], bool]]) -> None:
    """``groups[name]``: the axes bound so far, and whether an argument without ``#`` bound them for good."""
    name = many.name
    known = groups.get(name)  # pyright: ignore[reportArgumentType]
    if known is None:
        groups[name] = (given, not many.ones)  # pyright: ignore[reportArgumentType]
        return
    bound, final = known
    if bound == given:
        groups[name] = (bound, final or not many.ones)  # pyright: ignore[reportArgumentType]
        return
    try:
        together = np.broadcast_shapes(bound, given) if many.ones or not final else None
    except ValueError:
        together = None
    if together is None or (final and together != bound) or (not many.ones and together != given):
        raise Mismatch(name, bound)
    groups[name] = (together, final or not many.ones)  # pyright: ignore[reportArgumentType]


def _fit_computed(expected: Shape, shape: Any, sizes: dict[str, int]) -> None:
    for axes, given in ((expected.before, shape), (expected.after, shape[len(shape) - len(expected.after) :])):
        for axis, n in zip(axes, given, strict=False):
            if axis.code is None or (axis.ones and n == 1):
                continue
            if all(name in sizes for name in axis.code.co_names) and n != (size := eval(axis.code, {}, sizes)):
                names = ", ".join(f"{name} = {sizes[name]}" for name in axis.code.co_names)
                raise Mismatch(f" with {axis.name} = {size} ({names})")


def _of_python(title: str, check: Check, value: Any) -> tuple[Any, Any]:
    """Shape and dtype of lists and Python numbers."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ShapeError(f"{title}: {check.name} is a ragged sequence ({error})") from None
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{title}: {check.name} must be an array of numbers, got {type(value).__name__}")
    return array.shape, array.dtype


def _kind_of(dtype: Any) -> str:
    """The letter of ``KINDS`` for a NumPy dtype, or another library's by its name."""
    if isinstance(dtype, np.dtype):
        return "f" if is_floating(dtype) else {"u": "i"}.get(dtype.kind, dtype.kind)
    name = str(dtype).rpartition(".")[2]
    starts = {
        "float": "f",
        "bfloat": "f",
        "half": "f",
        "double": "f",
        "int": "i",
        "uint": "i",
        "bool": "b",
        "complex": "c",
    }
    return next((kind for start, kind in starts.items() if name.startswith(start)), "?")


def _refuse_unknown(title: str, given: Iterable[str], known: Iterable[str]) -> None:
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known) or f"; there are {', '.join(known)}"
            raise TypeError(f"{title}() got an unexpected keyword argument {name!r}{hint}")


def _refuse_dtype(title: str, check: Check, dtype: Any) -> None:
    noun = " or ".join(dict.fromkeys(shape.noun for shape in check.shapes))
    meaning = " (True = may attend)" if noun == "boolean" and check.name.endswith("mask") else ""
    raise TypeError(f"{title}: {check.name} must be {noun}{meaning}, got {dtype}")


def _refuse_shape(
    title: str, check: Check, expected: Shape, mismatch: Mismatch, shape: Any, earlier: list[tuple[Check, Any]]
) -> None:
    reason = mismatch.args[0]
    if len(mismatch.args) == 2:
        name, size = mismatch.args
        source = next(
            (
                f"from {other.name} {tuple(value.shape)}"
                for other, value in earlier
                if hasattr(value, "shape") and any(_binds(s, name, size, value.shape) for s in other.shapes)
            ),
            "another of its axes",
        )
        reason = f" with {name} = {size} ({source})"
    raise ShapeError(f'{title}: {check.name} has shape {tuple(shape)}, expected "{expected.text}"{reason}')


def _binds(expected: Shape, name: str, size: Any, shape: Any) -> bool:
    """True if an argument of this shape can be where ``name`` got its ``size``."""
    sizes: dict[str, int] = {}
    groups: dict[str, Any] = {}
    try:
        _fit(expected, shape, sizes, groups)
    except Mismatch:
        return False
    return sizes.get(name) == size or (name in groups and (groups[name][0] == size or isinstance(size, tuple)))
