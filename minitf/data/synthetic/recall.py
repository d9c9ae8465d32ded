"""Look something up that stood earlier in the sequence. Ids in, ids out: ``(inputs, targets)``, -100 where nothing is asked."""

from __future__ import annotations

import numpy as np

from minitf.data.corruption import IGNORED
from minitf.nn.init import generator

Batch = tuple[np.ndarray, np.ndarray]


def associative_recall(B: int, pairs: int, V: int, *, rng: np.random.Generator) -> Batch:
    """k_1 v_1 k_2 v_2 ... k_q, and the value of the last key is asked for: T = 2 ``pairs`` + 1.

    Keys are different and below V / 2, values from V / 2 on.

    Raises ValueError if there are more pairs than keys.
    """
    _require("associative_recall", pairs, V // 2, "keys below V / 2")
    keys = _different(B, V // 2, pairs, rng)
    values = rng.integers(V // 2, V, (B, pairs))
    inputs = np.empty((B, 2 * pairs + 1), np.int64)
    inputs[:, 0:-1:2], inputs[:, 1::2] = keys, values
    asked = rng.integers(0, pairs, (B, 1))
    inputs[:, -1:] = np.take_along_axis(keys, asked, 1)
    targets = np.full_like(inputs, IGNORED)
    targets[:, -1:] = np.take_along_axis(values, asked, 1)
    return inputs, targets


def mqar(
    B: int, T: int, pairs: int, V: int, *, power: float = 0.01, fill: bool = True, rng: np.random.Generator
) -> Batch:
    """Multi-query associative recall, after Zoology (Arora and others): pairs of key and value first, then each key again,
    once, at random places, and its value is asked for there.

    Keys are different and in 1 .. V/2 - 1, values are different and from V / 2 on. Keys come back at even distances from the
    end of the pairs; distance 2 i has weight (i + 1)^(power - 1). fill: other places have random ids, otherwise 0.

    Raises ValueError if there are not enough ids or places.
    """
    _require("mqar", pairs, V // 2 - 1, "keys from 1 to V / 2 - 1")
    space = (T - 2 * pairs) // 2
    _require("mqar", pairs, space, "even places among the T - 2 pairs that are left")
    keys = 1 + _different(B, V // 2 - 1, pairs, rng)
    values = V // 2 + _different(B, V - V // 2, pairs, rng)
    weight = np.arange(1, space + 1) ** (power - 1)
    gaps = np.stack([rng.choice(space, pairs, replace=False, p=weight / weight.sum()) for _ in range(B)])
    places = 2 * pairs + 2 * gaps
    inputs = rng.integers(0, V, (B, T)) if fill else np.zeros((B, T), np.int64)
    targets = np.full((B, T), IGNORED)
    inputs[:, 0 : 2 * pairs : 2], inputs[:, 1 : 2 * pairs : 2] = keys, values
    np.put_along_axis(inputs, places, keys, 1)
    np.put_along_axis(targets, places, values, 1)
    return inputs, targets


def induction(B: int, T: int, V: int, *, rng: np.random.Generator) -> Batch:
    """Random ids from 1 on, and the trigger 0 twice: once inside, once at the end, where what followed it is asked for.

    Raises ValueError for T < 3.
    """
    if T < 3 or V < 2:
        raise ValueError(f"induction: needs T >= 3 and V >= 2, got T={T}, V={V}")
    inputs = generator(rng).integers(1, V, (B, T))
    place = rng.integers(0, T - 2, (B, 1))
    np.put_along_axis(inputs, place, 0, 1)
    inputs[:, -1] = 0
    targets = np.full_like(inputs, IGNORED)
    targets[:, -1:] = np.take_along_axis(inputs, place + 1, 1)
    return inputs, targets


def reverse_segment(B: int, length: int, V: int, *, rng: np.random.Generator) -> Batch:
    """``length`` random ids from 1 on, the mark 0, and the ids backwards, asked for one after the other: T = 2 ``length``."""
    ids = generator(rng).integers(1, V, (B, length))
    whole = np.concatenate([ids, np.zeros((B, 1), np.int64), ids[:, ::-1]], axis=1)
    targets = whole[:, 1:].copy()
    targets[:, :length] = IGNORED
    return whole[:, :-1], targets


def copy_with_noise(B: int, T: int, length: int, V: int, *, rng: np.random.Generator) -> Batch:
    """``length`` random ids from 2 on at random places among T - ``length`` noise ids 0; then as many marks 1, at each of
    which the next of them is asked for (selective copying). Inputs are ``(B, T + length)``.

    Raises ValueError if T is less than ``length``.
    """
    _require("copy_with_noise", length, T, "places among T")
    ids = generator(rng).integers(2, V, (B, length))
    inputs = np.zeros((B, T + length), np.int64)
    np.put_along_axis(inputs, np.sort(_different(B, T, length, rng)), ids, 1)
    inputs[:, T:] = 1
    targets = np.full_like(inputs, IGNORED)
    targets[:, T:] = ids
    return inputs, targets


def _different(B: int, n: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """(B, k) numbers below n, those of a row different."""
    return generator(rng).permuted(np.tile(np.arange(n), (B, 1)), axis=1)[:, :k]


def _require(name: str, needed: int, there: int, what: str) -> None:
    if not 1 <= needed <= there:
        raise ValueError(f"{name}: needs 1 to {there} of the {what}, got {needed}")
