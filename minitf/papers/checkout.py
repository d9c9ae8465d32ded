"""The source checkout that minitf runs from, if it runs from one, and facts read from its source files.

An installed wheel carries generated copies (``index.json``, ``results.json``). A checkout changes while people work in
it, so there the sources themselves are read, and the copies are never believed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from minitf.files import write_atomically

#: where a checkout keeps what it found out about itself; ignored by git
STATE = ".minitf"


def root() -> Path | None:
    """The root of the checkout that this package lies in, or None when it is installed."""
    candidate = Path(__file__).resolve().parents[2]
    project = candidate / "pyproject.toml"
    return candidate if project.is_file() and 'name = "minitf"' in project.read_text(encoding="utf-8") else None


def version() -> str:
    """The version of minitf: from pyproject.toml in a checkout, from the installed metadata otherwise."""
    if here := root():
        return tomllib.loads((here / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    from importlib import metadata

    return metadata.version("minitf")


def facts(checkout: Path, name: str, files: Iterable[Path], read: Callable[[Path], Any]) -> dict[str, Any]:
    """``read(file)`` for every file, by path from the root; files whose size and time did not change are not re-read.

    What ``read`` returns must be JSON. The memory is ``.minitf/<name>.json``; where it cannot be written every file is
    read every time. It is keyed by the source of ``read``'s module, so a new reader starts afresh.
    """
    memory = checkout / STATE / f"{name}.json"
    reader = hashlib.sha256(Path(read.__code__.co_filename).read_bytes()).hexdigest()[:16]
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
        known = known["files"] if known["reader"] == reader else {}
    except (OSError, ValueError, KeyError, TypeError):
        known = {}
    current: dict[str, Any] = {}
    for file in sorted(files):
        status = file.stat()
        stamp = [status.st_mtime_ns, status.st_size]
        path = file.relative_to(checkout).as_posix()
        entry = known.get(path)
        current[path] = entry if entry and entry[0] == stamp else [stamp, read(file)]
    if current != known:
        with contextlib.suppress(OSError):
            write_atomically(memory, json.dumps({"reader": reader, "files": current}))
    return {path: fact for path, (_, fact) in current.items()}


def digest(files: Iterable[Path]) -> str:
    """A short hash of the names and contents of ``files``; a missing file counts as missing, not as empty."""
    total = hashlib.sha256()
    for file in sorted(set(files)):
        content = file.read_bytes() if file.is_file() else None
        total.update(f"{file.name}\0{-1 if content is None else len(content)}\0".encode())
        total.update(content or b"")
    return total.hexdigest()[:16]
