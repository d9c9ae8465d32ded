"""The table-driven test of an operation: one line says what it is, the checks below say what every operation owes.

TABLE = [Operation("exp", mt.exp, np.exp, normal, complex=True), ...]

@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("operation", TABLE)
def test_operation(operation, check):
    check(operation)
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import minitf as mt

Domain = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

UNARY = (((3, 4),), ((),), ((0, 3),))
BINARY = (((3, 4), (3, 4)), ((2, 1, 3), (4, 1)), ((), (3,)), ((0, 3), (1, 3)), ((), ()))


# -- where arguments are drawn from -----------------------------------------------------------------------------


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(rng.standard_normal(shape))


def positive(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(rng.uniform(0.5, 2.5, shape))


def unit(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Between -0.8 and 0.8."""
    return np.asarray(rng.uniform(-0.8, 0.8, shape))


def apart(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Values at least 0.1 apart from one another and from zero."""
    size = int(np.prod(shape))
    values = (np.arange(size) - size // 2) * 0.3 + rng.uniform(0.05, 0.2, size)
    return np.asarray(rng.permutation(values).reshape(shape))


def boolean(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(rng.random(shape) < 0.5)


def integer(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(rng.integers(0, 9, shape))


def definite(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Positive definite matrices."""
    a = rng.standard_normal(shape)
    return a @ a.swapaxes(-1, -2) + shape[-1] * np.eye(shape[-1])


def regular(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Matrices with determinants away from zero."""
    return rng.standard_normal(shape) + 2 * shape[-1] * np.eye(shape[-2], shape[-1])


# -- the table's lines ------------------------------------------------------------------------------------------


@dataclass(frozen=True, init=False)
class Operation:
    """name: the public name, and after a blank what is special about the line.
    function, reference: on the arguments; ours, and NumPy's.
    domains: where each argument is drawn from. shapes: shapes of all arguments, one tuple for each case; the first
        case is also drawn in other layouts and in float32.
    complex: holds for complex arguments as well. constant: has no gradient. order: to which derivatives are checked.
    """

    name: str
    function: Callable[..., Any]
    reference: Callable[..., Any]
    domains: tuple[Domain, ...]
    shapes: tuple[tuple[tuple[int, ...], ...], ...]
    complex: bool
    constant: bool
    order: int

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        reference: Callable[..., Any],
        *domains: Domain,
        shapes: Sequence[tuple[tuple[int, ...], ...]] | None = None,
        complex: bool = False,
        constant: bool = False,
        order: int = 2,
    ) -> None:
        if shapes is None:
            shapes = UNARY if len(domains) == 1 else BINARY
        for field, value in dict(
            name=name, function=function, reference=reference, domains=domains, shapes=tuple(shapes),
            complex=complex, constant=constant, order=order,
        ).items():  # fmt: skip
            object.__setattr__(self, field, value)

    def __str__(self) -> str:
        return self.name

    @property
    def public_name(self) -> str:
        return self.name.split()[0]

    def arguments(self, case: int = 0, complex: bool = False) -> list[np.ndarray]:
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), case])
        drawn = [draw(rng, shape) for draw, shape in zip(self.domains, self.shapes[case], strict=True)]
        if complex:
            drawn = [a + 0.5j * rng.standard_normal(a.shape) if a.dtype.kind == "f" else a for a in drawn]
        return drawn


# -- what every operation owes ----------------------------------------------------------------------------------


def leaves(out: Any) -> list[np.ndarray]:
    return [np.asarray(o) for o in (out if isinstance(out, (tuple, list)) else (out,))]


def same(got: Any, want: Any, rtol: float = 1e-13, atol: float = 1e-13) -> None:
    for g, w in zip(leaves(got), leaves(want), strict=True):
        assert g.shape == w.shape
        assert g.dtype == w.dtype
        np.testing.assert_allclose(g, w, rtol=rtol, atol=atol)


def values(operation: Operation) -> None:
    """The same as NumPy, shape, dtype and numbers, in every case; plain arrays and Tensors alike."""
    for case in range(len(operation.shapes)):
        for complex in {False, operation.complex}:
            arguments = operation.arguments(case, complex)
            want = operation.reference(*arguments)
            out = operation.function(*arguments)
            assert all(isinstance(o, mt.Tensor) for o in (out if isinstance(out, (tuple, list)) else (out,)))
            same(out, want)
            same(operation.function(*map(mt.tensor, arguments)), want)


def layouts(operation: Operation) -> None:
    """Fortran order, negative strides, gaps and zero strides make no difference."""
    arguments = operation.arguments()
    want = operation.function(*arguments)

    def gapped(a: np.ndarray) -> np.ndarray:
        wide = np.zeros(tuple(2 * n for n in a.shape), a.dtype)
        every_second = tuple(slice(None, None, 2) for _ in a.shape)
        wide[every_second] = a
        return np.asarray(wide[every_second])

    for rearrange in (lambda a: np.array(a, order="F"), lambda a: np.flip(np.flip(a).copy()), gapped):
        same(operation.function(*(rearrange(a) for a in arguments)), want)
    if not any(f in operation.name for f in ("index", "put", "inv", "solve", "det", "cholesky", "eigh", "sv", "norm")):
        flat = [np.broadcast_to(a.max(initial=0), a.shape) if a.dtype.kind == "f" else a for a in arguments]
        same(operation.function(*flat), operation.function(*(a.copy() for a in flat)))


def single_precision(operation: Operation) -> None:
    """float32 gives what float64 gives, rounded, in float32; so do its gradients."""
    arguments = operation.arguments()
    narrow = [a.astype(np.float32) if a.dtype.kind == "f" else a for a in arguments]
    expected = {"f": "float32", "c": "complex64"}
    for got, want in zip(leaves(operation.function(*narrow)), leaves(operation.function(*arguments)), strict=True):
        assert got.dtype == expected.get(want.dtype.kind, want.dtype)
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-4)
    floating = [i for i, a in enumerate(narrow) if a.dtype.kind == "f"]
    if operation.constant or not floating:
        return
    out, pullback = mt.vjp(_of(operation.function, narrow, floating), *(narrow[i] for i in floating))
    pulled = pullback([np.ones(o.shape, o.dtype) for o in out])
    for i, g in zip(floating, pulled, strict=True):
        assert (g.shape, g.dtype) == (narrow[i].shape, np.float32)


def _of(function: Callable[..., Any], arguments: Sequence[Any], free: Sequence[int]) -> Callable[..., Any]:
    """``function`` of the arguments at ``free`` alone, with its floating outputs as a list."""

    def of_free(*xs: Any) -> list[Any]:
        full = list(arguments)
        for i, x in zip(free, xs, strict=True):
            full[i] = x
        out = function(*full)
        out = out if isinstance(out, (tuple, list)) else [out]
        return [o for o in out if o.dtype.kind in "fc"]

    return of_free


def gradients(operation: Operation) -> None:
    """Both modes to the stated order, in every case, for complex arguments too; constants have zero gradients."""
    for case in range(len(operation.shapes)):
        for complex in {False, operation.complex}:
            arguments = operation.arguments(case, complex)
            free = [i for i, a in enumerate(arguments) if a.dtype.kind in "fc"]
            if not free:
                continue
            if not operation.constant:
                mt.check_grads(operation.function, *arguments, order=operation.order)
                continue

            def total(*xs: Any, arguments: Any = arguments, free: Any = free) -> Any:
                full = list(arguments)
                for i, x in zip(free, xs, strict=True):
                    full[i] = x
                return mt.sum(mt.astype(operation.function(*full), np.float64)) + 0.0 * mt.sum(xs[0])

            for g in mt.grad(total, argnums=tuple(range(len(free))))(*(arguments[i] for i in free)):
                assert not g.data.any()


def each_alone(operation: Operation) -> None:
    """An argument has the same gradient when the others are constants: what its rule needs was kept."""
    arguments = operation.arguments()
    free = [i for i, a in enumerate(arguments) if a.dtype.kind == "f"]
    if operation.constant or len(free) < 2:
        return
    out, pullback = mt.vjp(_of(operation.function, arguments, free), *(arguments[i] for i in free))
    for i, want in zip(free, pullback(out), strict=True):
        _, pull_one = mt.vjp(_of(operation.function, arguments, [i]), arguments[i])
        same(pull_one(out), [want])


CHECKS = (values, layouts, single_precision, gradients, each_alone)
