"""Recurrences under the oracle: a state in float32 is what the tolerance expects of kernels in 16 bits, so mistakes show."""

import numpy as np
import pytest

from minitf import oracle

NAME = "recurrent.gated_linear_recurrence"


def recurrence(a, b, state, *, reverse=False, wrong="", wide=None):
    """Step after step in float32 (float64 for float64), or in the dtype ``wide``."""
    wide = wide or (np.float64 if a.dtype == np.float64 else np.float32)
    h, out, T = state.astype(wide), np.empty(a.shape, wide), a.shape[1]
    for n, t in enumerate(reversed(range(T)) if reverse else range(T)):
        drive = b[:, t].astype(wide) * wide(wrong != "first input dropped" or n > 0)
        decay = a[:, t].astype(wide) * wide(1 - 1e-3 if wrong == "decay 0.1 % too small" else 1)
        out[:, t] = (h if wrong == "state before the step" else decay * h + drive).astype(wide)
        h = (decay * h + drive).astype(wide)
    return out.astype(a.dtype), h.astype(a.dtype)


def check(dtype, **how):
    implementation = lambda *arrays, **options: recurrence(*arrays, **options, **how)
    return oracle.check(NAME, implementation, dtype=dtype, gradients=False, trials=1)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_honest_recurrences_pass(dtype):
    report = check(dtype)
    assert report.passed, report


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("wrong", ["first input dropped", "state before the step", "decay 0.1 % too small"])
def test_mistakes_are_caught(dtype, wrong):
    report = check(dtype, wrong=wrong)
    assert not report.passed


def test_a_slow_decay_does_not_hide_a_dropped_input():
    """With decays near 0.999, rounding the state to 16 bits would spoil a third of the output; it is not the measure."""
    implementation = lambda *arrays: recurrence(*arrays, wrong="first input dropped")
    report = oracle.check(NAME, implementation, dtype="bfloat16", gradients=False, trials=1, options="slow")
    assert max(row.largest for row in report.rows) > 5


@pytest.mark.parametrize("name", oracle.names("recurrent.*"))
def test_the_reference_passes_and_a_billionth_more_does_not(name):
    case = oracle.case(name, size="tiny", dtype="float64")
    report = oracle.judge(name, case, case.outputs, case.gradients)
    assert report.passed, report
    spoiled = {key: value * (1 + 1e-9) for key, value in case.outputs.items()}
    assert not oracle.judge(name, case, spoiled).passed
