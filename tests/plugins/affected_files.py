"""Which test files a change reaches.

A changed module reaches every module that imports it, directly or not (grimp reads the import graph), and each of
those reaches the tests that lie at its path and the tests that import it. Wherever this cannot be known, everything is
reached.
"""

from __future__ import annotations

import ast
import hashlib
import re
import subprocess
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

PACKAGE = "minitf"
#: a change of one of these, or of a plugin, can change the outcome of any test
EVERYTHING = ("pyproject.toml", "conftest.py", "tests/conftest.py")


class ImportGraph(Protocol):
    """The part of ``grimp.ImportGraph`` that is used here."""

    @property
    def modules(self) -> set[str]: ...
    def find_downstream_modules(self, module: str) -> set[str]: ...


@dataclass(frozen=True)
class Reach:
    """files: test files to run, or None for all of them; reason: one line that says how this was decided."""

    files: frozenset[str] | None
    reason: str


class Unavailable(Exception):
    """What changed, or what it reaches, cannot be found out."""


def reach(root: Path, base: str) -> Reach:
    """The test files under ``root`` that changes since ``base`` reach; never raises, and then reaches everything."""
    try:
        changed = changed_files(root, base)
        files = affected_tests(root, changed, _graph())
    except Unavailable as unavailable:
        return Reach(None, f"everything runs: {unavailable}")
    return Reach(files, f"{len(changed)} files changed since {base} and reach {len(files)} test files")


def changed_files(root: Path, base: str) -> frozenset[str]:
    """Paths that differ between the working tree and where it left ``base``, untracked files included."""
    left = _git(root, "merge-base", base, "HEAD").strip()
    differing = _git(root, "diff", "--name-only", "--no-renames", "-z", left)
    untracked = _git(root, "ls-files", "--others", "--exclude-standard", "-z")
    return frozenset(path for path in (differing + untracked).split("\0") if path)


def affected_tests(root: Path, changed: Collection[str], graph: ImportGraph) -> frozenset[str]:
    """The test files that these changes reach; raises Unavailable when a change can reach any test."""
    for path in changed:
        if path in EVERYTHING or path.startswith("tests/plugins/"):
            raise Unavailable(f"{path} changed")
    sources = {
        file.relative_to(root).as_posix(): file.read_text(encoding="utf-8")
        for file in sorted((root / "tests").rglob("test_*.py"))
    }
    modules = affected_modules(changed, graph)
    reached = {path for path in changed if path in sources}
    for path, source in sources.items():
        if any(_lies_at(path, module) for module in modules) or imported_modules(source, graph.modules) & modules:
            reached.add(path)
    for other in changed:
        if other not in sources and not other.startswith(f"{PACKAGE}/"):
            reached |= {path for path, source in sources.items() if _concerns(PurePosixPath(other), path, source)}
    return frozenset(reached)


def affected_modules(changed: Iterable[str], graph: ImportGraph) -> frozenset[str]:
    """The changed modules and all that import them. A package's ``__init__`` runs before each of its modules, and a
    data file belongs to every module beside it."""
    seeds: set[str] = set()
    for path in changed:
        if not path.startswith(f"{PACKAGE}/"):
            continue
        parts = PurePosixPath(path).with_suffix("").parts
        if path.endswith(".py") and parts[-1] != "__init__":
            seeds.add(".".join(parts))
        else:
            package = ".".join(parts[:-1])
            while package and package not in graph.modules:
                package = package.rpartition(".")[0]
            seeds |= {module for module in graph.modules if f"{module}.".startswith(f"{package}.")}
    known = seeds & graph.modules
    return frozenset(seeds.union(*(graph.find_downstream_modules(module) for module in known)))


def imported_modules(source: str, modules: Collection[str]) -> frozenset[str]:
    """The modules of the package that a test file imports, or reaches as ``mt.nn.functional`` through an import."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return frozenset(modules)
    found: set[str] = set()
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == PACKAGE:
                    found.add(alias.name)
                    names[alias.asname or PACKAGE] = alias.name if alias.asname else PACKAGE
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            for alias in node.names:
                found.add(f"{node.module}.{alias.name}")
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (chain := _chain(node)) and chain[0] in names:
            found.add(".".join([names[chain[0]], *chain[1:]]))
    return frozenset(module for name in found if (module := _longest_module(name, modules)))


def in_rotation(node_id: str, rotation: int) -> bool:
    """Whether a test belongs to this tenth of the suite: a fixed tenth for each of ten successive rotations."""
    return int.from_bytes(hashlib.sha256(node_id.encode()).digest()[:8]) % 10 == rotation % 10


def current_rotation(root: Path) -> int:
    """The number of commits, so that each commit runs another tenth; 0 without git."""
    try:
        return int(_git(root, "rev-list", "--count", "HEAD")) % 10
    except Unavailable:
        return 0


def _graph() -> ImportGraph:
    try:
        import grimp
    except ImportError:
        raise Unavailable("grimp is not installed") from None
    try:
        return grimp.build_graph(PACKAGE, cache_dir=None)
    except (grimp.exceptions.GrimpException, ValueError, OSError) as error:
        raise Unavailable(f"the import graph cannot be read: {error}") from None


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        raise Unavailable("git is not installed") from None
    if done.returncode:
        raise Unavailable(f"git {arguments[0]}: {(done.stderr.strip() or 'failed').splitlines()[0]}")
    return done.stdout


def _lies_at(test: str, module: str) -> bool:
    """Tests lie at the path of their module: tests/a/test_b.py, tests/a/test_b_more.py or tests/a/b/ for minitf.a.b;
    tests/cross mirrors the same tree."""
    place = "/".join(module.split(".")[1:])
    if not place:
        return False
    room, _, name = place.rpartition("/")
    stem = re.escape(f"{room}/" if room else "") + f"test_{re.escape(name)}"
    return re.fullmatch(rf"tests/(cross/)?({stem}(_\w+)?\.py|{re.escape(place)}/.*)", test) is not None


def _concerns(changed: PurePosixPath, test: str, source: str) -> bool:
    """Whether a changed file that no import leads to may matter to a test: it lies in the test's folder or one above,
    or the test speaks of it or of the top folder that it lies in."""
    top = changed.parts[0]
    if top == "tests":
        if len(changed.parts) > 2 and test.startswith(f"{changed.parent}/"):
            return True
    elif len(changed.parts) > 1 and re.search(rf"""["'/]{re.escape(top)}["'/]""", source):
        return True
    mentioned = changed.stem if changed.suffix == ".py" else changed.name
    return re.search(rf"(?<!\w){re.escape(mentioned)}(?!\w)", source) is not None


def _chain(node: ast.expr) -> list[str]:
    """``a.b.c`` as ["a", "b", "c"]; empty for anything else."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute) and (before := _chain(node.value)):
        return [*before, node.attr]
    return []


def _longest_module(name: str, modules: Collection[str]) -> str | None:
    return next((prefix for prefix in _prefixes(name) if prefix in modules), None)


def _prefixes(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]
