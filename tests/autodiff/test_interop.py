"""Arrays of other libraries come in with their bits, Tensors go out as ndarrays; NumPy's functions meet Tensors."""

from __future__ import annotations

import numpy as np
import pytest
from ml_dtypes import bfloat16

import minitf as mt
from minitf.autodiff.dtypes import LOW_PRECISION, as_dtype

# -- NumPy in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(6.0)[::-2],
        np.broadcast_to(np.float32(2), (2, 3)),
        np.array(2.5),
        np.zeros((0, 3), np.int8),
        np.ones(2, bfloat16),
        np.ones(2, np.complex64),
    ],
    ids=["C", "Fortran", "negative strides", "zero strides", "0-d", "empty", "bfloat16", "complex"],
)
def test_an_ndarray_is_shared(data):
    assert mt.Tensor(data).data is data
    assert mt.as_tensor(data).data is data
    copied = mt.tensor(data)
    assert not np.shares_memory(copied.data, data)
    np.testing.assert_array_equal(copied.data, data)
    assert (copied.dtype, copied.shape) == (data.dtype, data.shape)


@pytest.mark.parametrize(
    ("data", "want"),
    [
        (3, np.array(3)),
        (True, np.array(True)),
        (2.5, np.array(2.5)),
        (1j, np.array(1j)),
        (np.float32(2), np.array(2, np.float32)),
        ([1, 2.5], np.array([1, 2.5])),
        ([], np.zeros(0)),
        ((True, False), np.array([True, False])),
        ([[1, 2], (3, 4)], np.array([[1, 2], [3, 4]])),
        ([mt.tensor(1.0), np.float32(2), 3], np.array([1.0, 2, 3])),
        ([mt.tensor([1, 2]), [3, 4], np.array([5, 6])], np.array([[1, 2], [3, 4], [5, 6]])),
        ([[mt.tensor(1), 2], [3, mt.tensor(4)]], np.array([[1, 2], [3, 4]])),
        (range(3), np.arange(3)),
    ],
    ids=repr,
)
def test_numbers_and_nested_lists(data, want):
    out = mt.tensor(data)
    np.testing.assert_array_equal(out.data, want)
    assert out.dtype == want.dtype


def test_foreign_byte_order_becomes_the_machine_s():
    data = np.array([1.0, 2.0]).astype(np.dtype(float).newbyteorder("S"))
    out = mt.tensor(data)
    assert out.dtype == np.float64
    assert out.tolist() == [1.0, 2.0]


def test_subclasses_of_ndarray_lose_their_own_meaning():
    x = mt.as_tensor(np.array([[1.0, 2.0], [3.0, 4.0]]).view(np.matrix))
    assert type(x.data) is np.ndarray
    assert (x * x).tolist() == [[1, 4], [9, 16]]


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (None, TypeError, "tensor: a NoneType of object is no array of numbers"),
        ("text", TypeError, "tensor: a str of <U4 is no array of numbers"),
        ({1, 2}, TypeError, "tensor: a set of object is no array of numbers"),
        (10**30, TypeError, "tensor: a int of object is no array of numbers"),
        (np.array(["a"]), TypeError, "tensor: a ndarray of <U1 is no array of numbers"),
        (np.datetime64("2000"), TypeError, "tensor: a datetime64 of datetime64[Y] is no array of numbers"),
        ([1, "a"], TypeError, "tensor: a list of <U21 is no array of numbers"),
    ],
    ids=repr,
)
def test_refuses(data, error, message):
    with pytest.raises(error) as caught:
        mt.tensor(data)
    assert str(caught.value) == message


def test_refuses_ragged_lists():
    with pytest.raises(ValueError, match=r"tensor: the nested sequences are ragged or mixed"):
        mt.tensor([[1, 2], [3]])


def test_a_list_of_traced_tensors_is_refused():
    message = "tensor: a list of Tensors that are being differentiated would lose their derivative; use mt.stack"
    with pytest.raises(TypeError, match=message):
        mt.grad(lambda x: mt.sum([x[0], x[1]]))(np.ones(2))
    p = mt.tensor(2.0, requires_grad=True)
    with pytest.raises(TypeError, match=message):
        mt.tensor([p * p, p])
    assert mt.tensor([(p * p).detach(), p.item()]).tolist() == [4.0, 2.0]


# -- NumPy out ----------------------------------------------------------------------------------------------------


def test_asarray_shares_and_array_copies():
    x = mt.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert np.asarray(x) is x.data
    assert np.array(x, copy=False) is x.data
    assert not np.shares_memory(np.array(x), x.data)
    assert not np.shares_memory(np.asarray(x, copy=True), x.data)
    assert np.asarray(x, dtype=float) is x.data


def test_array_casts():
    x = mt.tensor([1.5, 2.5])
    assert np.asarray(x, np.float32).dtype == np.float32
    assert np.asarray(x, "int64").tolist() == [1, 2]
    assert np.array(mt.tensor(3), dtype=bfloat16).dtype == bfloat16
    with pytest.raises(ValueError, match="a float64 Tensor cannot become float32 without a copy"):
        np.array(x, dtype=np.float32, copy=False)


def test_functions_of_numpy_that_read_arrays():
    x = mt.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert np.allclose(x, x.data)
    assert np.stack([x, x]).shape == (2, 2, 2)
    np.testing.assert_array_equal(x, x.data)
    assert list(map(float, x[0])) == [1.0, 2.0]


# -- ufuncs and operators on mixed operands -----------------------------------------------------------------------

BINARY = """
    add subtract multiply true_divide floor_divide remainder power maximum minimum logaddexp matmul
    equal not_equal less less_equal greater greater_equal
"""
UNARY = """
    negative absolute exp exp2 expm1 log log2 log10 log1p sqrt square reciprocal sin cos tan sinh cosh tanh arctan
    floor ceil rint sign isnan isinf isfinite conjugate
"""


@pytest.mark.parametrize("name", BINARY.split())
def test_a_ufunc_of_a_tensor_and_anything_is_a_tensor(name):
    ufunc = getattr(np, name)
    a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.asfortranarray([[2.0, 1.0], [0.5, 4.0]])
    want = ufunc(a, b)
    for x, y in [(mt.tensor(a), b), (a, mt.tensor(b)), (mt.tensor(a), mt.tensor(b)), (mt.tensor(a), b.tolist())]:
        out = ufunc(x, y)
        assert isinstance(out, mt.Tensor)
        assert out.dtype == want.dtype
        np.testing.assert_allclose(out.data, want, rtol=1e-15)
    if name != "matmul":
        for scalar in (2, 2.0, np.float64(2), np.array(2.0), np.array(2)):
            for out, want in [
                (ufunc(mt.tensor(a), scalar), ufunc(a, 2.0)),
                (ufunc(scalar, mt.tensor(a)), ufunc(2.0, a)),
            ]:
                assert isinstance(out, mt.Tensor)
                np.testing.assert_allclose(out.data, want, rtol=1e-15)


@pytest.mark.parametrize("name", UNARY.split())
def test_a_ufunc_of_a_tensor(name):
    a = np.array([0.5, 2.0, 3.25])
    out = getattr(np, name)(mt.tensor(a))
    assert isinstance(out, mt.Tensor)
    np.testing.assert_allclose(out.data, getattr(np, name)(a), rtol=1e-15)


def test_a_ufunc_is_differentiated():
    np.testing.assert_allclose(mt.grad(lambda x: np.multiply(np.array(3.0), np.exp(x)))(0.0).item(), 3.0)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.arctan2(x, x),
        lambda x: np.add.reduce(x),
        lambda x: np.add.outer(x, x),
        lambda x: np.add(x, x, out=np.zeros(2)),
        lambda x: np.exp(x, where=np.array([True, False])),
    ],
)
def test_what_has_no_rule_is_refused(call):
    with pytest.raises(TypeError, match="__array_ufunc__"):
        call(mt.tensor([1.0, 2.0]))


def test_ndarrays_give_way_on_both_sides():
    a, x = np.array([3, 4]), mt.tensor([1.0, 2.0], dtype="float32")
    for out in (a + x, x + a, a * x, a - x, a / x, a @ x, x @ a, a**x, a < x, a == x):
        assert isinstance(out, mt.Tensor)
    assert (a + x).dtype == np.float32
    b = np.array([1.0, 1.0], np.float32)
    b += x.data
    assert b.tolist() == [2, 3]


@pytest.mark.parametrize("scalar", [2, 2.0, True, np.int64(2), np.float32(2), np.array(2), mt.tensor(2)])
def test_0_d_operands(scalar):
    x = mt.tensor(np.array(3.0, np.float32))
    for out in (x + scalar, scalar + x, x * scalar):
        assert (out.shape, out.dtype) == ((), np.float32)
    assert float(x) == 3.0
    assert int(mt.tensor(3)) == 3
    assert [10, 11, 12, 13][mt.tensor(3)] == 13


# -- torch --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parametrize(
    "name", ["float64", "float32", "float16", *LOW_PRECISION, "int64", "uint8", "bool", "complex64"]
)
def test_torch_dtypes(torch, name):
    x = torch.tensor([[0.0, 1.0, 2.0], [4.0, 1.5, 0.25]]).to(getattr(torch, name))
    want = x.to(torch.complex128).real.numpy().astype(as_dtype(name))
    for view, of in [
        (x, want), (x.T, want.T), (x[:, ::2], want[:, ::2]), (x[1, 1], want[1, 1]), (x[:0], want[:0]),
        (x[0].expand(2, 3), np.stack([want[0]] * 2)),
    ]:  # fmt: skip
        out = mt.as_tensor(view)
        assert (out.dtype, out.shape) == (as_dtype(name), of.shape)
        np.testing.assert_array_equal(out.data.astype(complex), of.astype(complex))
    assert mt.tensor([x[0], x[1]]).dtype == as_dtype(name)


def test_torch_memory_is_shared_unless_copied(torch):
    for x in (torch.ones(3), torch.ones(3, dtype=torch.bfloat16)):
        shared, copied = mt.as_tensor(x), mt.tensor(x)
        x[0] = 5
        assert (shared.tolist()[0], copied.tolist()[0]) == (5, 1)


def test_torch_arrays_that_are_more_than_memory(torch):
    leaf = torch.tensor([1.0, 2.0], requires_grad=True)
    parameter = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    z = torch.tensor([1 + 2j, 3 - 1j])
    assert mt.as_tensor(leaf * 2).tolist() == [2, 4]
    assert mt.as_tensor(parameter).dtype == "bfloat16"
    assert mt.as_tensor(torch.conj(z)).tolist() == [1 - 2j, 3 + 1j]
    assert mt.as_tensor(torch.conj(z).imag).tolist() == [-2, 1]  # a view with its negative bit set
    assert not mt.as_tensor(leaf).requires_grad


def test_torch_subclasses(torch):
    class Marked(torch.Tensor):
        pass

    x = torch.ones(2, dtype=torch.bfloat16, requires_grad=True).as_subclass(Marked)
    assert mt.as_tensor(x).dtype == "bfloat16"


def test_torch_meets_a_tensor(torch):
    x, t = mt.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert (x + t).tolist() == [4.0, 6.0]
    assert isinstance(x * t, mt.Tensor)
    assert torch.as_tensor(np.asarray(x)).tolist() == [1.0, 2.0]
    g = mt.grad(lambda x: mt.sum(x * t))(x)
    assert g.tolist() == [3.0, 4.0]


def test_a_sparse_torch_array_is_refused(torch):
    with pytest.raises(TypeError, match="to_dense"):
        mt.as_tensor(torch.eye(2).to_sparse())


# -- jax ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def jnp():
    return pytest.importorskip("jax.numpy")


@pytest.mark.parametrize("name", ["float32", "float16", *LOW_PRECISION, "int32", "uint8", "bool", "complex64"])
def test_jax_dtypes(jnp, name):
    x = jnp.asarray(np.array([[0.0, 1.0, 2.0], [4.0, 1.5, 0.25]]).astype(as_dtype(name)))
    want = np.asarray(x)
    out = mt.as_tensor(x)
    assert out.dtype == as_dtype(name)
    np.testing.assert_array_equal(out.data, want)
    assert mt.tensor([x, x]).dtype == as_dtype(name)
    mt.tensor(x).data[...] = 0  # a copy that may be written
    np.testing.assert_array_equal(np.asarray(x), want)


def test_jax_meets_a_tensor(jnp):
    x, j = mt.tensor([1.0, 2.0]), jnp.asarray([3.0, 4.0])
    assert isinstance(x * j, mt.Tensor)
    assert mt.grad(lambda x: mt.sum(x * j))(x).tolist() == [3.0, 4.0]
    assert jnp.asarray(x).tolist() == [1.0, 2.0]
    assert mt.as_tensor(jnp.zeros((0, 3))).shape == (0, 3)
    assert mt.as_tensor(j[1]).item() == 4.0
