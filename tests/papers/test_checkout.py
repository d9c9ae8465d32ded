from __future__ import annotations

import os
from pathlib import Path

from minitf.files import write_atomically
from minitf.papers import checkout

READ: list[str] = []


def read(file: Path) -> str:
    READ.append(file.name)
    return file.read_text()


def test_only_changed_files_are_read_again(tmp_path: Path):
    for name in "ab":
        (tmp_path / name).write_text(name)
    files = [tmp_path / "a", tmp_path / "b"]

    READ.clear()
    assert checkout.facts(tmp_path, "letters", files, read) == {"a": "a", "b": "b"}
    assert READ == ["a", "b"]
    assert checkout.facts(tmp_path, "letters", files, read) == {"a": "a", "b": "b"}
    assert READ == ["a", "b"]

    (tmp_path / "b").write_text("c")
    os.utime(tmp_path / "b", ns=(1, 1))
    assert checkout.facts(tmp_path, "letters", files, read) == {"a": "a", "b": "c"}
    assert checkout.facts(tmp_path, "letters", files[:1], read) == {"a": "a"}
    assert READ == ["a", "b", "b"]


def test_a_damaged_memory_is_forgotten(tmp_path: Path):
    (tmp_path / "a").write_text("a")
    write_atomically(tmp_path / ".minitf/letters.json", '{"files"')
    assert checkout.facts(tmp_path, "letters", [tmp_path / "a"], read) == {"a": "a"}


def test_without_a_place_for_the_memory_everything_is_read(tmp_path: Path):
    (tmp_path / "a").write_text("a")
    (tmp_path / ".minitf").write_text("a file where the folder would be")
    assert checkout.facts(tmp_path, "letters", [tmp_path / "a"], read) == {"a": "a"}


def test_digest_depends_on_contents_and_presence(tmp_path: Path):
    file = tmp_path / "a"
    missing = checkout.digest([file])
    file.write_text("")
    empty = checkout.digest([file])
    file.write_text("a")
    assert len({missing, empty, checkout.digest([file])}) == 3
    assert checkout.digest([file, file]) == checkout.digest([file])
