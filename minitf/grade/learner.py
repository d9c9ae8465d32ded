"""The learner's side of the exercises: each function is a command, takes its arguments and returns an exit code."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from pathlib import Path

from minitf.grade import exercise as catalogue
from minitf.grade import report
from minitf.grade.exercise import Exercise, UsageError
from minitf.grade.files import set_aside
from minitf.grade.grading import Grade, grade
from minitf.grade.progress import Progress, learners_folder


def list_exercises(arguments: argparse.Namespace) -> int:
    progress = _progress(arguments)
    color = report.wants_color()
    names = catalogue.names()
    width = max(map(len, names), default=0)
    earned = total = 0
    for name in names:
        exercise = catalogue.find(name)
        standing = progress.exercises.get(name)
        total += exercise.points
        if standing is None:
            state, code = "", report.DIM
        elif standing.best == exercise.points:
            state, code = "done", report.GREEN
        else:
            state, code = ("started" if standing.attempts else "not tried yet"), report.BOLD
        best = standing.best if standing else 0
        earned += best
        print(f"{report.paint(f'{name:<{width}}', code, color)}  {best:>3} /{exercise.points:>3}  "
              f"{exercise.title}{f'  ({state})' if state else ''}")  # fmt: skip
    print(f"{'':<{width}}  {earned:>3} /{total:>3}  points of {len(names)} exercises")
    print("\nminitf start NAME    copies one into your folder")
    return 0


def start(arguments: argparse.Namespace) -> int:
    exercise = catalogue.find(arguments.name)
    progress = _progress(arguments)
    target = progress.folder / exercise.name
    if target.resolve() == exercise.folder.resolve():
        raise UsageError(f"{target} is the exercise itself; start it in a folder of your own (--dir)")
    attempt = target / exercise.stub.name
    if attempt.exists() and not arguments.force:
        raise UsageError(f"{attempt} exists; `minitf start {exercise.name} --force` starts again and keeps it aside")
    target.mkdir(parents=True, exist_ok=True)
    if attempt.exists():
        print(f"your attempt is kept as {_short(set_aside(attempt, 'backup'))}")
    for source in (exercise.readme, exercise.stub):
        shutil.copyfile(source, target / source.name)
    _ = progress[exercise.name]
    progress.save()
    print(f"{exercise.title} ({exercise.points} points)\n")
    print(f"  read    {_short(target / exercise.readme.name)}")
    print(f"  write   {_short(attempt)}")
    print(f"  then    minitf grade {exercise.name}")
    return 0


def grade_attempts(arguments: argparse.Namespace) -> int:
    progress = _progress(arguments)
    if arguments.name:
        exercises = [catalogue.find(arguments.name)]
    else:
        exercises = _present(progress)
    if arguments.file and len(exercises) != 1:
        raise UsageError("--file needs the NAME of the exercise that the file is for")
    if arguments.json and not arguments.json.absolute().parent.is_dir():
        raise UsageError(f"--json: there is no folder {arguments.json.parent} to write {arguments.json.name} into")
    grades: list[Grade] = []
    for exercise in exercises:
        attempt = arguments.file or progress.folder / exercise.name / exercise.stub.name
        if not arguments.file and not attempt.exists():
            raise UsageError(f"there is no {_short(attempt)}; `minitf start {exercise.name}` makes one")
        result = grade(exercise, attempt, seed=arguments.seed)
        grades.append(result)
        if not arguments.file:
            standing = progress[exercise.name]
            standing.attempts += 1
            standing.last = result.points
            standing.best = max(standing.best, result.points)
            progress.save()
        print(report.text(result, color=report.wants_color(), every=arguments.all))
        if exercise is not exercises[-1]:
            print()
    if arguments.json:
        report.write_gradescope(grades, arguments.json)
    return 0 if all(result.complete for result in grades) else 1


def hint(arguments: argparse.Namespace) -> int:
    exercise = catalogue.find(arguments.name)
    progress = _progress(arguments)
    standing = progress[exercise.name]
    total = len(exercise.hints)
    number = min(standing.hints + 1, total) if arguments.number is None else arguments.number
    if not 1 <= number <= total:
        raise UsageError(f"{exercise.name} has hints 1 to {total}, not {number}")
    print(textwrap.fill(f"hint {number} of {total}: {exercise.hints[number - 1]}", report.WIDTH))
    if arguments.number is None and standing.hints >= total:
        print(f"That was the last one. `minitf solution {exercise.name}` shows how it is done.")
    standing.hints = max(standing.hints, number)
    progress.save()
    return 0


def solution(arguments: argparse.Namespace) -> int:
    exercise = catalogue.find(arguments.name)
    progress = _progress(arguments)
    standing = progress[exercise.name]
    if standing.best < exercise.points and not arguments.yes:
        tried = f"Your best attempt has {standing.best} of {exercise.points} points" if standing.attempts else (
            "You have not tried yet"
        )  # fmt: skip
        print(f"{tried}, and seeing the solution ends the exercise.")
        if standing.hints < len(exercise.hints):
            print(f"  minitf hint {exercise.name}              the next of {len(exercise.hints)} hints")
        print(f"  minitf solution {exercise.name} --yes    show it all the same")
        return 1
    print(exercise.solution.read_text(encoding="utf-8"), end="")
    standing.solution_shown = True
    progress.save()
    return 0


def _progress(arguments: argparse.Namespace) -> Progress:
    folder: Path | None = arguments.dir
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--dir: cannot make the folder {folder} ({error.strerror})") from None
    progress = Progress.load(learners_folder(Path.cwd()) if folder is None else folder.resolve())
    if progress.warning:
        print(f"minitf: {progress.warning}", file=sys.stderr)
    return progress


def _present(progress: Progress) -> list[Exercise]:
    """The exercise whose folder is the current one, else every started one."""
    here = Path.cwd()
    started = [name for name in progress.exercises if (progress.folder / name / "exercise.py").exists()]
    inside = [name for name in started if here.is_relative_to(progress.folder / name)]
    if not started:
        raise UsageError("no exercise is started here; `minitf exercises` lists them, `minitf start NAME` begins one")
    return [catalogue.find(name) for name in sorted(inside or started)]


def _short(path: Path) -> str:
    """A path as one would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
