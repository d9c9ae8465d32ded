"""Exported vectors are enough for a program without Python: ``chapters/oracle/read_case.c`` judges by them."""

import functools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from minitf import oracle

pytest.importorskip("safetensors", reason="the vectors are safetensors files")
COMPILER = shutil.which("cc")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler (cc)")

SOURCE = Path(__file__).parents[2] / "chapters" / "oracle" / "read_case.c"
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-O2"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
TAGS = {
    np.dtype(dtype): tag
    for dtype, tag in {
        np.float64: "F64",
        np.float32: "F32",
        np.float16: "F16",
        ml_dtypes.bfloat16: "BF16",
        ml_dtypes.float8_e4m3fn: "F8_E4M3",
        ml_dtypes.float8_e5m2: "F8_E5M2",
        np.int64: "I64",
        np.int32: "I32",
    }.items()
}


@pytest.fixture(scope="module", params=["plain", "sanitized"])
def read_case(request, tmp_path_factory):
    """Runs the compiled program on two files; returns its status and what it printed."""
    program = tmp_path_factory.mktemp("c") / "read_case"
    build = [str(COMPILER), *WARNINGS, str(SOURCE), "-o", str(program)]
    if request.param == "sanitized":
        empty = program.with_name("empty.c")
        empty.write_text("int main(void) { return 0; }\n")
        for command in ([str(COMPILER), *SANITIZERS, str(empty), "-o", str(program)], [str(program)]):
            if subprocess.run(command, capture_output=True, check=False).returncode:
                pytest.skip("this compiler has no address and undefined behaviour sanitizers")
        build += SANITIZERS
    built = subprocess.run(build, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr

    def run(*files):
        # A sanitizer that objects ends with 86, which is none of the program's own.
        options = {"ASAN_OPTIONS": "exitcode=86", "UBSAN_OPTIONS": "exitcode=86"}
        command = [str(program), *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **options})
        assert done.returncode in (0, 1, 2), done.stderr
        return done.returncode, done.stdout + done.stderr

    return run


def write(path, arrays, metadata=None):
    """A safetensors file: NumPy's own writer does not know bfloat16."""
    header, data = {} if metadata is None else {"__metadata__": metadata}, b""
    for name, x in arrays.items():
        raw = np.ascontiguousarray(x).tobytes()
        header[name] = {"dtype": TAGS[x.dtype], "shape": x.shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The path of an exported case, and of its arrays those that an implementation answers, and their tolerances."""
    from safetensors.numpy import load_file

    folder = tmp_path_factory.mktemp("vectors")

    @functools.cache
    def export(name="attention.differential", dtype="float32"):
        path = oracle.export(name, folder, format="safetensors", dtype=dtype)[0]
        arrays = load_file(path)
        right = {key: x for key, x in arrays.items() if key.startswith(("output.", "gradient."))}
        return path, right, {key: arrays[f"tolerance.{key}"] for key in right}

    return export


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_right_and_wrong_answers(tmp_path, read_case, exported, dtype):
    case, right, tolerances = exported(dtype=dtype)
    stored = np.dtype(getattr(ml_dtypes, dtype, dtype))
    answer = {key: x.astype(stored) for key, x in right.items()}
    status, told = read_case(case, write(tmp_path / "answer", answer, {"by": 'somebody "else", {here}'}))
    assert status == 0, told
    assert "passed" in told
    for key in ("output.out", "gradient.q1"):
        moved = right[key].copy()
        place = np.unravel_index(np.argmax(tolerances[key]), moved.shape)
        moved[place] += 3 * tolerances[key][place]
        error = (moved - right[key])[place] / tolerances[key][place]  # 3 but for the rounding of the sum
        status, told = read_case(case, write(tmp_path / "answer", {**right, key: moved}))
        assert status == 1, told
        line = next(line for line in told.splitlines() if line.startswith(f"{key} "))
        assert float(line.split()[1]) == pytest.approx(error, rel=5e-3)
        assert line.endswith("at " + " ".join(map(str, place)))
        assert "FAILED" in told


def test_what_is_missing_or_misshapen(tmp_path, read_case, exported):
    case, right, _ = exported()
    out = right["output.out"]
    outputs = {"output.out": out}
    status, told = read_case(case, write(tmp_path / "answer", outputs))
    assert status == 0
    assert re.search(r"gradient.v +is not in the answer, not judged", told)
    for answer, problem in [
        ({"gradient.v": right["gradient.v"]}, "output.out +is missing"),
        ({"output.out": out.swapaxes(1, 2)}, "output.out +has another shape"),
        ({"output.out": out[0]}, "output.out +has another shape"),
        ({"output.out": np.full_like(out, np.nan)}, "output.out +inf .* got -?nan"),
        ({"output.out": np.full_like(out, np.inf)}, "output.out +inf .* got inf"),
    ]:
        status, told = read_case(case, write(tmp_path / "answer", answer))
        assert status == 1
        assert re.search(problem, told)


def test_decisions_are_those_of_the_case(tmp_path, read_case, exported):
    case, right, _ = exported("feedforward.mixture_of_experts")
    experts = right["output.experts"].astype(np.int32)
    assert read_case(case, write(tmp_path / "answer", {**right, "output.experts": experts}))[0] == 0
    experts[0] = experts[0, ::-1]
    status, told = read_case(case, write(tmp_path / "answer", {**right, "output.experts": experts}))
    assert status == 1
    assert re.search("output.experts +inf", told)


@pytest.mark.parametrize("dtype", [d for d in TAGS if d.kind != "i" and d.itemsize <= 2], ids=str)
def test_every_number_of_the_small_formats(tmp_path, read_case, dtype):
    numbers = np.arange(256**dtype.itemsize, dtype=f"u{dtype.itemsize}").view(dtype)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        exact = numbers.astype(np.float64)
    numbers, exact = numbers[~np.isnan(exact)], exact[~np.isnan(exact)]
    case = write(tmp_path / "case", {"output.x": exact, "tolerance.output.x": np.zeros_like(exact)})
    status, told = read_case(case, write(tmp_path / "answer", {"output.x": numbers}))
    assert status == 0, told


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_numbers_at_the_ends_of_the_large_formats(tmp_path, read_case, dtype):
    info = np.finfo(dtype)
    ends = [0, info.smallest_subnormal, info.tiny - info.smallest_subnormal, info.tiny, 1, 1 + info.eps, info.max]
    numbers = np.array([*ends, np.inf], dtype)
    numbers = np.concatenate([numbers, -numbers])
    exact = numbers.astype(np.float64)
    case = write(tmp_path / "case", {"output.x": exact, "tolerance.output.x": np.zeros_like(exact)})
    assert read_case(case, write(tmp_path / "answer", {"output.x": numbers}))[0] == 0
    wrong = np.nextafter(numbers, dtype(0.5))
    for i in range(len(numbers)):
        answer = numbers.copy()
        answer[i] = wrong[i]
        assert read_case(case, write(tmp_path / "answer", {"output.x": answer}))[0] == 1


def test_no_axes_and_no_elements(tmp_path, read_case):
    for x in (np.array(2.5), np.zeros((3, 0, 2))):
        case = write(tmp_path / "case", {"output.x": x, "tolerance.output.x": np.zeros_like(x)})
        assert read_case(case, write(tmp_path / "answer", {"output.x": x}))[0] == 0
    assert read_case(case, write(tmp_path / "answer", {"output.x": np.zeros((0, 3, 2))}))[0] == 1


def test_usage_and_damaged_files(tmp_path, read_case, exported):
    case, right, _ = exported()
    answer = write(tmp_path / "answer", {"output.out": right["output.out"]})
    assert read_case(case, answer)[0] == 0
    for files in ((), (case,), (case, answer, answer)):
        status, told = read_case(*files)
        assert status == 2
        assert told.startswith("usage: ")
    assert read_case(case, tmp_path / "nothing")[0] == 2
    assert read_case(case, tmp_path)[0] == 2
    assert read_case(answer, answer)[0] == 2  # no tolerances
    bad, whole = tmp_path / "bad", answer.read_bytes()
    length = 8 + int.from_bytes(whole[:8], "little")
    for size in (*range(0, length, 23), length - 1, length, length + 1, len(whole) - 1):
        bad.write_bytes(whole[:size])
        status, told = read_case(case, bad)
        assert status == 2, size
        assert told.startswith(f"{bad}: ")
    rng = np.random.default_rng(0)
    for content in (
        bytes(1000),
        b"\xff" * 1000,
        rng.bytes(1000),
        whole + b"\0",
        (2).to_bytes(8, "little") + b"{}",
    ):
        bad.write_bytes(content)
        assert read_case(case, bad)[0] == 2
        assert read_case(bad, answer)[0] == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"F64"', '"F65"'),
        ('"F64"', '"F32"'),
        ('"shape": [1', '"shape": [18446744073709551616'),
        ('"shape": [1', '"shape": [4611686018427387904, 4'),
        ('"shape": [1', '"shape": [-1'),
        ('"shape": [1', '"shape": [1, 1, 1, 1, 1, 1'),
        ('"shape": [1', '"shape": [1,,1'),
        ("", ""),
        ('"data_offsets": [0', '"data_offsets": [8'),
        ('"data_offsets": [0, ', '"data_offsets": [0, 0, '),
        ('"data_offsets": [0, ', '"data_offsets": [0, 9'),
        ('"data_offsets": [0, ', '"data_offset": [0, '),
        ('"output.out"', '"output\\u002eout"'),
        ('"output.out"', f'"{"x" * 128}"'),
        ("}}", "}"),
        ("}}", "}},"),
        ("{", "[{"),
        ("{", '{"__metadata__": {"a": 1}, '),
    ],
)
def test_damaged_headers(tmp_path, read_case, exported, old, new):
    case, right, _ = exported()
    whole = write(tmp_path / "answer", {"output.out": right["output.out"]}).read_bytes()
    length = 8 + int.from_bytes(whole[:8], "little")
    text = whole[8:length].decode()
    assert old in text
    header = text.replace(old, new, 1).encode()
    (tmp_path / "answer").write_bytes(len(header).to_bytes(8, "little") + header + whole[length:])
    status, told = read_case(case, tmp_path / "answer")
    assert (status == 2) == (old != new), told
