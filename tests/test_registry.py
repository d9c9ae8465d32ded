from __future__ import annotations

import re

import pytest

from minitf import registry


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    monkeypatch.setattr(registry, "IMPLEMENTATIONS", {})
    monkeypatch.setattr(registry, "REFERENCES", {})


def example(draw, size): ...


def test_implements_registers_under_every_slug_once():
    @registry.implements("fnet", "mlkv")
    @registry.implements("fnet")
    def technique(): ...

    name = f"{__name__}.test_implements_registers_under_every_slug_once.<locals>.technique"
    assert {"fnet": [name], "mlkv": [name]} == registry.IMPLEMENTATIONS


@pytest.mark.parametrize("arguments", [(), (example,), ("fnet", 3)])
def test_implements_wants_slugs(arguments: tuple[object, ...]):
    with pytest.raises(TypeError, match="implements takes the slugs of papers"):
        registry.implements(*arguments)  # pyright: ignore[reportArgumentType]


def test_reference_keeps_what_it_was_told():
    def technique(x): ...

    entry = registry.reference("a.b", technique, example=example, differentiable=("x",), options=({"causal": True},))
    assert {"a.b": entry} == registry.REFERENCES
    assert entry == registry.Reference("a.b", technique, example, ("x",), ("out",), ({"causal": True},))


def test_a_name_belongs_to_one_module():
    registry.reference("a.b", example, example=example)
    registry.reference("a.b", example, example=example)  # the module was imported again
    with pytest.raises(ValueError, match=re.escape(f"'a.b' is already registered by {__name__}; names are unique")):
        registry.reference("a.b", re.compile, example=example)
