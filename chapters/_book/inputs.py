"""What the execution of a chapter rested on, and what of it has changed since.

A chapter is executed again exactly when its text, a module of minitf that it imported (directly or not), a file of the
repository that it read, a library that its numbers come from, or the machinery that executes it is another one.
Imports are observed while a chapter runs (``observe/sitecustomize.py``), as a compiler writes down which headers it
read: minitf loads its rooms on first use and techniques by name, which no reading of the source can follow.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

#: the libraries whose versions show in a chapter's numbers and figures
LIBRARIES = ("numpy", "scipy", "numba", "ml_dtypes", "matplotlib")

#: the machinery that decides how a chapter is executed
MACHINERY = tuple(Path(__file__).parent / name for name in ("inputs.py", "execution.py", "observe/sitecustomize.py"))

#: what changed while it was read has this digest, and is out of date at once
UNSETTLED = "changed during the run"


def inputs(root: Path, chapter: Path, trace: str, started: float) -> dict[str, str]:
    """Everything that a run of ``chapter`` rested on, with its digest.

    trace: what the run noted. started: when it began, in seconds since the epoch.
    """
    files = {chapter.relative_to(root).as_posix(), *observed(root, trace)}
    settled = {file: digest(root / file) if _older(root / file, started) else UNSETTLED for file in sorted(files)}
    return settled | environment()


def changes(root: Path, recorded: Mapping[str, str]) -> list[str]:
    """The names of the recorded inputs that are not any more what they were."""
    now = environment()
    return [name for name, was in recorded.items() if was != (now[name] if name in now else digest(root / name))]


def observed(root: Path, trace: str) -> set[str]:
    """The files behind a trace, by path from ``root``: the sources of imported modules, and data that was read.

    What the run itself wrote is none of its inputs, nor is anything in a hidden or generated folder.
    """
    noted: dict[str, set[str]] = {"imported": set(), "read": set(), "wrote": set()}
    for line in trace.splitlines():
        kind, _, what = line.partition("\t")
        noted[kind].add(what)
    sources = {source for module in noted["imported"] for source in _sources(root, module)}
    data = (Path(path).relative_to(root) for path in noted["read"] - noted["wrote"])
    return sources | {path.as_posix() for path in data if not any(map(_generated, path.parts))}


def environment() -> dict[str, str]:
    """The versions of Python and of the libraries, and the digest of the machinery."""
    versions = {f"version of {name}": _version(name) for name in LIBRARIES}
    return {"version of python": platform.python_version(), **versions, "the book's machinery": _digest_all(MACHINERY)}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else "missing"


def _digest_all(paths: Iterable[Path]) -> str:
    return hashlib.sha256("".join(map(digest, paths)).encode()).hexdigest()[:16]


def _sources(root: Path, module: str) -> list[str]:
    """The file of a module; of one that there is not, where it would lie, for it matters when it appears."""
    place = Path(*module.split("."))
    candidates = [place.with_suffix(".py").as_posix(), (place / "__init__.py").as_posix()]
    return [path for path in candidates if (root / path).is_file()] or candidates


def _generated(part: str) -> bool:
    return part.startswith(".") or part in ("_build", "__pycache__")


def _older(path: Path, started: float) -> bool:
    return not path.is_file() or path.stat().st_mtime < started


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "not installed"
