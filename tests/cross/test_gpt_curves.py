"""A GPT on the built-in text learns here what it learns in PyTorch: same weights, same batches, losses on each other."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.importorskip("torch")
pytest.importorskip("transformers")

import gpt_side_by_side as both

from minitf.nn import count_parameters

pytestmark = [pytest.mark.cross, pytest.mark.slow]


def test_the_first_steps_of_both_trainings_lie_on_each_other():
    assert 1_000_000 < count_parameters(both.fresh()) < 2_000_000
    here, there = both.ours(400, stop=60), both.theirs(400, stop=60)
    assert here["losses"][-1] < here["losses"][0] - 2
    np.testing.assert_allclose(here["losses"], there["losses"], rtol=0, atol=2e-3)
    np.testing.assert_allclose(here["validation"], there["validation"], rtol=0, atol=2e-3)


def test_the_recorded_curves_are_of_this_training():
    record = json.loads(both.RECORD.read_text())
    assert record["config"] == both.CONFIG
    assert abs(record["ours"]["validation"][-1] - record["theirs"]["validation"][-1]) < 0.02
    here = both.ours(record["steps"], stop=10)
    np.testing.assert_allclose(here["losses"], record["ours"]["losses"][:10], rtol=0, atol=2e-3)
