"""The submission as a grader sees it: an object whose methods are the functions that the exercise asks for."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from minitf.grade.exercise import ExerciseError
from minitf.grade.process import CallFailed

#: arrays up to this many elements are shown in full where a call is described
SHOWN_ELEMENTS = 4


class Callee(Protocol):
    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...


@dataclass(frozen=True)
class Signature:
    """What the stub promises about a function: the names of its parameters and what it returns."""

    name: str
    parameters: tuple[str, ...]
    returns: ast.expr | None

    def describe(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """The call in one line: arrays by shape."""
        if len(args) > len(self.parameters):
            raise ExerciseError(f"the grader calls {self.name} with {len(args)} positional arguments")
        given = dict(zip(self.parameters, args, strict=False)) | kwargs
        return f"{self.name}({', '.join(_argument(name, value) for name, value in given.items())})"


class Student:
    """``student.f(...)`` calls f of the submission, in its own process, with plain data (see ``student.wire``).

    The result has the form that the stub's annotation promises: ``np.ndarray`` (a number counts as one without axes),
    ``float``, ``int``, ``bool``, ``str``, ``None``, and ``tuple``, ``list``, ``dict[str, ...]`` and ``|`` of these.
    Anything else, an error, or no answer in time fails the check.
    """

    def __init__(self, callee: Callee, signatures: dict[str, Signature]):
        self._callee = callee
        self._signatures = signatures
        self.last_call = ""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        signature = self._signatures.get(name)
        if signature is None:
            raise ExerciseError(f"the grader calls {name}, which exercise.py does not ask for")

        def call(*args: Any, **kwargs: Any) -> Any:
            self.last_call = signature.describe(args, kwargs)
            value = self._callee.call(name, args, kwargs)
            if signature.returns is None:
                return value
            try:
                return conform(value, signature.returns)
            except _Mismatch as mismatch:
                promised = ast.unparse(signature.returns)
                raise CallFailed(f"returned {mismatch}; exercise.py promises {promised}") from None

        return call


def signatures(source: str) -> dict[str, Signature]:
    """The functions that a stub asks for, by name."""
    return {
        node.name: Signature(node.name, tuple(a.arg for a in (*node.args.posonlyargs, *node.args.args)), node.returns)
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


class _Mismatch(Exception):
    pass


def conform(value: Any, annotation: ast.expr) -> Any:
    """The value in the annotated form; raises when it does not have it."""
    match annotation:
        case ast.Constant(value=None):
            if value is None:
                return None
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            try:
                return conform(value, left)
            except _Mismatch:
                return conform(value, right)
        case ast.Attribute(attr="ndarray"):
            if isinstance(value, np.ndarray):
                return value
            if isinstance(value, int | float):
                return np.asarray(value)
        case ast.Name(id="float" | "int" | "bool" as kind):
            scalar = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
            allowed = {"float": (int, float), "int": (int,), "bool": (bool,)}[kind]
            if isinstance(scalar, allowed) and (kind == "bool" or not isinstance(scalar, bool)):
                return float(scalar) if kind == "float" else scalar
        case ast.Name(id="str"):
            if isinstance(value, str):
                return value
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=[item, ast.Constant(value=end)])) if (
            end is ...
        ):
            if isinstance(value, tuple | list):
                return tuple(conform(element, item) for element in value)
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=items)):
            if isinstance(value, tuple | list) and len(value) == len(items):
                return tuple(conform(element, item) for element, item in zip(value, items, strict=True))
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            if isinstance(value, list | tuple):
                return [conform(element, item) for element in value]
        case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[_, item])):
            if isinstance(value, dict):
                return {key: conform(element, item) for key, element in value.items()}
        case _:
            raise ExerciseError(f"exercise.py: the grader cannot read the annotation {ast.unparse(annotation)}")
    raise _Mismatch(kind_of(value))


def kind_of(value: Any) -> str:
    """A value in a few words."""
    if value is None:
        return "None (is a `return` missing?)"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    if isinstance(value, tuple | list | dict):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{type(value).__name__} {value!r:.40}"


def _argument(name: str, value: Any) -> str:
    if isinstance(value, np.ndarray):
        if value.size <= SHOWN_ELEMENTS and value.ndim <= 1:
            return f"{name}={np.array2string(value, precision=4, separator=', ')}"
        return f"{name} {value.shape}"
    if isinstance(value, list | tuple | dict) and len(repr(value)) > 60:
        return f"{name} ({type(value).__name__} of {len(value)})"
    return f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value!r}"
