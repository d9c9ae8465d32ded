from __future__ import annotations

import re

from minitf.papers import catalogue, page
from minitf.papers.results import Report


def reports() -> list[Report]:
    found = []
    for paper in catalogue.papers().values():
        report = Report(paper, "not run", dict.fromkeys(paper.required_kinds, "not run"))
        if paper.slug == "differential-transformer":
            report = Report(
                paper,
                "works",
                {},
                explained="chapters/attention/normalizing_scores.md",
                implemented=("minitf.attention.differential.differential_attention",),
                tested=("tests/attention/test_differential.py",),
                practised=("exercises/attention/differential",),
            )
        elif paper.slug == "introduction-to-transformers":
            report = Report(paper, "not run", {}, implemented=("minitf.attention.dot_product.MultiHeadAttention",))
        found.append(report)
    return found


def test_counts_on_top():
    text = page.papers_page(reports())
    assert text.startswith("# Papers\n")
    assert "| **All** | **342** | **1** | **0** | **1** | **340** |" in text
    assert "| Attention | 24 | 1 | 0 | 0 | 23 |" in text


def test_what_works_is_linked_and_located():
    (line,) = [line for line in page.papers_page(reports()).splitlines() if "Differential Transformer" in line]
    assert line == (
        "| {ref}`Differential Transformer <differential-transformer>` ([arXiv](https://arxiv.org/abs/2410.05258)) "
        "| 2024 | architecture | works | `minitf.attention.differential.differential_attention` <br> "
        "`tests/attention/test_differential.py` <br> `exercises/attention/differential` |"
    )


def test_what_is_not_there_is_planned():
    (line,) = [line for line in page.papers_page(reports()).splitlines() if "FNet" in line]
    assert line.endswith("| architecture | planned |  |")


def test_tables_are_regular_and_every_paper_is_there_once():
    text = page.papers_page(reports())
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    assert all(text.count(f"arxiv.org/abs/{paper.arxiv})") == 1 for paper in catalogue.papers().values())
    assert all(f"## {heading}\n" in text for heading in page.FAMILIES.values())
    assert {paper.family for paper in catalogue.papers().values()} == set(page.FAMILIES)


def test_titles_are_plain_text():
    assert "E\\^2VPT" in page.papers_page(reports())
    assert not any(re.search(r"[`<>|]", paper.title) for paper in catalogue.papers().values())  # {ref}`title <slug>`
