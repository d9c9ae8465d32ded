"""The gated linear recurrence: its equation in loops, four forms, both directions, cuts, gradients, exact cost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recurrences import continues, forms_agree, on_grid

import minitf as mt
from minitf.autodiff.cost import saved_bytes
from minitf.recurrent.linear_recurrence import FORMS, gated_linear_recurrence

LEADING = st.sampled_from([(), (2,), (2, 3), (0,)])


def draw(rng, lead, T, P):
    shape = (*lead, T, P)
    return rng.uniform(-1, 1, shape), rng.standard_normal(shape), rng.standard_normal((*lead, P))


@pytest.mark.parametrize("form", FORMS)
@given(st.integers(0, 10**6), LEADING, st.integers(0, 7), st.integers(1, 3), st.integers(1, 4))
def test_equals_its_equation_in_loops(form, seed, lead, T, P, chunk):
    a, b, start = draw(np.random.default_rng(seed), lead, T, P)
    want = np.zeros(a.shape)
    for i in np.ndindex(lead):
        for p in range(P):
            h = start[(*i, p)]
            for t in range(T):
                h = want[(*i, t, p)] = a[(*i, t, p)] * h + b[(*i, t, p)]
    h, last = gated_linear_recurrence(a, b, state=start, form=form, chunk=chunk, return_state=True)
    np.testing.assert_allclose(h.data, want, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(last.data, h.data[..., -1, :] if T else start)
    backwards = gated_linear_recurrence(
        a[..., ::-1, :], b[..., ::-1, :], state=start, form=form, chunk=chunk, reverse=True
    )
    np.testing.assert_allclose(backwards.data[..., ::-1, :], want, rtol=0, atol=1e-13)


@given(st.integers(0, 10**6), LEADING, st.integers(0, 13), st.integers(1, 5), st.booleans())
def test_forms_agree_in_values_and_gradients(seed, lead, T, chunk, reverse):
    a, b, start = draw(np.random.default_rng(seed), lead, T, 3)
    options = {"chunk": chunk, "reverse": reverse, "return_state": True}
    functions = {
        form: lambda a, b, state, form=form: gated_linear_recurrence(a, b, state=state, form=form, **options)
        for form in FORMS
    }
    forms_agree(functions, a, b, start)


@pytest.mark.parametrize("form", FORMS)
@given(st.integers(0, 10**6), st.integers(0, 9), st.data())
def test_cut_anywhere_and_continued(form, seed, T, data):
    a, b, _ = draw(np.random.default_rng(seed), (2,), T, 3)
    cuts = data.draw(st.lists(st.integers(0, T), max_size=3))
    run = lambda a, b, state: gated_linear_recurrence(a, b, state=state, form=form, chunk=2, return_state=True)
    continues(run, (a, b), axis=-2, cuts=cuts)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_gradients(form, reverse):
    a, b, start = draw(np.random.default_rng(0), (2,), 5, 2)
    options = {"form": form, "chunk": 2, "reverse": reverse, "return_state": True}
    mt.check_grads(lambda a, b, state: gated_linear_recurrence(a, b, state=state, **options), a, b, start)


def test_a_gate_of_one_adds_up_and_a_gate_of_zero_forgets():
    b = np.random.default_rng(0).standard_normal((2, 6, 3))
    for form in FORMS:
        np.testing.assert_allclose(gated_linear_recurrence(np.ones_like(b), b, form=form), np.cumsum(b, 1), atol=1e-14)
        np.testing.assert_array_equal(gated_linear_recurrence(np.zeros_like(b), b, form=form), b)


def test_cost_is_exact_and_linear_in_time():
    def flops(T, form, backward=False):
        a, b, _ = draw(np.random.default_rng(0), (2,), T, 3)
        run = lambda a, b: gated_linear_recurrence(a, b, form=form, chunk=8)
        out, pullback = mt.vjp(run, a, b)
        with mt.cost() as c:
            pullback(np.ones(out.shape)) if backward else run(a, b)
        return c.flops

    for T in (32, 64, 128):
        assert flops(T, "scan") == flops(T, "sequential") == 2 * T * 6
        assert flops(T, "chunked") == 5 * T * 6 + 2 * (T // 8) * 6
        assert flops(T, "scan", backward=True) == 3 * T * 6 + 6  # the recurrence backwards, ā, and the state's
        assert 4 * T * 6 < flops(T, "associative") < 5 * T * 6 + 30 * 6


def test_the_backward_sweep_keeps_gates_and_states():
    a, b, _ = draw(np.random.default_rng(0), (2,), 50, 3)
    assert saved_bytes(gated_linear_recurrence, a, b) == a.nbytes + b.nbytes + 2 * 3 * 8


def test_the_gradients_of_slices_come_back_in_one_piece():
    x = np.random.default_rng(0).standard_normal((2, 400, 3))
    leaf = mt.tensor(x, requires_grad=True)
    parts = mt.unstack(leaf, 1)
    assert len(parts) == 400
    np.testing.assert_array_equal(parts[7].data, x[:, 7])
    with mt.cost() as c:
        mt.sum(parts[3] * parts[5]).backward()
    assert c.bytes_written < 5 * x.nbytes  # not once for every slice
    want = np.zeros_like(x)
    want[:, 3], want[:, 5] = x[:, 5], x[:, 3]
    np.testing.assert_array_equal(leaf.grad.data, want)
    mt.check_grads(lambda x: [p * p for p in mt.unstack(x, 0)], x[:, :3])


def test_states_are_stored_and_handed_on_unrounded():
    a, b, _ = draw(np.random.default_rng(0), (2,), 9, 3)
    for form in FORMS:
        with mt.precision("bfloat16"):
            h, last = gated_linear_recurrence(a, b, form=form, chunk=4, return_state=True)
        assert on_grid(h, "bfloat16")
        assert not on_grid(last, "bfloat16")


def test_dtypes():
    a, b, start = draw(np.random.default_rng(0), (2,), 5, 3)
    narrow = gated_linear_recurrence(a.astype("f"), b.astype("f"), state=start.astype("f"), return_state=True)
    assert {x.dtype for x in narrow} == {np.dtype(np.float32)}
    gradient = mt.grad(lambda a: mt.sum(gated_linear_recurrence(a, b)))(a.astype("f"))
    assert gradient.dtype == np.float32
    assert gated_linear_recurrence(a.astype("f"), b).dtype == np.float64


def test_wrong_calls():
    a = np.zeros((2, 5, 3))
    with pytest.raises(mt.ShapeError, match=r"b has shape \(2, 4, 3\)"):
        gated_linear_recurrence(a, a[:, :4])
    with pytest.raises(mt.ShapeError, match=r"state has shape \(2, 4\)"):
        gated_linear_recurrence(a, a, state=np.zeros((2, 4)))
    with pytest.raises(ValueError, match="form must be one of scan, sequential, chunked, associative, got 'parallel'"):
        gated_linear_recurrence(a, a, form="parallel")
    with pytest.raises(ValueError, match="chunk must be at least 1, got 0"):
        gated_linear_recurrence(a, a, form="chunked", chunk=0)
    with pytest.raises(TypeError, match="a must be floating"):
        gated_linear_recurrence(a.astype(int), a)
