"""Needles are where they are said to be, once, and the answer is the right one."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitf.data.needle import BEGINNING, FILLER, make_passkey, needle_retrieval

SEEDS = st.integers(0, 1000)


@given(pairs=st.integers(1, 5), more=st.integers(0, 15), seed=SEEDS, data=st.data())
def test_needle_retrieval(pairs, more, seed, data):
    questions = data.draw(st.integers(1, pairs))
    T = 2 * pairs + questions + more
    inputs, targets = needle_retrieval(3, T, 24, pairs=pairs, questions=questions, rng=np.random.default_rng(seed))
    for row, asked in zip(inputs, targets, strict=True):
        end = T - questions
        assert (asked[:end] == -100).all()
        places = [t for t in range(end) if 12 <= row[t] < 18]
        table = {row[t]: row[t + 1] for t in places}
        assert len(places) == len(table) == pairs
        assert all(18 <= value < 24 for value in table.values())
        assert sum(row[:end] >= 12) == 2 * pairs  # all else is noise
        assert len(set(row[end:].tolist())) == questions
        assert [table[key] for key in row[end:]] == asked[end:].tolist()


def test_every_place_is_as_likely():
    inputs, _ = needle_retrieval(4000, 6, 8, pairs=1, rng=np.random.default_rng(0))
    counts = [np.sum((inputs[:, t] >= 4) & (inputs[:, t] < 6)) for t in range(4)]
    assert max(abs(n - 1000) for n in counts) < 4.5 * np.sqrt(750)


@given(length=st.integers(260, 3000), depth=st.floats(0, 1), digits=st.integers(1, 8), seed=SEEDS)
def test_passkey(length, depth, digits, seed):
    prompt, answer = make_passkey(length, depth=depth, digits=digits, rng=np.random.default_rng(seed))
    assert len(prompt) <= length < len(prompt) + max(map(len, FILLER))
    ((color, number),) = re.findall(r"The (\w+) pass key is (\d+)\. ", prompt)
    assert answer == f" {number}"
    assert len(number) == digits
    assert prompt.endswith(f"\nWhat is the {color} pass key? The {color} pass key is")
    body = prompt.removeprefix(BEGINNING).split("\n")[0]
    before, total = (text.count(".") for text in (body[: body.index("The " + color)], body))
    assert before == round(depth * (total - 1))


@given(needles=st.integers(1, 8), seed=SEEDS)
def test_several_needles(needles, seed):
    prompt, answer = make_passkey(1500, needles=needles, rng=np.random.default_rng(seed))
    keys = dict(re.findall(r"The (\w+) pass key is (\d+)\. ", prompt))
    assert len(keys) == len(set(keys.values())) == needles
    assert answer == " " + keys[re.search(r"What is the (\w+) pass", prompt)[1]]


def test_wrong_calls():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="needs 1 <= questions <= pairs <= V / 4"):
        needle_retrieval(1, 8, 24, pairs=4, rng=rng)
    with pytest.raises(ValueError, match=r"make_passkey: the question alone takes .* characters, more than 50"):
        make_passkey(50, rng=rng)
    with pytest.raises(ValueError, match="needs 1 to 8 needles"):
        make_passkey(5000, needles=9, rng=rng)
