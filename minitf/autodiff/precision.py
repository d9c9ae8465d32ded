"""``precision``: the same computation in the arithmetic of a low-precision kernel.

    with mt.precision("bfloat16", accumulate="float32") as p:
        out = p.run(attention, q, k, v)

Arrays keep their dtype (float64, if the caller wants more digits than the formats have); their *values* are rounded to
what the format can hold. A kernel rounds in three places, and so does this:

- Values in memory are in ``storage``: the inputs and outputs of the function that ``run`` evaluates, and what passes
  through ``mt.store(x)``, which a technique calls where every sensible kernel writes to memory.
- Every other result, and every constant that is computed with, is rounded to ``accumulate``. Elementwise functions are
  rounded once, from the exact value of their rounded arguments; those that no processor has as an instruction
  (``sigmoid``, ``softplus``, ...) once for each instruction.
- Sums (``sum``, ``matmul``, ``cumsum``, scatter-add and what is made of them) are rounded to ``accumulate`` after every
  addition, in the stated order, and so are the products in a ``matmul`` before they are added.

Fused kernels are evaluated by their decomposition. Primitives that only move values or compare them round nothing.
``mt.precision("longdouble")`` goes the other way: everything in NumPy's longdouble.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from minitf.autodiff.dtypes import as_dtype, is_complex, is_floating, is_inexact, promote
from minitf.autodiff.ops import elementwise as ew
from minitf.autodiff.ops.broadcast import astype_p, sum_p
from minitf.autodiff.ops.contract import matmul_p
from minitf.autodiff.ops.convolution import Windows, lay_back_p, view
from minitf.autodiff.ops.index import index_p, put_along_p, scatter_p
from minitf.autodiff.ops.reduce import cumsum_p
from minitf.autodiff.rules import defjvp, defvjp
from minitf.autodiff.tensor import Interpreter, Primitive, Tensor, as_tensor, bind, evaluator
from minitf.autodiff.tree import tree_map

# -- rounding one array -------------------------------------------------------------------------------------------


class Format(NamedTuple):
    """digits: of the significand, the leading one included. least, most: exponents of normal numbers."""

    digits: int
    least: int
    most: int
    largest: float
    overflow: float  # what becomes of larger values: inf, or nan in formats without infinities
    smallest: float  # the distance of subnormal numbers


def _format(name: str) -> Format:
    info = ml_dtypes.finfo(as_dtype(name))
    least = round(math.log2(float(info.smallest_normal)))
    largest = float(info.max)
    overflow = math.nan if name == "float8_e4m3fn" else math.inf
    return Format(info.nmant + 1, least, math.frexp(largest)[1] - 1, largest, overflow, 2.0 ** (least - info.nmant))


FORMATS = {
    name: _format(name) for name in ("bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "float32", "float64")
}


def round_to(x: np.ndarray, format: str, rng: np.random.Generator | None = None) -> np.ndarray:
    """The values of ``x`` rounded to what ``format`` can hold, in the dtype of ``x``.

    Nearest with ties to even, overflow to infinity (NaN in float8_e4m3fn), subnormal numbers included: the values of
    ``x.astype(ml_dtypes...)``, except that ml_dtypes rounds float64 to float32 first and then a second time.
    With ``rng``, up or down at random: up with a probability that is the distance from below in units of the last
    place, so that the expected value is ``x``. Values that the format holds stay, and so does what "nearest" rounds
    to the largest number.

    Real and imaginary parts of complex values are rounded each; integers and booleans are returned as they are.
    """
    x = np.asarray(x)
    if x.dtype.kind == "c":
        out = np.empty_like(x)
        out.real, out.imag = round_to(np.real(x), format, rng), round_to(np.imag(x), format, rng)
        return out
    to = FORMATS[format]
    if not is_floating(x.dtype) or _holds(to, x.dtype):
        return x
    if rng is None and format in ("float32", "float64"):  # the processor has these, rounded once
        with np.errstate(over="ignore"):
            return x.astype(format).astype(x.dtype)
    wide = x if x.dtype == np.longdouble else x.astype(np.float64, copy=False)
    kind = wide.dtype.type
    last = np.maximum(np.minimum(_binade(wide), kind(2.0**to.most)), kind(2.0**to.least)) * kind(2.0 ** (1 - to.digits))
    units = wide / last  # exact, like every product with a power of two here
    rounded = nearest = np.rint(units)
    if rng is not None:
        below = np.floor(units)
        with np.errstate(invalid="ignore"):  # inf - inf, where nothing is to be rounded
            rounded = below + (rng.random(below.shape) < units - below)
        beyond = np.maximum(np.abs(rounded), np.abs(nearest)) * last > to.largest
        rounded = np.where(beyond, nearest, rounded)
    rounded = rounded * last
    rounded = np.where(np.abs(rounded) > to.largest, kind(to.overflow), rounded)
    return np.copysign(rounded, wide).astype(x.dtype, copy=False)


@cache
def _holds(to: Format, dtype: np.dtype) -> bool:
    """True if the format has every value of ``dtype``."""
    if dtype == np.longdouble and np.finfo(np.longdouble).nmant > 52:
        return False
    own = FORMATS[np.dtype(np.float64).name if dtype == np.longdouble else dtype.name]
    return own.digits <= to.digits and own.largest <= to.largest and own.smallest >= to.smallest


def _binade(x: np.ndarray) -> np.ndarray:
    """The largest power of two not above |x| (for normal x; 0, infinities and NaN give something to clip)."""
    if x.dtype == np.float64:
        return (x.view(np.uint64) & np.uint64(0x7FF0000000000000)).view(np.float64)
    exponent = np.frexp(np.where(np.isfinite(x), x, 0))[1] - 1
    return np.ldexp(np.longdouble(1), exponent)


# -- points of storage --------------------------------------------------------------------------------------------


def store(x: Any) -> Any:
    """``x``, at a place where every sensible kernel writes it to memory in its storage format; so is its cotangent.

    Outside ``mt.precision`` this is ``x`` itself, unrecorded and free.
    """
    if evaluator() is None:
        return x
    x = as_tensor(x)
    return bind(store_p, x) if is_inexact(x.dtype) else x


store_p = Primitive("store", lambda x: x)
defvjp(store_p, lambda g, out, x: store(g), saves=())
defjvp(store_p, "linear")


# -- the interpreters ---------------------------------------------------------------------------------------------

ROUNDINGS = ("nearest", "stochastic")
PROFILES = ("stored", "eager")
ORDERS = ("forward", "reverse", "pairwise")


def precision(
    storage: str,
    accumulate: str | None = None,
    *,
    rounding: str = "nearest",
    profile: str = "stored",
    order: str = "forward",
    rng: np.random.Generator | None = None,
) -> Precision | ExtendedPrecision:
    """A context in which operations are evaluated in other arithmetic; derivatives too, if they are taken inside.

    storage: "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "float32" or "float64": the format of values in
        memory. "longdouble" evaluates everything in NumPy's longdouble, without further options.
    accumulate: the format of everything else; default "float32", or "float64" for float64 storage.
    rounding: "nearest" (ties to even), or "stochastic", which draws from ``rng``.
    profile: "stored" rounds to ``storage`` at storage points only; "eager" at the output of every primitive, like a
        framework that writes every intermediate result to memory.
    order: in which sums are added up: "forward" and "reverse" one after another, "pairwise" as a balanced tree.

    Of nested precisions the innermost is in force. Raises ValueError for names that are not known, and for
    "longdouble" on platforms where it is no wider than float64.
    """
    if storage == "longdouble":
        if (accumulate, rounding, profile, order, rng) != (None, "nearest", "stored", "forward", None):
            raise ValueError('precision: "longdouble" evaluates everything in one format and takes no options')
        return ExtendedPrecision()
    accumulate = accumulate or ("float64" if storage == "float64" else "float32")
    for what, value, allowed in (
        ("storage", storage, (*FORMATS, "longdouble")),
        ("accumulate", accumulate, tuple(FORMATS)),
        ("rounding", rounding, ROUNDINGS),
        ("profile", profile, PROFILES),
        ("order", order, ORDERS),
    ):
        if value not in allowed:
            raise ValueError(f"precision: {what} must be one of {', '.join(allowed)}, got {value!r}")
    if (rounding == "stochastic") != (rng is not None):
        raise ValueError(
            'precision: rounding="stochastic" draws random numbers: pass rng=np.random.default_rng(seed)'
            if rng is None
            else 'precision: rng is for rounding="stochastic" only'
        )
    return Precision(storage, accumulate, profile, order, rng)


class _Evaluator(Interpreter):
    """What both precisions have in common."""

    def run(self, function: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
        """``function(*inputs, **options)`` in this precision, arrays among inputs, options and outputs stored.

        Floating arrays become Tensors; everything else is passed on as it is. To look at gradients, let ``function``
        take them: they are its outputs then.
        """
        if evaluator() is not self:
            with self:
                return self.run(function, *inputs, **options)
        inputs, options = tree_map(_store_array, (inputs, options))
        return tree_map(_store_array, function(*inputs, **options))


def _store_array(x: Any) -> Any:
    return store(x) if isinstance(x, (Tensor, np.ndarray)) and is_inexact(x.dtype) else x


class Precision(_Evaluator):
    """What ``precision`` returns for the formats in ``FORMATS``; its options are its attributes."""

    def __init__(self, storage: str, accumulate: str, profile: str, order: str, rng: np.random.Generator | None):
        self.storage, self.accumulate, self.profile, self.order, self.rng = storage, accumulate, profile, order, rng
        self.native = rng is None and accumulate in ("float32", "float64")

    def decomposition(self, primitive: Primitive) -> Callable[..., Any] | None:
        if primitive.decomposition is None and self.profile == "stored":
            return INSTRUCTIONS.get(primitive)
        return primitive.decomposition

    def evaluate(self, primitive: Primitive, arrays: list[Any], params: dict[str, Any]) -> Any:
        if primitive is store_p:
            return round_to(arrays[0], self.storage, self.rng)
        if primitive.cost is None:  # values are moved or chosen, nothing is computed
            return primitive.impl(*arrays, **params)
        arrays = [self._operand(a) for a in arrays]
        rule = SUMS.get(primitive)
        out = primitive.impl(*arrays, **params) if rule is None else rule(self, *arrays, **params)
        return tuple(self._result(o) for o in out) if primitive.many else self._result(out)

    def _operand(self, a: Any) -> Any:
        """An argument on the grid of ``accumulate``: constants come as the user wrote them."""
        if isinstance(a, np.ndarray):
            return round_to(a, self.accumulate)
        if isinstance(a, (float, complex)):
            return round_to(np.asarray(a), self.accumulate).item()
        return a

    def _result(self, out: Any) -> np.ndarray:
        out = round_to(out, self.accumulate, self.rng)
        return round_to(out, self.storage, self.rng) if self.profile == "eager" else out

    # -- sums: every addition is rounded ------------------------------------------------------------------------

    def working(self, x: np.ndarray) -> np.ndarray:
        """``x`` to be added up: in the processor's own float32 or float64, if that rounds as it should."""
        if not self.native:
            return x
        return x.astype(
            np.promote_types(self.accumulate, np.complex64 if is_complex(x.dtype) else np.float16), copy=False
        )

    def rounded(self, x: np.ndarray) -> np.ndarray:
        """The result of one operation on working arrays."""
        return x if self.native else round_to(x, self.accumulate, self.rng)

    def add_terms(self, count: int, term: Callable[[int], np.ndarray]) -> np.ndarray:
        """term(0) + ... + term(count - 1)."""
        if self.order == "pairwise":
            return self._add_tree(0, count, term)
        terms = range(count) if self.order == "forward" else range(count - 1, -1, -1)
        total = None
        for k in terms:
            total = term(k) if total is None else self.rounded(total + term(k))
        assert total is not None, "an empty sum"
        return total

    def _add_tree(self, start: int, count: int, term: Callable[[int], np.ndarray]) -> np.ndarray:
        if count == 1:
            return term(start)
        left = 1 << ((count - 1).bit_length() - 1)  # the largest power of two below count
        return self.rounded(self._add_tree(start, left, term) + self._add_tree(start + left, count - left, term))

    def add_rows(self, x: np.ndarray) -> np.ndarray:
        """The sum over the first axis."""
        x = self.working(x)
        if self.order == "pairwise":
            while len(x) > 1:  # neighbours in pairs: the same tree as _add_tree
                pairs = self.rounded(x[0 : len(x) - 1 : 2] + x[1::2])
                x = np.concatenate([pairs, x[-1:]]) if len(x) % 2 else pairs
            return x[0]
        if self.native:
            return np.add.accumulate(x if self.order == "forward" else x[::-1], axis=0)[-1]
        return self.add_terms(len(x), lambda k: x[k])

    def running_sums(self, x: np.ndarray) -> np.ndarray:
        """All sums of the first elements along the first axis; "reverse" adds each up from its last element."""
        x = self.working(x).copy()
        if self.order == "forward":
            if self.native:
                return np.add.accumulate(x, axis=0)
            for k in range(1, len(x)):
                x[k] = self.rounded(x[k - 1] + x[k])
            return x
        if self.order == "reverse":
            total = x.copy()
            for k in range(1, len(x)):
                total[k:] = self.rounded(total[k:] + x[:-k])
            return total
        step = 1
        while step < len(x):
            x = np.concatenate([x[:step], self.rounded(x[step:] + x[:-step])])
            step *= 2
        return x

    def add_groups(self, values: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
        """``out[g]``: the sum of the ``values`` whose group is g, in their order; 0 where there are none."""
        values = self.working(values)
        out = np.zeros(count, values.dtype)
        by_group = np.argsort(groups, kind="stable")
        values, groups = values[by_group], groups[by_group]
        if self.order == "reverse":
            values, groups = values[::-1], groups[::-1]
        _, first, sizes = np.unique(groups, return_index=True, return_counts=True)
        if self.order == "reverse":
            place = np.arange(len(groups)) - np.repeat(first[::-1], sizes[::-1])
        else:
            place = np.arange(len(groups)) - np.repeat(first, sizes)
        if self.order == "pairwise":
            while place.max(initial=0) > 0:
                odd = np.flatnonzero(place % 2)
                values = values.copy()
                values[odd - 1] = self.rounded(values[odd - 1] + values[odd])
                kept = place % 2 == 0
                values, groups, place = values[kept], groups[kept], place[kept] // 2
        for k in range(place.max(initial=-1) + 1):
            now = place == k
            out[groups[now]] = values[now] if k == 0 else self.rounded(out[groups[now]] + values[now])
        return out


class ExtendedPrecision(_Evaluator):
    """What ``precision("longdouble")`` returns: every primitive in longdouble (clongdouble for complex values)."""

    def __init__(self) -> None:
        if np.finfo(np.longdouble).nmant <= np.finfo(np.float64).nmant:
            raise ValueError("precision: longdouble is no wider than float64 on this platform")

    def evaluate(self, primitive: Primitive, arrays: list[Any], params: dict[str, Any]) -> Any:
        arrays = [_extended(a) if isinstance(a, np.ndarray) else a for a in arrays]
        if primitive is astype_p:  # a cast says what the result is, not that digits are lost
            if is_complex(params["dtype"]):
                return arrays[0].astype(np.clongdouble, copy=False)
            return arrays[0].real.astype(np.longdouble, copy=False)
        out = primitive.impl(*arrays, **params)
        return tuple(_extended(o) for o in out) if primitive.many else _extended(out)


def _extended(x: Any) -> np.ndarray:
    x = np.asarray(x)
    if not is_inexact(x.dtype):
        return x
    return x.astype(np.clongdouble if is_complex(x.dtype) else np.longdouble, copy=False)


# -- rules --------------------------------------------------------------------------------------------------------


def _sum(p: Precision, x: np.ndarray, axis: tuple[int, ...], keepdims: bool) -> np.ndarray:
    count = math.prod(x.shape[a] for a in axis)
    if not is_inexact(x.dtype) or count == 0:
        return np.sum(x, axis=axis, keepdims=keepdims)
    rows = np.moveaxis(x, axis, range(len(axis)))
    rows = rows.reshape(count, *rows.shape[len(axis) :])
    out = p.add_rows(rows).astype(x.dtype)
    return np.expand_dims(out, axis) if keepdims else out


def _matmul(p: Precision, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = promote(x, y)
    dtype = np.result_type(x, y)
    if not is_inexact(dtype) or x.shape[-1] == 0:
        return matmul_p.impl(x, y)
    x, y = p.working(x), p.working(y)
    out = p.add_terms(x.shape[-1], lambda k: p.rounded(x[..., :, k, None] * y[..., k, None, :]))
    return out.astype(dtype)


def _cumsum(p: Precision, x: np.ndarray, axis: int) -> np.ndarray:
    if not is_inexact(x.dtype):
        return np.cumsum(x, axis=axis)
    return np.moveaxis(p.running_sums(np.moveaxis(x, axis, 0)), 0, axis).astype(x.dtype)


def _scatter(p: Precision, x: np.ndarray, index: Any, shape: tuple[int, ...]) -> np.ndarray:
    places = index_p.impl(np.arange(math.prod(shape)).reshape(shape), index)
    return _add_at(p, x, np.asarray(places), shape)


def _put_along(p: Precision, values: np.ndarray, indices: np.ndarray, axis: int, shape: tuple[int, ...]) -> np.ndarray:
    places = np.take_along_axis(np.arange(math.prod(shape)).reshape(shape), indices, axis)
    return _add_at(p, values, places, shape)


def _add_at(p: Precision, values: np.ndarray, places: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    values = np.broadcast_to(values, places.shape)
    if not is_inexact(values.dtype):
        out = np.zeros(math.prod(shape), values.dtype)
        np.add.at(out, places.reshape(-1), values.reshape(-1))
    else:
        out = p.add_groups(values.reshape(-1), places.reshape(-1), math.prod(shape)).astype(values.dtype)
    return out.reshape(shape)


def _lay_back(p: Precision, columns: np.ndarray, windows: Windows) -> np.ndarray:
    shape = (*columns.shape[: columns.ndim - 2 * len(windows.size)], *windows.size)
    places = view(np.arange(math.prod(shape)).reshape(shape), windows, fill=-1)
    inside = places >= 0
    return _add_at(p, columns[inside], places[inside], shape)


#: primitives that add up: (precision, *arrays, **params) -> output
SUMS: dict[Primitive, Callable[..., np.ndarray]] = {
    sum_p: _sum,
    matmul_p: _matmul,
    cumsum_p: _cumsum,
    lay_back_p: _lay_back,
    scatter_p: _scatter,
    put_along_p: _put_along,
}


def _sigmoid(x: Tensor) -> Tensor:
    e = ew.exp(-ew.abs(x))
    return ew.where(ew.greater_equal(x, 0), 1 / (1 + e), e / (1 + e))


def _logaddexp(x: Any, y: Any) -> Tensor:
    top = ew.maximum(x, y)
    distance = ew.where(ew.equal(x, y), 0.0, ew.abs(ew.subtract(x, y)))
    return top + ew.log1p(ew.exp(-distance))


#: elementwise functions that are several instructions everywhere; "eager" frameworks still write them once
INSTRUCTIONS: dict[Primitive, Callable[..., Tensor]] = {
    ew.sigmoid_p: _sigmoid,
    ew.softplus_p: lambda x: ew.maximum(x, 0.0) + ew.log1p(ew.exp(-ew.abs(x))),
    ew.logaddexp_p: _logaddexp,
    ew.rsqrt_p: lambda x: 1 / ew.sqrt(x),
}
