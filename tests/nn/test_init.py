"""Initializers: moments, bounds, dtypes."""

import math

import numpy as np
import pytest

import minitf as mt
from minitf import nn
from minitf.models.transformer import Decoder
from minitf.nn import init

SHAPE = (300, 200)
BOUNDS = {  # name -> (half width or standard deviation, is it uniform?)
    "xavier_uniform": (math.sqrt(6 / 500), True),
    "xavier_normal": (math.sqrt(2 / 500), False),
    "kaiming_uniform": (math.sqrt(6 / 300), True),
    "kaiming_normal": (math.sqrt(2 / 300), False),
    "lecun_uniform": (math.sqrt(3 / 300), True),
    "lecun_normal": (math.sqrt(1 / 300), False),
    "uniform": (1.0, True),
    "normal": (1.0, False),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_moments(name):
    size, is_uniform = BOUNDS[name]
    values = getattr(init, name)(SHAPE, rng=np.random.default_rng(0))
    std = size / math.sqrt(3) if is_uniform else size
    assert abs(values.mean()) < 5 * std / math.sqrt(values.size)
    assert math.isclose(values.std(), std, rel_tol=0.02)
    if is_uniform:
        assert 0.99 * size < np.abs(values).max() <= size


def test_truncated_normal_is_cut_at_two():
    values = init.trunc_normal(SHAPE, rng=np.random.default_rng(0))
    assert 1.99 < np.abs(values).max() <= 2
    variance = 1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2))
    assert math.isclose(values.std(), math.sqrt(variance), rel_tol=0.02)
    narrow = init.trunc_normal(SHAPE, std=0.02, rng=np.random.default_rng(0))
    assert math.isclose(narrow.std(), 0.02, rel_tol=0.02)


def test_constants_fans_and_dtype():
    rng = np.random.default_rng(0)
    assert (init.zeros((2, 3), rng=rng) == 0).all()
    assert (init.ones((2, 3), rng=rng) == 1).all()
    assert init.fans((5, 7)) == (5, 7)
    assert init.fans((8, 4, 3, 3)) == (36, 72)
    with mt.config(dtype="float32"):
        small = init.normal((50,), rng=np.random.default_rng(1))
    assert small.dtype == np.float32
    np.testing.assert_array_equal(small, init.normal((50,), rng=np.random.default_rng(1)).astype(np.float32))


def test_fan_out_is_the_fan_in_of_the_transpose():
    for draw in (init.kaiming_uniform, init.kaiming_normal):
        a = draw((30, 20), mode="fan_out", rng=np.random.default_rng(0))
        b = draw((20, 30), rng=np.random.default_rng(0))
        np.testing.assert_array_equal(a.ravel(), b.ravel())


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (4, 2, 3, 3), (1, 4)])
def test_orthogonal(shape):
    w = init.orthogonal(shape, 1.5, rng=np.random.default_rng(0)).reshape(shape[0], -1)
    gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(gram, 1.5**2 * np.eye(len(gram)), atol=1e-14)


def test_orthogonal_matrices_are_uniform():
    """The mean of every entry is 0, which QR alone does not give; five standard errors of 1 / sqrt(2 N)."""
    rng, N = np.random.default_rng(0), 4000
    mean = sum(init.orthogonal((2, 2), rng=rng) for _ in range(N)) / N
    assert (np.abs(mean) < 5 / math.sqrt(2 * N)).all()


@pytest.mark.parametrize(("name", "act"), [("relu", lambda x: max(x, 0.0)), ("leaky_relu", lambda x: max(x, 0.2 * x))])
def test_gains_keep_the_second_moment(name, act):
    """gain² E[act(x)²] = 1 for x ~ N(0, 1), by quadrature."""
    x, w = np.polynomial.hermite_e.hermegauss(80)
    moment = sum(a * act(b) ** 2 for a, b in zip(w, x, strict=True)) / math.sqrt(2 * math.pi)
    assert math.isclose(init.calculate_gain(name, 0.2) ** 2 * moment, 1, rel_tol=1e-12)


# -- schemes ----------------------------------------------------------------------------------------------------


def decoder():
    return Decoder(50, 64, 3, 4, 96, max_length=40, tied=False, rng=np.random.default_rng(0))


def check_scheme(scheme, stds):
    """Every weight of a decoder has the given standard deviation within 6 standard errors, every bias is 0."""
    model = init.reinitialize(decoder(), scheme, rng=np.random.default_rng(1))
    seen = set()
    for name, p in model.named_parameters():
        *_, role, kind = name.split(".")
        if role not in scheme:
            assert role in ("norm", "attention_norm", "feed_forward_norm") or role not in stds
        elif kind == "bias":
            assert (p.data == 0).all()
        else:
            seen.add(role)
            assert abs(p.data.std() / stds[role] - 1) < 6 / math.sqrt(2 * p.size), name
    assert seen == stds.keys()


def test_gpt2():
    stds = dict.fromkeys(("embedding", "positions", "head", "q", "k", "v", "up"), 0.02)
    check_scheme(init.gpt2_scheme(3), {**stds, "out": 0.02 / math.sqrt(6), "down": 0.02 / math.sqrt(6)})


def test_t5():
    """Mesh TensorFlow's table, with E = 16, H E = 64, F = 96."""
    scheme = init.t5_scheme(64, 4, 16, 96)
    assert scheme["relative_bias"].keywords == {"std": 1 / 8}
    stds = {"q": 1 / 32, "k": 1 / 8, "v": 1 / 8, "out": 1 / 8, "up": 1 / 8, "down": 96**-0.5}
    check_scheme(scheme, {**stds, "embedding": 1.0, "head": 1.0})


def test_deepnorm():
    (_, beta) = init.deepnorm_constants(M=3)["decoder"]
    square, wide = math.sqrt(2 / 128), math.sqrt(2 / 160)
    stds = {"q": square, "k": square, "v": beta * square, "out": beta * square, "up": beta * wide, "down": beta * wide}
    check_scheme(init.deepnorm_scheme(beta), stds)


def test_deepnorm_constants():
    """DeepNet's table: an encoder or a decoder of 2 layers (8 = 2³: beta = 1/2), and pairs by hand."""
    for name, given in (("encoder", {"N": 2}), ("decoder", {"M": 2})):
        constants = init.deepnorm_constants(**given)
        assert constants.keys() == {name}
        np.testing.assert_allclose(constants[name], (math.sqrt(2), 0.5), rtol=1e-15)
    pair = init.deepnorm_constants(16, 1)  # N⁴ M = 2^16
    np.testing.assert_allclose(pair["encoder"], (1.62, 0.435), rtol=1e-15)
    np.testing.assert_allclose(pair["decoder"], (3**0.25, 12**-0.25), rtol=1e-15)


def test_reinitialize_leaves_what_has_no_role():
    model = decoder()
    before = model.state_dict()
    init.reinitialize(model, {"q": init.zeros}, rng=np.random.default_rng(0))
    for name, value in model.state_dict().items():
        if ".q." in name:
            assert (value == 0).all()
        else:
            np.testing.assert_array_equal(value, before[name])
    with pytest.raises(ValueError, match="reinitialize: no weight of Linear has a role in q"):
        init.reinitialize(
            nn.Linear(2, 2, rng=np.random.default_rng(0)), {"q": init.zeros}, rng=np.random.default_rng(0)
        )


def test_wrong_calls():
    with pytest.raises(ValueError, match=r"nonlinearity must be one of linear, sigmoid, .* got 'gelu'"):
        init.calculate_gain("gelu")
    with pytest.raises(ValueError, match="mode must be 'fan_in' or 'fan_out', got 'fan'"):
        init.kaiming_normal((2, 3), mode="fan", rng=np.random.default_rng(0))
    with pytest.raises(mt.ShapeError, match=r"orthogonal: needs a weight of at least 2 dimensions, got shape \(3,\)"):
        init.orthogonal((3,), rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="needs N or M layers, not negative, got N = 0, M = 0"):
        init.deepnorm_constants()
    with pytest.raises(TypeError, match=r"rng must be a numpy.random.Generator"):
        init.normal((3,), rng=np.random)
    with pytest.raises(mt.ShapeError, match="at least 2 dimensions"):
        init.xavier_normal((3,), rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="low < high"):
        init.trunc_normal((3,), low=1, high=0, rng=np.random.default_rng(0))
