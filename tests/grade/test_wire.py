"""The frames: everything plain goes through unchanged, everything else is refused by name."""

import io
import json
import math

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitf.grade.student import wire

scalars = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text()
arrays = st.sampled_from(sorted(wire.DTYPES)).flatmap(
    lambda name: npst.arrays(np.dtype(name), npst.array_shapes(min_dims=0, min_side=0, max_side=3))
)
values = st.recursive(
    scalars | arrays,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=6,
)


def through(value):
    return wire.receive(io.BytesIO(wire.pack(value)), 1 << 20)


def same(a, b) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, float) and math.isnan(a):
        return math.isnan(b)
    return type(a) is type(b) and a == b and (not isinstance(a, float) or math.copysign(1, a) == math.copysign(1, b))


@given(values)
def test_plain_data_goes_through_unchanged(value):
    assert same(value, through(value))


def test_arrays_arrive_contiguous_native_and_writable():
    big = np.arange(6, dtype=">f8").reshape(2, 3)[:, ::-2]
    got = through((big, np.float32(1.5)))
    assert got[0].dtype == np.float64
    assert got[0].dtype.isnative
    assert got[0].flags.c_contiguous
    got[0][:] = 0
    assert (got[1].shape, got[1].dtype, got[1].item()) == ((), np.float32, 1.5)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (object(), "type object"),
        (len, "builtin_function_or_method"),
        (np.array([object()]), "dtype object"),
        (np.array(["text"]), "dtype <U4"),
        (np.array([(1, 2)], dtype="i4,i4"), "dtype"),
        (np.array(["2020-01-01"], dtype="M8[D]"), "datetime64"),
        ({1: 2}, "keys are not all strings"),
        ({1, 2}, "type set"),
        ("x" * (1 << 21), "NumPy array"),
    ],
)
def test_what_is_not_plain_data_is_not_sent(value, word):
    with pytest.raises(wire.WireError, match=word):
        wire.pack(value)


def test_a_list_in_itself_is_refused():
    loop = []
    loop.append(loop)
    with pytest.raises(wire.WireError, match="deep"):
        wire.pack(loop)


def header(value=None, arrays=()):
    return {"value": value, "arrays": list(arrays)}


MALFORMED = [
    (b"", b""),
    (b"\xff\xfe", b""),
    (b"[]", b""),
    (b"{}", b""),
    (b"[" * 100_000, b""),
    (b'{"value": NaN, "arrays": []}', b""),
    (b'{"value": 1.5, "arrays": []}', b""),
    (b'{"value": ' + b"9" * 10_000 + b', "arrays": []}', b""),
    (header([1]), b""),
    (header({}), b""),
    (header({"list": [1], "tuple": [2]}), b""),
    (header({"pickle": "gASVBA=="}), b""),
    (header({"list": "abc"}), b""),
    (header({"float": "one"}), b""),
    (header({"float": "0x1p99999"}), b""),
    (header({"array": 0}), b""),
    (header({"array": -1}, [["float64", [1]]]), bytes(8)),
    (header({"array": True}, [["int8", [1]], ["int8", [1]]]), bytes(2)),
    (header({"array": 0}, [["float64", [2]]]), bytes(8)),
    (header({"array": 0}, [["float64", [1]]]), bytes(9)),
    (header({"array": 0}, [["object", [1]]]), bytes(8)),
    (header({"array": 0}, [["O8", [1]]]), bytes(8)),
    (header({"array": 0}, [[["float64"], [1]]]), bytes(8)),
    (header({"array": 0}, [["float64", [-1, -1]]]), bytes(8)),
    (header({"array": 0}, [["float64", [1.0]]]), bytes(8)),
    (header({"array": 0}, [["float64", [True]]]), bytes(8)),
    (header({"array": 0}, [["float64", 1]]), bytes(8)),
    (header({"array": 0}, [["float64", [2**62, 2**62, 0]]]), b""),
    (header({"array": 0}, [["float64", [1] * 65]]), bytes(8)),
    (header({"array": 0}, [["float64", [1], "more"]]), bytes(8)),
]


@pytest.mark.parametrize(("head", "payload"), MALFORMED)
def test_malformed_frames_are_wire_errors_and_nothing_else(head, payload):
    with pytest.raises(wire.WireError):
        wire.unpack(head if isinstance(head, bytes) else json.dumps(head).encode(), payload)


@given(st.binary(max_size=200))
def test_noise_is_a_wire_error(noise):
    for data in (noise, wire.HEAD.pack(wire.MAGIC, len(noise), 0) + noise):
        with pytest.raises(wire.WireError):
            wire.receive(io.BytesIO(data), 1 << 20)


def test_lengths_are_checked_before_anything_is_read():
    class Endless(io.RawIOBase):
        def __init__(self, head):
            self.head = head

        def read(self, size=-1):
            assert size < 100, "asked for more than the head"
            return self.head

    for sizes in ((1 << 31, 0), (10, 1 << 60)):
        with pytest.raises(wire.WireError, match="announces"):
            wire.receive(Endless(wire.HEAD.pack(wire.MAGIC, *sizes)), 1 << 20)


def test_a_cut_frame_is_closed():
    frame = wire.pack(np.ones(3))
    for length in (0, 5, 20, len(frame) - 1):
        with pytest.raises(wire.Closed):
            wire.receive(io.BytesIO(frame[:length]), 1 << 20)
