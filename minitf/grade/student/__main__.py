"""The process of a submission: imports it, calls its functions as asked, sends back what they return.

Started by ``minitf.grade.process`` as ``python -I -B -u FOLDER SETTINGS`` in a fresh folder that holds nothing but the
submission. It knows inputs and never an expected value: what it sends is judged elsewhere, as data. Nothing in here
protects the grader (a submission can undo all of it except the limits); what does is that the other side treats every
byte from here as untrusted.
"""

from __future__ import annotations

import builtins
import json
import os
import sys
import traceback
import types
from importlib.abc import MetaPathFinder
from typing import IO, Any

import wire

#: what any submission may import of the standard library: it says how Python is written, not how a task is solved
LANGUAGE = frozenset(
    ("__future__", "abc", "collections", "contextlib", "copy", "dataclasses", "enum", "functools", "itertools", "math")
    + ("operator", "typing")
)


def main() -> None:
    settings = json.loads(sys.argv[1])
    requests, replies = take_over_the_pipes()
    wire.send(replies, {"limits": set_limits(settings["limits"])})
    restrict_imports(settings["module"], frozenset(settings["allowed_imports"]))
    submission = types.ModuleType(settings["module"])
    while True:
        try:
            number, name, args, kwargs = wire.receive(requests, settings["max_request"])
        except wire.Closed:
            os._exit(0)  # the grader has finished; threads of the submission are not waited for
        try:
            if name is None:
                reply = {"number": number, "value": load(submission, settings["file"])}
            else:
                reply = {"number": number, "value": getattr(submission, name)(*args, **kwargs)}
            frame = wire.pack(reply)
            if len(frame) > settings["max_reply"]:
                raise wire.WireError(f"{len(frame)} bytes; allowed are {settings['max_reply']}")
        except wire.WireError as error:
            frame = wire.pack({"number": number, "unsendable": str(error)})
        except BaseException as error:  # a submission may raise anything, SystemExit and KeyboardInterrupt included
            frame = wire.pack({"number": number, "error": describe(error, settings["file"])})
        replies.write(frame)
        replies.flush()


def take_over_the_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Moves the protocol away from descriptors 0 and 1; those become nothing and the capture file."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, replies


def set_limits(limits: dict[str, int]) -> list[str]:
    """Sets the resource limits for good and returns the names of those that this platform took.

    NumPy is already loaded, so that a limit of 0 on processes (which on Linux also counts threads) costs it nothing.
    """
    try:
        import resource
    except ImportError:  # Windows
        return []
    taken = []
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}", None)
        if kind is None:
            continue
        present = resource.getrlimit(kind)[1]
        value = value if present == resource.RLIM_INFINITY else min(value, present)
        try:
            resource.setrlimit(kind, (value, value))
        except (ValueError, OSError):  # macOS knows RLIMIT_AS but does not take it
            continue
        taken.append(name)
    return taken


class _Refuse(MetaPathFinder):
    """Finds nothing, but first: modules that are neither the standard library's nor allowed are not looked for."""

    def __init__(self, allowed: frozenset[str]):
        self.allowed = allowed

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname.partition(".")[0] not in self.allowed:
            raise ImportError(f"{fullname} is not available to a submission", name=fullname)


def restrict_imports(module: str, allowed: frozenset[str]) -> None:
    """Makes ``import`` of anything that the exercise does not allow an ImportError that says what is allowed.

    A teaching device, not a security boundary: it keeps the task to what it is about.
    """
    imports = builtins.__import__

    def guarded(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        from_submission = globals is not None and globals.get("__name__") == module
        if from_submission and (level or name.partition(".")[0] not in allowed | LANGUAGE):
            raise ImportError(
                f"this exercise does not allow `import {'.' * level}{name}`; allowed are {', '.join(sorted(allowed))} "
                f"(and of the standard library {', '.join(sorted(LANGUAGE))})"
            )
        return imports(name, globals, locals, fromlist, level)

    builtins.__import__ = guarded
    sys.meta_path.insert(0, _Refuse(allowed | {"numpy"} | sys.stdlib_module_names))


def load(submission: types.ModuleType, file: str) -> list[str]:
    """Runs the submission's file as a module and returns the names of its functions."""
    sys.modules[submission.__name__] = submission
    submission.__file__ = file
    with open(file, "rb") as stream:
        source = stream.read()
    exec(compile(source, file, "exec", dont_inherit=True), submission.__dict__)
    return sorted(name for name, thing in vars(submission).items() if isinstance(name, str) and callable(thing))


def describe(error: BaseException, file: str) -> dict[str, Any]:
    """What went wrong and where in the submission, innermost line last."""
    try:
        message = str(error)[:2000]
    except BaseException:  # a message that cannot be told is no message
        message = ""
    where: list[tuple[int, str, str]] = []
    if isinstance(error, SyntaxError) and error.filename == file:
        where.append((error.lineno or 0, "", (error.text or "").strip()[:200]))
        message = str(error.msg)[:2000]
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == file:
            where.append((frame.lineno or 0, frame.name, (frame.line or "")[:200]))
    return {"type": type(error).__name__, "message": message, "where": where[-3:]}


if __name__ == "__main__":
    main()
