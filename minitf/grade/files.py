"""Files that are never overwritten."""

from __future__ import annotations

from pathlib import Path


def set_aside(path: Path, word: str) -> Path:
    """Renames a file to the first free ``stem.word-1.suffix`` and returns the new path."""
    number = 1
    while (kept := path.with_name(f"{path.stem}.{word}-{number}{path.suffix}")).exists():
        number += 1
    return path.rename(kept)
