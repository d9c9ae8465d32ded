"""The oracle: cases are frozen, honest implementations pass, mistakes do not, and vectors survive the round trip."""

import json

import ml_dtypes
import numpy as np
import pytest

from minitf import cli, oracle

NAME = "attention.differential"


def softmax(z):
    top = z.max(-1, keepdims=True)
    e = np.exp(z - np.where(np.isfinite(top), top, 0))
    total = e.sum(-1, keepdims=True)
    return e / np.where(total == 0, 1, total)


def honest(q1, k1, q2, k2, v, *, lambda_, mask=None, causal=False, wrong=""):
    """Differential attention in the dtype of its arguments, with a mistake on request."""
    kind, H, T, S = q1.dtype.type, q1.shape[1], q1.shape[2], k1.shape[2]
    k1, k2, v = (np.repeat(x, H // x.shape[1], 1) for x in (k1, k2, v))
    allowed = np.tri(T, S, S - T - (wrong == "mask off by one"), dtype=bool) if causal else np.ones((T, S), bool)
    allowed = allowed if mask is None else allowed & mask
    scale = kind(1 if wrong == "no scale" else q1.shape[-1] ** -0.5)
    maps = [
        softmax(np.where(allowed, (q @ k.swapaxes(-1, -2)) * scale, kind(-np.inf))) for q, k in ((q1, k1), (q2, k2))
    ]
    factor = lambda_ * (1.02 if wrong == "lambda 2 % too large" else 1) * (-1 if wrong == "added" else 1)
    return (maps[0] - kind(factor) * maps[1]) @ v


def check(dtype, wrong="", **options):
    def implementation(*arrays, **keywords):
        return honest(*arrays, **keywords, wrong=wrong)

    return oracle.check(NAME, implementation, dtype=dtype, gradients=False, trials=2, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_honest_implementation_passes(dtype):
    report = check(dtype)
    assert report.passed, report
    report.raise_for_failure()
    assert json.loads(report.to_json())["passed"] is True
    assert "passed" in str(report)


@pytest.mark.parametrize("wrong", ["mask off by one", "no scale", "lambda 2 % too large", "added"])
def test_mistakes_are_caught(wrong):
    report = check("float32", wrong)
    assert not report.passed
    with pytest.raises(oracle.OracleError, match=NAME):
        report.raise_for_failure()


def test_cases_are_deterministic_and_rounded_to_the_dtype():
    a, b = (oracle.case(NAME, seed=3, size="tiny", dtype="bfloat16") for _ in range(2))
    assert a.sha256 == b.sha256
    assert a.sha256 != oracle.case(NAME, seed=4, size="tiny", dtype="bfloat16").sha256
    for x in a.inputs.values():
        assert x.dtype == np.float64
        np.testing.assert_array_equal(x, x.astype(ml_dtypes.bfloat16).astype(np.float64))


def test_a_query_without_keys_is_zero_in_the_answer():
    masked = oracle.case(NAME, size="small", options={"masked": True})
    np.testing.assert_array_equal(masked.outputs["out"][0, :, -1], 0)
    np.testing.assert_array_equal(masked.gradients["q1"][0, :, -1], 0)


def test_judging_saved_arrays():
    case = oracle.case(NAME, size="tiny", dtype="float32")
    assert oracle.judge(NAME, case, case.outputs).passed
    assert not oracle.judge(NAME, case, {"out": case.outputs["out"] * 1.01}).passed


@pytest.mark.parametrize("format", ["npz", "json", "safetensors"])
def test_export_round_trip(tmp_path, format):
    paths = oracle.export(NAME, tmp_path, format=format, dtype="bfloat16")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert [p.name for p in paths] == [*(entry["file"] for entry in manifest["files"]), "manifest.json"]
    entry = manifest["files"][0]
    path, case = tmp_path / entry["file"], oracle.case(NAME, size="tiny", dtype="bfloat16")
    if format == "npz":
        arrays = dict(np.load(path, allow_pickle=False))
    elif format == "json":
        arrays = {k: np.array(v["data"]).reshape(v["shape"]) for k, v in json.loads(path.read_text()).items()}
    else:
        from safetensors.numpy import load_file

        arrays = load_file(path)
    assert set(arrays) == set(entry["arrays"])
    assert entry["sha256"] == case.sha256
    assert entry["arrays"]["input.q1"]["bits_of"] == "bfloat16"
    bits = arrays["input.q1"].astype(np.uint16).view(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(bits.astype(np.float64), case.inputs["q1"])
    np.testing.assert_array_equal(arrays["output.out"], case.outputs["out"])
    assert (arrays["tolerance.output.out"] > 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: oracle.case("attention.diferential"), "did you mean"),
        (lambda: oracle.case(NAME, size="huge"), "size must be one of tiny, small, medium"),
        (lambda: oracle.case(NAME, seed=-1), "seed must be a non-negative integer"),
        (lambda: oracle.case(NAME, dtype="int3"), "int3"),
        (lambda: oracle.export("nothing.*", "."), "no name matches"),
        (lambda: oracle.export(NAME, ".", format="pickle"), "format must be one of"),
    ],
)
def test_wrong_calls_say_what_is_allowed(call, message):
    with pytest.raises((ValueError, LookupError, TypeError), match=message):
        call()


def test_commands(tmp_path, capsys):
    assert cli.main(["oracle", "list", "attention.*"]) == 0
    assert NAME in capsys.readouterr().out
    assert cli.main(["oracle", "show", NAME]) == 0
    assert "has a gradient" in capsys.readouterr().out
    assert cli.main(["oracle", "export", NAME, "--format", "json", "-o", str(tmp_path)]) == 0
    assert (tmp_path / "manifest.json").is_file()
    assert cli.main(["oracle", "show", "attention.diferential"]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_a_failure_shrinks_to_the_smallest_case_that_fails():
    implementation = lambda *arrays, **options: honest(*arrays, **options, wrong="no scale")
    report = oracle.check(NAME, implementation, sizes="small", trials=1, gradients=False)
    assert report.smallest is not None
    assert report.smallest["size"] == "tiny"
    assert not any("tiny" in place for place in report.cases)  # the report is of what was asked
    again = oracle.case(NAME, **report.smallest)
    out = implementation(*(x.astype(np.float32) for x in again.inputs.values()), **again.options)
    assert not oracle.judge(NAME, again, out).passed
    assert "smallest failing case: oracle.case('attention.differential', seed=0, size='tiny'" in str(report)
    assert json.loads(report.to_json())["smallest"]["size"] == "tiny"


def test_what_fails_only_in_large_cases_stays_large():
    def implementation(q1, *arrays, **options):
        return honest(q1, *arrays, **options, wrong="no scale" if q1.size > 200 else "")

    report = oracle.check(NAME, implementation, trials=1, gradients=False)
    assert report.smallest is not None
    assert report.smallest["size"] == "small"


def test_an_implementation_that_raises_is_asked_once_for_each_kind_of_options():
    def implementation(*arrays, **options):
        raise RuntimeError("no kernel")

    report = oracle.check(NAME, implementation, trials=3, gradients=False)
    assert len(report.problems) == len(oracle.labels(NAME))
    assert report.smallest is not None
    assert report.smallest["size"] == "tiny"
