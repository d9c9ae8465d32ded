"""Renders executed chapters with Jupyter Book.

What Jupyter Book sees is ``_build/source``: executed notebooks and plain pages at the paths of their chapters, beside
links to the folders whose files chapters show, so that a path in a chapter means the same there as in the repository.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import nbformat
import yaml
from execution import Executed
from external import external_resources
from inputs import digest

#: folders whose files chapters show by literalinclude
SHOWN = ("minitf", "exercises", "tests")
COPIED = {"references.bib": "references.bib", "chapters/_static": "_static"}


class RenderingError(Exception):
    """Pages that could not be rendered, or that would not work from disk."""


def contents(root: Path) -> list[str]:
    """The pages that ``_toc.yml`` names, in its order, without suffix."""

    def walk(node: object) -> Iterable[str]:
        if isinstance(node, dict):
            yield from (str(node[key]).removesuffix(".md") for key in ("root", "file") if key in node)
            for value in node.values():
                yield from walk(value)
        elif isinstance(node, list):
            for value in node:
                yield from walk(value)

    return list(walk(yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))))


def render(root: Path, build: Path, executed: Iterable[Executed], pages: Mapping[str, str]) -> bool:
    """Makes ``build/html`` from executed chapters and plain pages (name -> MyST); False when it was up to date.

    Raises RenderingError with every warning of Sphinx, for warnings are errors.
    """
    source, html = build / "source", build / "html"
    _stage(root, source, executed, pages)
    stamp, state = build / "html.inputs", _state(root, source)
    if stamp.is_file() and stamp.read_text() == state and (html / "index.html").is_file():
        return False
    print("rendering", flush=True)
    stamp.unlink(missing_ok=True)
    try:
        _jupyter_book(root, build, source)
        if found := external_resources(html):
            raise RenderingError("\n".join(["pages of the book would load from the network:", *found]))
    except BaseException:
        # An incremental build would not repeat the warnings of this one.
        shutil.rmtree(build / ".doctrees", ignore_errors=True)
        raise
    stamp.write_text(state)
    return True


def _stage(root: Path, source: Path, executed: Iterable[Executed], pages: Mapping[str, str]) -> None:
    """Brings ``source`` to the wanted state and touches no file that is right already."""
    wanted = {f"{one.name}.ipynb": nbformat.writes(one.notebook).encode() for one in executed}
    wanted |= {f"{name}.md": text.encode() for name, text in pages.items()}
    for place, target in COPIED.items():
        original = root / place
        for file in sorted(original.rglob("*")) if original.is_dir() else [original]:
            if file.is_file():
                wanted[Path(target, file.relative_to(original)).as_posix()] = file.read_bytes()
    for folder in SHOWN:
        link = source / folder
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(root / folder, target_is_directory=True)
    for file in _files(source):
        if file.relative_to(source).as_posix() not in wanted:
            file.unlink()
    for name, content in wanted.items():
        file = source / name
        if not file.is_file() or file.read_bytes() != content:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)


def _state(root: Path, source: Path) -> str:
    """A hash of everything that the pages are made from."""
    files = [root / "_config.yml", root / "_toc.yml", *Path(__file__).parent.glob("*.py")]
    files += _files(source)
    files += [file for folder in SHOWN for file in _files(root / folder) if "__pycache__" not in file.parts]
    lines = [f"{file} {digest(file)}" for file in sorted(files)]
    return hashlib.sha256("\n".join([sys.version, *lines]).encode()).hexdigest()


def _files(folder: Path) -> list[Path]:
    """All files under ``folder``, but none behind a link to another folder."""
    return [Path(place, name) for place, _, names in os.walk(folder) for name in names]


def _jupyter_book(root: Path, build: Path, source: Path) -> None:
    program = Path(sys.executable).with_name("jupyter-book")
    command = [str(program), "build", str(source), "--path-output", str(build.parent)]
    command += ["--config", str(root / "_config.yml"), "--toc", str(root / "_toc.yml")]
    command += ["-W", "--keep-going", "-n", "-q"]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
        said = re.sub(rf"{re.escape(str(source))}/(\S+?)\.ipynb", r"\1.md", said)
        raise RenderingError(f"Jupyter Book failed (warnings are errors):\n{said}")
