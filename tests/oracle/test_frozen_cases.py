"""The cases of every name are those of before: files of them are in other people's repositories."""

import json
import sys
from pathlib import Path

import pytest

from minitf import oracle
from minitf.oracle.references import find

sys.path.insert(0, str(Path(__file__).parent))
from record_cases import RECORD, hashes

CASES = json.loads(RECORD.read_text())


@pytest.mark.parametrize("name", CASES)
def test_cases_are_what_they_were(name):
    assert hashes(name) == CASES[name]


def test_every_name_is_recorded():
    here = {name for name in oracle.names() if find(name).function.__module__.startswith("minitf.")}
    assert here == set(CASES)
