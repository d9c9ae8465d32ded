"""Synthetic sequences: what is asked has the answer that the sequence gives, and draws are distributed as they say."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitf.data import synthetic as s

SEEDS = st.integers(0, 1000)


def asked(inputs, targets):
    """(row, place, right answer) of everything that is asked."""
    assert inputs.shape == targets.shape
    return [(b, t, targets[b, t]) for b, t in zip(*np.nonzero(targets != -100), strict=True)]


@given(B=st.integers(1, 4), pairs=st.integers(1, 8), seed=SEEDS)
def test_associative_recall(B, pairs, seed):
    inputs, targets = s.associative_recall(B, pairs, 16, rng=np.random.default_rng(seed))
    assert inputs.shape == (B, 2 * pairs + 1)
    questions = asked(inputs, targets)
    assert [(b, t) for b, t, _ in questions] == [(b, 2 * pairs) for b in range(B)]
    for b, t, answer in questions:
        table = dict(zip(inputs[b, 0:t:2].tolist(), inputs[b, 1:t:2].tolist(), strict=True))
        assert len(table) == pairs
        assert table[inputs[b, t]] == answer
    assert (inputs[:, ::2] < 8).all()
    assert (inputs[:, 1::2] >= 8).all()


@given(B=st.integers(1, 3), pairs=st.integers(1, 5), more=st.integers(0, 20), fill=st.booleans(), seed=SEEDS)
def test_mqar(B, pairs, more, fill, seed):
    T = 4 * pairs + more
    inputs, targets = s.mqar(B, T, pairs, 21, fill=fill, rng=np.random.default_rng(seed))
    for b in range(B):
        table = dict(zip(inputs[b, 0 : 2 * pairs : 2].tolist(), inputs[b, 1 : 2 * pairs : 2].tolist(), strict=True))
        assert len(table) == len(set(table.values())) == pairs
        assert all(1 <= key < 10 for key in table)
        assert all(10 <= value < 21 for value in table.values())
        questions = [(t, answer) for row, t, answer in asked(inputs, targets) if row == b]
        assert sorted(inputs[b, t] for t, _ in questions) == sorted(table)
        for t, answer in questions:
            assert t >= 2 * pairs
            assert t % 2 == 0
            assert table[inputs[b, t]] == answer
        others = [t for t in range(2 * pairs, T) if targets[b, t] == -100]
        assert fill or not inputs[b, others].any()


def test_mqar_asks_soon_more_often():
    _, targets = s.mqar(3000, 10, 1, 8, rng=np.random.default_rng(0))
    counts = Counter(np.nonzero(targets != -100)[1].tolist())
    weight = np.array([1.0, 2.0, 3.0, 4.0]) ** -0.99
    for t, p in zip((2, 4, 6, 8), weight / weight.sum(), strict=True):
        assert abs(counts[t] - 3000 * p) < 4.5 * np.sqrt(3000 * p * (1 - p))


@given(B=st.integers(1, 4), T=st.integers(3, 12), seed=SEEDS)
def test_induction(B, T, seed):
    inputs, targets = s.induction(B, T, 9, rng=np.random.default_rng(seed))
    for b, t, answer in asked(inputs, targets):
        row = inputs[b].tolist()
        assert t == T - 1
        assert [i for i, x in enumerate(row) if x == 0] == [row.index(0), T - 1]
        assert row[row.index(0) + 1] == answer


@given(B=st.integers(1, 4), length=st.integers(1, 7), more=st.integers(0, 7), seed=SEEDS)
def test_reversing_and_copying(B, length, more, seed):
    rng = np.random.default_rng(seed)
    inputs, targets = s.reverse_segment(B, length, 9, rng=rng)
    np.testing.assert_array_equal(targets[:, length:], inputs[:, :length][:, ::-1])
    np.testing.assert_array_equal(inputs[:, length + 1 :], targets[:, length:-1])
    assert (inputs[:, length] == 0).all()
    assert (targets[:, :length] == -100).all()
    T = length + more
    inputs, targets = s.copy_with_noise(B, T, length, 9, rng=rng)
    for b in range(B):
        assert [x for x in inputs[b, :T] if x != 0] == targets[b, T:].tolist()
        assert (targets[b, :T] == -100).all()
        assert (inputs[b, T:] == 1).all()


def test_zipf_tokens():
    ids = s.zipf_tokens(5, 20_000, 1.5, rng=np.random.default_rng(0))
    weight = np.arange(1, 6) ** -1.5
    np.testing.assert_allclose(np.bincount(ids) / 20_000, weight / weight.sum(), atol=0.015)


def test_domain_mixture():
    ids, domains, chains = s.domain_mixture(2, 4, 200, 100, concentration=1.0, rng=np.random.default_rng(0))
    np.testing.assert_allclose(chains.sum(-1), 1)
    assert abs(domains.mean() - 0.5) < 0.16
    for k in range(2):
        moves = np.zeros((4, 4))
        for row in ids[domains == k]:
            np.add.at(moves, (row[:-1], row[1:]), 1)
        n = moves.sum(1, keepdims=True)
        assert (np.abs(moves / n - chains[k]) < 5 * np.sqrt(0.25 / n)).all()


def test_facts_and_translations():
    rng = np.random.default_rng(0)
    table = s.facts(20, ("likes", "fears"), 5, rng=rng)
    assert len({(subject, relation) for subject, relation, _ in table}) == len(table) == 40
    objects = {relation: {o for _, r, o in table if r == relation} for relation in ("likes", "fears")}
    assert len(objects["likes"]) == len(objects["fears"]) == 5
    assert not objects["likes"] & objects["fears"]
    meaning = {}
    for source, target in s.reversal_translation(200, 7, rng=rng):
        for word, translated in zip(source, target[::-1], strict=True):
            assert meaning.setdefault(word, translated) == translated
    assert sorted(meaning) == list(range(7))
    assert sorted(meaning.values()) == list(range(7, 14))


@given(variables=st.integers(1, 26), seed=SEEDS, data=st.data())
def test_variable_assignment(variables, seed, data):
    known = data.draw(st.integers(1, variables))
    prompt, answer = s.variable_assignment(variables, known=known, rng=np.random.default_rng(seed))
    *clauses, question = prompt.split(";")
    scope = {}
    for clause in clauses:
        name, right = clause.split("=")
        scope[name] = scope.get(right, right)
    assert len(scope) == variables
    assert sum(clause[-1].isdigit() for clause in clauses) == known
    assert scope[question[0]] == answer


@given(ops=st.integers(0, 12), seed=SEEDS)
def test_arithmetic_expression(ops, seed):
    prompt, answer = s.arithmetic_expression(ops, rng=np.random.default_rng(seed))
    assert sum(prompt.count(op) for op in "+-*") == ops
    assert str(eval(prompt[:-1]) % 10) == answer


@given(n=st.integers(1, 8), seed=SEEDS)
def test_longest_increasing_subsequence(n, seed):
    sequence, length = s.longest_increasing_subsequence(n, rng=np.random.default_rng(seed))
    increasing = [
        len(part)
        for size in range(n + 1)
        for part in itertools.combinations(sequence.tolist(), size)
        if list(part) == sorted(part)
    ]
    assert length == max(increasing)
    assert sorted(sequence.tolist()) == list(range(n))


@given(pairs=st.integers(0, 20), kinds=st.integers(1, 3), seed=SEEDS)
def test_dyck_words_are_balanced(pairs, kinds, seed):
    stack = []
    word = s.dyck(pairs, kinds, rng=np.random.default_rng(seed))
    assert len(word) == 2 * pairs
    for token in word.tolist():
        if token % 2 == 0:
            stack.append(token)
        else:
            assert stack.pop() == token - 1
    assert not stack


def test_dyck_words_are_uniform():
    rng = np.random.default_rng(0)
    counts = Counter(tuple(s.dyck(4, rng=rng).tolist()) for _ in range(2800))
    assert len(counts) == 14  # Catalan's number
    assert max(abs(n - 200) for n in counts.values()) < 4.5 * np.sqrt(200)


@given(nodes=st.integers(2, 8), seed=SEEDS, data=st.data())
def test_graph_connectivity(nodes, seed, data):
    edges = data.draw(st.integers(0, nodes * (nodes - 1) // 2))
    chosen, (a, b), joined = s.graph_connectivity(nodes, edges, rng=np.random.default_rng(seed))
    assert len({frozenset(edge) for edge in chosen.tolist()}) == edges == len(chosen)
    adjacent = np.eye(nodes, dtype=int)
    adjacent[chosen[:, 0], chosen[:, 1]] = adjacent[chosen[:, 1], chosen[:, 0]] = 1
    assert a != b
    assert joined == (np.linalg.matrix_power(adjacent, nodes)[a, b] > 0)


def test_wrong_calls():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="associative_recall: needs 1 to 4 of the keys below V / 2, got 5"):
        s.associative_recall(1, 5, 8, rng=rng)
    with pytest.raises(ValueError, match="mqar: needs 1 to 1 of the even places among"):
        s.mqar(1, 7, 2, 20, rng=rng)
    with pytest.raises(ValueError, match="induction: needs T >= 3"):
        s.induction(1, 2, 5, rng=rng)
    with pytest.raises(ValueError, match="needs 1 <= known <= variables <= 26, got 1 and 27"):
        s.variable_assignment(27, rng=rng)
    with pytest.raises(ValueError, match="4 nodes have 0 to 6 edges, got 7"):
        s.graph_connectivity(4, 7, rng=rng)
    with pytest.raises(TypeError, match=r"rng must be a numpy.random.Generator"):
        s.zipf_tokens(3, 4, rng=0)
