"""Which dtype comes out: the table that ``minitf.autodiff.dtypes`` promises, for values, gradients and tangents."""

from __future__ import annotations

import numpy as np
import pytest

import minitf as mt
from minitf.autodiff.dtypes import LOW_PRECISION, as_dtype, is_complex, is_floating, is_inexact, real_dtype
from minitf.autodiff.ops import convolution, pooling, resample

#: integers never widen floats; bfloat16 and the 8-bit floats meet other floats in float32; otherwise as in NumPy
PROMOTION = """
              bool          uint8         int32         int64         float8_e4m3fn float8_e5m2   bfloat16      float16       float32       float64       complex64     complex128
bool          bool          uint8         int32         int64         float8_e4m3fn float8_e5m2   bfloat16      float16       float32       float64       complex64     complex128
uint8         uint8         uint8         int32         int64         float8_e4m3fn float8_e5m2   bfloat16      float16       float32       float64       complex64     complex128
int32         int32         int32         int32         int64         float8_e4m3fn float8_e5m2   bfloat16      float16       float32       float64       complex64     complex128
int64         int64         int64         int64         int64         float8_e4m3fn float8_e5m2   bfloat16      float16       float32       float64       complex64     complex128
float8_e4m3fn float8_e4m3fn float8_e4m3fn float8_e4m3fn float8_e4m3fn float8_e4m3fn float32       float32       float32       float32       float64       complex64     complex128
float8_e5m2   float8_e5m2   float8_e5m2   float8_e5m2   float8_e5m2   float32       float8_e5m2   float32       float32       float32       float64       complex64     complex128
bfloat16      bfloat16      bfloat16      bfloat16      bfloat16      float32       float32       bfloat16      float32       float32       float64       complex64     complex128
float16       float16       float16       float16       float16       float32       float32       float32       float16       float32       float64       complex64     complex128
float32       float32       float32       float32       float32       float32       float32       float32       float32       float32       float64       complex64     complex128
float64       float64       float64       float64       float64       float64       float64       float64       float64       float64       float64       complex128    complex128
complex64     complex64     complex64     complex64     complex64     complex64     complex64     complex64     complex64     complex64     complex128    complex64     complex128
complex128    complex128    complex128    complex128    complex128    complex128    complex128    complex128    complex128    complex128    complex128    complex128    complex128
"""  # noqa: E501

#: Python scalars are weak: they change the kind where they must, and never the width of a float
SCALARS = """
              True          2             2.5           2j
bool          bool          int64         float64       complex128
uint8         uint8         uint8         float64       complex128
int32         int32         int32         float64       complex128
int64         int64         int64         float64       complex128
float8_e4m3fn float8_e4m3fn float8_e4m3fn float8_e4m3fn complex64
float8_e5m2   float8_e5m2   float8_e5m2   float8_e5m2   complex64
bfloat16      bfloat16      bfloat16      bfloat16      complex64
float16       float16       float16       float16       complex64
float32       float32       float32       float32       complex64
float64       float64       float64       float64       complex128
complex64     complex64     complex64     complex64     complex64
complex128    complex128    complex128    complex128    complex128
"""

#: integers sum in 64 bits and average in float64; -: not defined
FUNCTIONS = """
              sum           mean          var           max           norm          solve         fft           avg_pool      conv
bool          int64         float64       float64       bool          float64       float64       complex128    float64       bool
uint8         uint64        float64       float64       uint8         float64       float64       complex128    float64       uint8
int32         int64         float64       float64       int32         float64       float64       complex128    float64       int32
int64         int64         float64       float64       int64         float64       float64       complex128    float64       int64
float8_e4m3fn float8_e4m3fn float8_e4m3fn float8_e4m3fn float8_e4m3fn float8_e4m3fn float8_e4m3fn complex64     float8_e4m3fn float8_e4m3fn
float8_e5m2   float8_e5m2   float8_e5m2   float8_e5m2   float8_e5m2   float8_e5m2   float8_e5m2   complex64     float8_e5m2   float8_e5m2
bfloat16      bfloat16      bfloat16      bfloat16      bfloat16      bfloat16      bfloat16      complex64     bfloat16      bfloat16
float16       float16       float16       float16       float16       float16       float16       complex64     float16       float16
float32       float32       float32       float32       float32       float32       float32       complex64     float32       float32
float64       float64       float64       float64       float64       float64       float64       complex128    float64       float64
longdouble    longdouble    longdouble    longdouble    longdouble    longdouble    -             clongdouble   longdouble    longdouble
complex64     complex64     complex64     float32       complex64     float32       complex64     complex64     complex64     complex64
complex128    complex128    complex128    float64       complex128    float64       complex128    complex128    complex128    complex128
"""  # noqa: E501


def cells(table):
    """{(row, column): entry}."""
    head, *rows = (line.split() for line in table.strip().splitlines())
    return {(row[0], column): entry for row in rows for column, entry in zip(head, row[1:], strict=True)}


def values(name, *numbers):
    dtype = as_dtype(name)
    x = np.array(numbers) * ((1 + 0.5j) if is_complex(dtype) else 1)
    return x.astype(dtype)


# -- two arrays ---------------------------------------------------------------------------------------------------

ONE = np.array([1])
PROMOTING = {
    "add": (mt.add, np.add),
    "multiply": (mt.multiply, np.multiply),
    "maximum": (mt.maximum, np.maximum),
    "minimum": (mt.minimum, np.minimum),
    "where": (lambda x, y: mt.where([True, False], x, y), lambda x, y: np.where([True, False], x, y)),
    "concatenate": (lambda x, y: mt.concatenate([x, y]), lambda x, y: np.concatenate([x, y])),
    "stack": (lambda x, y: mt.stack([x, y]), lambda x, y: np.stack([x, y])),
    "matmul": (mt.matmul, np.matmul),
    "outer": (mt.outer, np.multiply.outer),
    "tensordot": (lambda x, y: mt.tensordot(x, y, 1), lambda x, y: np.tensordot(x, y, 1)),
    "einsum": (lambda x, y: mt.einsum("i,j->i", x, y), lambda x, y: np.einsum("i,j->i", x, y)),
    "index_add": (lambda x, y: mt.index_add(x, ONE, y[:1]), lambda x, y: np.stack([x[0], x[1] + y[0]])),
    "index_put": (lambda x, y: mt.index_put(x, ONE, y[:1]), lambda x, y: np.stack([x[0], y[0]])),
    "put_along_axis": (lambda x, y: mt.put_along_axis(x, ONE, y[:1], 0), lambda x, y: np.stack([x[0], y[0]])),
    "divide": (mt.divide, np.true_divide),
    "power": (mt.power, np.power),
    "subtract": (mt.subtract, np.subtract),
    "floor_divide": (mt.floor_divide, np.floor_divide),
    "mod": (mt.mod, np.mod),
    "clip": (lambda x, y: mt.clip(x, None, y), np.minimum),
}
#: where an operation has another result than the table's, or none: of booleans, of integers, of complex numbers
SPECIAL = {
    "divide": {"b": "float64", "i": "float64"},
    "power": {"b": "int8"},
    "subtract": {"b": None},
    "floor_divide": {"b": "int8", "c": None},
    "mod": {"b": "int8", "c": None},
}


def expected(name, promoted):
    kind = "i" if promoted.kind in "iu" else promoted.kind
    special = SPECIAL.get(name, {}).get(kind, promoted.name)
    return None if special is None else as_dtype(special)


@pytest.mark.parametrize("name", PROMOTING)
def test_two_arrays(name):
    """The dtype, the values in it, and gradients in the dtype of their argument."""
    ours, reference = PROMOTING[name]
    for (a, b), entry in cells(PROMOTION).items():
        x, y = values(a, 4, 2), values(b, 2, 1)
        promoted = as_dtype(entry)
        want = expected(name, promoted)
        if want is None:
            with pytest.raises(TypeError):
                ours(mt.tensor(x), mt.tensor(y))
            continue
        out = ours(mt.tensor(x), mt.tensor(y))
        assert out.dtype == want, (a, b)
        wide = np.complex128 if is_complex(want) else np.float64 if is_floating(promoted) else promoted
        np.testing.assert_array_equal(out.data.astype(want), reference(x.astype(wide), y.astype(wide)).astype(want))
        for i, own in enumerate((x, y)):
            if not is_inexact(own.dtype) or a > b:  # both arguments of one order are enough
                continue
            of_one = (lambda t, y=y: ours(t, y)) if i == 0 else (lambda t, x=x: ours(x, t))
            _, pullback = mt.vjp(of_one, own)
            assert pullback(out)[0].dtype == own.dtype, (a, b)
            value, tangent = mt.jvp(of_one, (own,), (own,))
            assert tangent.dtype == value.dtype == want, (a, b)


@pytest.mark.parametrize("name", ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"])
def test_comparisons_are_boolean(name):
    for a, b in cells(PROMOTION):
        out = getattr(mt, name)(mt.tensor(values(a, 1, 1)), mt.tensor(values(b, 1, 0)))
        assert out.dtype == np.bool_
        same = is_complex(as_dtype(a)) == is_complex(as_dtype(b))
        if same and name in ("equal", "not_equal"):
            assert out.tolist() == ([True, False] if name == "equal" else [False, True]), (a, b)


@pytest.mark.parametrize("name", ["bitwise_and", "bitwise_or", "bitwise_xor"])
def test_bits_are_of_integers(name):
    for (a, b), entry in cells(PROMOTION).items():
        x, y = mt.tensor(values(a, 1, 0)), mt.tensor(values(b, 1, 1))
        if as_dtype(entry).kind in "biu":
            assert getattr(mt, name)(x, y).dtype == entry
        else:
            with pytest.raises(TypeError):
                getattr(mt, name)(x, y)


def test_three_arrays():
    parts = [mt.zeros(2, name) for name in ("bfloat16", "float16", "int64")]
    assert mt.concatenate(parts).dtype == np.float32
    assert mt.einsum("i,i,i->i", *parts).dtype == np.float32
    assert mt.concatenate([*parts, mt.zeros(1, "complex64")]).dtype == np.complex64


# -- an array and a Python scalar ---------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [mt.add, mt.multiply, lambda x, s: mt.where([True, False], x, s)])
def test_scalars(operation):
    for (a, scalar), entry in cells(SCALARS).items():
        x, scalar = mt.tensor(values(a, 1, 1)), eval(scalar)
        out = operation(x, scalar)
        assert out.dtype == entry, (a, scalar)
        if not isinstance(scalar, bool):
            assert operation(x, np.asarray(scalar)).dtype == common(x.dtype, scalar)


def common(dtype, scalar):
    """A 0-d array is an array: no scalar."""
    return as_dtype(cells(PROMOTION)[dtype.name, np.asarray(scalar).dtype.name])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: 1.5 * x, lambda x: x / 2.5, lambda x: 2.5 / x, lambda x: x - 0.5, lambda x: x**2.5, lambda x: 1.5**x,
        lambda x: mt.clip(x, 0.5, 2.5), lambda x: mt.maximum(x, 0.5), lambda x: mt.logaddexp(x, 0.5),
        mt.exp, mt.exp2, mt.expm1, mt.log, mt.log2, mt.log10, mt.log1p, mt.sqrt, mt.rsqrt, mt.square, mt.reciprocal,
        mt.sin, mt.cos, mt.tan, mt.sinh, mt.cosh, mt.tanh, mt.arctan, mt.sigmoid, mt.softplus, mt.erf, mt.abs, mt.std,
        mt.logsumexp, mt.cumsum, mt.cumprod, mt.prod, mt.sort, mt.diag, mt.min,
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "bfloat16", "float16", "float32", "longdouble"])
def test_functions_keep_every_floating_dtype(function, name):
    x = values(name, 1, 2)
    value, tangent = mt.jvp(function, (x,), (x,))
    _, pullback = mt.vjp(function, x)
    assert value.dtype == tangent.dtype == pullback(value)[0].dtype == x.dtype
    exact = function(x.astype(np.float64))
    largest = 2.0 ** -{"float8_e4m3fn": 3, "float8_e5m2": 2, "bfloat16": 7, "float16": 9}.get(name, 20)
    assert value.shape == exact.shape
    np.testing.assert_allclose(value.data.astype(np.float64), exact.data, rtol=largest, atol=largest / 8)


# -- sums, means, and what is computed in another dtype -----------------------------------------------------------

FILTER = np.ones((1, 1, 2), np.bool_)
BY_NAME = {
    "sum": (mt.sum, mt.prod, mt.cumsum, mt.cumprod),
    "mean": (mt.mean,),
    "var": (mt.var, mt.std),
    "max": (mt.max, mt.min, mt.sort, mt.flip, mt.diag, mt.tril, lambda x: mt.pad(x, 1), lambda x: x[..., ::-1],
            lambda x: pooling.max_pool1d(x, 2), lambda x: resample.interpolate(x[None], 3)),
    "norm": (mt.linalg.norm,),
    "solve": (mt.linalg.inv, lambda x: mt.linalg.solve(x, x[0]), mt.linalg.det),
    "fft": (mt.fft.fft, mt.fft.ifft2),
    "avg_pool": (lambda x: pooling.avg_pool1d(x, 2), lambda x: pooling.adaptive_avg_pool1d(x, 2),
                 lambda x: pooling.adaptive_avg_pool1d(x, 1),
                 lambda x: resample.interpolate(x[None], 2, mode="linear"),
                 lambda x: resample.interpolate(x[None], 3, mode="linear")),
    "conv": (lambda x: convolution.conv1d(x[:1], FILTER), lambda x: convolution.conv_transpose1d(x[:1], FILTER),
             lambda x: convolution.unfold(x[None], 1)),
}  # fmt: skip


@pytest.mark.parametrize("column", BY_NAME)
def test_functions_of_one_array(column):
    for name, entry in ((row, entry) for (row, at), entry in cells(FUNCTIONS).items() if at == column):
        x = values(name, 2, 0, 1, 1).reshape(2, 2)
        for function in BY_NAME[column]:
            if entry == "-":
                with pytest.raises(TypeError, match="LAPACK"):
                    function(x)
                continue
            out, *_ = leaves = mt.tree_leaves(function(x))
            assert {o.dtype for o in leaves} == {as_dtype(entry)}, name
            if is_inexact(x.dtype) and function is not mt.std:
                _, pullback = mt.vjp(function, x)
                assert pullback(out)[0].dtype == x.dtype, name


def test_a_triangular_solve_knows_longdouble():
    x = values("longdouble", 2, 0, 1, 1).reshape(2, 2)
    assert mt.linalg.solve_triangular(x, x).dtype == np.longdouble
    assert mt.linalg.solve_triangular(x.astype(np.float16), np.ones(2, int)).dtype == np.float16


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float8_e5m2"])
def test_many_small_floats_add_up_in_float32(name):
    """3072 ones are 3072: a sum that is rounded on its way stops at 8, 256 or 2048."""
    n = 3072
    ones = mt.ones((n, 1), name)
    rows = np.zeros(n, int)
    sums = {
        "sum": mt.sum(ones),
        "sum over the first axis": mt.sum(ones, 0)[0],
        "cumsum": mt.cumsum(ones)[-1],
        "matmul": (ones.T @ ones)[0, 0],
        "einsum": mt.einsum("ij->", ones),
        "index_add": mt.index_add(mt.zeros((1, 1), name), rows, ones)[0, 0],
        "gradient of an index": mt.vjp(lambda x: x[rows], mt.zeros((1, 1), name))[1](ones)[0][0, 0],
        "gradient of take_along_axis":
            mt.vjp(lambda x: mt.take_along_axis(x, rows[:, None], 0), mt.zeros((1, 1), name))[1](ones)[0][0, 0],
        "gradient of broadcasting": mt.vjp(lambda x: x + ones, mt.zeros(1, name))[1](ones)[0][0],
        "convolution": convolution.conv1d(ones.T, ones.T[None])[0, 0],
        "gradient of unfold":
            mt.vjp(lambda x: convolution.unfold(x, (1, 1), padding=(0, 0)), mt.zeros((1, 1, 1), name))[1](ones[:1])[0].sum() * n,
    }  # fmt: skip
    for what, total in sums.items():
        assert total.dtype == name, what
        assert float(total) == n, what


@pytest.mark.parametrize("name", LOW_PRECISION)
def test_means_are_rounded_once(name):
    x = mt.astype(np.full(3000, 300.0), name)
    exact = float(x[0])
    assert float(mt.mean(x)) == exact
    assert float(mt.var(x)) == 0
    assert float(mt.logsumexp(x * 0)) == float(mt.astype(np.log(3000.0), name))
    assert float(pooling.avg_pool1d(x[None], 3000)) == exact


def test_the_mean_of_float16_does_not_overflow():
    x = np.full(1000, 6e4, np.float16)
    assert mt.mean(x).item() == x[0]
    assert mt.mean(x).dtype == mt.var(x).dtype == np.float16


def test_small_integers_do_not_pass_through_floats():
    x, w = np.full((1, 300), 127, np.int8), np.full((1, 1, 300), 127, np.int8)
    with np.errstate(over="ignore"):
        assert convolution.conv1d(x, w).item() == np.matmul(x, w[0].T).item()


# -- complex cotangents -------------------------------------------------------------------------------------------

Z = np.array([0.6 - 0.8j, -1.5 + 2j])
REAL_LOSSES = {
    "|z|^2": (lambda z: mt.sum(mt.square(mt.abs(z))), 2 * Z),
    "|z|": (lambda z: mt.sum(mt.abs(z)), Z / abs(Z)),
    "re z": (lambda z: mt.sum(mt.real(z)), np.ones(2)),
    "im z": (lambda z: mt.sum(mt.imag(z)), 1j * np.ones(2)),
    "re conj z": (lambda z: mt.sum(mt.real(mt.conj(z))), np.ones(2)),
    "im conj z": (lambda z: mt.sum(mt.imag(mt.conj(z))), -1j * np.ones(2)),
    "re z^2": (lambda z: mt.sum(mt.real(z * z)), np.conj(2 * Z)),
    "im exp z": (lambda z: mt.sum(mt.imag(mt.exp(z))), 1j * np.conj(np.exp(Z))),
    "re z conj z": (lambda z: mt.sum(mt.real(z * mt.conj(z))), 2 * Z),
    "re of a product": (lambda z: mt.real(z @ np.array([1j, 2.0])), np.conj([1j, 2.0])),
    "cast to real": (lambda z: mt.sum(mt.astype(z, np.float64)), np.ones(2)),
}


@pytest.mark.parametrize("name", REAL_LOSSES)
def test_the_gradient_of_a_real_loss(name):
    """dL/d(re) + i dL/d(im), PyTorch's convention: the direction in which the loss grows."""
    loss, want = REAL_LOSSES[name]
    got = mt.grad(loss)(Z)
    assert got.dtype == np.complex128
    np.testing.assert_allclose(got.data, want, rtol=1e-14)
    h = 1e-6
    for i in range(2):
        for unit in (1.0, 1j):
            step = np.zeros(2, complex)
            step[i] = h * unit
            slope = (loss(Z + step).item() - loss(Z - step).item()) / (2 * h)
            np.testing.assert_allclose(slope, (np.conj(want[i]) * unit).real, atol=1e-8)


def test_a_holomorphic_function_pulls_back_with_the_conjugate_of_its_derivative():
    g = np.array([1 + 2j, -1j])
    np.testing.assert_allclose(mt.vjp(mt.sin, Z)[1](g)[0].data, g * np.conj(np.cos(Z)), rtol=1e-14)
    np.testing.assert_allclose(mt.jvp(mt.sin, (Z,), (g,))[1].data, g * np.cos(Z), rtol=1e-14)


@pytest.mark.parametrize("function", [lambda x: x * Z, lambda x: Z - x, lambda x: Z / x, lambda x: mt.fft.fft(x),
                                      lambda x: mt.astype(x, np.complex128), lambda x: mt.where([True, False], x, Z),
                                      lambda x: mt.concatenate([x, Z]), lambda x: mt.outer(Z, x) @ x])  # fmt: skip
def test_real_arguments_have_real_gradients(function):
    x = np.array([0.5, 2.0])
    out, pullback = mt.vjp(function, x)
    assert out.dtype == np.complex128
    assert pullback(out)[0].dtype == np.float64
    mt.check_grads(function, x)


# -- names --------------------------------------------------------------------------------------------------------


def test_dtypes_have_names():
    assert as_dtype("bfloat16") == LOW_PRECISION["bfloat16"] == mt.zeros(1, "bfloat16").dtype
    assert as_dtype(float) == np.float64
    assert as_dtype("longdouble") == np.longdouble
    assert (is_floating(as_dtype("float8_e5m2")), is_inexact(np.dtype(complex)), is_floating(np.dtype(complex))) == (
        True, True, False,
    )  # fmt: skip
    assert not is_inexact(np.dtype(int))
    assert (real_dtype(np.dtype("complex64")), real_dtype(np.dtype("float32"))) == (np.float32, np.float32)
    with pytest.raises(TypeError) as caught:
        as_dtype("float12")
    assert str(caught.value) == (
        "'float12' is not a dtype; allowed are NumPy's names and bfloat16, float8_e4m3fn, float8_e5m2"
    )


def test_integers_cannot_be_differentiated():
    with pytest.raises(TypeError, match="only floating and complex Tensors can require gradients, this one is int64"):
        mt.tensor([1, 2], requires_grad=True)
