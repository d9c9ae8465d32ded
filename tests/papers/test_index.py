from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

from minitf import registry
from minitf.papers import catalogue, checkout, index

ROOT = Path(__file__).parents[2]


def test_the_committed_index_is_up_to_date():
    assert index.INDEX.read_text(encoding="utf-8") == index.scan(ROOT).as_json(), (
        "regenerate it: python -m minitf.papers.index"
    )


def test_the_index_says_what_importing_says():
    """Every module of the index, imported, registers what the index says, and nothing else under its own name."""
    static = index.scan(ROOT)
    modules = set(static.references.values())
    for name in (name for names in static.papers.values() for name in names):
        module = index.module_file(name, ROOT)
        assert module is not None, name
        modules.add(index.module_name(module.relative_to(ROOT).as_posix()))
    for module in sorted(modules):
        importlib.import_module(module)

    def ours(name: str) -> bool:
        return name.startswith(tuple(f"{module}." for module in modules))

    registered = {slug: {n for n in names if ours(n)} for slug, names in registry.IMPLEMENTATIONS.items()}
    assert {slug: set(names) for slug, names in static.papers.items()} == {s: n for s, n in registered.items() if n}
    for name, module in static.references.items():
        assert name in registry.REFERENCES, f"{name} of {module}"


def test_functions_classes_and_references(repository):
    repository.write(
        "minitf/models/__init__.py",
        """
import minitf.registry
from minitf import registry as desk
from ..registry import implements as does

@does("selective-attention", "fnet")
class Model:
    @desk.implements("gemma-2")
    def method(self):
        @minitf.registry.implements("mlkv")
        def inner(): ...

def implements(slug): ...

@implements(some_variable)
def a_decorator_of_the_same_name(): ...

if True:
    desk.reference(name="models.model", function=Model)
""",
    )
    found = index.scan(repository.root)
    assert found.papers == {
        "differential-transformer": ("minitf.attention.differential.differential_attention",),
        "selective-attention": ("minitf.models.Model",),
        "fnet": ("minitf.models.Model",),
        "gemma-2": ("minitf.models.Model.method",),
        "mlkv": ("minitf.models.Model.method.<locals>.inner",),
    }
    assert found.references == {
        "attention.differential": "minitf.attention.differential",
        "models.model": "minitf.models",
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "@implements(SLUG)\ndef f(): ...",
            "x.py:2: implements takes the slugs of papers as string literals, not 'SLUG'",
        ),
        ("@implements(*SLUGS)\ndef f(): ...", "x.py:2: implements takes the slugs of papers as string literals"),
        ("@implements()\ndef f(): ...", "x.py:2: implements takes the slugs of papers"),
        ("@implements\ndef f(): ...", "x.py:2: @implements needs the slugs of papers"),
        ("implements('fnet')(f)", "x.py:2: implements is used as a decorator only"),
        ("@implements('fnett')\ndef f(): ...", "x.py:2: no paper is called 'fnett'; did you mean 'fnet'"),
        ("reference(NAME, f)", "x.py:2: reference takes the name first as string literals, not 'NAME'"),
        ("reference(function=f)", "x.py:2: reference takes the name first"),
        ("reference('a', f)\nreference('a', g)", "x.py:3: 'a' is already registered at minitf/x.py:2"),
        ("def f(:", "x.py:2: invalid syntax"),
    ],
)
def test_what_cannot_be_read_is_an_error_with_its_line(tmp_path: Path, line: str, message: str):
    (tmp_path / "minitf").mkdir()
    (tmp_path / "minitf/x.py").write_text(f"from minitf.registry import implements, reference\n{line}\n")
    with pytest.raises(index.RegistrationError, match=re.escape(message)):
        index.scan(tmp_path)


def test_a_checkout_is_read_afresh(repository):
    assert "fnet" not in index.scan(repository.root).papers
    repository.write("minitf/x.py", "from minitf.registry import implements\n@implements('fnet')\ndef f(): ...\n")
    assert index.scan(repository.root).papers["fnet"] == ("minitf.x.f",)
    (repository.root / "minitf/x.py").unlink()
    assert "fnet" not in index.scan(repository.root).papers


def test_an_installation_reads_the_shipped_index(tmp_path: Path, monkeypatch):
    shipped = tmp_path / "index.json"
    shipped.write_text(json.dumps({"papers": {"fnet": ["minitf.a.f"]}, "references": {"a.f": "minitf.a"}}))
    monkeypatch.setattr(index, "INDEX", shipped)
    monkeypatch.setattr(checkout, "root", lambda: None)
    index._shipped.cache_clear()
    try:
        assert index.implementations("fnet") == ("minitf.a.f",)
        assert index.implementations("gemma-2") == ()
        assert index.reference_modules() == {"a.f": "minitf.a"}
    finally:
        index._shipped.cache_clear()


def test_implementations_of_an_unknown_paper():
    with pytest.raises(catalogue.UnknownPaper, match="did you mean"):
        index.implementations("fnett")


@pytest.mark.parametrize(
    ("dotted", "file"),
    [
        ("minitf.attention.differential.differential_attention", "minitf/attention/differential.py"),
        ("minitf.attention.differential.Module.method", "minitf/attention/differential.py"),
        ("minitf", "minitf/__init__.py"),
        ("elsewhere.f", None),
    ],
)
def test_module_file(repository, dotted: str, file: str | None):
    assert index.module_file(dotted, repository.root) == (file and repository.root / file)
