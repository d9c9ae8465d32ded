"""The loader: every example once an epoch, in an order that can be taken up again anywhere."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.data import Loader, pad, stack


@given(n=st.integers(1, 30), B=st.integers(1, 9), drop_last=st.booleans(), seed=st.integers(0, 9) | st.none())
def test_an_epoch_has_every_example_once(n, B, drop_last, seed):
    if drop_last and n < B:
        return
    rng = None if seed is None else np.random.default_rng(seed)
    loader = Loader((np.arange(n), np.arange(n) * 2.0), B, rng=rng, drop_last=drop_last)
    epochs = [list(loader), list(loader)]
    for epoch in epochs:
        assert len(epoch) == len(loader)
        assert all(len(x) == B for x, _ in epoch[:-1])
        seen = np.concatenate([x for x, _ in epoch])
        assert len(set(seen.tolist())) == len(seen) == (n // B * B if drop_last else n)
        np.testing.assert_array_equal(np.concatenate([y for _, y in epoch]), 2.0 * seen)
        if rng is None:
            np.testing.assert_array_equal(seen, np.arange(len(seen)))


def test_epochs_and_seeds_differ_and_repeat():
    make = lambda seed: Loader(np.arange(50), 50, rng=np.random.default_rng(seed))
    orders = [next(iter(make(0))), next(iter(make(1)))]
    loader = make(0)
    orders += [order for _ in range(3) for order in loader]
    np.testing.assert_array_equal(orders[0], orders[2])
    assert len({tuple(order) for order in orders}) == 4
    counts = np.zeros((3, 3))
    for seed in range(900):  # every order of three examples is as likely
        counts[np.arange(3), Loader(np.arange(3), 3, rng=np.random.default_rng(seed)).order(0)] += 1
    assert np.abs(counts - 300).max() < 4 * np.sqrt(900 * 2 / 9)


@given(n=st.integers(1, 12), B=st.integers(1, 5), read=st.integers(0, 20))
def test_goes_on_from_anywhere(n, B, read):
    def endless(loader):
        while True:
            yield from loader

    loader = Loader(np.arange(n), B, rng=np.random.default_rng(1))
    stream = endless(loader)
    for _ in range(read):
        next(stream)
    other = Loader(np.arange(n), B, rng=np.random.default_rng(2))
    other.load_state_dict(loader.state_dict())
    for a, b in itertools.islice(zip(stream, endless(other), strict=True), 12):
        np.testing.assert_array_equal(a, b)


def test_leaving_a_loop_leaves_the_rest_of_the_epoch():
    loader = Loader(np.arange(6), 2)
    for _ in loader:
        break
    assert [batch.tolist() for batch in loader] == [[2, 3], [4, 5]]
    assert loader.epoch == 1


def test_examples_of_any_kind():
    texts = [np.arange(n) for n in (3, 1, 2)]
    ids, mask = next(iter(Loader(texts, 3, collate=functools.partial(pad, fill=-1))))
    assert ids.tolist() == [[0, 1, 2], [0, -1, -1], [0, 1, -1]]
    assert mask.tolist() == [[True, True, True], [True, False, False], [True, True, False]]
    pairs = [(np.ones(2) * i, i) for i in range(4)]
    x, y = next(iter(Loader(pairs, 4)))
    assert x.shape == (4, 2)
    assert y.tolist() == [0, 1, 2, 3]
    with pytest.raises(mt.ShapeError, match="stack: examples of a batch must have one shape"):
        stack(texts)


def test_pad():
    rows = [np.ones((2, 3)), np.ones((1, 3))]
    out, mask = pad(rows, length=4, side="left", fill=9)
    assert out.shape == (2, 4, 3)
    assert mask.tolist() == [[False, False, True, True], [False, False, False, True]]
    assert (out[mask] == 1).all()
    assert (out[~mask] == 9).all()
    assert pad([[1, 2], [3]])[0].dtype.kind == "i"
    with pytest.raises(mt.ShapeError, match="pad: a sequence has 2 items, more than length=1"):
        pad(rows, length=1)
    with pytest.raises(mt.ShapeError, match="differ in length only"):
        pad([np.ones((2, 3)), np.ones((2, 4))])
    with pytest.raises(ValueError, match="side must be right or left, got 'up'"):
        pad(rows, side="up")


def test_wrong_calls():
    with pytest.raises(mt.ShapeError, match=r"different lengths: \[3, 2\]"):
        Loader((np.arange(3), np.arange(2)), 1)
    with pytest.raises(ValueError, match="0 examples make no batch of B=2"):
        Loader([], 2)
    with pytest.raises(ValueError, match="3 examples make no batch of B=4 with drop_last"):
        Loader(np.arange(3), 4, drop_last=True)
    with pytest.raises(TypeError, match=r"rng must be a numpy.random.Generator"):
        Loader(np.arange(3), 1, rng=0)
    shuffled = Loader(np.arange(3), 1, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="examples in batches of 1, shuffled; here are 3 in batches of 1, in order"):
        Loader(np.arange(3), 1).load_state_dict(shuffled.state_dict())
    with pytest.raises(ValueError, match="with key, epoch, position, size, B"):
        shuffled.load_state_dict({"epoch": 1})
