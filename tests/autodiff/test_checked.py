# an axis is a string, also when it is a single name
"""``@checked``: what it lets through, what it says otherwise, and when it looks at all."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import minitf as mt
from minitf.autodiff.checked import checked

if TYPE_CHECKING:
    from jaxtyping import Bool, Complex, Float, Inexact, Int, Shaped

    from minitf import Tensor


@checked
def attention(
    q: Float[Tensor, "*B H T E"],
    k: Float[Tensor, "*B H S E"],
    v: Float[Tensor, "*B H S W"],
    *,
    mask: Bool[Tensor, "*#B #H #T #S"] | None = None,
    scale: float | Float[Tensor, "H 1 1"] = 1.0,
    causal: bool = False,
) -> Any:
    """Returns what it was given."""
    return q, k, v, mask, scale


def zeros(*shape: int, dtype: Any = float) -> Any:
    return mt.Tensor(np.zeros(shape, dtype))


q, k, v = zeros(2, 4, 5, 16), zeros(2, 4, 7, 16), zeros(2, 4, 7, 3)
allowed = np.ones


def test_arguments_pass_untouched_and_the_signature_stays():
    array = np.zeros((2, 4, 5, 16))
    assert attention(array, k, v)[0] is array
    assert attention(k=k, v=v, q=q)[0] is q
    assert attention.__name__ == "attention"
    assert attention.__doc__ == "Returns what it was given."
    assert list(inspect.signature(attention).parameters)[3] == "mask"


@pytest.mark.parametrize("shape", [(2, 4, 5, 7), (1, 1, 5, 7), (1, 4, 1, 1), (2, 1, 1, 7)])
def test_a_mask_broadcasts(shape):
    attention(q, k, v, mask=allowed(shape, bool))


def test_leading_axes_may_be_none_or_many_and_sizes_zero():
    attention(zeros(4, 5, 16), zeros(4, 7, 16), zeros(4, 7, 3))
    attention(zeros(2, 3, 4, 5, 16), zeros(2, 3, 4, 7, 16), zeros(2, 3, 4, 7, 3))
    attention(zeros(0, 4, 0, 16), zeros(0, 4, 0, 16), zeros(0, 4, 0, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"k": zeros(2, 4, 7, 8)},
            'attention: k has shape (2, 4, 7, 8), expected "*B H S E" with E = 16 (from q (2, 4, 5, 16))',
        ),
        (
            {"v": zeros(2, 4, 6, 3)},
            'attention: v has shape (2, 4, 6, 3), expected "*B H S W" with S = 7 (from k (2, 4, 7, 16))',
        ),
        (
            {"k": zeros(3, 4, 7, 16)},
            'attention: k has shape (3, 4, 7, 16), expected "*B H S E" with B = (2,) (from q (2, 4, 5, 16))',
        ),
        ({"q": zeros(5, 16)}, 'attention: q has shape (5, 16), expected "*B H T E": at least 3 axes'),
        (
            {"mask": allowed((2, 4, 5, 6), bool)},
            'attention: mask has shape (2, 4, 5, 6), expected "*#B #H #T #S" with S = 7 (from k (2, 4, 7, 16))',
        ),
        (
            {"mask": allowed((3, 1, 1, 1), bool)},
            'attention: mask has shape (3, 1, 1, 1), expected "*#B #H #T #S" with B = (2,) (from q (2, 4, 5, 16))',
        ),
        (
            {"scale": zeros(4, 2, 1)},
            'attention: scale has shape (4, 2, 1), expected "H 1 1" with an axis of size 1',
        ),
    ],
)
def test_shape_errors_name_the_letter_that_disagrees(arguments, message):
    with pytest.raises(mt.ShapeError) as caught:
        attention(**({"q": q, "k": k, "v": v} | arguments))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"mask": np.zeros((5, 7)) + 1.0},
            "attention: mask must be boolean (True = may attend), got float64",
        ),
        ({"q": zeros(2, 4, 5, 16, dtype=int)}, "attention: q must be floating, got int64"),
        ({"q": zeros(2, 4, 5, 16, dtype=complex)}, "attention: q must be floating, got complex128"),
        ({"q": "text"}, "attention: q must be an array of numbers, got str"),
        ({"q": None}, "attention: q must be an array of numbers, got NoneType"),
    ],
)
def test_dtype_errors(arguments, message):
    with pytest.raises(TypeError) as caught:
        attention(**({"q": q, "k": k, "v": v} | arguments))
    assert str(caught.value) == message


def test_low_precision_floats_are_floating():
    import ml_dtypes

    for dtype in (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, np.float16, np.longdouble):
        attention(*(mt.Tensor(x.numpy().astype(dtype)) for x in (q, k, v)))


def test_an_accepted_signature_is_not_mistaken_for_another():
    attention(q, k, v)  # remembered
    with pytest.raises(mt.ShapeError):
        attention(q, v, k)
    attention(q, k, v, mask=allowed((1, 1, 5, 7), bool))
    with pytest.raises(TypeError):
        attention(q, k, v, scale=allowed((1, 1, 5, 7), bool))
    with pytest.raises(TypeError, match="q must be floating, got int64"):
        attention([[[1, 2]]], k, v)


def test_only_the_outermost_call_is_checked():
    calls = []

    @checked
    def inner(x: Float[Tensor, "3"]) -> Any:
        calls.append(x.shape)
        return x

    @checked
    def outer(x: Float[Tensor, T]) -> Any:  # quotes or not: annotations are text here
        return inner(x)

    outer(zeros(5))
    assert calls == [(5,)]
    with pytest.raises(mt.ShapeError, match="inner: x has shape"):
        inner(zeros(5))

    @checked
    def failing(x: Float[Tensor, "T"]) -> Any:
        raise KeyError

    with pytest.raises(KeyError):
        failing(zeros(5))
    with pytest.raises(mt.ShapeError):  # the failure did not leave checking switched off
        inner(zeros(5))


def test_computed_sizes_wait_for_their_names():
    @checked
    def f(x: Float[Tensor, "T+1 2*E"], y: Float[Tensor, "T E"]) -> Any:
        return x

    f(zeros(4, 6), zeros(3, 3))
    with pytest.raises(mt.ShapeError, match=r'f: x has shape \(4, 5\), expected "T\+1 2\*E" with 2\*E = 6 \(E = 3\)'):
        f(zeros(4, 5), zeros(3, 3))
    with pytest.raises(mt.ShapeError, match=r"with T\+1 = 4 \(T = 3\)"):
        f(zeros(3, 6), zeros(3, 3))


def test_broadcasting_groups_agree_with_each_other():
    @checked
    def f(x: Float[Tensor, "*#B T"], y: Float[Tensor, "*#B T"], z: Float[Tensor, "*#B T"]) -> Any:
        return x

    f(zeros(1, 3, 5), zeros(2, 1, 5), zeros(3, 5))
    f(zeros(5), zeros(2, 1, 5), zeros(1, 5))
    with pytest.raises(mt.ShapeError, match=r"z has shape \(4, 5\).* with B = \(2, 3\)"):
        f(zeros(1, 3, 5), zeros(2, 1, 5), zeros(4, 5))

    @checked
    def g(mask: Bool[Tensor, "*#B T"], x: Float[Tensor, "*B T"]) -> Any:
        return x

    g(allowed((1, 5), bool), zeros(2, 5))
    g(allowed(5, bool), zeros(2, 3, 5))
    with pytest.raises(mt.ShapeError):  # the mask would make the batch larger
        g(allowed((2, 5), bool), zeros(1, 5))


def test_the_rest_of_the_grammar():
    @checked
    def f(
        square: Shaped[Tensor, "N N"],
        any_: Inexact[Tensor, "... _ 3"],
        ids: Int[Tensor, ""],
        *more: Complex[Tensor, "N"],
    ) -> Any:
        return more

    f(zeros(2, 2, dtype=bool), zeros(7, 8, 9, 3), 5)
    f(zeros(2, 2), zeros(9, 3, dtype=complex), np.uint8(5), zeros(2, dtype=complex), zeros(2, dtype=np.complex64))
    with pytest.raises(mt.ShapeError, match=r"square has shape \(2, 3\), expected \"N N\" with N = 2 \(another of its"):
        f(zeros(2, 3), zeros(9, 3), 5)
    with pytest.raises(mt.ShapeError, match="at least 2 axes"):
        f(zeros(2, 2), zeros(3), 5)
    with pytest.raises(mt.ShapeError, match="more has shape"):
        f(zeros(2, 2), zeros(9, 3), 5, zeros(3, dtype=complex))
    with pytest.raises(TypeError, match="ids must be integer, got float64"):
        f(zeros(2, 2), zeros(9, 3), 5.0)


def test_unions_of_arrays_take_whichever_fits():
    @checked
    def f(x: Float[Tensor, "T"], index: Int[Tensor, "T"] | Bool[Tensor, "S S"] | None = None) -> Any:
        return x

    f(zeros(3), zeros(3, dtype=int))
    f(zeros(3), zeros(2, 2, dtype=bool))
    f(zeros(3), None)
    with pytest.raises(TypeError, match="index must be integer or boolean, got float64"):
        f(zeros(3), zeros(3))


def test_python_raises_its_own_errors_for_wrong_calls():
    with pytest.raises(TypeError, match="missing"):
        attention(q, k)
    with pytest.raises(TypeError, match="unexpected keyword"):
        attention(q, k, v, masked=True)


def test_torch_arrays_are_read_as_they_are():
    torch = pytest.importorskip("torch")
    attention(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4).bfloat16(), torch.zeros(1, 2, 3, 4))
    with pytest.raises(TypeError, match=r"q must be floating, got torch.int64"):
        attention(torch.zeros(1, 2, 3, 4).long(), k, v)


def test_annotations_that_make_no_sense_are_refused_at_definition():
    def bad(x: Float[Tensor, "*A *B"]) -> Any: ...

    def worse(x: Float[Tensor, "T-"]) -> Any: ...

    def worst(x: Float[Tensor]) -> Any: ...

    for function in (bad, worse, worst):
        with pytest.raises(TypeError, match=f"{function.__name__}: x: "):
            checked(function)
