"""Rotary embeddings: pair by pair, layouts, broadcasting, and scores that depend on distances."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.position.rotary import LAYOUTS, apply_rotary, rotary_frequencies

BOTH = pytest.mark.parametrize("layout", LAYOUTS)


def pair(j, n, layout):
    """The coordinates of pair j of n."""
    return (j, j + n) if layout == "half" else (2 * j, 2 * j + 1)


def loops(x, positions, freqs, layout):
    """One pair at a time, as the product with exp(i p freq_j)."""
    out = np.array(x)
    positions = np.broadcast_to(positions, x.shape[:-1])
    for index in np.ndindex(x.shape[:-1]):
        for j, freq in enumerate(freqs):
            a, b = pair(j, len(freqs), layout)
            turned = complex(x[index][a], x[index][b]) * np.exp(1j * positions[index] * freq)
            out[index][a], out[index][b] = turned.real, turned.imag
    return out


class TestFrequencies:
    @pytest.mark.parametrize("E", [2, 4, 10])
    @pytest.mark.parametrize("theta", [1.0, 10000.0])
    def test_definitions(self, E, theta):
        power = [theta ** (-2 * j / E) for j in range(E // 2)]
        np.testing.assert_allclose(rotary_frequencies(E, theta), power, rtol=1e-15)
        evenly = [theta ** -(j / max(E // 2 - 1, 1)) for j in range(E // 2)]
        np.testing.assert_allclose(rotary_frequencies(E, theta, "linspace"), evenly, rtol=1e-15)

    def test_ends(self):
        assert rotary_frequencies(8)[0] == rotary_frequencies(8, spacing="linspace")[0] == 1
        assert rotary_frequencies(8, 100.0, "linspace")[-1] == pytest.approx(0.01, rel=1e-15)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ((3,), mt.ShapeError, "E must be even and positive, got 3"),
            ((0,), mt.ShapeError, "E must be even and positive, got 0"),
            ((4, 0.0), ValueError, "theta must be positive, got 0.0"),
            ((4, 10.0, "log"), ValueError, "spacing must be one of power, linspace, got 'log'"),
        ],
    )
    def test_refuses(self, arguments, error, message):
        with pytest.raises(error, match=f"rotary_frequencies: {message}"):
            rotary_frequencies(*arguments)


class TestRotation:
    @BOTH
    @given(st.lists(st.integers(1, 3), max_size=2), st.integers(0, 4), st.integers(0, 3), st.integers(0, 3))
    def test_equals_complex_multiplication(self, layout, lead, T, n, rest):
        rng = np.random.default_rng(T)
        x, freqs = rng.normal(size=(*lead, T, 2 * n + rest)), rng.normal(size=n)
        for positions in (rng.integers(0, 50, T), rng.normal(size=x.shape[:-1])):
            got = apply_rotary(x, positions, freqs, layout).data
            np.testing.assert_allclose(got, loops(x, positions, freqs, layout), rtol=0, atol=1e-14)
            np.testing.assert_array_equal(got[..., 2 * n :], x[..., 2 * n :])  # partial rotary

    @BOTH
    def test_positions_of_a_batch_are_shared_by_its_heads(self, layout):
        rng = np.random.default_rng(0)
        x, positions, freqs = rng.normal(size=(2, 3, 4, 6)), rng.integers(0, 9, (2, 4)), rotary_frequencies(6)
        got = apply_rotary(x, positions, freqs, layout).data
        np.testing.assert_allclose(got, loops(x, positions[:, None], freqs, layout), rtol=0, atol=1e-14)
        np.testing.assert_array_equal(apply_rotary(x, positions[:1], freqs, layout).data[0], got[0])

    @BOTH
    @given(st.integers(-1000, 1000), st.integers(-1000, 1000), st.integers(-1000, 1000))
    def test_scores_depend_on_the_distance_only(self, layout, p, s, shift):
        rng = np.random.default_rng(0)
        q, k = rng.normal(size=(2, 1, 8))
        turn = lambda x, position: apply_rotary(x, [position], rotary_frequencies(8), layout).data[0]
        before, after = turn(q, p) @ turn(k, s), turn(q, p + shift) @ turn(k, s + shift)
        assert before == pytest.approx(after, abs=1e-11)

    @BOTH
    def test_keeps_lengths_and_starts_with_the_identity(self, layout):
        x = np.random.default_rng(0).normal(size=(5, 8))
        got = apply_rotary(x, np.arange(5), rotary_frequencies(8), layout).data
        np.testing.assert_array_equal(got[0], x[0])
        np.testing.assert_allclose(np.linalg.norm(got, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-15)
        back = apply_rotary(got, -np.arange(5), rotary_frequencies(8), layout).data
        np.testing.assert_allclose(back, x, rtol=0, atol=1e-15)

    def test_layouts_are_a_permutation_of_each_other(self):
        x, freqs = np.random.default_rng(0).normal(size=(5, 8)), rotary_frequencies(8)
        order = [0, 4, 1, 5, 2, 6, 3, 7]
        np.testing.assert_array_equal(
            apply_rotary(x[:, order], np.arange(5), freqs, "interleaved").data,
            apply_rotary(x, np.arange(5), freqs, "half").data[:, order],
        )

    def test_a_quarter_turn(self):
        freqs = np.array([math.pi / 2])
        np.testing.assert_allclose(apply_rotary([[2.0, 3.0]], [1], freqs).data, [[-3.0, 2.0]], atol=1e-15)

    @BOTH
    def test_gradients(self, layout):
        x = np.random.default_rng(0).normal(size=(2, 2, 3, 5))
        mt.check_grads(lambda x: mt.sin(apply_rotary(x, np.arange(3), rotary_frequencies(4), layout)), x)

    def test_angles_of_long_contexts_are_exact_in_float32(self):
        """Angles are computed in float64; only their sine and cosine are rounded."""
        x, freqs = np.random.default_rng(0).normal(size=(1, 8)).astype(np.float32), rotary_frequencies(8)
        got = apply_rotary(x, [1_000_003], freqs)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got.data, loops(x.astype(float), [1_000_003], freqs, "half"), rtol=0, atol=1e-6)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ((np.ones((3, 4)), np.arange(3), np.ones(2), "halves"), ValueError, "layout must be one of half, interleaved"),
            ((np.ones((3, 4), int), np.arange(3), np.ones(2)), TypeError, "x must be floating, got int64"),
            ((np.ones((3, 4)), np.arange(3), np.ones(3)), mt.ShapeError, r"got \(3,\) for x \(3, 4\)"),
            ((np.ones(4), np.arange(3), np.ones(2)), mt.ShapeError, r"of the E of x \(\*, T, E\)"),
            ((np.ones((3, 4)), np.arange(4), np.ones(2)), mt.ShapeError, r"got \(4,\) for x \(3, 4\)"),
            ((np.ones((3, 4)), 0, np.ones(2)), mt.ShapeError, r"got \(\) for x \(3, 4\)"),
            ((np.ones((2, 1, 3, 4)), np.ones((3, 3)), np.ones(2)), mt.ShapeError, r"got \(3, 1, 3\) for x \(2, 1, 3, 4\)"),
            ((np.ones((1, 3, 4)), np.ones((2, 3)), np.ones(2)), mt.ShapeError, r"got \(2, 3\) for x \(1, 3, 4\)"),
        ],
    )  # fmt: skip
    def test_refuses(self, arguments, error, message):
        with pytest.raises(error, match=f"apply_rotary: .*{message}"):
            apply_rotary(*arguments)
