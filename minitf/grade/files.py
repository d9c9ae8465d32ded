"""Files that are never half-written and never overwritten."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Replaces the file's content in one step: a reader, or a crash, sees the old or the new one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        mode = path.stat().st_mode if path.exists() else 0o666 & ~_umask()
        os.chmod(temporary, mode & 0o7777)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def set_aside(path: Path, word: str) -> Path:
    """Renames a file to the first free ``stem.word-1.suffix`` and returns the new path."""
    number = 1
    while (kept := path.with_name(f"{path.stem}.{word}-{number}{path.suffix}")).exists():
        number += 1
    return path.rename(kept)


def _umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask
