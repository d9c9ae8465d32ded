"""Files that are never half-written: a reader, or a crash at any point, sees the old content or the new one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path beside ``path`` to write to; it takes the place of ``path`` in one step when the block ends.

        with replacing("weights.npz") as scratch, scratch.open("wb") as stream:
            np.savez(stream, **arrays)

    If the block raises, ``path`` is as it was and what was written is removed. The content is on the disk before its
    name is, so that a loss of power leaves one of the two versions, too. The file keeps the permissions it had.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    scratch = Path(name)
    try:
        yield scratch
        os.chmod(scratch, (path.stat().st_mode if path.exists() else 0o666 & ~_umask()) & 0o7777)
        _flush(scratch)
        os.replace(scratch, path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    _flush(path.parent)


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Makes ``text`` (UTF-8, line ends as they are) the content of a file, and the folder for it, in one step."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8", newline="\n")


def _flush(path: Path) -> None:
    """Waits until the file or folder is on the disk, where the system can do that."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask
