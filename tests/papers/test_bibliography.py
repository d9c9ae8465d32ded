from __future__ import annotations

import re
from pathlib import Path

from minitf.papers import bibliography, catalogue
from minitf.papers.catalogue import Paper

ROOT = Path(__file__).parents[2]


def test_references_bib_is_up_to_date():
    expected = bibliography.bibliography(catalogue.papers().values())
    assert (ROOT / bibliography.REFERENCES).read_text(encoding="utf-8") == expected, (
        "regenerate it: python -m minitf.papers.bibliography"
    )


def test_every_paper_has_one_balanced_entry():
    text = bibliography.bibliography(catalogue.papers().values())
    assert re.findall(r"^@misc\{(.+),$", text, flags=re.MULTILINE) == sorted(catalogue.papers())
    assert text.count("{") == text.count("}")


def test_an_entry():
    paper = Paper("a-b", '50% of A^2 & "B"_1', 2024, "survey", "attention", "a/b", arxiv="2410.05258")
    assert bibliography.entry(paper) == (
        "@misc{a-b,\n"
        "  key           = {a-b},\n"
        "  title         = {{50\\% of A² \\& ``B''\\_1}},\n"
        "  year          = {2024},\n"
        "  eprint        = {2410.05258},\n"
        "  archiveprefix = {arXiv},\n"
        "  url           = {https://arxiv.org/abs/2410.05258},\n"
        "}\n"
    )


def test_an_entry_without_arxiv():
    assert "eprint" not in bibliography.entry(Paper("a", "A", 2024, "survey", "attention", "a/b"))
