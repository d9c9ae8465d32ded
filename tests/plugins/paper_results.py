"""Checks ``@pytest.mark.paper(slug, kind=...)`` and keeps what the tests so marked said, for ``minitf papers``.

What was collected (before anything is deselected) and how the sources looked at that moment go to
``minitf.papers.results`` together with the outcomes. Under xdist the workers collect and the controller writes.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict
from typing import Any

import pytest

from minitf.papers import catalogue, index, marks, results

_OUTPUT = "paper_results"


def pytest_configure(config: pytest.Config) -> None:
    kinds = ", ".join(catalogue.TEST_KINDS)
    config.addinivalue_line("markers", f"paper(slug, kind): the test shows this about a paper; kind is one of {kinds}")
    config.pluginmanager.register(PaperResults(config), "paper-results")


class PaperResults:
    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.collected: list[dict[str, Any]] = []
        self.outcomes: dict[str, str] = {}
        self.trouble = ""

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """A wrong mark is an error in collecting the file or class that has it."""
        report = yield
        wrong = []
        for item in report.result:
            if isinstance(item, pytest.Item):
                for mark in item.iter_markers("paper"):
                    try:
                        arguments(mark)
                    except marks.MarkError as error:
                        wrong.append(f"{item.nodeid}: {error}")
        if wrong:
            report.outcome, report.longrepr, report.result = "failed", "\n".join(dict.fromkeys(wrong)), []
        return report

    @pytest.hookimpl(tryfirst=True)  # before -k, -m and selection take tests away
    def pytest_collection_modifyitems(self, items: Sequence[pytest.Item]) -> None:
        marked: dict[tuple[str, str, str], list[str]] = {}
        for item in items:
            for mark in item.iter_markers("paper"):
                slug, kind = arguments(mark)
                tests = marked.setdefault((slug, kind, item.nodeid.split("::")[0]), [])
                if item.nodeid not in tests:
                    tests.append(item.nodeid)
        root = self.config.rootpath
        try:
            known = index.scan(root).papers
        except index.RegistrationError as error:
            self.trouble = str(error)
            return
        for (slug, kind, file), tests in marked.items():
            digest = results.digest(root, catalogue.paper(slug), known.get(slug, ()), file)
            group = results.Collected(slug, kind, file, digest, self._complete(file), tuple(tests))
            self.collected.append(asdict(group))

    def _complete(self, file: str) -> bool:
        """Whether all tests of the file were collected: not when some were asked for by id, or only failed ones."""
        by_id = any(self._file(argument) == file for argument in self.config.args if "::" in argument)
        return not by_id and not self.config.getoption("lf", False)

    def _file(self, argument: str) -> str:
        path = (self.config.invocation_params.dir / argument.split("::")[0]).resolve()
        root = self.config.rootpath.resolve()
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed or (report.skipped and hasattr(report, "wasxfail")):  # an expected failure is not a pass
            self.outcomes[report.nodeid] = "failed"
        elif report.skipped or report.when == "call":
            self.outcomes.setdefault(report.nodeid, report.outcome)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        output = getattr(node, "workeroutput", {}).get(_OUTPUT)
        if output:  # every worker collects the same tests
            self.collected, self.trouble = output["collected"], output["trouble"]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        if hasattr(self.config, "workeroutput"):
            self.config.workeroutput[_OUTPUT] = {"collected": self.collected, "trouble": self.trouble}
            return
        if self.collected and not self.config.getoption("collectonly"):
            groups = [results.Collected(**{**group, "tests": tuple(group["tests"])}) for group in self.collected]
            try:
                results.record(self.config.rootpath, groups, self.outcomes)
            except OSError as error:
                self.trouble = str(error)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.trouble:
            terminalreporter.section("results of papers were not recorded")
            terminalreporter.line(self.trouble)


def arguments(mark: pytest.Mark) -> tuple[str, str]:
    """The slug and the kind that a mark names; raises MarkError when it names none that exist."""
    given = dict(zip(("slug", "kind"), mark.args, strict=False)) | mark.kwargs
    if len(mark.args) > 2 or given.keys() != {"slug", "kind"}:
        raise marks.MarkError(f"the mark is paper(slug, kind=...), not paper{mark.args} with {mark.kwargs}")
    marks.check(given["slug"], given["kind"])
    return given["slug"], given["kind"]
