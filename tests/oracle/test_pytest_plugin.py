"""The pytest plugin in a foreign suite."""

import subprocess
import sys

import pytest

PLUGIN = "minitf.oracle.pytest_plugin"
SUITE = """
import numpy as np

def scan(a, b, state, *, reverse=False, wrong=False):
    wide = np.float64 if a.dtype == np.float64 else np.float32
    h, out, T = state.astype(wide), np.empty(a.shape, wide), a.shape[1]
    for t in reversed(range(T)) if reverse else range(T):
        h = a[:, t].astype(wide) * h + b[:, t].astype(wide) * wide(1.05 if wrong else 1)
        out[:, t] = h
    return out.astype(a.dtype), h.astype(a.dtype)

NAME = "recurrent.gated_linear_recurrence"
"""


@pytest.fixture
def suite(pytester):
    """Runs a test file of the given lines behind SUITE, in this process."""

    def run(lines, *options):
        pytester.makepyfile(SUITE + lines)
        return pytester.runpytest_inprocess("-p", PLUGIN, "-p", "no:cacheprovider", "--minitf-trials", "1", *options)

    return run


def test_a_right_implementation_passes_in_every_dtype(suite):
    lines = """
def test_scan(minitf_oracle):
    report = minitf_oracle.check(NAME, scan, sizes="tiny")
    assert report.dtype == minitf_oracle.dtype
"""
    result = suite(lines, "--minitf-dtype", "float32,bfloat16", "--minitf-dtype", "float16", "-v")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*test_scan?float32?*PASSED*", "*test_scan?bfloat16?*PASSED*", "*float16?*PASSED*"])


def test_a_wrong_one_fails_with_the_table_and_no_frames_of_ours(suite):
    lines = """
def test_scan(minitf_oracle):
    minitf_oracle.check(NAME, lambda *x, **o: scan(*x, **o, wrong=True), sizes="tiny")
"""
    result = suite(lines)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([
        "recurrent.gated_linear_recurrence, numpy, float32: FAILED",
        "*largest*rms*ulp*worst element*",
        "out *FAILED*expected*got*tolerance*",
        "smallest failing case: oracle.case(*",
    ])  # fmt: skip
    result.stdout.no_fnmatch_line("*pytest_plugin.py*")


def test_what_the_implementation_raises_is_shown(suite):
    result = suite("""
def kernel(*arrays, **options):
    raise RuntimeError("out of registers")

def test_scan(minitf_oracle):
    minitf_oracle.check(NAME, kernel, sizes="tiny")
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(['*raise RuntimeError("out of registers")*'])


def test_the_rest_of_the_oracle_in_the_dtype_of_the_run(suite):
    result = suite(
        """
def test_saved(minitf_oracle):
    case = minitf_oracle.case(NAME, size="tiny")
    assert case.dtype == "bfloat16" and case.seed == 3
    minitf_oracle.judge(NAME, case, case.outputs, case.gradients)
    assert NAME in minitf_oracle.names("recurrent.*")

def test_of_ones_own(minitf_oracle):
    import minitf as mt
    x = np.linspace(-2, 2, 5)
    assert (minitf_oracle.tolerance(lambda x: mt.exp(x), [x]) > 1e-3 * np.exp(x)).all()

def test_judging_a_wrong_array_fails(minitf_oracle):
    case = minitf_oracle.case(NAME, size="tiny")
    minitf_oracle.judge(NAME, case, {name: x + 1 for name, x in case.outputs.items()})
""",
        "--minitf-dtype",
        "bfloat16",
        "--minitf-seed",
        "3",
    )
    result.assert_outcomes(passed=2, failed=1)


def test_cases_are_as_many_seeds_as_trials(suite):
    lines = """
def test_cases(minitf_oracle):
    found = list(minitf_oracle.cases(NAME, sizes=["tiny"]))
    assert {case.seed for case in found} == {4, 5}
    assert {case.dtype for case in found} == {"float16"}
    assert [case.seed for case in minitf_oracle.cases(NAME, [7], sizes=["tiny"])] == [7] * (len(found) // 2)
"""
    options = ("--minitf-dtype", "float16", "--minitf-seed", "4", "--minitf-trials", "2")
    suite(lines, *options).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("check('recurrent.gated_linear_recurence', scan)", "*UsageError: the oracle knows no *did you mean*"),
        ("check(NAME, scan, dtype='bfloat15')", "*UsageError: oracle: dtype must be one of *'bfloat15'*"),
        ("judge('recurrent.nothing', minitf_oracle.case(NAME, size='tiny'), [])", "*UsageError: the oracle knows no *"),
        ("case('recurrent.nothing')", "*UsageError: the oracle knows no *"),
        ("cases(NAME, dtype='int3')", "*UsageError: oracle: dtype must be one of *'int3'*"),
    ],
)
def test_a_wrong_name_or_dtype_is_told_without_frames_of_ours(suite, call, told):
    result = suite(f"def test_wrong(minitf_oracle): minitf_oracle.{call}\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([told])
    result.stdout.no_fnmatch_line("*minitf/oracle/*.py:*")


def test_a_test_may_choose_its_dtypes(suite):
    lines = """
import pytest

@pytest.mark.parametrize("minitf_dtype", ["float64"])
def test_scan(minitf_oracle):
    assert minitf_oracle.check(NAME, scan, sizes="tiny").dtype == "float64"
"""
    suite(lines, "--minitf-dtype", "bfloat16").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--minitf-dtype", "bfloat15"], "*--minitf-dtype: oracle: dtype must be one of*bfloat15*did you mean*"),
        (["--minitf-trials", "0"], "*--minitf-trials must be at least 1, got 0*"),
        (["--minitf-seed", "-1"], "*--minitf-seed must not be negative, got -1*"),
    ],
)
def test_wrong_options_are_usage_errors(suite, options, told):
    result = suite("def test_nothing(): pass\n", *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([told])


def test_a_suite_without_such_a_test_does_not_import_the_oracle_s_frameworks_or_kernels(pytester):
    path = pytester.makepyfile("""
import sys

def test_plain():
    assert not {"numba", "torch", "jax", "matplotlib", "scipy"} & set(sys.modules)
""")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        PLUGIN,
        "-p",
        "no:cacheprovider",
        "-p",
        "no:hypothesispytest",
    ]
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, cwd=pytester.path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
