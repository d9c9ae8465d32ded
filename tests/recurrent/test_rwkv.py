"""RWKV's averages: their sums in loops, the forms, cuts, gradients, exact cost, and what they are invariant to."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recurrences import continues, forms_agree, on_grid

import minitf as mt
from minitf.autodiff.cost import saved_bytes
from minitf.recurrent.rwkv import FORMS4, FORMS6, wkv4, wkv6

LEADING = st.sampled_from([(), (2,), (2, 2), (0,)])


def draw4(rng, lead, T, C):
    k, v = rng.standard_normal((2, *lead, T, C)) * 2
    state = rng.standard_normal((*lead, C)), rng.uniform(0.5, 2, (*lead, C)), rng.standard_normal((*lead, C))
    return k, v, rng.uniform(0.05, 1, C), rng.standard_normal(C), *state


def with_form4(form):
    def run(k, v, w, u, *state):
        y, last = wkv4(k, v, w, u, state=state or None, form=form, return_state=True)
        return y, *last

    return run


def draw6(rng, lead, H, T, E, M):
    r, k, w = rng.standard_normal((3, *lead, H, T, E))
    v, S = rng.standard_normal((*lead, H, T, M)), rng.standard_normal((*lead, H, E, M))
    return r, k, v, 1 / (1 + np.exp(-w)), rng.standard_normal((H, E)), S


def with_form6(form, chunk=3):
    def run(r, k, v, w, u=None, state=None):
        return wkv6(r, k, v, w, u, state=state, form=form, chunk=chunk, return_state=True)

    return run


# -- version 4 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS4)
@given(st.integers(0, 10**6), LEADING, st.integers(0, 6), st.integers(1, 3))
def test_wkv4_equals_the_sums_of_the_paper(form, seed, lead, T, C):
    k, v, w, u, *_ = draw4(np.random.default_rng(seed), lead, T, C)
    y = wkv4(k, v, w, u, form=form).data
    assert y.shape == k.shape
    for *i, t, c in np.ndindex(k.shape):
        key, value = k[(*i, slice(None), c)], v[(*i, slice(None), c)]
        over, under = math.exp(u[c] + key[t]) * value[t], math.exp(u[c] + key[t])
        for s in range(t):
            weight = math.exp(-(t - 1 - s) * w[c] + key[s])
            over, under = over + weight * value[s], under + weight
        np.testing.assert_allclose(y[(*i, t, c)], over / under, rtol=0, atol=1e-12)


@given(st.integers(0, 10**6), st.integers(0, 8), st.booleans())
def test_wkv4_forms_agree_in_values_and_gradients(seed, T, fresh):
    arrays = draw4(np.random.default_rng(seed), (2,), T, 3)
    forms_agree({form: with_form4(form) for form in FORMS4}, *(arrays[:4] if fresh else arrays))


@pytest.mark.parametrize("form", FORMS4)
@given(st.integers(0, 10**6), st.integers(0, 9), st.data())
def test_wkv4_cut_anywhere_and_continued(form, seed, T, data):
    k, v, w, u, *_ = draw4(np.random.default_rng(seed), (2,), T, 3)
    cuts = data.draw(st.lists(st.integers(0, T), max_size=3))
    run = lambda k, v, state: wkv4(k, v, w, u, state=state, form=form, return_state=True)
    continues(run, (k, v), axis=-2, cuts=cuts)


@pytest.mark.parametrize("form", FORMS4)
def test_wkv4_gradients(form):
    mt.check_grads(with_form4(form), *draw4(np.random.default_rng(1), (2,), 3, 2))


class TestWkv4Invariants:
    @pytest.mark.parametrize("form", FORMS4)
    def test_a_constant_added_to_all_keys_cancels(self, form):
        k, v, w, u, *_ = draw4(np.random.default_rng(0), (2,), 7, 3)
        y = wkv4(k, v, w, u, form=form).data
        for shift in (-600.0, 30.0, 500.0):
            np.testing.assert_allclose(wkv4(k + shift, v, w, u, form=form), y, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("form", FORMS4)
    def test_without_decay_and_bonus_it_is_the_running_weighted_mean(self, form):
        k, v, *_ = draw4(np.random.default_rng(0), (2,), 7, 3)
        mean = np.cumsum(np.exp(k) * v, 1) / np.cumsum(np.exp(k), 1)
        np.testing.assert_allclose(wkv4(k, v, np.zeros(3), np.zeros(3), form=form), mean, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("form", FORMS4)
    def test_endless_decay_leaves_the_newest_two_tokens(self, form):
        k, v, _, u, *_ = draw4(np.random.default_rng(0), (2,), 7, 3)
        old, new = np.exp(k[:, :-1]), np.exp(u + k[:, 1:])
        want = np.concatenate([v[:, :1], (old * v[:, :-1] + new * v[:, 1:]) / (old + new)], 1)
        np.testing.assert_allclose(wkv4(k, v, np.full(3, 1e6), u, form=form), want, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("form", FORMS4)
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_keys_of_plus_and_minus_500_neither_overflow_nor_vanish(self, form, dtype):
        k, v, w, u, *_ = (x.astype(dtype) for x in draw4(np.random.default_rng(0), (1,), 6, 2))
        k[:, ::2], k[:, 1::2] = 500, -500
        y, pullback = mt.vjp(lambda *xs: wkv4(*xs, form=form), k, v, w, u)
        assert np.isfinite(y.data).all()
        assert all(np.isfinite(g.data).all() for g in pullback(np.ones(y.shape, dtype)))
        np.testing.assert_allclose(y.data[:, 1], v[:, 0], rtol=1e-6)  # the token of -500 hears that of 500

    @pytest.mark.parametrize("form", FORMS4)
    def test_masked_tokens_count_for_nothing(self, form):
        k, v, w, u, *_ = draw4(np.random.default_rng(0), (1,), 6, 2)
        k[:, [0, 3]] = -np.inf
        run = lambda k, v: wkv4(k, v, w, u, form=form)
        y, pullback = mt.vjp(run, k, v)
        np.testing.assert_array_equal(y.data[:, 0], 0)
        gk, gv = (g.data for g in pullback(np.ones(y.shape)))
        np.testing.assert_array_equal(gk[:, [0, 3]], 0)
        np.testing.assert_array_equal(gv[:, [0, 3]], 0)
        assert np.isfinite(gk).all()
        v[:, [0, 3]] = 1e3
        np.testing.assert_array_equal(run(k, v).data, y.data)

    def test_y_lies_between_the_smallest_and_the_largest_value(self):
        k, v, w, u, *_ = draw4(np.random.default_rng(0), (4,), 30, 3)
        y = wkv4(k, v, w, u).data
        assert (np.minimum.accumulate(v, 1) - 1e-12 <= y).all()
        assert (y <= np.maximum.accumulate(v, 1) + 1e-12).all()

    def test_the_state_may_be_scaled(self):
        """a, b and p stand for a e^p and b e^p."""
        k, v, w, u, a, b, p = draw4(np.random.default_rng(0), (2,), 7, 3)
        y = wkv4(k, v, w, u, state=(a, b, p))
        np.testing.assert_allclose(
            wkv4(k, v, w, u, state=(a * math.e**3, b * math.e**3, p - 3)), y, rtol=0, atol=1e-12
        )  # fmt: skip


class TestWkv4Cost:
    def cost(self, T, backward=False):
        k, v, w, u, *_ = draw4(np.random.default_rng(0), (2,), T, 3)
        out, pullback = mt.vjp(wkv4, k, v, w, u)
        with mt.cost() as c:
            pullback(np.ones(out.shape)) if backward else wkv4(k, v, w, u)
        return c

    def test_exact_and_linear_in_time(self):
        assert [self.cost(T).flops for T in (1, 16, 64)] == [21 * 6 * T for T in (1, 16, 64)]
        assert self.cost(64, backward=True).flops == 6 * (42 * 64 + 10 * (64 + 56) + 8)

    def test_the_backward_sweep_keeps_the_arguments_only(self):
        arrays = draw4(np.random.default_rng(0), (2,), 50, 3)
        kept = saved_bytes(lambda *xs: wkv4(*xs[:4], state=xs[4:]), *arrays)
        assert kept == sum(x.nbytes for x in arrays)

    def test_the_cost_of_a_token_and_the_state_do_not_depend_on_how_many_came_before(self):
        k, v, w, u, *_ = draw4(np.random.default_rng(0), (1,), 40, 3)
        state, flops, sizes = None, set(), set()
        for t in range(40):
            with mt.cost() as c:
                _, state = wkv4(k[:, t : t + 1], v[:, t : t + 1], w, u, state=state, return_state=True)
            flops.add(c.flops)
            sizes.add(sum(x.nbytes for x in state))
        assert (flops, sizes) == ({21 * 3}, {3 * 3 * 8})


# -- versions 5 and 6 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS6)
@given(st.integers(0, 10**6), LEADING, st.integers(0, 4), st.integers(1, 2), st.integers(1, 3), st.integers(1, 3))
def test_wkv6_equals_its_equations_in_loops(form, seed, lead, T, H, E, M):
    r, k, v, w, u, S = draw6(np.random.default_rng(seed), lead, H, T, E, M)
    y, last = with_form6(form)(r, k, v, w, u, S)
    assert (y.shape, last.shape) == (v.shape, S.shape)
    for *i, h in np.ndindex((*lead, H)):
        state, i = S[(*i, h)].copy(), (*i, h)
        for t in range(T):
            for m in range(M):
                want = sum(r[i][t, e] * (state[e, m] + u[h, e] * k[i][t, e] * v[i][t, m]) for e in range(E))
                np.testing.assert_allclose(y.data[i][t, m], want, rtol=0, atol=1e-12)
            for e in range(E):
                for m in range(M):
                    state[e, m] = w[i][t, e] * state[e, m] + k[i][t, e] * v[i][t, m]
        np.testing.assert_allclose(last.data[i], state, rtol=0, atol=1e-12)


@given(st.integers(0, 10**6), st.integers(0, 8), st.integers(1, 4), st.booleans())
def test_wkv6_forms_agree_in_values_and_gradients(seed, T, chunk, plain):
    arrays = draw6(np.random.default_rng(seed), (2,), 2, T, 3, 2)
    forms_agree({form: with_form6(form, chunk) for form in FORMS6}, *(arrays[:4] if plain else arrays))


@pytest.mark.parametrize("form", FORMS6)
@given(st.integers(0, 10**6), st.integers(0, 9), st.data())
def test_wkv6_cut_anywhere_and_continued(form, seed, T, data):
    r, k, v, w, u, _ = draw6(np.random.default_rng(seed), (2,), 2, T, 3, 2)
    cuts = data.draw(st.lists(st.integers(0, T), max_size=3))
    continues(lambda r, k, v, w, S: with_form6(form)(r, k, v, w, u, S), (r, k, v, w), axis=-2, cuts=cuts)


@pytest.mark.parametrize("form", FORMS6)
def test_wkv6_gradients(form):
    mt.check_grads(with_form6(form, 2), *draw6(np.random.default_rng(0), (1,), 2, 3, 2, 2))


class TestWkv6Invariants:
    @pytest.mark.parametrize("form", FORMS6)
    def test_without_decay_it_is_causal_linear_attention(self, form):
        r, k, v, w, u, _ = draw6(np.random.default_rng(0), (2,), 2, 7, 3, 2)
        want = np.tril(r @ k.swapaxes(-1, -2)) @ v
        y = with_form6(form)(r, k, v, np.ones_like(w), np.ones_like(u))[0]
        np.testing.assert_allclose(y.data, want, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("form", FORMS6)
    def test_full_decay_leaves_the_newest_two_tokens(self, form):
        r, k, v, w, u, _ = draw6(np.random.default_rng(0), (2,), 2, 7, 3, 2)
        heard = [np.sum(r * u[:, None] * k, -1, keepdims=True) * v, np.zeros_like(v)]
        heard[1][:, :, 1:] = np.sum(r[:, :, 1:] * k[:, :, :-1], -1, keepdims=True) * v[:, :, :-1]
        (y, _), pullback = mt.vjp(with_form6(form), r, k, v, np.zeros_like(w), u)
        np.testing.assert_allclose(y.data, sum(heard), rtol=0, atol=1e-12)
        gradients = pullback((np.ones(y.shape), np.ones((2, 2, 3, 2))))
        assert all(np.isfinite(g.data).all() for g in gradients)  # no logarithm of a decay is ever taken

    @pytest.mark.parametrize("form", FORMS6)
    def test_a_decay_that_is_the_same_for_all_tokens_may_be_given_once(self, form):
        r, k, v, w, u, _ = draw6(np.random.default_rng(0), (2,), 2, 7, 3, 2)
        constant = w[0, :, :1]  # (H, 1, E), version 5
        full = np.broadcast_to(constant, w.shape)
        forms_agree({"once": lambda r, k, v, u: with_form6(form)(r, k, v, constant, u),
                     "for each": lambda r, k, v, u: with_form6(form)(r, k, v, full, u)}, r, k, v, u)  # fmt: skip
        gradient = mt.grad(lambda w: mt.sum(wkv6(r, k, v, w, u, form=form)))(constant)
        each = mt.grad(lambda w: mt.sum(wkv6(r, k, v, w, u, form=form)))(full)
        np.testing.assert_allclose(gradient, each.data.sum((0, 2))[:, None], rtol=1e-12)

    def test_the_bonus_can_be_added_outside(self):
        r, k, v, w, u, S = draw6(np.random.default_rng(0), (2,), 2, 7, 3, 2)
        bonus = np.sum(r * u[:, None] * k, -1, keepdims=True) * v
        np.testing.assert_allclose(wkv6(r, k, v, w, state=S) + bonus, wkv6(r, k, v, w, u, state=S), atol=1e-13)

    def test_heads_do_not_see_each_other_nor_the_future(self):
        r, k, v, w, u, _ = draw6(np.random.default_rng(0), (2,), 2, 7, 3, 2)
        y = wkv6(r, k, v, w, u).data
        for x in (r, k, v, w):
            x[:, 1], x[:, 0, 4:] = 9, 8
        np.testing.assert_array_equal(wkv6(r, k, v, w, u).data[:, 0, :4], y[:, 0, :4])


class TestWkv6Cost:
    def cost(self, T, form="scan", backward=False):
        r, k, v, w, u, _ = draw6(np.random.default_rng(0), (2,), 3, T, 4, 5)
        run = lambda *xs: wkv6(*xs, form=form)
        out, pullback = mt.vjp(run, r, k, v, w, u)
        with mt.cost() as c:
            pullback(np.ones(out.shape)) if backward else run(r, k, v, w, u)
        return c

    def test_exact_and_linear_in_time(self):
        E, M = 4, 5
        for T in (1, 16, 64):
            c = self.cost(T)
            assert (c.flops, c.macs) == (6 * T * (5 * E * M + 3 * E + M), 6 * T * E * M)
        back = self.cost(64, backward=True)
        assert back.flops == 6 * (64 * (11 * E * M + 12 * E + 3 * M) + (64 + 56) * 3 * E * M)
        assert back.macs == 4 * 6 * 64 * E * M
        assert self.cost(256, backward=True).flops < 4.1 * back.flops
        assert self.cost(128, "chunked").flops < 2.1 * self.cost(64, "chunked").flops

    def test_the_backward_sweep_keeps_the_arguments_only(self):
        *arrays, S = (x.copy() for x in draw6(np.random.default_rng(0), (2,), 3, 50, 8, 8))
        kept = saved_bytes(lambda *xs: wkv6(*xs[:5], state=xs[5]), *arrays, S)
        assert kept == sum(x.nbytes for x in (*arrays, S))


# -- both -------------------------------------------------------------------------------------------------------------


def test_y_is_stored_and_the_state_is_not():
    four, six = draw4(np.random.default_rng(0), (2,), 9, 3)[:4], draw6(np.random.default_rng(0), (2,), 2, 9, 3, 2)[:5]
    runs = [lambda form=form: wkv4(*four, form=form, return_state=True) for form in FORMS4]
    runs += [lambda form=form: wkv6(*six, form=form, return_state=True) for form in FORMS6]
    for run in runs:
        with mt.precision("bfloat16"):
            y, last = run()
        assert on_grid(y, "bfloat16")
        assert not all(on_grid(x, "bfloat16") for x in mt.tree_leaves(last))


def test_dtypes():
    four, six = draw4(np.random.default_rng(0), (2,), 5, 3)[:4], draw6(np.random.default_rng(0), (2,), 2, 5, 3, 2)[:5]
    for function, arrays in ((wkv4, four), (wkv6, six)):
        narrow = [x.astype("f") for x in arrays]
        assert {x.dtype for x in mt.tree_leaves(function(*narrow, return_state=True))} == {np.dtype(np.float32)}
        assert function(*narrow[:-1], arrays[-1]).dtype == np.float64
        half = [x.astype("float16") for x in arrays]
        np.testing.assert_allclose(function(*half).data.astype(float), function(*arrays).data, atol=0.03)


def test_wrong_calls():
    k, v, w, u, a, b, p = draw4(np.random.default_rng(0), (2,), 5, 3)
    with pytest.raises(mt.ShapeError, match=r"w has shape \(2,\), expected .* C = 3 \(from k \(2, 5, 3\)\)"):
        wkv4(k, v, w[:2], u)
    with pytest.raises(mt.ShapeError, match=r"wkv4: state must be \(a, b, p\), each \(\*, C\) = \(2, 3\)"):
        wkv4(k, v, w, u, state=(a, b))
    with pytest.raises(mt.ShapeError, match=r"state must be \(a, b, p\), each \(\*, C\) = \(2, 3\), got .*\(3, 2\)"):
        wkv4(k, v, w, u, state=(a, b, p.T))
    with pytest.raises(ValueError, match="form must be one of scan, sequential, matrix, got 'chunked'"):
        wkv4(k, v, w, u, form="chunked")
    r, k, v, w, u, S = draw6(np.random.default_rng(0), (2,), 2, 5, 3, 4)
    with pytest.raises(mt.ShapeError, match=r"u has shape \(3, 3\), expected"):
        wkv6(r, k, v, w, np.ones((3, 3)))
    with pytest.raises(mt.ShapeError, match=r"state has shape \(2, 2, 4, 3\)"):
        wkv6(r, k, v, w, u, state=S.swapaxes(-1, -2))
    with pytest.raises(ValueError, match="form must be one of scan, sequential, chunked, got 'matrix'"):
        wkv6(r, k, v, w, u, form="matrix")
    with pytest.raises(ValueError, match="chunk must be at least 1, got 0"):
        wkv6(r, k, v, w, u, form="chunked", chunk=0)
