from __future__ import annotations

import pytest

BUSY = """
import os, time

def test_busy():
    end = sum(os.times()[:2]) + 0.3
    while sum(os.times()[:2]) < end: pass

def test_waiting():
    time.sleep(0.3)
"""


@pytest.mark.parametrize("processes", [[], pytest.param(["-n2"], marks=pytest.mark.slow)], ids=["alone", "xdist"])
def test_modules_above_the_budget_are_listed(suite, add, processes: list[str]):
    add("tests/test_busy.py", BUSY)
    add("tests/test_idle.py", BUSY.replace("0.3", "0.0"))
    result = suite.runpytest("--module-budget=0.2", *processes)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*test modules above 0.2 CPU-seconds*", "*0.? s  tests/test_busy.py"])
    result.stdout.no_fnmatch_line("*s  tests/test_idle.py")


def test_nothing_is_said_within_the_budget(suite, add):
    add("tests/test_idle.py", "def test_idle(): ...")
    result = suite.runpytest()
    result.stdout.no_fnmatch_line("*CPU-seconds*")
