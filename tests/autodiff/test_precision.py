"""``precision``: rounding bit for bit, sums addition by addition, storage points, profiles, longdouble."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

import minitf as mt
from minitf.autodiff.ops.convolution import conv1d, fold
from minitf.autodiff.precision import FORMATS, ORDERS, Precision, round_to

NARROW = {
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
}
wide_longdouble = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant <= 52, reason="longdouble is float64 on this platform"
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def grid(name: str) -> np.ndarray:
    """All finite numbers of a format, ascending, in float64."""
    dtype = np.dtype(NARROW[name])
    bits = np.arange(2 ** (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}")
    values = np.array([float(x) for x in bits.view(dtype)])
    return np.unique(values[np.isfinite(values)])


def identical(got: np.ndarray, want: np.ndarray) -> bool:
    """Equal bit for bit, but for what NaN is made of."""
    nan = np.isnan(want)
    same = (got == want) & (np.signbit(got) == np.signbit(want))
    return got.shape == want.shape and bool(np.all(np.where(nan, np.isnan(got), same)))


# -- rounding -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("container", [np.float32, np.float64, np.longdouble])
def test_nearest_is_bit_exact_with_ml_dtypes(name, container):
    """On float32 values, which every cast rounds once: all numbers, all ties, their neighbours, random bits."""
    numbers = grid(name)
    ties = (numbers[1:] + numbers[:-1]) / 2
    bits = rng().integers(0, 2**32, 50_000, dtype=np.uint32)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 463.9, 464, 465, 61439, 61440, 65504, 65519, 65520, 3.4e38]
    with np.errstate(all="ignore"):
        x = np.concatenate([numbers, ties, special]).astype(np.float32)
        above, below = np.nextafter(x, np.float32(np.inf)), np.nextafter(x, np.float32(-np.inf))
        x = np.concatenate([x, above, below, bits.view(np.float32)])
        want = x.astype(NARROW[name]).astype(np.float64)
        got = round_to(x.astype(container), name)
    assert got.dtype == container
    assert identical(got.astype(np.float64), want)


def test_float64_is_rounded_once():
    """Just above a tie: a detour over float32 would land on the tie and round it to even, downwards."""
    for name, digits in (("bfloat16", 8), ("float16", 11), ("float8_e4m3fn", 4), ("float8_e5m2", 3)):
        ulp = 2.0 ** (1 - digits)
        x = np.array([1 + ulp / 2 + 2.0**-40, 1 + ulp / 2, 1 + ulp / 2 - 2.0**-40, 1 + 3 * ulp / 2])
        assert round_to(x, name).tolist() == [1 + ulp, 1, 1, 1 + 2 * ulp]
        assert round_to(-x, name).tolist() == [-1 - ulp, -1, -1, -1 - 2 * ulp]


@pytest.mark.parametrize("name", NARROW)
def test_rounded_float64_is_the_nearest_number(name):
    numbers = grid(name)
    x = rng().standard_normal(300) * 10.0 ** rng(1).integers(-9, 3, 300)
    x = x[np.abs(x) < FORMATS[name].largest]
    distance = np.abs(numbers - round_to(x, name)[:, None]).min(axis=1)
    assert (distance == 0).all()
    assert (np.abs(round_to(x, name) - x) == np.abs(numbers - x[:, None]).min(axis=1)).all()


def test_float32_float64_and_what_is_left_alone():
    x = rng().standard_normal(100)
    assert identical(round_to(x, "float32"), x.astype(np.float32).astype(np.float64))
    assert round_to(x, "float64") is x
    half = x.astype(np.float16)
    assert round_to(half, "float32") is half
    integers = np.arange(5)
    assert round_to(integers, "bfloat16") is integers
    # bfloat16 reaches further than float16, which has more digits: neither holds the other
    assert round_to(np.array([1e10], ml_dtypes.bfloat16), "float16")[0] == np.inf
    assert round_to(np.array([1 + 2**-10], np.float16), "bfloat16")[0] == 1
    z = x + 1j * x[::-1]
    assert identical(round_to(z, "bfloat16").imag, round_to(x[::-1], "bfloat16"))


@pytest.mark.parametrize("name", [*NARROW, "float32"])
def test_stochastic_rounding_is_unbiased_and_keeps_numbers(name):
    draw = rng()
    ulp = 2.0 ** (1 - FORMATS[name].digits)
    for fraction in (0.1, 0.5, 0.9):
        x = np.full(10_000, -(1 + fraction * ulp))
        got = round_to(x, name, draw)
        assert set(np.unique(got)) == {-1 - ulp, -1.0}
        up = np.mean(got == -1 - ulp)
        assert abs(up - fraction) < 6 * math.sqrt(fraction * (1 - fraction) / len(x))
    tiny = FORMATS[name].smallest
    got = round_to(np.full(10_000, 0.25 * tiny), name, draw)  # subnormal numbers too
    assert set(np.unique(got)) == {0.0, tiny}
    assert abs(np.mean(got) / tiny - 0.25) < 6 * math.sqrt(0.25 * 0.75 / 10_000)
    if name in NARROW:
        numbers = np.concatenate([grid(name), [np.inf, -np.inf, np.nan]])
        want = np.where(np.isinf(numbers), np.copysign(FORMATS[name].overflow, numbers), numbers)
        for _ in range(3):
            assert identical(round_to(numbers, name, draw), want)


def test_stochastic_rounding_overflows_where_nearest_does():
    x = np.full(1000, 448 + 10.0)  # in the upper half of the last step it would be drawn to 480, which is no number
    assert (round_to(x, "float8_e4m3fn", rng()) == 448).all()
    assert np.isnan(round_to(np.array([465.0]), "float8_e4m3fn", rng())).all()


def test_zero_dimensional_empty_and_strided_arrays():
    assert round_to(np.array(1 / 3), "bfloat16").shape == ()
    assert round_to(np.zeros((0, 3)), "bfloat16").shape == (0, 3)
    x = rng().standard_normal((6, 8))
    assert identical(round_to(x[::-2, ::3], "bfloat16"), round_to(x[::-2, ::3].copy(), "bfloat16"))


# -- operations ---------------------------------------------------------------------------------------------------


def bf16(x):
    return np.asarray(x).astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)


def f32(x: float) -> np.float32:
    return np.float32(x)


def test_elementwise_results_and_constants_are_float32_values():
    x = rng().standard_normal(50)
    with mt.precision("bfloat16"):
        y = mt.tensor(x) * 0.1
        z = mt.exp(y)
    a = x.astype(np.float32) * np.float32(0.1)
    assert y.dtype == np.float64
    assert identical(y.numpy(), a.astype(np.float64))
    assert identical(z.numpy(), np.exp(a.astype(np.float64)).astype(np.float32).astype(np.float64))


@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_float32_products_are_a_hand_written_loop(order):
    x, y = rng().standard_normal((3, 17)), rng(1).standard_normal((17, 4))
    with mt.precision("float32", order=order):
        got = mt.matmul(x, y).numpy()
    for i in range(3):
        for j in range(4):
            steps = range(17) if order == "forward" else range(16, -1, -1)
            total = None
            for k in steps:
                product = f32(x[i, k]) * f32(y[k, j])
                total = product if total is None else total + product
            assert isinstance(total, np.float32)
            assert got[i, j] == float(total)


def tree(values: list[np.float32]) -> np.float32:
    """Neighbours in pairs, until one is left."""
    while len(values) > 1:
        values = [a + b for a, b in zip(values[::2], values[1::2], strict=False)] + values[len(values) // 2 * 2 :]
    return values[0]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 7, 8, 13, 64])
def test_pairwise_sums_are_a_balanced_tree(count):
    x, y = rng(count).standard_normal((2, count))
    with mt.precision("float32", order="pairwise"):
        product = float(mt.matmul(x, y))
        total = mt.sum(np.stack([x, y]), axis=1).numpy()
    assert product == tree([f32(a) * f32(b) for a, b in zip(x, y, strict=True)])
    assert total[0] == tree([f32(a) for a in x])


@pytest.mark.parametrize("accumulate", ["bfloat16", "float16"])
@pytest.mark.parametrize("order", ORDERS)
def test_narrow_sums_round_every_step(accumulate, order):
    """Adding 1 to 256 changes nothing in bfloat16: the classic of accumulating in the storage format."""
    x = rng().uniform(0, 1, (2, 300))
    narrow = NARROW[accumulate]
    with mt.precision(accumulate, accumulate, order=order):
        got = mt.sum(x, axis=1).numpy()
        product = mt.matmul(x, np.ones((300, 1))).numpy()[:, 0]
    for row, value in zip(x, got, strict=True):
        row = [narrow(v) for v in row]
        if order == "pairwise":
            want = tree(row)
        else:
            want = narrow(0)
            for v in row if order == "forward" else row[::-1]:
                want = want + v
        assert value == float(want)
    assert identical(got, product)


@pytest.mark.parametrize("accumulate", ["float32", "bfloat16"])
def test_running_sums(accumulate):
    x = rng().standard_normal(37)
    kind = np.float32 if accumulate == "float32" else ml_dtypes.bfloat16
    v = [kind(a) for a in x]
    with mt.precision("float32", accumulate):
        forward = mt.cumsum(x).numpy()
    with mt.precision("float32", accumulate, order="reverse"):
        reverse = mt.cumsum(x).numpy()
    with mt.precision("float32", accumulate, order="pairwise"):
        pairwise = mt.cumsum(x).numpy()
    for n in range(1, 38):
        left = right = kind(0)
        for a in v[:n]:
            left = left + a
        for a in v[:n][::-1]:
            right = right + a
        assert forward[n - 1] == float(left)
        assert reverse[n - 1] == float(right)
    step = 1
    while step < len(v):
        v = v[:step] + [a + b for a, b in zip(v[step:], v, strict=False)]
        step *= 2
    assert identical(pairwise, np.array([float(a) for a in v]))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("accumulate", ["float32", "bfloat16"])
def test_scattered_sums(order, accumulate):
    kind = np.float32 if accumulate == "float32" else ml_dtypes.bfloat16
    ids = rng().integers(0, 5, 40)
    g = rng(1).standard_normal((40, 3))
    table = np.zeros((6, 3))
    with mt.precision("float32", accumulate, order=order):
        _, pull = mt.vjp(lambda w: w[ids], table)
        got = pull(mt.tensor(g))[0].numpy()
    for row in range(6):
        for column in range(3):
            parts = [kind(a) for a in g[ids == row, column]]
            if order == "reverse":
                parts = parts[::-1]
            want = kind(0)
            if order == "pairwise":
                want = tree(parts) if parts else want
            else:
                for part in parts:
                    want = want + part
            assert got[row, column] == float(want)


def test_gather_along_an_axis_sends_sums_back():
    x, places = rng().standard_normal((3, 4)), np.array([[0, 0, 2], [1, 1, 1], [3, 0, 3]])
    g = rng(1).standard_normal((3, 3))
    with mt.precision("float32"):
        _, pull = mt.vjp(lambda x: mt.take_along_axis(x, places, 1), x)
        got = pull(mt.tensor(g))[0].numpy()
    want = np.zeros((3, 4), np.float32)
    for i in range(3):
        for j in range(3):
            want[i, places[i, j]] += f32(g[i, j])
    assert identical(got, want.astype(np.float64))


def test_convolution_is_accumulated_like_any_product():
    x, w = rng().standard_normal((1, 2, 9)), rng(1).standard_normal((3, 2, 4))
    with mt.precision("float32"):
        got = conv1d(mt.tensor(x), mt.tensor(w)).numpy()[0]
    rows = np.stack([x[0, :, i : i + 4].reshape(-1) for i in range(6)]).astype(np.float32)
    kernel = w.reshape(3, -1).astype(np.float32)
    assert identical(got, product(kernel, rows.T).astype(np.float64))


@pytest.mark.parametrize("padding", [0, 2])
def test_overlapping_windows_are_added_up_in_order(padding):
    windows = rng().standard_normal((1, 4 * 1, 6 + 2 * padding))  # four places, moved along by one
    with mt.precision("float32", "bfloat16"):
        got = fold(mt.tensor(windows), (9, 1), (4, 1), padding=(padding, 0)).numpy().reshape(-1)
    want = [ml_dtypes.bfloat16(0)] * (9 + 2 * padding)
    for k in range(4):
        for t in range(6 + 2 * padding):
            want[k + t] = want[k + t] + ml_dtypes.bfloat16(windows[0, k, t])
    assert identical(got, np.array([float(v) for v in want[padding : padding + 9]]))


def test_integers_and_booleans_are_exact():
    n = np.arange(300, 600)
    with mt.precision("bfloat16", "bfloat16"):
        assert int(mt.sum(n)) == n.sum()
        assert int(mt.matmul(n, n)) == n @ n
        assert mt.cumsum(n).numpy().tolist() == np.cumsum(n).tolist()
        assert (mt.tensor(n) + n).numpy().tolist() == (2 * n).tolist()


def test_decisions_see_rounded_values():
    x = np.array([1.0, 1 + 2.0**-30])
    assert int(mt.argmax(mt.tensor(x) * 1.0)) == 1
    with mt.precision("float32"):
        y = mt.tensor(x) * 1.0
        assert int(mt.argmax(y)) == 0  # a tie now
        assert bool(mt.equal(y[0], y[1]))
        assert bool(mt.equal(mt.tensor(np.float64(np.float32(0.1))), 0.1))  # constants as well


def test_empty_sums_products_and_infinities():
    with mt.precision("bfloat16"):
        assert mt.sum(np.zeros((0, 3)), axis=0).numpy().tolist() == [0, 0, 0]
        assert mt.matmul(np.zeros((2, 0)), np.zeros((0, 3))).numpy().tolist() == [[0.0] * 3] * 2
        assert mt.logsumexp(np.full(3, -np.inf)).item() == -np.inf
        assert mt.cumsum(np.zeros(0)).shape == (0,)
        assert mt.exp(mt.tensor([100.0])).item() == np.inf  # float32 overflows


# -- storage ------------------------------------------------------------------------------------------------------


def attention(q, k, v):
    logits = mt.matmul(q * 0.25, mt.swapaxes(k, -1, -2))
    weights = mt.exp(logits - mt.logsumexp(logits, -1, keepdims=True))
    return mt.matmul(mt.store(weights), v)


def product(x, y):
    """A float32 matrix product in forward order."""
    total = x[:, :1] * y[:1]
    for k in range(1, x.shape[1]):
        total = total + x[:, k : k + 1] * y[k : k + 1]
    return total


def exactly(function, x):
    """A function of float32 values, rounded once."""
    return function(x.astype(np.float64)).astype(np.float32)


def test_stored_attention_is_the_hand_rounded_one():
    q, k, v = (rng(s).standard_normal((6, 16)) for s in range(3))
    got = mt.precision("bfloat16").run(attention, q, k, v).numpy()

    q, k, v = bf16(q), bf16(k), bf16(v)
    logits = product(q * np.float32(0.25), k.T)
    top = logits.max(axis=1, keepdims=True)
    e = exactly(np.exp, logits - top)
    total = e[:, :1].copy()
    for j in range(1, 6):
        total = total + e[:, j : j + 1]
    lse = exactly(np.log, total) + top
    weights = bf16(exactly(np.exp, logits - lse))
    out = product(weights, v)
    assert out.dtype == np.float32
    assert identical(got, bf16(out).astype(np.float64))


def test_eager_attention_stores_every_result():
    q, k, v = (rng(s).standard_normal((6, 16)) for s in range(3))
    got = mt.precision("bfloat16", profile="eager").run(attention, q, k, v).numpy()

    q, k, v = bf16(q), bf16(k), bf16(v)
    logits = bf16(product(bf16(q * np.float32(0.25)), k.T))
    top = logits.max(axis=1, keepdims=True)
    e = bf16(np.exp(bf16(logits - top).astype(np.float64)))
    total = e[:, :1].copy()
    for j in range(1, 6):
        total = total + e[:, j : j + 1]
    lse = bf16(bf16(np.log(bf16(total).astype(np.float64))) + top)
    weights = bf16(np.exp(bf16(logits - lse).astype(np.float64)))
    assert identical(got, bf16(product(weights, v)).astype(np.float64))


def test_a_state_that_is_not_stored_keeps_float32_digits():
    """The case for storage points: a long recurrence whose state a kernel holds in float32."""
    u, decay = rng().standard_normal(500), 0.999

    def recurrence(u, keep):
        state, states = u[0], []
        for t in range(500):
            state = keep(state * decay + u[t])
            states.append(state)
        return mt.stack(states)

    exact = recurrence(mt.tensor(round_to(u, "bfloat16")), lambda s: s).numpy()
    p = mt.precision("bfloat16")
    held = p.run(recurrence, u, lambda s: s).numpy()
    stored = p.run(recurrence, u, mt.store).numpy()
    half_ulp = 2.0**-8 * np.abs(exact)
    assert (np.abs(held - exact) <= half_ulp + 1e-4).all()
    assert np.mean(np.abs(stored - exact) > half_ulp) > 0.5


def test_store_is_nothing_outside():
    x = mt.tensor([1 / 3])
    assert mt.store(x) is x
    assert mt.store("anything") == "anything"
    with mt.cost() as c:
        assert mt.store(x) is x
    assert c.calls == 0
    with mt.precision("bfloat16"):
        assert mt.store(x).item() == float(ml_dtypes.bfloat16(1 / 3))
        n = mt.tensor([300])
        assert mt.store(n) is n


def test_store_rounds_cotangents_and_tangents():
    x, g = np.array([1 / 3, 2 / 3]), np.array([1 / 7, 1 / 9])
    with mt.precision("bfloat16"):
        _, pull = mt.vjp(mt.store, x)
        assert identical(pull(mt.tensor(g))[0].numpy(), round_to(g, "bfloat16"))
        out, tangent = mt.jvp(mt.store, (x,), (g,))
    assert identical(tangent.numpy(), round_to(g, "bfloat16"))
    assert identical(out.numpy(), round_to(x, "bfloat16"))


def test_gradients_are_evaluated_in_the_same_arithmetic():
    x, w, g = rng().standard_normal((5, 8)), rng(1).standard_normal((8, 3)), rng(2).standard_normal((5, 3))

    def gradients(x, w, g):
        out, pull = mt.vjp(lambda x, w: mt.matmul(x, w), x, w)
        return out, *pull(g)

    out, gx, gw = mt.precision("bfloat16").run(gradients, x, w, g)
    x, w, g = bf16(x), bf16(w), bf16(g)
    assert identical(out.numpy(), bf16(product(x, w)).astype(np.float64))
    assert identical(gx.numpy(), bf16(product(g, w.T)).astype(np.float64))
    assert identical(gw.numpy(), bf16(product(x.T, g)).astype(np.float64))

    leaf = mt.tensor(w.astype(np.float64), requires_grad=True)
    with mt.precision("float32"):
        (mt.tensor(x) @ leaf).sum().backward()
    total = np.zeros(8, np.float32)
    for row in x:
        total = total + row
    assert identical(leaf.grad.numpy(), np.repeat(total[:, None], 3, axis=1).astype(np.float64))


def test_run_stores_arrays_wherever_they_are_and_nothing_else():
    x = np.array([1 / 3])
    seen = {}

    def f(inputs, *, bias, mask, name, scale):
        seen.update(inputs=inputs, bias=bias, mask=mask, name=name, scale=scale)
        return {"y": inputs["a"] + bias, "n": 3}

    mask = np.array([True])
    out = mt.precision("bfloat16").run(f, {"a": x}, bias=mt.tensor(x), mask=mask, name="f", scale=1 / 3)
    assert seen["inputs"]["a"].item() == seen["bias"].item() == float(ml_dtypes.bfloat16(1 / 3))
    assert seen["mask"] is mask
    assert (seen["name"], seen["scale"], out["n"]) == ("f", 1 / 3, 3)
    assert out["y"].item() == 2 * float(ml_dtypes.bfloat16(1 / 3))


def test_run_is_the_same_inside_its_own_context():
    q, k, v = (rng(s).standard_normal((6, 16)) for s in range(3))
    p = mt.precision("float16")
    outside = p.run(attention, q, k, v).numpy()
    with p:
        assert identical(p.run(attention, q, k, v).numpy(), outside)
    assert mt.exp(mt.tensor([0.1])).item() == math.exp(0.1)  # and it is over


def test_stochastic_draws_differ_and_repeat_with_their_generator():
    q, k, v = (rng(s).standard_normal((6, 16)) for s in range(3))

    def draw(seed):
        return mt.precision("bfloat16", rounding="stochastic", rng=rng(seed)).run(attention, q, k, v).numpy()

    assert identical(draw(0), draw(0))
    assert not identical(draw(0), draw(1))
    exact = attention(*map(mt.tensor, (q, k, v))).numpy()
    mean = np.mean([draw(seed) for seed in range(100)], axis=0)
    single = np.abs(draw(0) - exact).max()
    assert np.abs(mean - exact).max() < single / 4


def test_sigmoid_is_several_instructions_stored_and_one_eager():
    x = rng().standard_normal(200) * 4
    with mt.precision("float32"):
        got = mt.sigmoid(x).numpy()
    e = exactly(np.exp, -np.abs(x.astype(np.float32)))
    want = np.where(x >= 0, np.float32(1) / (np.float32(1) + e), e / (np.float32(1) + e))
    assert identical(got, want.astype(np.float64))
    with mt.precision("bfloat16", profile="eager"):
        once = mt.sigmoid(x).numpy()
    assert identical(once, round_to(1 / (1 + np.exp(-x.astype(np.float32).astype(np.float64))), "bfloat16"))


@pytest.mark.parametrize("name", ["sigmoid", "softplus", "rsqrt"])
def test_instructions_compute_the_function(name):
    x = np.array([1e-3, 0.5, 2, 30, 700.0])
    x = x if name == "rsqrt" else np.concatenate([-x, x])
    want = getattr(mt, name)(mt.tensor(x)).numpy()
    with mt.precision("float64"):
        got = getattr(mt, name)(mt.tensor(x)).numpy()
        pair = mt.logaddexp(mt.tensor([1.0, -np.inf, np.inf, 3]), mt.tensor([2.0, -np.inf, 1, -np.inf])).numpy()
    np.testing.assert_allclose(got, want, rtol=1e-15)
    np.testing.assert_allclose(pair, [np.logaddexp(1, 2), -np.inf, np.inf, 3], rtol=1e-15)


def test_complex_values():
    z = rng().standard_normal((3, 4)) + 1j * rng(1).standard_normal((3, 4))
    with mt.precision("bfloat16"):
        assert identical(mt.sum(z, axis=1).numpy().real, mt.sum(z.real, axis=1).numpy())
        y = mt.matmul(z, z.T)
        assert y.dtype == np.complex128
        back = mt.fft.ifft(mt.fft.fft(mt.tensor(z))).numpy()
    np.testing.assert_allclose(y.numpy(), z @ z.T, rtol=1e-5)
    np.testing.assert_allclose(back, z, rtol=1e-5)


# -- contexts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("bf16",), {}, r"precision: storage must be one of bfloat16, .*longdouble, got 'bf16'"),
        (("bfloat16", "tf32"), {}, "precision: accumulate must be one of .*, got 'tf32'"),
        (("bfloat16", "longdouble"), {}, "accumulate must be one of"),
        (("bfloat16",), {"rounding": "up"}, "rounding must be one of nearest, stochastic, got 'up'"),
        (("bfloat16",), {"profile": "lazy"}, "profile must be one of stored, eager, got 'lazy'"),
        (("bfloat16",), {"order": "random"}, "order must be one of forward, reverse, pairwise, got 'random'"),
        (("bfloat16",), {"rounding": "stochastic"}, r"pass rng=np.random.default_rng\(seed\)"),
        (("bfloat16",), {"rng": np.random.default_rng(0)}, 'rng is for rounding="stochastic" only'),
        (("longdouble", "float32"), {}, "takes no options"),
    ],
)
def test_wrong_options(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        mt.precision(*arguments, **options)


def test_defaults():
    p = mt.precision("bfloat16")
    assert isinstance(p, Precision)
    assert (p.storage, p.accumulate, p.profile, p.order) == ("bfloat16", "float32", "stored", "forward")
    assert mt.precision("float64").accumulate == "float64"


def test_the_innermost_precision_is_in_force():
    x = mt.tensor([1 / 3])
    with mt.precision("float32"):
        with mt.precision("bfloat16", "bfloat16"):
            assert (x * 1.0).item() == float(ml_dtypes.bfloat16(1 / 3))
        assert (x * 1.0).item() == float(np.float32(1 / 3))
    assert (x * 1.0).item() == 1 / 3


def test_float32_containers_stay_float32():
    x = rng().standard_normal((4, 4)).astype(np.float32)
    y = mt.precision("bfloat16").run(attention, x, x, x)
    assert y.dtype == np.float32
    wide = mt.precision("bfloat16").run(attention, *(x.astype(np.float64),) * 3)
    np.testing.assert_allclose(y.numpy(), wide.numpy(), rtol=2**-7)


def test_errors_still_name_the_operation():
    with mt.precision("bfloat16"), pytest.raises(mt.ShapeError, match="add: shapes"):
        mt.zeros((2, 3)) + mt.zeros((2, 4))


def test_a_fused_primitive_is_evaluated_by_its_decomposition():
    from minitf.autodiff.tensor import Primitive, bind

    fused = Primitive("fused", lambda x: np.exp(x) + 1, decomposition=lambda x: mt.exp(x) + 1)
    x = np.array([1 / 3])
    with mt.precision("bfloat16", "bfloat16"), mt.cost() as c:
        got = bind(fused, mt.tensor(x)).item()
    rounded = ml_dtypes.bfloat16(np.exp(float(ml_dtypes.bfloat16(1 / 3))))
    assert got == float(rounded + ml_dtypes.bfloat16(1))
    assert set(c.by_primitive) == {"exp", "add"}


# -- longdouble ---------------------------------------------------------------------------------------------------


@wide_longdouble
def test_everything_is_longdouble():
    x = rng().uniform(0.1, 2, (3, 4))
    with mt.precision("longdouble"):
        for f in (mt.exp, mt.log, mt.erf, mt.sigmoid, mt.softplus, mt.sum, mt.logsumexp, mt.rsqrt, mt.tanh, mt.cumsum):
            y = f(mt.tensor(x)).numpy()
            assert y.dtype == np.longdouble, f
            np.testing.assert_allclose(y.astype(float), f(mt.tensor(x)).numpy().astype(float), rtol=1e-15)
        assert mt.matmul(x, x.T).dtype == np.longdouble
        assert mt.astype(mt.exp(mt.tensor(x)), "float32").dtype == np.longdouble
        assert (mt.tensor(x) + 1j).dtype == np.clongdouble
        assert mt.argmax(mt.tensor(x)).dtype == np.int64


@wide_longdouble
def test_longdouble_has_more_digits():
    mpmath = pytest.importorskip("mpmath")
    mpmath.mp.dps = 40

    def digits(x: np.longdouble) -> object:
        high = float(x)
        return mpmath.mpf(high) + mpmath.mpf(float(x - np.longdouble(high)))

    functions = {
        "exp": mpmath.exp,
        "log": mpmath.log,
        "erf": mpmath.erf,
        "tanh": mpmath.tanh,
        "sigmoid": lambda t: 1 / (1 + mpmath.exp(-t)),
        "softplus": lambda t: mpmath.log1p(mpmath.exp(t)),
    }
    points = np.array([0.01, 0.3, 1.7, 2.9, 3.1, 5.5])
    with mt.precision("longdouble"):
        for name, reference in functions.items():
            got = getattr(mt, name)(mt.tensor(points)).numpy()
            for t, y in zip(points, got, strict=True):
                want = reference(mpmath.mpf(float(t)))
                assert abs(digits(y) - want) < abs(want) * mpmath.mpf(2) ** -60, name
        x = rng().standard_normal(50)
        total = mt.logsumexp(mt.tensor(x)).numpy()[()]
    want = mpmath.log(sum(mpmath.exp(mpmath.mpf(float(t))) for t in x))
    assert abs(digits(total) - want) < abs(want) * mpmath.mpf(2) ** -58


@wide_longdouble
def test_longdouble_gradients_and_attention():
    q, k, v = (rng(s).standard_normal((6, 16)) for s in range(3))

    def gradients(q, k, v, g):
        out, pull = mt.vjp(attention, q, k, v)
        return out, *pull(g)

    g = rng(3).standard_normal((6, 16))
    want = gradients(*map(mt.tensor, (q, k, v, g)))
    got = mt.precision("longdouble").run(gradients, q, k, v, g)
    for a, b in zip(got, want, strict=True):
        assert a.dtype == np.longdouble
        np.testing.assert_allclose(a.numpy().astype(float), b.numpy(), rtol=1e-12, atol=1e-13)
    assert any((a.numpy() != b.numpy()).any() for a, b in zip(got, want, strict=True))


@wide_longdouble
def test_longdouble_inside_and_around_cost():
    x = rng().standard_normal((4, 4))
    with mt.cost() as outer, mt.precision("longdouble"), mt.cost() as inner:
        mt.matmul(x, x)
    assert outer.flops == inner.flops == 2 * 4**3


def test_a_platform_without_longdouble_says_so(monkeypatch):
    monkeypatch.setattr(np, "longdouble", np.float64)
    with pytest.raises(ValueError, match="no wider than float64 on this platform"):
        mt.precision("longdouble")
