"""ListOps: values by evaluation of the text, shapes as the Long Range Arena says."""

import numpy as np
import pytest

from minitf.data import listops
from minitf.data.listops import TOKENS, generate_listops


def evaluate(tokens):
    stack = [[]]
    for token in tokens:
        if token.startswith("["):
            stack.append([token])
        elif token == "]":
            name, *values = stack.pop()
            ordered = sorted(values)
            middle = (ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) // 2
            stack[-1].append({"[MIN": ordered[0], "[MAX": ordered[-1], "[MED": middle, "[SM": sum(values) % 10}[name])
        else:
            stack[-1].append(int(token))
    ((value,),) = stack
    return value


def test_values_are_right_and_bounds_hold():
    rng = np.random.default_rng(0)
    ids, values = generate_listops(120, min_length=5, max_length=40, max_depth=4, max_args=5, rng=rng)
    assert len({tuple(row) for row in ids.tolist()}) == 120
    widest = 0
    for row, value in zip(ids, values, strict=True):
        tokens = [TOKENS[i] for i in row if i]
        assert not row[len(tokens) :].any()
        assert 5 < len(tokens) < 40
        assert evaluate(tokens) == value
        depth = np.cumsum([t.startswith("[") - (t == "]") for t in tokens])
        assert depth.max() <= 3  # digits are the fourth level
        widest = max(widest, len(tokens))
    assert ids.shape == (120, widest)
    assert set(np.unique(ids)) == set(range(16))
    again = generate_listops(120, min_length=5, max_length=40, max_depth=4, max_args=5, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(again[0], ids)


def test_a_quarter_are_operations():
    rng = np.random.default_rng(0)
    first = [listops._tree(1, 2, 3, rng)[0] for _ in range(2000)]
    operations = [tokens for tokens in first if len(tokens) > 1]
    assert abs(len(operations) - 500) < 4.5 * np.sqrt(2000 * 0.25 * 0.75)
    assert {len(tokens) for tokens in operations} == {4, 5}
    assert {tokens[0] for tokens in operations} == set(listops.OPERATIONS)


def test_no_two_alike_and_wrong_calls():
    rng = np.random.default_rng(0)
    ids, _ = generate_listops(10, min_length=0, max_length=9, max_depth=1, rng=rng)
    assert sorted(ids.tolist()) == [[i] for i in range(1, 11)]
    with pytest.raises(ValueError, match="max_args >= 2"):
        generate_listops(1, max_args=1, rng=rng)
