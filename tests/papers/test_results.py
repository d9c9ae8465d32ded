from __future__ import annotations

import json
from pathlib import Path

import pytest

from minitf.papers import catalogue, checkout, freeze, index, results
from minitf.papers.results import Collected

SLUG = "differential-transformer"
KINDS = catalogue.TEST_KINDS


def collected(repository, kind: str, *tests: str, complete: bool = True, file: str | None = None) -> Collected:
    """What pytest would collect now: by default the one test of that kind in the repository."""
    file = file or repository.test
    paper = catalogue.paper(SLUG)
    digest = results.digest(repository.root, paper, index.scan(repository.root).papers.get(SLUG, ()), file)
    ids = tuple(f"{file}::{test}" for test in tests or (f"test_{kind}",))
    return Collected(SLUG, kind, file, digest, complete, ids)


def run(repository, outcome: str = "passed", kinds: tuple[str, ...] = KINDS, **changed: str) -> None:
    """Records a run of the tests of these kinds; ``changed`` names the kinds with another outcome."""
    groups = [collected(repository, kind) for kind in kinds]
    outcomes = {group.tests[0]: changed.get(group.kind, outcome) for group in groups}
    results.record(repository.root, groups, {test: told for test, told in outcomes.items() if told != "not run"})


def judged(repository) -> results.Report:
    return results.judge(repository.root)[SLUG]


def test_a_paper_works_when_everything_it_needs_passed(repository):
    before = judged(repository)
    assert before.state == "not run"
    assert before.missing == tuple(f"{kind}: {repository.test} not run" for kind in KINDS)
    run(repository)
    report = judged(repository)
    assert report.state == "works"
    assert report.missing == ()
    assert report.kinds == dict.fromkeys(KINDS, "passed")
    assert report.explained == repository.chapter
    assert report.implemented == ("minitf.attention.differential.differential_attention",)
    assert report.tested == (repository.test,)
    assert report.practised == ("exercises/attention/differential",)


def test_a_paper_without_anything_is_not_run(repository):
    report = results.judge(repository.root)["fnet"]
    assert report.state == "not run"
    assert report.missing == (
        "nothing is registered as implementing it",
        "chapters/attention/mixing_without_scores.md is not written",
        *(f"{kind}: no test" for kind in ("transcription", "invariant", "gradient", "claim")),
    )


def test_one_failure_fails_the_paper(repository):
    run(repository, gradient="failed")
    report = judged(repository)
    assert report.state == "fails"
    assert report.kinds["gradient"] == "failed"
    assert report.missing == (f"gradient: {repository.test}::test_gradient failed",)


def test_a_skipped_test_has_not_run_but_does_not_undo_a_pass(repository):
    run(repository, cross="skipped")
    assert judged(repository).state == "not run"
    assert judged(repository).missing == (f"cross: {repository.test}::test_cross skipped",)
    run(repository)
    run(repository, cross="skipped")
    assert judged(repository).state == "works"


def test_a_partial_run_keeps_the_rest(repository):
    run(repository)
    run(repository, kinds=("claim",), claim="failed")
    assert judged(repository).state == "fails"
    run(repository, kinds=("claim",))
    assert judged(repository).state == "works"
    run(repository, outcome="not run")  # collected, and deselected
    assert judged(repository).state == "works"


@pytest.mark.parametrize("touched", ["module", "test", "chapter"])
def test_a_result_is_stale_once_something_it_rests_on_changed(repository, touched: str):
    run(repository)
    file = repository.root / getattr(repository, touched)
    content = file.read_text()
    file.write_text(content + "\n\n# changed\n")
    report = judged(repository)
    assert report.state == "not run"
    assert report.missing[0] == f"transcription: {repository.test} not run since something changed"

    run(repository, kinds=("claim",))
    assert [kind for kind, outcome in judged(repository).kinds.items() if outcome == "passed"] == ["claim"]
    file.write_text(content)
    assert judged(repository).kinds == dict.fromkeys(KINDS[:-1], "passed") | {"claim": "not run"}


def test_another_module_changes_nothing(repository):
    run(repository)
    repository.write("minitf/attention/other.py", "x = 1\n")
    assert judged(repository).state == "works"


def test_a_test_file_of_which_only_one_test_ran_proves_nothing(repository):
    run(repository)
    (repository.root / ".minitf/results.json").unlink()
    group = collected(repository, "claim", complete=False)
    results.record(repository.root, [group], {group.tests[0]: "passed"})
    assert f"claim: {repository.test} not run as a whole" in judged(repository).missing

    results.record(repository.root, [collected(repository, "claim", "test_claim", "test_two")], {})
    assert f"claim: {repository.test}::test_two not run" in judged(repository).missing
    group = collected(repository, "claim", "test_two", complete=False)
    results.record(repository.root, [group], {group.tests[0]: "passed"})
    assert judged(repository).kinds["claim"] == "passed"


def test_a_second_file_with_the_mark_must_pass_too(repository):
    run(repository)
    other = "tests/cross/test_differential.py"
    repository.write(other, f"import pytest\n@pytest.mark.paper({SLUG!r}, 'cross')\ndef test_it(): ...\n")
    assert judged(repository).missing == (f"cross: {other} not run",)
    group = collected(repository, "cross", "test_it", file=other)
    results.record(repository.root, [group], {group.tests[0]: "passed"})
    assert judged(repository).state == "works"
    assert judged(repository).tested == (repository.test, other)


def test_a_mark_that_only_pytest_sees_counts(repository):
    other = "tests/attention/test_table.py"
    repository.write(other, "# marks are computed here\n")
    run(repository)
    group = collected(repository, "invariant", "test_row[1]", file=other)
    results.record(repository.root, [group], {group.tests[0]: "failed"})
    assert judged(repository).state == "fails"
    (repository.root / other).unlink()
    assert judged(repository).state == "works"


@pytest.mark.parametrize(
    ("path", "text", "missing"),
    [
        ("_toc.yml", "root: index\n", "is not in _toc.yml"),
        ("_toc.yml", "# - file: chapters/attention/normalizing_scores\n", "is not in _toc.yml"),
        (
            "chapters/attention/normalizing_scores.md",
            "No label.\n",
            "does not cite it: it has no line (differential-transformer)=",
        ),
    ],
)
def test_without_its_place_in_the_book_a_tested_paper_fails(repository, path: str, text: str, missing: str):
    repository.write(path, text)
    run(repository)
    report = judged(repository)
    assert report.state == "fails"
    assert report.missing == (f"{repository.chapter} {missing}",)
    assert report.explained is None


@pytest.mark.parametrize(
    "line",
    [
        "- file: chapters/attention/normalizing_scores.md",
        "  - file: 'chapters/attention/normalizing_scores'  # a story",
        '    file: "chapters/attention/normalizing_scores"',
    ],
)
def test_the_ways_to_write_a_table_of_contents(repository, line: str):
    repository.write("_toc.yml", f"format: jb-book\nroot: index\nparts:\n{line}\n")
    run(repository)
    assert judged(repository).state == "works"


def test_without_registration_a_tested_paper_fails(repository):
    repository.write(repository.module, "def differential_attention(q): ...\n")
    run(repository)
    assert judged(repository).state == "fails"
    assert judged(repository).missing == ("nothing is registered as implementing it",)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 0, "papers": {}}', "{"])
def test_a_damaged_results_file_says_nothing(repository, content: str):
    repository.write(".minitf/results.json", content)
    assert judged(repository).state == "not run"
    run(repository)
    assert judged(repository).state == "works"


def test_an_installation_shows_the_reports_of_its_build(repository, tmp_path: Path, monkeypatch):
    run(repository)
    reports = results.judge(repository.root)
    copy = tmp_path / "frozen.json"
    copy.write_text(freeze.frozen(reports), encoding="utf-8")
    monkeypatch.setattr(checkout, "root", lambda: None)
    monkeypatch.setattr(results, "FROZEN", copy)
    results._frozen.cache_clear()
    try:
        assert results.reports() == reports
        assert results.report(SLUG).state == "works"
        results._frozen.cache_clear()
        copy.unlink()
        assert results.report(SLUG).state == "not run"
        assert results.report(SLUG).missing == ("this installation carries no test results",)
    finally:
        results._frozen.cache_clear()


def test_freezing(repository, monkeypatch, capsys):
    run(repository)
    copy = repository.root / "minitf/papers/results.json"
    monkeypatch.setattr(checkout, "root", lambda: repository.root)
    monkeypatch.setattr(results, "FROZEN", copy)
    assert freeze.main() == 0
    assert capsys.readouterr().out == "minitf/papers/results.json: 342 papers, 1 works, 0 fails, 341 not run\n"
    assert len(json.loads(copy.read_text(encoding="utf-8"))["papers"]) == 342
    monkeypatch.setattr(checkout, "root", lambda: None)
    assert freeze.main() == 2
