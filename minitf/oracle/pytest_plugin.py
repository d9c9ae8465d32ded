"""The oracle in other people's test suites: pytest finds this plugin wherever minitf is installed.

    def test_my_kernel(minitf_oracle):
        minitf_oracle.check("attention.differential", my_kernel, framework="torch")

    pytest --minitf-dtype float32,bfloat16 --minitf-trials 20

A test that uses ``minitf_oracle`` runs once for each dtype; what it reports when it fails is the oracle's table. A suite
without such a test pays for the import of minitf and NumPy, and for nothing else: no framework, no kernel is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from minitf.oracle import Case, Report


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("minitf", "the oracle of minitf")
    group.addoption(
        "--minitf-dtype",
        action="append",
        metavar="DTYPE[,DTYPE]",
        help="dtypes in which tests that use minitf_oracle run; float32 by default",
    )
    group.addoption("--minitf-trials", type=int, default=5, metavar="N", help="seeds per check; 5 by default")
    group.addoption("--minitf-seed", type=int, default=0, metavar="N", help="the first seed; 0 by default")


def pytest_configure(config: pytest.Config) -> None:
    options = config.option
    if options.minitf_trials < 1:
        raise pytest.UsageError(f"--minitf-trials must be at least 1, got {options.minitf_trials}")
    if options.minitf_seed < 0:
        raise pytest.UsageError(f"--minitf-seed must not be negative, got {options.minitf_seed}")
    if options.minitf_dtype is not None:
        from minitf.oracle.answers import dtype_name

        for dtype in _dtypes(config):
            try:
                dtype_name(dtype)
            except ValueError as error:
                raise pytest.UsageError(f"--minitf-dtype: {error}") from None


def _dtypes(config: pytest.Config) -> list[str]:
    given = config.option.minitf_dtype or ["float32"]
    return list(dict.fromkeys(name.strip() for several in given for name in several.split(",") if name.strip()))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    own = any("minitf_dtype" in str(mark.args[0]) for mark in metafunc.definition.iter_markers("parametrize"))
    if "minitf_dtype" in metafunc.fixturenames and not own:
        metafunc.parametrize("minitf_dtype", _dtypes(metafunc.config), scope="session")


@pytest.fixture(scope="session")
def minitf_dtype(request: pytest.FixtureRequest) -> str:
    """The dtype of this run of the test: one of ``--minitf-dtype``, or what the test is parametrized with."""
    return request.param


@pytest.fixture
def minitf_oracle(minitf_dtype: str, pytestconfig: pytest.Config) -> Oracle:
    """The oracle for one dtype: ``check``, ``judge``, ``case``, ``cases`` and ``tolerance``; see ``minitf.oracle``."""
    return Oracle(minitf_dtype, pytestconfig.option.minitf_trials, pytestconfig.option.minitf_seed)


class Oracle:
    """``minitf.oracle`` with the dtype, trials and first seed of the test run; ``check`` and ``judge`` fail the test.

    A name or a dtype that the oracle does not have is a pytest.UsageError.
    """

    def __init__(self, dtype: str, trials: int, seed: int):
        self.dtype, self.trials, self.seed = dtype, trials, seed

    def check(self, name: str, fn: Any, framework: str = "numpy", **options: Any) -> Report:
        """``oracle.check``; options given here come before those of the command line."""
        __tracebackhide__ = True
        from minitf import oracle

        options = {"dtype": self.dtype, "trials": self.trials, "seed": self.seed, **options}
        _known(name, options["dtype"])
        return _passed(oracle.check(name, fn, framework, **options))

    def judge(self, name: str, case: Case, outputs: Any, gradients: Any = None, **options: Any) -> Report:
        """``oracle.judge``."""
        __tracebackhide__ = True
        from minitf import oracle

        _known(name, case.dtype)
        return _passed(oracle.judge(name, case, outputs, gradients, **options))

    def case(self, name: str, seed: int | None = None, **options: Any) -> Case:
        """``oracle.case`` in this dtype."""
        __tracebackhide__ = True
        from minitf import oracle

        options = {"dtype": self.dtype, **options}
        _known(name, options["dtype"])
        return oracle.case(name, self.seed if seed is None else seed, **options)

    def cases(self, name: str, seeds: Sequence[int] | None = None, **options: Any) -> Iterator[Case]:
        """``oracle.cases`` in this dtype, by default for as many seeds as there are trials."""
        __tracebackhide__ = True
        from minitf import oracle

        options = {"dtype": self.dtype, **options}
        _known(name, options["dtype"])
        return oracle.cases(name, range(self.seed, self.seed + self.trials) if seeds is None else seeds, **options)

    def tolerance(self, fn: Any, inputs: Any, **options: Any) -> Any:
        """``oracle.tolerance`` in this dtype."""
        from minitf import oracle

        return oracle.tolerance(fn, inputs, **{"dtype": self.dtype, **options})

    def names(self, pattern: str = "*") -> list[str]:
        """``oracle.names``."""
        from minitf import oracle

        return oracle.names(pattern)


def _known(name: str, dtype: str) -> None:
    """Raises pytest.UsageError for a name or a dtype that the oracle does not have; no frames of ours are shown."""
    __tracebackhide__ = True
    from minitf.oracle.answers import dtype_name
    from minitf.oracle.references import UnknownName, find

    try:
        find(name)
    except UnknownName as error:
        raise pytest.UsageError(str(error)) from None
    try:
        dtype_name(dtype)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None


def _passed(report: Report) -> Report:
    """The report of a success; otherwise the test fails with the table alone, or with what the implementation raised."""
    __tracebackhide__ = True
    if report.cause is not None:
        report.raise_for_failure()
    if not report.passed:
        pytest.fail(str(report), pytrace=False)
    return report
