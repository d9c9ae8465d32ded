"""A checkpoint file: what was put in comes out, or an error; never something in between."""

import errno
import os

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minitf.training.checkpoint_file import read_checkpoint, write_checkpoint

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
ARRAYS = hnp.arrays(
    st.sampled_from(["f2", "f4", "f8", "c16", "i8", "u1", "?"]), hnp.array_shapes(min_dims=0, min_side=0)
)
KEYS = st.text("ab/.file", max_size=5) | st.integers()
TREES = st.recursive(
    PLAIN | ARRAYS,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(KEYS, inner),
    max_leaves=8,
)


def same(a, b):
    """Equal in value, type, dtype and bits, NaN included."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(a, np.ndarray | np.generic):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes()
    else:
        assert a == b or (a != a and b != b)


@given(tree=TREES)
def test_comes_back_as_it_was(tree, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "tree.npz"
    write_checkpoint(path, tree)
    same(read_checkpoint(path), tree)


def test_formats_numpy_does_not_have(tmp_path):
    tree = {
        name: np.arange(6).astype(getattr(ml_dtypes, name)) for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")
    }
    tree |= {"scalar": np.float32(1.5), "low": tree["bfloat16"][3]}
    write_checkpoint(tmp_path / "x.npz", tree)
    same(read_checkpoint(tmp_path / "x.npz"), tree)
    write_checkpoint(tmp_path / "x.npz", np.longdouble("0.1"))
    assert read_checkpoint(tmp_path / "x.npz") == np.longdouble("0.1")  # its padding bytes are anything


def test_random_states_of_all_kinds(tmp_path):
    kinds = [np.random.PCG64, np.random.PCG64DXSM, np.random.Philox, np.random.SFC64, np.random.MT19937]
    generators = [np.random.Generator(kind(3)) for kind in kinds]
    write_checkpoint(tmp_path / "x.npz", [rng.bit_generator.state for rng in generators])
    expected = [rng.normal(size=3) for rng in generators]
    for rng, state, numbers in zip(generators, read_checkpoint(tmp_path / "x.npz"), expected, strict=True):
        rng.bit_generator.state = state
        np.testing.assert_array_equal(rng.normal(size=3), numbers)


def test_a_damaged_file_is_refused_or_makes_no_difference(tmp_path):
    path = tmp_path / "x.npz"
    tree = {"a": np.arange(20.0), "b": {"c": [1, "two"]}}
    write_checkpoint(path, tree)
    content = path.read_bytes()
    refused = 0
    for i in range(len(content)):
        path.write_bytes(content[:i] + bytes([content[i] ^ 0x55]) + content[i + 1 :])
        try:
            same(read_checkpoint(path), tree)  # time stamps and the like
        except ValueError:
            refused += 1
    assert refused > len(content) / 2
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"x\.npz is damaged, or no checkpoint"):
            read_checkpoint(path)


def test_never_unpickles(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    np.savez(tmp_path / "x.npz", tree=np.array([Trap()], dtype=object))
    with pytest.raises(ValueError, match="damaged, or no checkpoint"):
        read_checkpoint(tmp_path / "x.npz")
    assert not (tmp_path / "sprung").exists()


def test_what_cannot_be_kept_is_named_and_nothing_is_written(tmp_path):
    path = tmp_path / "x.npz"
    write_checkpoint(path, {"a": 1})
    for tree, told in (
        ({"a": {"b": {1, 2}}}, "cannot hold a/b: set"),
        ({"a": [np.array([None])]}, "cannot hold a/0: an array of Python objects"),
    ):
        with pytest.raises(TypeError, match=told):
            write_checkpoint(path, tree)
    assert read_checkpoint(path) == {"a": 1}
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "none.npz")


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk_leaves_the_last_one(function, tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    write_checkpoint(path, {"a": np.arange(3)})

    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, function, fail)
        with pytest.raises(OSError, match="No space left"):
            write_checkpoint(path, {"a": np.arange(4)})
    same(read_checkpoint(path), {"a": np.arange(3)})
    assert list(tmp_path.iterdir()) == [path]
