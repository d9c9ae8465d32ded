from __future__ import annotations

import json
import subprocess
import sys

import pytest

from minitf import cli
from minitf.papers import catalogue, commands, results

SLUG = "differential-transformer"


def test_a_command_is_needed(capsys):
    assert cli.main([]) == 2
    assert "minitf: error: the following arguments are required: COMMAND" in capsys.readouterr().err


def test_every_command_of_the_three_uses_is_there(capsys):
    assert cli.main(["--help"]) == 0
    told = capsys.readouterr().out
    for command in ("papers", "oracle", "exercises", "start", "grade", "hint", "solution"):
        assert f"\n    {command} " in told


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("minitf 0.")


def test_papers_as_a_table(capsys):
    assert cli.main(["papers"]) == 0
    heading, *lines, blank, total = capsys.readouterr().out.splitlines()
    assert heading.split() == ["STATE", "SLUG", "YEAR", "KIND", "TITLE"]
    assert len(lines) == 342
    assert blank == ""
    assert total.startswith("342 papers: ")
    assert all(line == line.rstrip() for line in lines)
    title = next(line for line in lines if f" {SLUG} " in line)
    assert title.endswith("Differential Transformer")


def test_papers_of_a_family(capsys):
    assert cli.main(["papers", "--family", "attention"]) == 0
    assert "24 papers: " in capsys.readouterr().out


def test_papers_that_miss_something(capsys):
    assert cli.main(["papers", "--missing", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["counts"]["works"] == 0
    assert all(entry["missing"] for entry in told["papers"])


def test_one_paper_for_machines(capsys):
    assert cli.main(["papers", SLUG, "--json"]) == 0
    entry = json.loads(capsys.readouterr().out)
    assert list(entry) == [
        *("slug", "title", "year", "arxiv", "kind", "family", "chapter", "state", "kinds"),
        *("missing", "explained", "implemented", "tested", "practised"),
    ]
    assert entry["title"] == "Differential Transformer"


def test_one_paper_in_detail():
    report = results.Report(
        catalogue.paper(SLUG),
        "fails",
        {"transcription": "passed", "invariant": "failed"},
        missing=("invariant: tests/t.py::test_it failed",),
        explained="chapters/attention/normalizing_scores.md",
        implemented=("minitf.a.f", "minitf.a.F"),
        tested=("tests/t.py",),
    )
    assert commands.detail(report) == (
        "Differential Transformer\n"
        "differential-transformer, 2024, architecture, family attention\n"
        "arXiv 2410.05258  https://arxiv.org/abs/2410.05258\n"
        "\n"
        "state        fails\n"
        "missing      invariant: tests/t.py::test_it failed\n"
        "tests        transcription passed\n"
        "             invariant failed\n"
        "explained    chapters/attention/normalizing_scores.md\n"
        "implemented  minitf.a.f\n"
        "             minitf.a.F\n"
        "tested       tests/t.py\n"
        "practised    -"
    )


def test_lines_are_cut_at_the_width_of_the_terminal():
    reports = [results.Report(paper, "not run", {}) for paper in catalogue.papers().values()]
    assert max(map(len, commands.listing(reports, width=80).splitlines())) == 80
    assert "…" not in commands.listing(reports)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["papers", "diferential-transformer"], "no paper is called 'diferential-transformer'; did you mean 'differe"),
        (["papers", "--family", "atention"], "no family is called 'atention'; did you mean 'attention'"),
        (["papers", "--family", "§"], "no family is called '§'; families: attention, audio-and-diffusion"),
        (["papers", SLUG, "--missing"], "--missing and --family choose from the list of papers"),
        (["papers", "--nosuch"], "unrecognized arguments: --nosuch"),
        (["nosuch"], "invalid choice: 'nosuch'"),
    ],
)
def test_wrong_use_is_one_message_and_exit_code_2(capsys, arguments: list[str], message: str):
    assert cli.main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert f"minitf: error: {message}" in told.err or f"error: {message}" in told.err or message in told.err
    assert "Traceback" not in told.err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ValueError("seed is -1; it must be >= 0"), 2, "minitf: error: seed is -1; it must be >= 0\n"),
        (FileNotFoundError(2, "No such file or directory", "x.npz"), 2, "x.npz: No such file or directory\n"),
        (KeyboardInterrupt(), 130, "minitf: interrupted\n"),
    ],
)
def test_what_a_command_raises(monkeypatch, capsys, error: BaseException, code: int, message: str):
    _run_instead(monkeypatch, error)
    assert cli.main(["papers"]) == code
    assert capsys.readouterr().err.endswith(message)


@pytest.mark.parametrize("error", [KeyError("x"), IndexError("x"), ZeroDivisionError("x"), AssertionError("x")])
def test_our_own_mistakes_keep_their_traceback(monkeypatch, error: Exception):
    _run_instead(monkeypatch, error)
    with pytest.raises(type(error)):
        cli.main(["papers"])


def test_a_traceback_on_request(monkeypatch):
    _run_instead(monkeypatch, ValueError("x"))
    with pytest.raises(ValueError, match="x"):
        cli.main(["--traceback", "papers"])


def _run_instead(monkeypatch, error: BaseException) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr(commands, "run", fail)


def test_a_reader_that_has_seen_enough():
    """``minitf papers | head -1``, with a reader that leaves before anything is written."""
    process = subprocess.Popen(
        [sys.executable, "-m", "minitf", "papers", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    _, told = process.communicate()
    assert told == b""
    assert process.returncode == 141


def test_asking_about_papers_loads_neither_techniques_nor_compilers():
    heavy = "{'numba', 'scipy', 'matplotlib', 'torch', 'tqdm'}"
    code = f"import sys; from minitf import cli; cli.main(['papers']); assert not {heavy} & set(sys.modules)"
    code += "; assert not [name for name in sys.modules if name.startswith(('minitf.attention', 'minitf.models'))]"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
