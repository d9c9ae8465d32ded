"""What a learner has done so far: one file, ``.minitf-progress.json``, in the learner's own folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from minitf.files import write_atomically
from minitf.grade.files import set_aside

FILE = ".minitf-progress.json"
FORMAT = 1


@dataclass
class Standing:
    """One exercise: gradings so far, points of the best and of the last, hints seen, whether the solution was."""

    attempts: int = 0
    best: int = 0
    last: int = 0
    hints: int = 0
    solution_shown: bool = False


@dataclass
class Progress:
    """The standing in every exercise that was started, and the folder that holds the attempts."""

    folder: Path
    exercises: dict[str, Standing] = field(default_factory=dict)
    warning: str = ""

    @classmethod
    def load(cls, folder: Path) -> Progress:
        """Reads the file of a folder. One that cannot be understood is kept aside, and ``warning`` says so."""
        path = folder / FILE
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["format"] != FORMAT:
                raise ValueError(f"format {data['format']!r}, this version reads {FORMAT}")
            return cls(folder, {str(name): _standing(entry) for name, entry in data["exercises"].items()})
        except FileNotFoundError:
            return cls(folder)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            kept = set_aside(path, "unreadable")
            warning = f"{path} cannot be read ({error}); it is kept as {kept.name}, and progress starts afresh"
            return cls(folder, warning=warning)

    def save(self) -> None:
        data = {"format": FORMAT, "exercises": {name: asdict(entry) for name, entry in sorted(self.exercises.items())}}
        write_atomically(self.folder / FILE, json.dumps(data, indent=2) + "\n")

    def __getitem__(self, name: str) -> Standing:
        return self.exercises.setdefault(name, Standing())


def learners_folder(start: Path) -> Path:
    """The nearest folder, from here upwards, that holds progress; else this one."""
    start = start.resolve()
    return next((folder for folder in (start, *start.parents) if (folder / FILE).is_file()), start)


def _standing(entry: dict[str, Any]) -> Standing:
    start = asdict(Standing())
    standing = {name: entry.get(name, value) for name, value in start.items()}
    if any(type(standing[name]) is not type(value) for name, value in start.items()):
        raise ValueError("an entry that is not a standing")
    return Standing(**standing)
