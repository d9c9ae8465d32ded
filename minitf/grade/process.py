"""The student process, seen from the grader: start it, call it, stop it, believe nothing it sends.

What is in force is said by ``isolation``. Stronger ways to start the process (another user, namespaces) belong into
``_start``: the program in ``minitf/grade/student`` needs Python, NumPy, its own folder and the scratch folder alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from minitf.grade.limits import MIB, Limits
from minitf.grade.student import wire

PROGRAM = Path(__file__).parent / "student"
#: what a submission is called in its process, and in messages
FILE = "exercise.py"
#: starting Python and NumPy is not the submission's time, but a start that takes longer than this has failed
START_SECONDS = 60
#: the environment is scrubbed except for what finds the interpreter's own libraries
KEPT_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
CAPTURE_CHARACTERS = 4000


class CallFailed(Exception):
    """A call that brought no value. ``where`` is (line, function, source), innermost last."""

    def __init__(self, reason: str, where: tuple[tuple[int, str, str], ...] = ()):
        super().__init__(reason)
        self.reason = reason
        self.where = where


class Broken(CallFailed):
    """The submission cannot be loaded, or its time is used up: no further call can succeed."""


class StudentProcess:
    """Runs one submission; a context manager that leaves neither process nor file behind.

    The process starts with the first call and is replaced after one that killed it.
    """

    def __init__(self, source: bytes, *, allowed_imports: tuple[str, ...], limits: Limits):
        self._source = source
        self._allowed_imports = allowed_imports
        self._limits = limits
        self._seconds_left = float(limits.total_seconds)
        self._number = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._worker: threading.Thread | None = None
        self._functions: frozenset[str] = frozenset()
        self._broken: Broken | None = None
        self.limits_in_force: frozenset[str] = frozenset()

    def __enter__(self) -> StudentProcess:
        self._folder = tempfile.TemporaryDirectory(prefix="minitf-grade-", ignore_cleanup_errors=True)
        self._scratch = Path(self._folder.name) / "scratch"
        self._capture = Path(self._folder.name) / "printed"
        self._capture.touch()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._folder.cleanup()

    @property
    def printed(self) -> str:
        """The beginning of what the submission printed."""
        with self._capture.open("rb") as stream:
            return plain(stream.read(CAPTURE_CHARACTERS).decode(errors="replace"), CAPTURE_CHARACTERS)

    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls a function of the submission with plain data; raises ``CallFailed`` when no value comes back."""
        if self._broken is not None:
            raise self._broken
        if self._process is None:
            try:
                self._start()
                self._functions = frozenset(map(str, self._ask(None, (), {})))
            except CallFailed as failure:
                self._stop()
                self._broken = Broken(failure.reason, failure.where)
                raise self._broken from None
        if name not in self._functions:
            raise CallFailed(f"{FILE} defines no function {name}")
        return self._ask(name, args, kwargs)

    def _start(self) -> None:
        # A new process gets a new folder: one that died may have left anything in the old one.
        with contextlib.suppress(FileNotFoundError):
            self._scratch.rename(self._scratch.with_name(f"scratch-{self._number}"))
        self._scratch.mkdir()
        (self._scratch / FILE).write_bytes(self._source)
        settings = {
            "file": FILE,
            "module": Path(FILE).stem,
            "allowed_imports": self._allowed_imports,
            "limits": self._limits.resources(),
            "max_request": 1 << 40,
            "max_reply": self._limits.reply_mib * MIB,
        }
        environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        environment |= dict.fromkeys(THREAD_VARIABLES, "1")
        environment |= {"HOME": str(self._scratch), "TMPDIR": str(self._scratch), "PATH": os.defpath}
        with self._capture.open("ab") as capture:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-B", "-u", "-X", "utf8", str(PROGRAM), json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=capture,
                cwd=self._scratch,
                env=environment,
                start_new_session=True,
            )
        # The first frame is from our own program: the submission is not loaded yet.
        try:
            self.limits_in_force = frozenset(self._exchange(None, START_SECONDS)["limits"])
        except CallFailed as failure:
            raise RuntimeError(f"the student process did not start ({failure.reason}):\n{self.printed}") from None

    def _ask(self, name: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._number += 1
        seconds = min(self._limits.seconds, self._seconds_left)
        if seconds <= 0:
            self._broken = Broken(f"the time for all checks together ({self._limits.total_seconds} s) is used up")
            self._stop()
            raise self._broken
        begin = time.monotonic()
        try:
            reply = self._exchange((self._number, name, args, kwargs), seconds)
        finally:
            self._seconds_left -= time.monotonic() - begin
        if not isinstance(reply, dict) or reply.pop("number", None) != self._number or len(reply) != 1:
            self._stop()
            raise CallFailed("the submission sent something that is not the reply to this call")
        ((kind, content),) = reply.items()
        if kind == "value":
            return content
        raise self._failure(kind, content)

    def _failure(self, kind: str, content: Any) -> CallFailed:
        if kind == "unsendable":
            return CallFailed(f"returned {plain(content)}")
        try:
            error, message = plain(content["type"], 100), plain(content["message"])
            where = tuple((int(line), plain(name, 100), plain(text, 120)) for line, name, text in content["where"])
        except (TypeError, ValueError, LookupError, OverflowError):
            return CallFailed("the submission sent a report of an error that cannot be read")
        if error == "NotImplementedError":
            return CallFailed("not written yet (NotImplementedError)", where)
        if error == "SystemExit":
            return CallFailed("called sys.exit() instead of returning", where)
        if error == "MemoryError":
            return CallFailed(f"needs more memory than allowed ({self._limits.memory_mib} MiB): {message}", where)
        if error == "OSError" and "File too large" in message:
            return CallFailed(f"printed, or wrote to a file, more than {self._limits.file_mib} MiB", where)
        return CallFailed(f"raised {error}: {message}" if message else f"raised {error}", where)

    def _exchange(self, request: Any, seconds: float) -> Any:
        """Sends a request (None: nothing) and returns the reply, all within ``seconds``.

        The blocking work is done by a thread, which the grader waits for no longer than that: it may be held by a
        process that the submission started and that survived its end.
        """
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        requests, replies = process.stdin, process.stdout
        outcome: list[Any] = []
        max_reply = self._limits.reply_mib * MIB

        def work() -> None:
            try:
                if request is not None:
                    wire.send(requests, request)
                outcome.append(wire.receive(replies, max_reply))
            except Exception as error:
                outcome.append(error)

        self._worker = threading.Thread(target=work, daemon=True)
        self._worker.start()
        self._worker.join(seconds)
        if not outcome:
            self._stop()
            raise CallFailed(f"took longer than {seconds:.2g} s")
        (reply,) = outcome
        if isinstance(reply, wire.Closed | OSError):
            raise CallFailed(self._epitaph(self._stop()))
        if isinstance(reply, Exception):
            self._stop()
            raise CallFailed(f"the submission sent something malformed: {plain(str(reply))}")
        return reply

    def _stop(self) -> int:
        """Kills the process with all of its group, and returns its exit status."""
        process, self._process = self._process, None
        worker, self._worker = self._worker, None
        if process is None:
            return 0
        # Not yet reaped, so the number of the group cannot belong to anybody else.
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        status = process.wait()
        if worker is not None:
            worker.join(1.0)
        if worker is None or not worker.is_alive():
            # A worker that is still held keeps its pipes: closing them under it would hand their numbers to others.
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()  # pyright: ignore[reportOptionalMemberAccess]
        return status

    def _epitaph(self, status: int) -> str:
        if status >= 0:
            return f"ended the process (exit status {status}) instead of returning"
        if -status == getattr(signal, "SIGXCPU", None):
            return f"used more than {self._limits.cpu_seconds} s of CPU time"
        if -status == getattr(signal, "SIGKILL", None):
            return "closed its connection or was killed (out of CPU time or memory)"
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = str(-status)
        return f"crashed the process (signal {name}); very deep recursion does that, for example"


def isolation(limits_in_force: frozenset[str]) -> str:
    """One line that says what holds a submission, and what does not."""
    known = {"CPU": "CPU time", "AS": "memory", "FSIZE": "file size"}
    limited = ", ".join(["time", *(text for name, text in known.items() if name in limits_in_force)])
    line = f"cooperative: own process, limited in {limited}; answers on this disk are not hidden from it"
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        line += "; running as root, which can lift limits"
    return line


def plain(text: Any, length: int = 500) -> str:
    """Text from a submission as it may be shown: bounded, and without control characters."""
    text = str(text)[:length]
    return "".join(letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text)
