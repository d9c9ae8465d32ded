"""Files that are replaced in one step: what a reader, a full disk and a crash find."""

import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from minitf.files import replacing, write_atomically


def only(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_writes_and_replaces(tmp_path: Path):
    write_atomically(tmp_path / "new folder" / "a", "one\r\ntwo\n")
    assert (tmp_path / "new folder" / "a").read_bytes() == b"one\r\ntwo\n"
    write_atomically(tmp_path / "new folder" / "a", "ä")
    assert only(tmp_path / "new folder") == {"a": "ä"}


def test_the_old_content_is_there_until_the_block_ends(tmp_path: Path):
    write_atomically(tmp_path / "a", "old")
    with replacing(tmp_path / "a") as scratch:
        scratch.write_text("new")
        assert (tmp_path / "a").read_text() == "old"
    assert only(tmp_path) == {"a": "new"}


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_failure_at_any_step_leaves_the_old_file_and_no_scratch(tmp_path: Path, monkeypatch, step):
    write_atomically(tmp_path / "a", "old")

    def refuse(*_: object) -> None:
        raise OSError("disk full")

    def write_half() -> None:
        with replacing(tmp_path / "a") as scratch:
            scratch.write_text("new, but only half")
            if step == "write":
                refuse()

    if step != "write":
        monkeypatch.setattr(os, step, refuse)
    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert only(tmp_path) == {"a": "old"}


def test_a_process_killed_inside_leaves_the_old_file(tmp_path: Path):
    write_atomically(tmp_path / "a", "old")
    code = """
        import os, signal, sys
        from minitf.files import replacing
        with replacing(sys.argv[1]) as scratch:
            scratch.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "a")], check=False)
    assert (tmp_path / "a").read_text() == "old"


def test_permissions_are_kept_and_otherwise_usual(tmp_path: Path):
    mode = lambda name: stat.S_IMODE((tmp_path / name).stat().st_mode)
    write_atomically(tmp_path / "a", "")
    (tmp_path / "b").write_text("")
    assert mode("a") == mode("b")
    (tmp_path / "a").chmod(0o640)
    write_atomically(tmp_path / "a", "again")
    assert mode("a") == 0o640
