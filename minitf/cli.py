"""The command line: ``minitf`` and ``python -m minitf``.

Each of the three uses contributes its commands by ``add_commands(subparsers)``, which sets ``run``, a function of the
parsed arguments that returns an exit code. Exit codes: 0 done, 1 a check did not pass, 2 wrong use, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import sys
from collections.abc import Sequence

from minitf.grade import commands as grade
from minitf.oracle import commands as oracle
from minitf.papers import checkout
from minitf.papers import commands as papers


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="minitf", description="The transformer literature made exact, readable and checkable."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    parser.add_argument("--traceback", action="store_true", help="on an error, show where in the code it came from")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for room in (papers, oracle, grade):
        room.add_commands(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    A mistake of the caller (a ValueError, an OSError, a LookupError other than a bare KeyError or IndexError) is told
    in one line on standard error; anything else is a mistake of ours and keeps its traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # titles have characters that some terminals lack
    arguments = argparse.Namespace(traceback=False)
    try:
        arguments = build_parser().parse_args(argv)
        code = arguments.run(arguments) or 0
        sys.stdout.flush()
        return code
    except SystemExit as leaving:  # argparse has said what it had to say
        return leaving.code if isinstance(leaving.code, int) else 2
    except KeyboardInterrupt:
        print("minitf: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader has seen enough (``minitf papers | head``). What is still buffered must go nowhere at exit.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13  # as if by SIGPIPE, which not every platform has
    except (ValueError, OSError, LookupError) as error:
        if arguments.traceback or type(error) in (KeyError, IndexError):
            raise
        print(f"minitf: error: {_told(error)}", file=sys.stderr)
        return 2


class _Version(argparse.Action):
    """argparse's own action wants the version before anybody has asked for it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"minitf {checkout.version()}")
        parser.exit()


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
