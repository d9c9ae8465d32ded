"""``minitf exercises``, ``start``, ``grade``, ``hint`` and ``solution``; ``learner`` does what they say.

Every start of the command line reads this module, so it imports the rest only when a command runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the commands; each sets ``run``, a function of the parsed arguments that returns an exit code."""
    folder = argparse.ArgumentParser(add_help=False)
    folder.add_argument(
        "--dir", type=Path, default=None, metavar="DIR", help="your folder (default: the one above with your progress)"
    )

    parser = subparsers.add_parser("exercises", parents=[folder], help="list the exercises and your progress")
    parser.set_defaults(run=_command("list_exercises"))

    parser = subparsers.add_parser("start", parents=[folder], help="copy an exercise into your folder")
    parser.add_argument("name", metavar="NAME", help="as listed by `minitf exercises`, or its last part")
    parser.add_argument("--force", action="store_true", help="start again; your attempt is kept under another name")
    parser.set_defaults(run=_command("start"))

    parser = subparsers.add_parser("grade", parents=[folder], help="grade your attempt at an exercise")
    parser.add_argument("name", metavar="NAME", nargs="?", help="default: the one you stand in, else all you started")
    parser.add_argument("--file", type=Path, metavar="PATH", help="grade this file instead of the one in your folder")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the results in Gradescope's format")
    parser.add_argument("--seed", type=int, metavar="N", help="repeat the cases of an earlier grading")
    parser.add_argument("--all", action="store_true", help="explain every lost check, not only the first")
    parser.set_defaults(run=_command("grade_attempts"))

    parser = subparsers.add_parser("hint", parents=[folder], help="the next hint, or a certain one")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("number", metavar="NUMBER", nargs="?", type=int)
    parser.set_defaults(run=_command("hint"))

    parser = subparsers.add_parser("solution", parents=[folder], help="show a solution, after you have tried")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--yes", action="store_true", help="show it although you do not have all points yet")
    parser.set_defaults(run=_command("solution"))


def _command(name: str) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        from minitf.grade import learner

        return getattr(learner, name)(arguments)

    return run
