"""The static index: who implements which paper and what the oracle knows, found without importing any of it.

    python -m minitf.papers.index            writes index.json, which a wheel carries
    implementations("differential-transformer")  ->  ("minitf.attention.differential.differential_attention", ...)
    reference_modules()                          ->  {"attention.differential": "minitf.attention.differential", ...}

The source is parsed for ``@implements("slug", ...)`` on functions and classes and for calls ``reference("name", ...)``,
under whatever names a module imports the two from ``minitf.registry``. In a checkout these functions read the sources
(files that did not change are not parsed again), so an old ``index.json`` misleads nobody; installed, they read
``index.json``. A test holds the committed file to the sources.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from minitf.files import write_atomically
from minitf.papers import catalogue, checkout

INDEX = Path(__file__).with_name("index.json")


class RegistrationError(ValueError):
    """A registration that cannot be read from the source, with its file and line."""


@dataclass(frozen=True)
class Index:
    """papers: slug -> dotted names of what implements it; references: oracle name -> module that registers it."""

    papers: Mapping[str, tuple[str, ...]]
    references: Mapping[str, str]

    def as_json(self) -> str:
        papers = {slug: list(self.papers[slug]) for slug in sorted(self.papers)}
        return json.dumps({"papers": papers, "references": dict(sorted(self.references.items()))}, indent=1) + "\n"


def load() -> Index:
    """The index of this installation: from the sources in a checkout, from ``index.json`` otherwise."""
    root = checkout.root()
    return scan(root) if root else _shipped()


def implementations(slug: str) -> tuple[str, ...]:
    """Dotted names of everything registered as implementing the paper; raises UnknownPaper for an unknown slug."""
    return load().papers.get(catalogue.paper(slug).slug, ())


def reference_modules() -> Mapping[str, str]:
    """Every name that the oracle knows, with the module to import for it."""
    return load().references


def scan(root: Path) -> Index:
    """Reads the sources under ``root/minitf``; raises RegistrationError where they cannot be read statically."""
    papers: dict[str, list[str]] = {}
    references: dict[str, tuple[str, str]] = {}
    for path, found in checkout.facts(root, "registrations", (root / "minitf").rglob("*.py"), registrations).items():
        module = module_name(path)
        for slug, name, line in found["implements"]:
            if slug not in catalogue.papers():
                hint = catalogue.did_you_mean(slug, catalogue.papers())
                raise RegistrationError(f"{path}:{line}: no paper is called {slug!r}{hint}")
            papers.setdefault(slug, []).append(f"{module}.{name}")
        for name, line in found["references"]:
            if name in references:
                raise RegistrationError(f"{path}:{line}: {name!r} is already registered at {references[name][1]}")
            references[name] = (module, f"{path}:{line}")
    return Index(
        {slug: tuple(dict.fromkeys(names)) for slug, names in papers.items()},
        {name: module for name, (module, _) in references.items()},
    )


def registrations(file: Path) -> dict[str, Any]:
    """The registrations in one module: "implements": [slug, qualified name, line], "references": [name, line]."""
    source = file.read_text(encoding="utf-8")
    found: dict[str, Any] = {"implements": [], "references": []}
    if "registry" not in source:
        return found
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise RegistrationError(f"{file}:{error.lineno}: {error.msg}") from None
    called = _registry_names(tree)
    decorators: set[ast.Call] = set()

    def walk(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                for decorator in child.decorator_list:
                    if called.get(_dotted(decorator)) == "implements":
                        raise RegistrationError(f"{file}:{decorator.lineno}: @implements needs the slugs of papers")
                    if isinstance(decorator, ast.Call) and called.get(_dotted(decorator.func)) == "implements":
                        decorators.add(decorator)
                        for slug in _literals(decorator, file, "the slugs of papers"):
                            found["implements"].append([slug, prefix + child.name, decorator.lineno])
                inner = child.name + ("." if isinstance(child, ast.ClassDef) else ".<locals>.")
                walk(child, prefix + inner)
            else:
                walk(child, prefix)

    walk(tree, "")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node not in decorators:
            match called.get(_dotted(node.func)):
                case "implements":
                    raise RegistrationError(f"{file}:{node.lineno}: implements is used as a decorator only")
                case "reference":
                    first = node.args[:1] or [word.value for word in node.keywords if word.arg == "name"]
                    name = _literals(ast.Call(node.func, first, [], lineno=node.lineno), file, "the name first")
                    found["references"].append([name[0], node.lineno])
    return found


def module_name(path: str) -> str:
    """``minitf/attention/__init__.py`` -> ``minitf.attention``."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def module_file(dotted: str, root: Path) -> Path | None:
    """The file of the module that ``dotted`` (a module, or something inside one) lies in."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        stem = root.joinpath(*parts[:end])
        for file in (stem.with_name(stem.name + ".py"), stem / "__init__.py"):
            if file.is_file():
                return file
    return None


def _registry_names(tree: ast.Module) -> dict[str | None, str]:
    """How this module spells the two functions: {"implements": "implements", "registry.reference": "reference"}."""
    names: dict[str | None, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            for alias in node.names:
                spelled = alias.asname or alias.name
                if origin == "minitf.registry" or (node.level and origin == "registry"):
                    if alias.name in ("implements", "reference"):
                        names[spelled] = alias.name
                elif alias.name == "registry" and (origin == "minitf" or (node.level and not origin)):
                    names |= {f"{spelled}.{name}": name for name in ("implements", "reference")}
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == "minitf.registry":
                    spelled = alias.asname or alias.name
                    names |= {f"{spelled}.{name}": name for name in ("implements", "reference")}
    return names


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)):
        return f"{before}.{node.attr}"
    return None


def _literals(call: ast.Call, file: Path, wanted: str) -> list[str]:
    if not call.args or call.keywords:
        raise RegistrationError(f"{file}:{call.lineno}: {_dotted(call.func)} takes {wanted}")
    for argument in call.args:
        if not (isinstance(argument, ast.Constant) and isinstance(argument.value, str)):
            raise RegistrationError(
                f"{file}:{call.lineno}: {_dotted(call.func)} takes {wanted} as string literals, "
                f"not {ast.unparse(argument)!r}: the index is read from the source"
            )
    return [argument.value for argument in call.args]  # pyright: ignore[reportAttributeAccessIssue]


@cache
def _shipped() -> Index:
    content = json.loads(INDEX.read_text(encoding="utf-8"))
    return Index({slug: tuple(names) for slug, names in content["papers"].items()}, content["references"])


def main() -> int:
    root = checkout.root()
    if root is None:
        print("minitf.papers.index: an index is written in a source checkout", file=sys.stderr)
        return 2
    write_atomically(INDEX, scan(root).as_json())
    print(INDEX.relative_to(root))
    return 0


if __name__ == "__main__":
    sys.exit(main())
