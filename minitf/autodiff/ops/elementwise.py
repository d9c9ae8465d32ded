"""Elementwise operations: one line each for the value, the derivative and what the sweep must keep."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minitf.autodiff.dtypes import is_inexact, promote
from minitf.autodiff.errors import ShapeError, describe, fits_into
from minitf.autodiff.ops.broadcast import astype, broadcast_to, conj, real, unbroadcast
from minitf.autodiff.rules import defcost, defjvp, defvjp
from minitf.autodiff.tensor import ArrayLike, Primitive, Tensor, as_tensor, bind, plain
from minitf.kernels.erf import erf as erf_of_array


def _promoting(ufunc: Callable[..., Any]) -> Callable[..., Any]:
    """``ufunc`` after ``dtypes.promote``; equal dtypes, and NumPy's own beside a Python scalar, need nothing."""

    def apply(x: Any, y: Any) -> Any:
        dx, dy = getattr(x, "dtype", None), getattr(y, "dtype", None)
        if dx is not dy and ((dx or dy).isbuiltin != 1 if dx is None or dy is None else dx != dy):  # pyright: ignore
            x, y = promote(x, y)
        return ufunc(x, y)

    return apply


def _flops(count: int) -> Callable[..., Any]:
    return lambda out, *args, **params: (count * out.size, 0)


_SCALARS = frozenset((bool, int, float, complex))


def _operand(x: Any) -> Any:
    """Python scalars stay as they are (they are weak in promotion); everything else becomes a Tensor."""
    return x if type(x) in _SCALARS else as_tensor(x)


def _binary(name: str, ufunc: Callable[..., Any], doc: str) -> tuple[Primitive, Callable[..., Tensor]]:
    primitive = Primitive(name, _promoting(ufunc))
    defcost(primitive, _flops(1))

    def operation(x: ArrayLike, y: ArrayLike) -> Tensor:
        if not isinstance(x, Tensor):
            x = _operand(x)
        if not isinstance(y, Tensor):
            y = _operand(y)
        return bind(primitive, x, y)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = doc
    return primitive, operation


def _unary(
    name: str,
    impl: Callable[..., Any],
    derivative: Callable[..., Any] | None,
    saves: tuple[int | str, ...] = (0,),
    doc: str = "",
) -> tuple[Primitive, Callable[..., Tensor]]:
    """``derivative(out, x)`` of a (complex) differentiable function of one variable."""
    primitive = Primitive(name, impl)
    if derivative is not None:
        defvjp(primitive, lambda g, out, x: unbroadcast(g * conj(derivative(out, x)), x), saves=saves)
        defjvp(primitive, lambda t, out, x: t * derivative(out, x))
    defcost(primitive, _flops(1))

    def operation(x: ArrayLike) -> Tensor:
        return bind(primitive, as_tensor(x))

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = doc or f"Elementwise {name}."
    return primitive, operation


# -- arithmetic -------------------------------------------------------------------------------------------------


def _shaped(t: Tensor, out: Tensor) -> Tensor:
    """A tangent with the shape and dtype of the output it belongs to."""
    return astype(broadcast_to(t, out.shape), out.dtype)


add_p, add = _binary("add", np.add, "x + y.")
defvjp(add_p, lambda g, out, x, y: unbroadcast(g, x), lambda g, out, x, y: unbroadcast(g, y), saves=())
defjvp(add_p, lambda t, out, x, y: _shaped(t, out), lambda t, out, x, y: _shaped(t, out))

subtract_p, subtract = _binary("subtract", np.subtract, "x - y.")
defvjp(subtract_p, lambda g, out, x, y: unbroadcast(g, x), lambda g, out, x, y: unbroadcast(-g, y), saves=())
defjvp(subtract_p, lambda t, out, x, y: _shaped(t, out), lambda t, out, x, y: _shaped(-t, out))

multiply_p, multiply = _binary("multiply", np.multiply, "x * y.")
defvjp(
    multiply_p,
    lambda g, out, x, y: unbroadcast(g * conj(y), x),
    lambda g, out, x, y: unbroadcast(g * conj(x), y),
    saves=((1,), (0,)),
)
defjvp(multiply_p, lambda t, out, x, y: t * y, lambda t, out, x, y: x * t)

divide_p, divide = _binary("divide", np.true_divide, "x / y; integers divide to float64.")
defvjp(
    divide_p,
    lambda g, out, x, y: unbroadcast(g / conj(y), x),
    lambda g, out, x, y: unbroadcast(-g * conj(out / y), y),
    saves=((1,), (1, "out")),
)
defjvp(divide_p, lambda t, out, x, y: t / y, lambda t, out, x, y: -out / y * t)

floor_divide_p, floor_divide = _binary("floor_divide", np.floor_divide, "floor(x / y); no gradient.")

mod_p, mod = _binary("mod", np.mod, "x - floor(x / y) * y.")
defvjp(
    mod_p,
    lambda g, out, x, y: unbroadcast(g, x),
    lambda g, out, x, y: unbroadcast(-g * floor_divide(x, y), y),
    saves=((), (0, 1)),
)
defjvp(mod_p, lambda t, out, x, y: _shaped(t, out), lambda t, out, x, y: -t * floor_divide(x, y))

negative_p, negative = _unary("negative", np.negative, None, doc="-x.")
defvjp(negative_p, lambda g, out, x: -g, saves=())
defjvp(negative_p, "linear")


def _power_of_exponent(out: Any, x: Any) -> Tensor:
    """out * log(x), and 0 where x is 0 (the limit for positive exponents)."""
    if not isinstance(x, Tensor):
        return out * (np.log(x).item() if x else 0.0)
    return out * log(where(equal(x, 0), 1.0, astype(x, out.dtype)))


power_p, _power = _binary("power", np.power, "")
defvjp(
    power_p,
    lambda g, out, x, y: unbroadcast(g * conj(_power_slope(x, y)), x),
    lambda g, out, x, y: unbroadcast(g * conj(_power_of_exponent(out, x)), y),
    saves=((0, 1), (0, "out")),
)
defjvp(power_p, lambda t, out, x, y: t * _power_slope(x, y), lambda t, out, x, y: t * _power_of_exponent(out, x))


def _power_slope(x: Any, y: Any) -> Any:
    if not isinstance(y, Tensor):
        return 0.0 if y == 0 else y * x ** (y - 1)
    return where(equal(y, 0), 0.0, y * power(x, where(equal(y, 0), 1, y - 1)))


def power(x: ArrayLike, y: ArrayLike) -> Tensor:
    """x ** y. The derivative with respect to y is 0 where x is 0."""
    if not isinstance(y, (Tensor, np.ndarray, list, tuple)):
        if y == 1 and isinstance(x, Tensor):
            return x
        if y == 2:
            return square(x)
    return bind(power_p, _operand(x), _operand(y))


# -- comparisons and logic: constants to every trace ------------------------------------------------------------


def _constant(name: str, impl: Callable[..., Any], doc: str, arity: int = 2, flops: int = 0) -> Callable[..., Tensor]:
    primitive = Primitive(name, _promoting(impl) if arity == 2 else impl)
    defcost(primitive, _flops(flops))

    def binary(x: ArrayLike, y: ArrayLike) -> Tensor:
        return bind(primitive, _operand(x), _operand(y))

    def unary(x: ArrayLike) -> Tensor:
        return bind(primitive, as_tensor(x))

    operation = binary if arity == 2 else unary
    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = doc
    return operation


def _of_bits(ufunc: Callable[..., Any]) -> Callable[..., Any]:
    """``ufunc``, which integers and booleans have."""

    def apply(*operands: Any) -> Any:
        try:
            return ufunc(*operands)
        except TypeError:
            told = " and ".join(describe(x) for x in operands)
            raise TypeError(f"{ufunc.__name__}: needs integers or booleans, got {told}") from None

    return apply


equal = _constant("equal", np.equal, "x == y, elementwise.")
not_equal = _constant("not_equal", np.not_equal, "x != y, elementwise.")
less = _constant("less", np.less, "x < y, elementwise.")
less_equal = _constant("less_equal", np.less_equal, "x <= y, elementwise.")
greater = _constant("greater", np.greater, "x > y, elementwise.")
greater_equal = _constant("greater_equal", np.greater_equal, "x >= y, elementwise.")
logical_and = _constant("logical_and", np.logical_and, "x and y, elementwise.")
logical_or = _constant("logical_or", np.logical_or, "x or y, elementwise.")
logical_xor = _constant("logical_xor", np.logical_xor, "x xor y, elementwise.")
bitwise_and = _constant("bitwise_and", _of_bits(np.bitwise_and), "x & y of integers or booleans.")
bitwise_or = _constant("bitwise_or", _of_bits(np.bitwise_or), "x | y of integers or booleans.")
bitwise_xor = _constant("bitwise_xor", _of_bits(np.bitwise_xor), "x ^ y of integers or booleans.")
logical_not = _constant("logical_not", np.logical_not, "not x, elementwise.", arity=1)
invert = _constant("invert", _of_bits(np.invert), "~x of integers or booleans.", arity=1)
isnan = _constant("isnan", np.isnan, "True where x is NaN.", arity=1)
isinf = _constant("isinf", np.isinf, "True where x is infinite.", arity=1)
isfinite = _constant("isfinite", np.isfinite, "True where x is neither infinite nor NaN.", arity=1)
sign = _constant("sign", np.sign, "-1, 0 or 1; x/|x| for complex x. The gradient is zero.", arity=1, flops=1)
floor = _constant("floor", np.floor, "The largest integer not above x; no gradient.", arity=1, flops=1)
ceil = _constant("ceil", np.ceil, "The smallest integer not below x; no gradient.", arity=1, flops=1)
round = _constant(
    "round", np.rint, "The nearest integer, halves to even; no gradient (see straight_through).", arity=1, flops=1
)


# -- selection --------------------------------------------------------------------------------------------------


def _where(condition: Any, x: Any, y: Any) -> Any:
    if getattr(x, "dtype", None) != getattr(y, "dtype", None):
        x, y = promote(x, y)
    return np.where(condition, x, y)


where_p = Primitive("where", _where)
defvjp(
    where_p,
    None,
    lambda g, out, c, x, y: unbroadcast(where(c, g, 0.0), x),
    lambda g, out, c, x, y: unbroadcast(where(c, 0.0, g), y),
    saves=(0,),
)
defjvp(
    where_p,
    None,
    lambda t, out, c, x, y: _shaped(where(c, t, 0.0), out),
    lambda t, out, c, x, y: _shaped(where(c, 0.0, t), out),
)


def where(condition: ArrayLike, x: ArrayLike, y: ArrayLike) -> Tensor:
    """``x`` where the boolean ``condition`` holds, ``y`` elsewhere; what is not chosen gets a zero gradient."""
    condition = as_tensor(condition)
    if condition.dtype != np.bool_:
        raise TypeError(f"where: the condition must be boolean, got {condition.dtype}; compare first (x != 0)")
    return bind(where_p, condition, _operand(x), _operand(y))


def _defextremum(primitive: Primitive, first_wins: Callable[..., Tensor]) -> None:
    defvjp(
        primitive,
        lambda g, out, x, y: unbroadcast(where(first_wins(x, y), g, 0.0), x),
        lambda g, out, x, y: unbroadcast(where(first_wins(x, y), 0.0, g), y),
        saves=(0, 1),
    )
    defjvp(
        primitive,
        lambda t, out, x, y: _shaped(where(first_wins(x, y), t, 0.0), out),
        lambda t, out, x, y: _shaped(where(first_wins(x, y), 0.0, t), out),
    )


maximum_p, maximum = _binary("maximum", np.maximum, "The larger of x and y; a tie sends the gradient to x.")
minimum_p, minimum = _binary("minimum", np.minimum, "The smaller of x and y; a tie sends the gradient to x.")
_defextremum(maximum_p, greater_equal)
_defextremum(minimum_p, less_equal)


def clip(x: ArrayLike, minimum_value: ArrayLike | None = None, maximum_value: ArrayLike | None = None) -> Tensor:
    """``x`` limited to [minimum_value, maximum_value]; the gradient is 1 inside and on the bounds, 0 outside."""
    if minimum_value is None and maximum_value is None:
        raise ValueError("clip: give a minimum, a maximum or both")
    x = as_tensor(x)
    if minimum_value is not None:
        x = maximum(x, minimum_value)
    if maximum_value is not None:
        x = minimum(x, maximum_value)
    return x


# -- functions of one variable ----------------------------------------------------------------------------------


def _sigmoid(x: np.ndarray) -> Any:
    if x.dtype.kind == "c":
        return 1 / (1 + np.exp(-x))
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(e.dtype)


exp_p, exp = _unary("exp", np.exp, lambda out, x: out, ("out",))
log_p, log = _unary("log", np.log, lambda out, x: 1 / x, doc="The natural logarithm.")
log2_p, log2 = _unary("log2", np.log2, lambda out, x: 1 / math.log(2) / x, doc="The logarithm to base 2.")
log10_p, log10 = _unary("log10", np.log10, lambda out, x: 1 / math.log(10) / x, doc="The logarithm to base 10.")
log1p_p, log1p = _unary("log1p", np.log1p, lambda out, x: 1 / (1 + x), doc="log(1 + x), accurate near 0.")
expm1_p, expm1 = _unary("expm1", np.expm1, lambda out, x: out + 1, ("out",), doc="exp(x) - 1, accurate near 0.")
exp2_p, exp2 = _unary("exp2", np.exp2, lambda out, x: out * math.log(2), ("out",), doc="2 ** x.")
sqrt_p, sqrt = _unary("sqrt", np.sqrt, lambda out, x: 0.5 / out, ("out",), doc="The square root.")
rsqrt_p, rsqrt = _unary(
    "rsqrt", lambda x: 1 / np.sqrt(x), lambda out, x: -0.5 * out * out * out, ("out",), doc="1 / sqrt(x)."
)
square_p, square = _unary("square", np.square, lambda out, x: 2 * x, doc="x * x.")
reciprocal_p, reciprocal = _unary("reciprocal", lambda x: 1 / x, lambda out, x: -out * out, ("out",), doc="1 / x.")
sin_p, sin = _unary("sin", np.sin, lambda out, x: cos(x))
cos_p, cos = _unary("cos", np.cos, lambda out, x: -sin(x))
tan_p, tan = _unary("tan", np.tan, lambda out, x: 1 + out * out, ("out",))
sinh_p, sinh = _unary("sinh", np.sinh, lambda out, x: cosh(x))
cosh_p, cosh = _unary("cosh", np.cosh, lambda out, x: sinh(x))
tanh_p, tanh = _unary("tanh", np.tanh, lambda out, x: 1 - out * out, ("out",))
# 1 - x² as a product: 1 - x is exact next to 1, where x² has lost its digits
arcsin_p, arcsin = _unary("arcsin", np.arcsin, lambda out, x: rsqrt((1 - x) * (1 + x)))
arccos_p, arccos = _unary("arccos", np.arccos, lambda out, x: -rsqrt((1 - x) * (1 + x)))
arctan_p, arctan = _unary("arctan", np.arctan, lambda out, x: 1 / (1 + x * x))
sigmoid_p, sigmoid = _unary(
    "sigmoid", _sigmoid, lambda out, x: out * (1 - out), ("out",), doc="1 / (1 + exp(-x)), without overflow."
)
softplus_p, softplus = _unary(
    "softplus", lambda x: np.logaddexp(x, x.dtype.type(0) if is_inexact(x.dtype) else 0.0),
    lambda out, x: sigmoid(x), doc="log(1 + exp(x)), without overflow.",
)  # fmt: skip
erf_p, erf = _unary(
    "erf",
    erf_of_array,
    lambda out, x: 2 / math.sqrt(math.pi) * exp(-x * x),
    doc="The error function 2/sqrt(pi) * int_0^x e^-t².",
)

# |x| is not complex differentiable: its rules say which way it grows.
abs_p = Primitive("abs", np.abs)
defvjp(abs_p, lambda g, out, x: unbroadcast(g * sign(x), x) if not _is_complex(x) else g * _phase(out, x))
defjvp(abs_p, lambda t, out, x: t * sign(x) if not _is_complex(x) else real(conj(_phase(out, x)) * t))
defcost(abs_p, _flops(1))


def _is_complex(x: Any) -> bool:
    return x.dtype.kind == "c"


def _phase(out: Any, x: Any) -> Tensor:
    return x / where(equal(out, 0), 1.0, out)


def abs(x: ArrayLike) -> Tensor:  # NumPy's name
    """|x|; the derivative at 0 is 0."""
    return bind(abs_p, as_tensor(x))


logaddexp_p, logaddexp = _binary("logaddexp", np.logaddexp, "log(exp(x) + exp(y)), without overflow.")
defvjp(
    logaddexp_p,
    lambda g, out, x, y: unbroadcast(g * _share(x, out), x),
    lambda g, out, x, y: unbroadcast(g * _share(y, out), y),
)
defjvp(logaddexp_p, lambda t, out, x, y: t * _share(x, out), lambda t, out, x, y: t * _share(y, out))


def _share(x: Any, out: Tensor) -> Tensor:
    """exp(x - out), and 0 where both are -inf."""
    return exp(where(equal(out, -math.inf), -math.inf, x - where(isfinite(out), out, 0.0)))


def straight_through(y: ArrayLike, x: ArrayLike, mask: ArrayLike | None = None) -> Tensor:
    """The value of ``y`` with the gradient sent to ``x`` (times the boolean ``mask``, if given)."""
    x, y = as_tensor(x), as_tensor(y)
    if y.shape != x.shape:
        raise ShapeError(f"straight_through: the value {y.shape} and what gets its gradient {x.shape} differ in shape")
    if mask is not None:
        mask = as_tensor(mask).data
        if mask.dtype != np.bool_:
            raise TypeError(f"straight_through: the mask must be boolean, got {mask.dtype}")
        if not fits_into(mask.shape, x.shape):
            raise ShapeError(f"straight_through: the mask {mask.shape} does not broadcast to {x.shape}")
    return bind(straight_through_p, x, plain(y.data), mask=mask)


def _masked(g: Tensor, mask: np.ndarray | None) -> Tensor:
    return g if mask is None else where(mask, g, 0.0)


def _straight_through(x: np.ndarray, y: np.ndarray, mask: Any) -> np.ndarray:
    return y if y.dtype == x.dtype else y.astype(x.dtype)


straight_through_p = Primitive("straight_through", _straight_through)
defvjp(straight_through_p, lambda g, out, x, y, mask: _masked(g, mask), None, saves=())
defjvp(straight_through_p, lambda t, out, x, y, mask: _masked(t, mask), None)


def require_inexact(what: str, *values: Tensor) -> None:
    """Raises TypeError unless every one of ``values`` is floating or complex."""
    for value in values:
        if not is_inexact(value.dtype):
            raise TypeError(f"{what}: needs floating or complex values, got {value.dtype} {value.shape}")
