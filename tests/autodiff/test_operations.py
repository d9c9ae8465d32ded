"""Every array operation ``mt.<name>``, one line each: against NumPy, in all layouts, and its derivatives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from operation_table import (
    CHECKS,
    Operation,
    apart,
    boolean,
    integer,
    normal,
    positive,
    unit,
)

import minitf as mt
from minitf import autodiff

erf = np.vectorize(math.erf, otypes=[float])
ONE_AXIS = (((3, 4),), ((4,),), ((3, 0),), ((0, 4),))
FIXED = (((3, 4),),)
MATRICES = (((3, 4),), ((2, 3, 3),), ((0, 2, 3),))
T = mt.as_tensor  # operators need a Tensor on one side
I34 = np.array([[0, 3], [2, -1], [1, 1]])


def put(x, index, values):
    out = x.copy()
    out[index] = values
    return out


def put_along(x, values):
    out = x.copy()
    np.put_along_axis(out, np.array([[3, 0], [2, -3], [1, 0]]), values, 1)
    return out


def added(x, index, values):
    out = x.copy()
    np.add.at(out, index, values)
    return out


def log_sum_exp(x, axis=None, keepdims=False):
    with np.errstate(divide="ignore"):
        return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


ELEMENTWISE = [
    Operation("add", mt.add, np.add, normal, normal, complex=True),
    Operation("add operator", lambda x: 2.0 + T(x) + 1, lambda x: x + 3.0, normal, complex=True),
    Operation("subtract", mt.subtract, np.subtract, normal, normal, complex=True),
    Operation("subtract operator", lambda x: 2.0 - T(x) - 1, lambda x: 1.0 - x, normal, complex=True),
    Operation("multiply", mt.multiply, np.multiply, normal, normal, complex=True),
    Operation("multiply scalar", lambda x: 3 * T(x) * 0.5, lambda x: 1.5 * x, normal, complex=True),
    Operation("divide", mt.divide, np.divide, normal, positive, complex=True),
    Operation("divide scalar", lambda x: 2 / (T(x) / 3.0), lambda x: 6.0 / x, positive, complex=True),
    Operation("floor_divide", mt.floor_divide, np.floor_divide, apart, positive, constant=True),
    Operation("mod", mt.mod, np.mod, apart, lambda rng, shape: np.full(shape, 3.7)),
    Operation("negative", mt.negative, np.negative, normal, complex=True),
    Operation("power", mt.power, np.power, positive, normal, complex=True),
    Operation("power cube", lambda x: T(x) ** 3, lambda x: x**3, normal, complex=True),
    Operation("power half", lambda x: T(x) ** -0.5, lambda x: x**-0.5, positive, complex=True),
    Operation("power base", lambda x: 1.7 ** T(x), lambda x: 1.7**x, normal),
    Operation("power of integers", lambda x: T(x) ** np.arange(4), lambda x: x ** np.arange(4), normal, shapes=[((3, 4),)]),
    Operation("square", mt.square, np.square, normal, complex=True),
    Operation("sqrt", mt.sqrt, np.sqrt, positive, complex=True),
    Operation("rsqrt", mt.rsqrt, lambda x: 1 / np.sqrt(x), positive, complex=True),
    Operation("reciprocal", mt.reciprocal, np.reciprocal, positive, complex=True),
    Operation("exp", mt.exp, np.exp, normal, complex=True),
    Operation("exp2", mt.exp2, np.exp2, normal, complex=True),
    Operation("expm1", mt.expm1, np.expm1, normal, complex=True),
    Operation("log", mt.log, np.log, positive, complex=True),
    Operation("log1p", mt.log1p, np.log1p, positive, complex=True),
    Operation("log2", mt.log2, np.log2, positive, complex=True),
    Operation("log10", mt.log10, np.log10, positive, complex=True),
    Operation("logaddexp", mt.logaddexp, np.logaddexp, normal, normal),
    Operation("sin", mt.sin, np.sin, normal, complex=True),
    Operation("cos", mt.cos, np.cos, normal, complex=True),
    Operation("tan", mt.tan, np.tan, unit, complex=True),
    Operation("sinh", mt.sinh, np.sinh, normal, complex=True),
    Operation("cosh", mt.cosh, np.cosh, normal, complex=True),
    Operation("tanh", mt.tanh, np.tanh, normal, complex=True),
    Operation("arcsin", mt.arcsin, np.arcsin, unit, complex=True),
    Operation("arccos", mt.arccos, np.arccos, unit, complex=True),
    Operation("arctan", mt.arctan, np.arctan, unit, complex=True),
    Operation("sigmoid", mt.sigmoid, lambda x: 1 / (1 + np.exp(-x)), normal),
    Operation("softplus", mt.softplus, lambda x: np.log(1 + np.exp(x)), normal),
    Operation("erf", mt.erf, erf, normal),
    Operation("abs", mt.abs, np.abs, apart, complex=True),
    Operation("maximum", mt.maximum, np.maximum, normal, normal),
    Operation("minimum", mt.minimum, np.minimum, normal, normal),
    Operation("clip", lambda x: mt.clip(x, -0.5, 0.7), lambda x: np.clip(x, -0.5, 0.7), apart),
    Operation("clip below", lambda x, y: mt.clip(x, y), lambda x, y: np.maximum(x, y), normal, normal),
    Operation("clip above", lambda x: mt.clip(x, None, 0.0), lambda x: np.minimum(x, 0.0), apart),
    Operation("where", mt.where, np.where, boolean, normal, normal,
              shapes=[((3, 4), (3, 4), (3, 4)), ((4,), (3, 1), ()), ((2, 1, 1), (), (3,)), ((0, 3), (3,), (1, 1))],
              complex=True),
    Operation("where scalar", lambda c, x: mt.where(c, x, 0.0), lambda c, x: np.where(c, x, 0.0), boolean, normal),
    Operation("straight_through", lambda x: mt.straight_through(T(x) * 1.0, x),
              lambda x: x, normal),
    Operation("real", mt.real, np.real, normal, complex=True),
    Operation("imag", mt.imag, np.imag, normal, complex=True),
    Operation("conj", mt.conj, np.conj, normal, complex=True),
    Operation("astype", lambda x: mt.astype(x, np.complex128 if x.dtype == np.float64 else np.complex64),
              lambda x: x.astype(complex), normal),
]  # fmt: skip

CONSTANT = [
    Operation(name, getattr(mt, name), getattr(np, name), domain, domain, constant=True)
    for domain, names in {
        normal: "equal not_equal less less_equal greater greater_equal",
        boolean: "logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor",
    }.items()
    for name in names.split()
] + [
    Operation(name, getattr(mt, name), getattr(np, reference), domain, constant=True)
    for domain, names in {
        apart: "isnan:isnan isinf:isinf isfinite:isfinite sign:sign floor:floor ceil:ceil round:round",
        boolean: "logical_not:logical_not invert:invert",
    }.items()
    for name, reference in (pair.split(":") for pair in names.split())
]

REDUCTIONS = [
    Operation("sum", mt.sum, np.sum, normal, complex=True),
    Operation("sum axis", lambda x: mt.sum(x, 0, keepdims=True), lambda x: np.sum(x, 0, keepdims=True), normal,
              shapes=ONE_AXIS),
    Operation("sum axes", lambda x: mt.sum(x, (0, -1)), lambda x: np.sum(x, (0, -1)), normal,
              shapes=[((3, 4),), ((2, 3, 2),), ((0, 3),)]),
    Operation("sum integers", mt.sum, np.sum, integer),
    Operation("mean", mt.mean, np.mean, normal, shapes=[((3, 4),), ((),)], complex=True),
    Operation("mean axis", lambda x: mt.mean(x, -1), lambda x: np.mean(x, -1), normal, shapes=[((3, 4),), ((0, 4),)]),
    Operation("var", mt.var, np.var, normal, shapes=[((3, 4),), ((),)], complex=True),
    Operation("var ddof", lambda x: mt.var(x, 0, ddof=1), lambda x: np.var(x, 0, ddof=1), normal, shapes=FIXED),
    Operation("std", lambda x: mt.std(x, -1, True), lambda x: np.std(x, -1, keepdims=True), normal, shapes=FIXED),
    Operation("prod", mt.prod, np.prod, normal, shapes=[((3, 4),), ((),), ((0, 3),), ((5,),)], complex=True),
    Operation("prod axis", lambda x: mt.prod(x, 1), lambda x: np.prod(x, 1), normal, shapes=ONE_AXIS[:1] + ONE_AXIS[2:]),
    Operation("cumsum", mt.cumsum, np.cumsum, normal, complex=True),
    Operation("cumsum axis", lambda x: mt.cumsum(x, -1), lambda x: np.cumsum(x, -1), normal, shapes=ONE_AXIS),
    Operation("cumsum exclusive", lambda x: mt.cumsum(x, 0, exclusive=True), lambda x: np.cumsum(x, 0) - x, normal,
              shapes=ONE_AXIS),
    Operation("cumprod", mt.cumprod, lambda x: np.cumprod(x, -1), normal, shapes=ONE_AXIS, complex=True),
    Operation("logsumexp", mt.logsumexp, log_sum_exp, normal, shapes=[((3, 4),), ((),)]),
    Operation("logsumexp axis", lambda x: mt.logsumexp(x, 0, True), lambda x: log_sum_exp(x, 0, True), normal,
              shapes=[((3, 4),), ((2, 0),)]),
    Operation("max", mt.max, np.max, apart, shapes=[((3, 4),), ((),)]),
    Operation("max axis", lambda x: mt.max(x, 0, True), lambda x: np.max(x, 0, keepdims=True), apart,
              shapes=[((3, 4),), ((2, 0),)]),
    Operation("min", mt.min, np.min, apart, shapes=[((3, 4),), ((),)]),
    Operation("min axes", lambda x: mt.min(x, (0, 2)), lambda x: np.min(x, (0, 2)), apart, shapes=[((2, 3, 2),)]),
    Operation("argmax", mt.argmax, np.argmax, apart, shapes=[((3, 4),), ((),)], constant=True),
    Operation("argmin", lambda x: mt.argmin(x, 1, True), lambda x: np.argmin(x, 1, keepdims=True), apart, shapes=FIXED,
              constant=True),
    Operation("any", lambda x: mt.any(x > 0, -1), lambda x: np.any(x > 0, -1), normal, shapes=ONE_AXIS, constant=True),
    Operation("all", lambda x: mt.all(x > 0), lambda x: np.all(x > 0), normal, constant=True),
]  # fmt: skip

SHAPES = [
    Operation("reshape", lambda x: mt.reshape(x, (2, -1)), lambda x: x.reshape(2, -1), normal, shapes=FIXED, complex=True),
    Operation("reshape empty", lambda x: mt.reshape(x, (0, 5)), lambda x: x.reshape(0, 5), normal, shapes=[((2, 0),)]),
    Operation("ravel", mt.ravel, np.ravel, normal),
    Operation("broadcast_to", lambda x: mt.broadcast_to(x, (2, 3, 4)), lambda x: np.broadcast_to(x, (2, 3, 4)), normal,
              shapes=[((3, 4),), ((),), ((1, 4),), ((2, 1, 1),)]),
    Operation("unbroadcast", lambda x: mt.unbroadcast(T(x), mt.zeros((3, 1), x.dtype)),
              lambda x: x.sum((0, 2))[:, None], normal, shapes=[((2, 3, 4),), ((0, 3, 4),)]),
    Operation("transpose", mt.transpose, np.transpose, normal, complex=True),
    Operation("transpose axes", lambda x: mt.transpose(x, (1, -1, 0)), lambda x: np.transpose(x, (1, -1, 0)), normal,
              shapes=[((2, 3, 4),), ((0, 2, 3),)]),
    Operation("swapaxes", lambda x: mt.swapaxes(x, 0, -1), lambda x: np.swapaxes(x, 0, -1), normal,
              shapes=[((2, 3, 4),), ((3,),)]),
    Operation("moveaxis", lambda x: mt.moveaxis(x, (0, -1), (-1, 0)), lambda x: np.moveaxis(x, (0, -1), (-1, 0)), normal,
              shapes=[((2, 3, 4),)]),
    Operation("expand_dims", lambda x: mt.expand_dims(x, (0, -1)), lambda x: np.expand_dims(x, (0, -1)), normal),
    Operation("squeeze", mt.squeeze, np.squeeze, normal, shapes=[((1, 3, 1),), ((),), ((1, 0),)]),
    Operation("squeeze axis", lambda x: mt.squeeze(x, -1), lambda x: np.squeeze(x, -1), normal, shapes=[((1, 3, 1),)]),
    Operation("concatenate", lambda x, y: mt.concatenate([x, y, x], -1), lambda x, y: np.concatenate([x, y, x], -1),
              normal, normal, shapes=[((3, 4), (3, 2)), ((3, 0), (3, 2)), ((4,), (1,))], complex=True),
    Operation("stack", lambda x, y: mt.stack([x, y], 1), lambda x, y: np.stack([x, y], 1), normal, normal,
              shapes=[((3, 4), (3, 4)), ((0,), (0,))]),
    Operation("unstack", lambda x: mt.unstack(x, 1), lambda x: [x[:, i] for i in range(x.shape[1])], normal, complex=True,
              shapes=[((3, 4),), ((2, 1, 3),), ((0, 2),)]),
    Operation("split", lambda x: mt.split(x, 2, -1), lambda x: np.split(x, 2, -1), normal, shapes=[((3, 4),), ((4,),)]),
    Operation("split at", lambda x: mt.split(x, [1, 3]), lambda x: np.split(x, [1, 3]), normal, shapes=[((5, 2),)]),
    Operation("split at beyond", lambda x: mt.split(x, [-1, 9]), lambda x: np.split(x, [-1, 9]), normal, shapes=[((5,),)]),
    Operation("pad", lambda x: mt.pad(x, ((1, 0), (2, 1)), 1.5),
              lambda x: np.pad(x, ((1, 0), (2, 1)), constant_values=1.5), normal, shapes=[((3, 4),), ((0, 2),)]),
    Operation("flip", mt.flip, np.flip, normal),
    Operation("flip axis", lambda x: mt.flip(x, 0), lambda x: np.flip(x, 0), normal, shapes=ONE_AXIS),
    Operation("roll", lambda x: mt.roll(x, 2), lambda x: np.roll(x, 2), normal),
    Operation("roll axes", lambda x: mt.roll(x, (1, -3), (0, 1)), lambda x: np.roll(x, (1, -3), (0, 1)), normal,
              shapes=[((3, 4),), ((0, 3),)]),
    Operation("roll axis twice", lambda x: mt.roll(x, (1, 1), (0, 0)), lambda x: np.roll(x, (1, 1), (0, 0)), normal,
              shapes=FIXED),
    Operation("repeat", lambda x: mt.repeat(x, 2), lambda x: np.repeat(x, 2), normal),
    Operation("repeat axis", lambda x: mt.repeat(x, 3, 0), lambda x: np.repeat(x, 3, 0), normal, shapes=ONE_AXIS),
    Operation("tile", lambda x: mt.tile(x, (2, 3)), lambda x: np.tile(x, (2, 3)), normal,
              shapes=[((3, 4),), ((2,),), ((),), ((2, 1, 2),), ((0, 2),)]),
    Operation("tril", lambda x: mt.tril(x, -1), lambda x: np.tril(x, -1), normal, shapes=MATRICES),
    Operation("triu", mt.triu, np.triu, normal, shapes=MATRICES, complex=True),
    Operation("diagonal", mt.diagonal, lambda x: np.diagonal(x, 0, -2, -1), normal, shapes=MATRICES),
    Operation("diagonal offset", lambda x: mt.diagonal(x, 1, 1, 0), lambda x: np.diagonal(x, 1, 1, 0), normal,
              shapes=MATRICES[:2]),
    Operation("diagonal below", lambda x: mt.diagonal(x, -1), lambda x: np.diagonal(x, -1, -2, -1), normal, shapes=MATRICES),
    Operation("diag", mt.diag, lambda x: x[..., None] * np.eye(x.shape[-1]), normal, shapes=ONE_AXIS),
    Operation("trace", mt.trace, lambda x: np.trace(x, axis1=-2, axis2=-1), normal, shapes=MATRICES),
]  # fmt: skip

INDEXING = [
    Operation("getitem row", lambda x: T(x)[1], lambda x: x[1], normal,
              shapes=FIXED, complex=True),
    *(
        Operation(f"getitem {text}", lambda x, i=i: T(x)[i],
                  lambda x, i=i: x[i], normal, shapes=FIXED)
        for text, i in {
            "slice": (slice(None, None, -2), slice(1, 3)),
            "ellipsis": (..., None, 0),
            "empty slice": slice(2, 2),
            "rows": np.array([2, 0, 2, -1]),
            "list": [1, 1],
            "pairs": (np.array([0, 0, 2]), np.array([1, 1, 3])),
            "broadcast pairs": (np.array([[0], [2]]), np.array([1, 1])),
            "split advanced": (np.array([1, 1]), None, np.array([0, 2])),
            "column list": (slice(None), [3, 0, 3]),
            "mask": np.arange(12).reshape(3, 4) % 5 == 0,
            "row mask": np.array([True, False, True]),
            "no rows": np.zeros(0, int),
        }.items()
    ),
    Operation("getitem scalar", lambda x: T(x)[()], lambda x: x[()], normal,
              shapes=[((),)]),
    Operation("take", lambda x: mt.take(x, [[0, 3], [3, -1]], 1), lambda x: np.take(x, [[0, 3], [3, -1]], 1), normal,
              shapes=[((3, 4),), ((0, 4),)]),
    Operation("take flat", lambda x: mt.take(x, [5, 0, 5]), lambda x: np.take(x, [5, 0, 5]), normal, shapes=FIXED),
    Operation("take rows", lambda x: mt.take(x, np.array([[2, 0], [2, 2]]), 0),
              lambda x: np.take(x, np.array([[2, 0], [2, 2]]), 0), normal, shapes=[((3, 4),), ((3, 0),)]),
    Operation("take_along_axis", lambda x: mt.take_along_axis(x, I34, 1), lambda x: np.take_along_axis(x, I34, 1), normal,
              shapes=FIXED),
    Operation("take_along_axis broadcast", lambda x: mt.take_along_axis(x, I34[:1], 1),
              lambda x: np.take_along_axis(x, np.broadcast_to(I34[:1], (3, 2)), 1), normal, shapes=FIXED),
    Operation("put_along_axis", lambda x, v: mt.put_along_axis(x, np.array([[3, 0], [2, -3], [1, 0]]), v, 1), put_along,
              normal, normal, shapes=[((3, 4), (3, 2))]),
    Operation("index_put", lambda x, v: mt.index_put(x, ([0, 2], [1, 1]), v), lambda x, v: put(x, ([0, 2], [1, 1]), v),
              normal, normal, shapes=[((3, 4), (2,)), ((3, 4), ())]),
    Operation("index_put slice", lambda x, v: mt.index_put(x, (slice(None), slice(1, 3)), v),
              lambda x, v: put(x, (slice(None), slice(1, 3)), v), normal, normal, shapes=[((3, 4), (3, 2))]),
    Operation("index_add", lambda x, v: mt.index_add(x, np.array([1, 1, 0]), v),
              lambda x, v: added(x, np.array([1, 1, 0]), v), normal, normal, shapes=[((3, 4), (3, 4)), ((2,), ())]),
    Operation("sort", lambda x: mt.sort(x, 0), lambda x: np.sort(x, 0), apart, shapes=ONE_AXIS),
    Operation("sort descending", lambda x: mt.sort(x, descending=True), lambda x: -np.sort(-x), apart, shapes=ONE_AXIS),
    Operation("argsort", mt.argsort, np.argsort, apart, shapes=ONE_AXIS, constant=True),
    Operation("top_k", lambda x: mt.top_k(x, 2), lambda x: [-np.sort(-x)[..., :2], np.argsort(-x)[..., :2]], apart,
              shapes=[((3, 4),), ((2,),), ((0, 3),)]),
]  # fmt: skip

PRODUCTS = [
    Operation("matmul", mt.matmul, np.matmul, normal, normal, complex=True,
              shapes=[((3, 4), (4, 2)), ((4,), (4,)), ((4,), (2, 4, 3)), ((2, 3, 4), (4,)), ((2, 1, 3, 4), (5, 4, 2)),
                      ((3, 0), (0, 2)), ((0, 3), (3, 2)), ((2, 0, 3), (3, 4))]),
    Operation("dot", mt.dot, np.dot, normal, normal, shapes=[((4,), (4,)), ((3, 4), (4, 2))]),
    Operation("outer", mt.outer, lambda x, y: x[..., :, None] * y[..., None, :], normal, normal, complex=True,
              shapes=[((3,), (4,)), ((2, 3), (2, 4)), ((0,), (3,))]),
    Operation("tensordot", mt.tensordot, np.tensordot, normal, normal, shapes=[((2, 3, 4), (3, 4, 2)), ((0, 2, 3), (2, 3, 1))]),
    Operation("einsum", lambda x, y: mt.einsum("bij,jk->bik", x, y), lambda x, y: np.einsum("bij,jk->bik", x, y), normal,
              normal, shapes=[((2, 3, 4), (4, 2)), ((0, 3, 4), (4, 2))], complex=True),
]  # fmt: skip

CREATION = {
    "zeros": (lambda: mt.zeros((2, 3)), lambda: np.zeros((2, 3))),
    "ones": (lambda: mt.ones(3, "float32"), lambda: np.ones(3, np.float32)),
    "full": (lambda: mt.full((2,), 7), lambda: np.full(2, 7.0)),
    "zeros_like": (lambda: mt.zeros_like(np.ones((2, 0), np.float32)), lambda: np.zeros((2, 0), np.float32)),
    "ones_like": (lambda: mt.ones_like([1, 2], dtype=float), lambda: np.ones(2)),
    "arange": (lambda: mt.arange(1, 7, 2), lambda: np.arange(1, 7, 2)),
    "linspace": (lambda: mt.linspace(0, 1, 5), lambda: np.linspace(0, 1, 5)),
    "eye": (lambda: mt.eye(2, 3), lambda: np.eye(2, 3)),
}

TABLE = [*ELEMENTWISE, *CONSTANT, *REDUCTIONS, *SHAPES, *INDEXING, *PRODUCTS]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("operation", TABLE, ids=str)
def test_operation(operation, check):
    check(operation)


@pytest.mark.parametrize("name", CREATION)
def test_creation(name):
    ours, reference = CREATION[name]
    np.testing.assert_array_equal(ours().data, reference())
    assert ours().dtype == reference().dtype


def test_no_operation_is_missing():
    tested = {operation.public_name for operation in TABLE} | set(CREATION)
    operations = {
        name for name, thing in vars(autodiff).items()
        if callable(thing) and getattr(thing, "__module__", "").startswith("minitf.autodiff.ops")
    }  # fmt: skip
    assert operations <= tested, f"no line in the table for {sorted(operations - tested)}"
    assert not tested - operations - {"getitem"}
