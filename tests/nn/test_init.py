"""Initializers: moments, bounds, dtypes."""

import math

import numpy as np
import pytest

import minitf as mt
from minitf.nn import init

SHAPE = (300, 200)
BOUNDS = {  # name -> (half width or standard deviation, is it uniform?)
    "xavier_uniform": (math.sqrt(6 / 500), True),
    "xavier_normal": (math.sqrt(2 / 500), False),
    "kaiming_uniform": (math.sqrt(6 / 300), True),
    "kaiming_normal": (math.sqrt(2 / 300), False),
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


def test_wrong_calls():
    with pytest.raises(TypeError, match=r"rng must be a numpy.random.Generator"):
        init.normal((3,), rng=np.random)
    with pytest.raises(mt.ShapeError, match="at least 2 dimensions"):
        init.xavier_normal((3,), rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="low < high"):
        init.trunc_normal((3,), low=1, high=0, rng=np.random.default_rng(0))
