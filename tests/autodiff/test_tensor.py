"""Tensors: what they are, what they record, what backward does to the graph."""

import threading
import weakref

import numpy as np
import pytest

import minitf as mt


def test_wraps_one_array_without_copying_and_tensor_copies():
    data = np.arange(6.0).reshape(2, 3)
    assert mt.Tensor(data).data is data
    assert mt.tensor(data).data is not data
    assert np.asarray(mt.Tensor(data)) is data
    assert np.array(mt.Tensor(data), dtype=np.float32).dtype == np.float32


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("tensor([1., 2.])", mt.tensor([1.0, 2.0])),
        ("tensor([1., 2.], dtype=float32)", mt.tensor([1.0, 2.0], dtype="float32")),
        ("tensor([1., 2.], requires_grad=True)", mt.tensor([1.0, 2.0], requires_grad=True)),
    ],
)
def test_repr(text, value):
    assert repr(value) == text


def test_operators_mix_with_arrays_and_scalars_on_both_sides():
    x, a = mt.tensor([1.0, 2.0]), np.array([3.0, 4.0])
    for got, want in [
        (x + a, [4, 6]), (a + x, [4, 6]), (2 - x, [1, 0]), (a / x, [3, 2]), (x @ a, 11), (a @ x, 11),
        (np.exp(x), np.exp(x.data)), (np.float64(2) * x, [2, 4]), (-x, [-1, -2]), (2**x, [2, 4]), (x // 2, [0, 1]),
        (abs(-x), [1, 2]), (x % 2, [1, 0]),
    ]:  # fmt: skip
        assert isinstance(got, mt.Tensor)
        np.testing.assert_array_equal(got.data, want)


def test_an_operation_is_recorded_iff_an_input_is_traced():
    x, p = mt.tensor(2.0), mt.tensor(3.0, requires_grad=True)
    assert not (x * x).requires_grad
    assert (x * p).requires_grad
    with mt.no_grad():
        assert not (x * p).requires_grad
        assert mt.grad(lambda y: y * y)(x).item() == 4.0  # a transformation started inside works as usual
    assert not (x < p).requires_grad


def test_no_grad_silences_transformations_started_outside():
    def f(x):
        with mt.no_grad():
            constant = x * x
        return constant * x

    assert mt.grad(f)(3.0).item() == 9.0
    assert mt.grad(mt.no_grad()(lambda x: x * x))(3.0).item() == 0.0


def test_backward_accumulates_and_zero_grad_forgets():
    p = mt.tensor([1.0, 2.0], requires_grad=True)
    mt.sum(p * p).backward()
    mt.sum(p).backward()
    np.testing.assert_array_equal(p.grad.data, [3.0, 5.0])
    p.zero_grad()
    assert p.grad is None


def test_backward_takes_a_cotangent_and_can_retain_the_graph():
    p = mt.tensor([1.0, 2.0], requires_grad=True)
    y = p * p
    y.backward(np.array([1.0, 10.0]), retain_graph=True)
    y.backward(np.array([1.0, 10.0]))
    np.testing.assert_array_equal(p.grad.data, [4.0, 80.0])
    with pytest.raises(RuntimeError, match="already swept backwards"):
        y.backward(np.array([1.0, 10.0]))


def test_residuals_are_freed_as_they_are_consumed():
    p = mt.tensor(np.ones(1000), requires_grad=True)
    y = mt.exp(p)
    residual = weakref.ref(y.data)
    z = mt.sum(y * 2.0)
    del y
    assert residual() is not None  # exp keeps its output
    z.backward()
    assert residual() is None  # z is alive, what its graph saved is not


def test_an_addition_keeps_nothing_alive():
    p = mt.tensor(np.ones(1000), requires_grad=True)
    hidden = p * 1.0
    data = weakref.ref(hidden.data)
    out = hidden + 1.0
    del hidden
    assert data() is None
    mt.sum(out).backward()
    np.testing.assert_array_equal(p.grad.data, np.ones(1000))


def _chain(n):
    x = mt.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(n):
        y = y + 1.0
    y.backward()
    assert x.grad.item() == 1.0
    assert y.item() == n + 1


def test_long_chains_need_no_recursion():
    _chain(50_000)


@pytest.mark.slow
def test_a_chain_of_a_million_additions():
    _chain(1_000_000)


def test_an_unswept_long_graph_is_freed_without_recursion():
    x = mt.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(50_000):
        y = y + 1.0
    del y


def test_a_shared_intermediate_is_visited_once():
    x = mt.tensor(2.0, requires_grad=True)
    y = x
    for _ in range(60):  # 2^60 paths
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**60


def test_threads_record_independently():
    gradients = {}

    def work(k):
        gradients[k] = mt.grad(lambda x: mt.sum(x**k))(np.full(3, 2.0)).data

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2, 8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for k, g in gradients.items():
        np.testing.assert_allclose(g, k * 2.0 ** (k - 1))


def test_config_is_scoped_and_checked():
    assert mt.zeros(2).dtype == np.float64
    with mt.config(dtype="float32"):
        assert mt.zeros(2).dtype == np.float32
    assert mt.zeros(2).dtype == np.float64
    with mt.config(kernels="numpy", threads=1) as settings:
        assert (settings.kernels, settings.threads) == ("numpy", 1)
