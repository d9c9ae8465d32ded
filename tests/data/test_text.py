"""The built-in corpora and their batches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.data import text
from minitf.tokens import ByteTokenizer


def test_documentation_is_real_english():
    content = text.python_documentation()
    assert 300_000 < len(content) < 3_000_000
    assert content.startswith('The "assert" statement')
    assert content is text.python_documentation()
    words = content.split()
    assert words.count("the") > 3000
    assert "Python Software Foundation" in text.ATTRIBUTION


def test_source_is_code_in_alphabetical_order():
    content = text.standard_library_source(100_000)
    assert 50_000 < len(content) <= 100_000
    assert content.startswith("# abc.py\n")
    assert content == text.standard_library_source(100_000)
    assert text.standard_library_source(300_000).startswith(content[:20_000])
    with pytest.raises(FileNotFoundError, match=r"no module in .* has at most 10 characters"):
        text.standard_library_source(10)


@given(st.text())
def test_byte_text(content):
    ids = text.byte_text(content)
    assert ids.tolist() == [b + 1 for b in content.encode()]
    assert ByteTokenizer(()).decode(ids) == content


def test_split():
    assert text.split("abcdefghij", 0.2) == ("abcdefgh", "ij")
    training, validation = text.split(np.arange(1000))
    assert (len(training), len(validation)) == (900, 100)
    with pytest.raises(ValueError, match="a fraction between 0 and 1, got 10"):
        text.split("abc", 10)


def test_batches_are_windows_and_repeat_with_the_seed():
    ids = np.arange(50) ** 2
    draws = [text.batches(ids, 4, 7, rng=np.random.default_rng(3)) for _ in range(2)]
    starts = set()
    for _ in range(100):
        (inputs, targets), (again, _) = next(draws[0]), next(draws[1])
        np.testing.assert_array_equal(inputs, again)
        assert inputs.shape == targets.shape == (4, 7)
        for row, after in zip(inputs, targets, strict=True):
            start = int(np.sqrt(row[0]))
            starts.add(start)
            assert row.tolist() == ids[start : start + 7].tolist()
            assert after.tolist() == ids[start + 1 : start + 8].tolist()
    assert starts == set(range(43))


@given(st.integers(2, 60), st.integers(1, 5), st.integers(1, 9))
def test_windows_visit_every_id_once(length, B, T):
    ids = np.arange(length)
    if length <= T:
        with pytest.raises(mt.ShapeError, match="too few for windows"):
            text.windows(ids, B, T)
        return
    pairs = list(text.windows(ids, B, T))
    inputs, targets = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in range(2))
    count = (length - 1) // T * T
    assert inputs.tolist() == list(range(count))
    assert targets.tolist() == list(range(1, count + 1))
    assert all(1 <= len(pair[0]) <= B for pair in pairs)


def test_wrong_calls():
    rng = np.random.default_rng(0)
    with pytest.raises(TypeError, match=r"one sequence of integer ids, got float64 \(9,\); see byte_text"):
        text.batches(np.zeros(9), 2, 3, rng=rng)
    with pytest.raises(mt.ShapeError, match="3 ids are too few for windows of T=3 and the id after them"):
        text.batches(np.arange(3), 2, 3, rng=rng)
    with pytest.raises(mt.ShapeError, match="B and T must be positive, got B=0, T=3"):
        text.batches(np.arange(9), 0, 3, rng=rng)
    with pytest.raises(TypeError, match=r"rng must be a numpy.random.Generator"):
        text.batches(np.arange(9), 2, 3, rng=0)
