from __future__ import annotations

import re
from pathlib import Path

import pytest

from minitf.papers import catalogue

ENTRY = {
    "slug": "a-paper",
    "title": "A Paper",
    "year": 2024,
    "arxiv": "2410.05258",
    "kind": "mechanism",
    "family": "attention",
    "chapter": "attention/normalizing_scores",
}


def write(tmp_path: Path, *entries: dict[str, object]) -> Path:
    file = tmp_path / "catalogue.toml"
    file.write_text("".join("[[paper]]\n" + "".join(_line(*item) for item in entry.items()) for entry in entries))
    return file


def _line(name: str, value: object) -> str:
    return f"{name} = {str(value).lower() if isinstance(value, bool | int | float) else repr(value)}\n"


def test_the_catalogue_has_its_papers():
    papers = catalogue.papers()
    assert len(papers) == 342
    assert all(slug == paper.slug for slug, paper in papers.items())
    assert {paper.kind for paper in papers.values()} == set(catalogue.REQUIRED_KINDS)
    assert len({paper.arxiv for paper in papers.values()}) == 342


def test_required_kinds_are_kinds_of_test():
    for required in catalogue.REQUIRED_KINDS.values():
        assert required
        assert required <= set(catalogue.TEST_KINDS) - {"cross"}


def test_cross_is_required_of_the_paper_that_says_so():
    assert catalogue.paper("differential-transformer").required_kinds == catalogue.TEST_KINDS
    assert catalogue.paper("introduction-to-transformers").required_kinds == ("invariant", "cross", "claim")
    assert catalogue.paper("selective-attention").required_kinds == ("transcription", "invariant", "gradient", "claim")


def test_an_unknown_slug_is_told_the_nearest():
    with pytest.raises(catalogue.UnknownPaper, match="did you mean 'differential-transformer'"):
        catalogue.paper("diferential-transformer")
    with pytest.raises(catalogue.UnknownPaper, match=r"no paper is called '§§'$"):
        catalogue.paper("§§")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["abc"], "; did you mean 'abc'?"),
        (["abc", "abd"], "; did you mean 'abc' or 'abd'?"),
        (["xyz"], ""),
        ([], ""),
    ],
)
def test_did_you_mean(names: list[str], told: str):
    assert catalogue.did_you_mean("abc", names) == told


def test_a_paper_may_have_no_arxiv_identifier(tmp_path: Path):
    entry = {name: value for name, value in ENTRY.items() if name != "arxiv"}
    assert catalogue.load(write(tmp_path, entry))["a-paper"].arxiv is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slug": "A_Paper"}, "lower-case words joined by hyphens"),
        ({"slug": ""}, "slug is ''; it must be a non-empty string"),
        ({"title": "  "}, "title is '  '"),
        ({"year": "2024"}, "year is '2024'; it must be a whole number"),
        ({"year": True}, "year is True"),
        ({"year": 24}, "year is 24"),
        ({"arxiv": "cs/0112017"}, "an identifier looks like '2410.05258'"),
        ({"arxiv": 2410.05258}, "an identifier looks like"),
        ({"kind": "mechanics"}, "kind is 'mechanics'; the kinds are mechanism, architecture"),
        ({"chapter": "attention"}, "must look like 'attention/normalizing_scores'"),
        ({"chapter": "attention/a.md"}, "must look like"),
        ({"cross": "yes"}, "cross is 'yes'; it is true or left out"),
        ({"author": "Somebody"}, "unknown keys ['author']"),
    ],
)
def test_a_wrong_entry_is_told_what_is_allowed(tmp_path: Path, change: dict[str, object], message: str):
    with pytest.raises(catalogue.CatalogueError, match=re.escape(message)) as error:
        catalogue.load(write(tmp_path, ENTRY | change))
    assert str(error.value).startswith("catalogue.toml, paper 1 (")


def test_missing_facts_and_doubled_slugs(tmp_path: Path):
    with pytest.raises(catalogue.CatalogueError, match=r"paper 1 \(no slug\): has no slug, title"):
        catalogue.load(write(tmp_path, {"year": 2024}))
    with pytest.raises(catalogue.CatalogueError, match=r"paper 2 \(a-paper\): the slug is taken by 'A Paper'"):
        catalogue.load(write(tmp_path, ENTRY, ENTRY))


def test_a_file_that_is_not_toml(tmp_path: Path):
    (tmp_path / "catalogue.toml").write_text("[[paper")
    with pytest.raises(catalogue.CatalogueError, match=r"catalogue\.toml is not TOML"):
        catalogue.load(tmp_path / "catalogue.toml")
