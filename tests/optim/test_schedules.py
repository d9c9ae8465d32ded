"""Schedules: their corners, and that they fall."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitf.optim import schedules

BOTH = pytest.mark.parametrize("schedule", [schedules.linear, schedules.cosine])


@BOTH
def test_corners(schedule):
    rate = lambda t: schedule(t, 110, peak=2.0, floor=0.5, warmup=10)
    assert [rate(0), rate(4), rate(9), rate(10)] == [0.2, 1.0, 2.0, 2.0]
    assert math.isclose(rate(60), 1.25)
    assert rate(110) == rate(1000) == 0.5
    assert schedule(0, 10) == 1.0


def test_quarter():
    assert math.isclose(schedules.linear(25, 100), 0.75)
    assert math.isclose(schedules.cosine(25, 100), (1 + math.sqrt(0.5)) / 2)


@BOTH
@given(st.integers(1, 50), st.data())
def test_up_then_down(schedule, total, data):
    warmup = data.draw(st.integers(0, total))
    rates = [schedule(t, total, warmup=warmup) for t in range(total)]
    assert all(a < b for a, b in itertools.pairwise(rates[:warmup]))
    assert all(a > b for a, b in itertools.pairwise(rates[warmup:]))
    assert all(0 < rate <= 1 for rate in rates)


@BOTH
def test_wrong_calls(schedule):
    with pytest.raises(ValueError, match="0 <= warmup <= total"):
        schedule(0, 10, warmup=11)
    with pytest.raises(ValueError, match="counts from 0"):
        schedule(-1, 10)
