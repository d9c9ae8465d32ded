"""The selective scan: its equations in loops, four forms, cuts, gradients, exact cost, and what it is invariant to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recurrences import continues, forms_agree, on_grid

import minitf as mt
from minitf.autodiff.cost import saved_bytes
from minitf.recurrent.linear_recurrence import gated_linear_recurrence
from minitf.recurrent.mamba import FORMS, selective_scan, selective_scan_matrix

LEADING = st.sampled_from([(), (2,), (2, 2), (0,)])


def draw(rng, lead, T, P, N):
    u, dt = rng.standard_normal((*lead, T, P)), rng.uniform(0.05, 1, (*lead, T, P))
    A, (B, C), D = -rng.uniform(0.1, 2, (P, N)), rng.standard_normal((2, *lead, T, N)), rng.standard_normal(P)
    return u, dt, A, B, C, D, rng.standard_normal((*lead, P, N))


def scan_with(form):
    def run(u, dt, A, B, C, D=None, state=None):
        return selective_scan(u, dt, A, B, C, D, state=state, form=form, return_state=True)

    return run


def loops(u, dt, A, B, C, D, h):
    """One number at a time, one sample."""
    (T, P), N, h = u.shape, A.shape[1], h.copy()
    y = np.zeros((T, P))
    for t in range(T):
        for p in range(P):
            for n in range(N):
                h[p, n] = np.exp(dt[t, p] * A[p, n]) * h[p, n] + dt[t, p] * B[t, n] * u[t, p]
                y[t, p] += C[t, n] * h[p, n]
            y[t, p] += D[p] * u[t, p]
    return y, h


@pytest.mark.parametrize("form", FORMS)
@given(st.integers(0, 10**6), LEADING, st.integers(0, 6), st.integers(1, 3), st.integers(1, 3))
def test_equals_its_equations_in_loops(form, seed, lead, T, P, N):
    u, dt, A, B, C, D, state = draw(np.random.default_rng(seed), lead, T, P, N)
    y, last = scan_with(form)(u, dt, A, B, C, D, state)
    assert (y.shape, last.shape) == (u.shape, state.shape)
    for i in np.ndindex(lead):
        want, h = loops(u[i], dt[i], A, B[i], C[i], D, state[i])
        np.testing.assert_allclose(y.data[i], want, rtol=0, atol=1e-12)
        np.testing.assert_allclose(last.data[i], h, rtol=0, atol=1e-12)


@given(st.integers(0, 10**6), st.integers(0, 13), st.booleans())
def test_forms_agree_in_values_and_gradients(seed, T, plain):
    *arrays, D, state = draw(np.random.default_rng(seed), (2,), T, 3, 2)
    forms_agree({form: scan_with(form) for form in FORMS}, *(arrays if plain else (*arrays, D, state)))


@pytest.mark.parametrize("form", FORMS)
@given(st.integers(0, 10**6), st.integers(0, 9), st.data())
def test_cut_anywhere_and_continued(form, seed, T, data):
    u, dt, A, B, C, D, _ = draw(np.random.default_rng(seed), (2,), T, 3, 2)
    cuts = data.draw(st.lists(st.integers(0, T), max_size=3))
    run = lambda u, dt, B, C, state: scan_with(form)(u, dt, A, B, C, D, state)
    continues(run, (u, dt, B, C), axis=-2, cuts=cuts)


@pytest.mark.parametrize("form", FORMS)
def test_gradients(form):
    mt.check_grads(scan_with(form), *draw(np.random.default_rng(0), (2,), 3, 2, 2))


class TestInvariants:
    def test_the_matrix_is_lower_triangular_and_is_the_scan(self):
        u, dt, A, B, C, D, _ = draw(np.random.default_rng(0), (2,), 7, 3, 4)
        M = selective_scan_matrix(dt, A, B, C).data
        assert M.shape == (2, 3, 7, 7)
        np.testing.assert_array_equal(M, np.tril(M))
        np.testing.assert_allclose(
            np.einsum("btn,btp,btn->bpt", C, dt, B), np.diagonal(M, axis1=2, axis2=3), atol=1e-14
        )
        y = np.einsum("bpts,bsp->btp", M, u) + D * u
        np.testing.assert_allclose(selective_scan(u, dt, A, B, C, D), y, rtol=0, atol=1e-12)

    def test_the_matrix_keeps_its_digits_where_much_was_forgotten(self):
        rng = np.random.default_rng(0)
        u, dt, A, B, C, _, _ = draw(rng, (1,), 40, 2, 3)
        dt[:, :20] *= 1e4  # running sums of 1e5 in front of steps of 1
        results = (scan_with(form)(u, dt, A, B, C) for form in ("matrix", "scan"))
        for got, want in zip(*results, strict=True):
            np.testing.assert_allclose(got.data[:, -2:], want.data[:, -2:], rtol=0, atol=1e-12)

    def test_a_step_of_zero_changes_nothing(self):
        u, dt, A, B, C, D, state = draw(np.random.default_rng(0), (2,), 5, 3, 2)
        dt[:, 2] = 0
        kept = [np.delete(x, 2, 1) for x in (u, dt, B, C)]
        y, last = scan_with("scan")(u, dt, A, B, C, D, state)
        short, same = scan_with("scan")(kept[0], kept[1], A, kept[2], kept[3], D, state)
        np.testing.assert_allclose(np.delete(y.data, 2, 1), short, rtol=0, atol=1e-14)
        np.testing.assert_allclose(last, same, rtol=0, atol=1e-14)

    def test_without_decay_and_with_one_state_it_is_a_gated_recurrence(self):
        u, dt, A, _, _, _, _ = draw(np.random.default_rng(0), (2,), 6, 3, 1)
        ones = np.ones((2, 6, 1))
        want = gated_linear_recurrence(np.exp(dt * A[:, 0]), dt * u)
        np.testing.assert_allclose(selective_scan(u, dt, A, ones, ones), want, rtol=0, atol=1e-14)

    def test_the_future_is_not_seen(self):
        u, dt, A, B, C, D, _ = draw(np.random.default_rng(0), (2,), 6, 3, 2)
        y = selective_scan(u, dt, A, B, C, D).data
        for x in (u, dt, B, C):
            x[:, 4:] = 9
        np.testing.assert_array_equal(selective_scan(u, dt, A, B, C, D).data[:, :4], y[:, :4])


class TestCost:
    def flops(self, T, form="scan", backward=False):
        u, dt, A, B, C, D, _ = draw(np.random.default_rng(0), (2,), T, 3, 4)
        run = lambda *xs: selective_scan(*xs, form=form)
        out, pullback = mt.vjp(run, u, dt, A, B, C, D)
        with mt.cost() as c:
            pullback(np.ones(out.shape)) if backward else run(u, dt, A, B, C, D)
        return c.flops, c.macs, c.bytes_read + c.bytes_written

    @pytest.mark.parametrize("T", [16, 64])
    def test_forward(self, T):
        each, products = T * 2 * 3 * (7 * 4 + 1 + 2), T * 2 * 3 * 4
        assert self.flops(T)[:2] == self.flops(T, "sequential")[:2] == (each, products)

    def test_linear_in_time(self):
        for form in ("scan", "sequential"):
            one, two = self.flops(64, form), self.flops(128, form)
            assert two[:2] == (2 * one[0], 2 * one[1])
            assert two[2] < 2.1 * one[2]
        assert self.flops(128, "associative")[0] < 2.1 * self.flops(64, "associative")[0]
        assert self.flops(64, "matrix")[0] > 3.5 * self.flops(32, "matrix")[0]

    def test_backward_is_linear_in_time_and_walks_forward_twice(self):
        flops, macs, moved = self.flops(64, backward=True)
        walked = 64 + 56  # seven segments of eight, then all of them
        assert flops == 2 * 3 * (64 * (14 * 4 + 8) + walked * (5 * 4 + 1))
        assert macs == 5 * 64 * 2 * 3 * 4
        longer = self.flops(256, backward=True)
        assert longer[1] == 4 * macs
        assert longer[0] < 4.1 * flops
        assert longer[2] < 4.1 * moved

    def test_the_backward_sweep_keeps_the_arguments_only(self):
        *arrays, state = draw(np.random.default_rng(0), (2,), 50, 3, 16)
        kept = saved_bytes(lambda *xs: selective_scan(*xs[:6], state=xs[6]), *arrays, state)
        assert kept == sum(x.nbytes for x in (*arrays, state))

    def test_the_state_does_not_grow(self):
        for T in (1, 50):
            *arrays, _ = draw(np.random.default_rng(0), (2,), T, 3, 4)
            assert selective_scan(*arrays, return_state=True)[1].nbytes == 2 * 3 * 4 * 8


def test_y_is_stored_and_the_state_is_not():
    *arrays, _ = draw(np.random.default_rng(0), (2,), 9, 3, 2)
    for form in FORMS:
        with mt.precision("bfloat16"):
            y, last = selective_scan(*arrays, form=form, return_state=True)
        assert on_grid(y, "bfloat16")
        assert not on_grid(last, "bfloat16")


def test_dtypes():
    *arrays, state = draw(np.random.default_rng(0), (2,), 5, 3, 2)
    narrow = [x.astype("f") for x in arrays]
    assert {x.dtype for x in selective_scan(*narrow, return_state=True)} == {np.dtype(np.float32)}
    assert selective_scan(*narrow, state=state).dtype == np.float64
    gradients = mt.grad(lambda *xs: mt.sum(selective_scan(*xs, state=state)), argnums=tuple(range(6)))(*narrow)
    assert {g.dtype for g in gradients} == {np.dtype(np.float32)}


def test_wrong_calls():
    u, dt, A, B, C, D, state = draw(np.random.default_rng(0), (2,), 5, 3, 4)
    with pytest.raises(mt.ShapeError, match=r"dt has shape \(2, 5, 2\), expected .* P = 3 \(from u \(2, 5, 3\)\)"):
        selective_scan(u, dt[..., :2], A, B, C)
    with pytest.raises(mt.ShapeError, match=r"C has shape \(2, 5, 3\), expected .* N = 4 \(from A \(3, 4\)\)"):
        selective_scan(u, dt, A, B, C[..., :3])
    with pytest.raises(mt.ShapeError, match=r"state has shape \(2, 4, 3\)"):
        selective_scan(u, dt, A, B, C, D, state=state.swapaxes(1, 2))
    with pytest.raises(ValueError, match="form must be one of scan, sequential, associative, matrix, got 'kernel'"):
        selective_scan(u, dt, A, B, C, form="kernel")
