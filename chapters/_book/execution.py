"""Executes chapters: MyST Markdown in, notebooks with their outputs out, each in a kernel of its own.

An executed notebook is kept at ``_build/executed/<chapter>.ipynb`` and holds, in its metadata, what its run rested on;
as long as that stands it is not run again (``inputs.py``).
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
import textwrap
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import jupytext.myst
import nbformat
from inputs import changes, inputs
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

#: seconds that a chapter may take on two cores with warm kernels, and the exceptions; more is reported, not refused
BUDGET = 20
BUDGETS = {"chapters/models/transformer": 90}
#: seconds after which a cell counts as hanging
TIMEOUT = 900

_KERNEL_ARGUMENTS = [
    "--InlineBackend.figure_formats={'svg'}",
    # Without a date a figure that is drawn again is the same file.
    "--InlineBackend.print_figure_kwargs={'bbox_inches': 'tight', 'metadata': {'Date': None}}",
]
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class ChapterError(Exception):
    """A chapter that could not be read or executed; the message names chapter, cell and cause."""


@dataclass(frozen=True)
class Executed:
    """A chapter with its outputs. seconds: what the run took, of this build or of the one that it was kept from."""

    name: str
    notebook: NotebookNode
    seconds: float


def is_notebook(text: str) -> bool:
    return re.search(r"^(```|:::)\{code-cell\}", text, flags=re.MULTILINE) is not None


def kept(root: Path, name: str, folder: Path) -> tuple[Executed | None, list[str]]:
    """The executed chapter of an earlier build, or None and what has changed since."""
    try:
        notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
        record = notebook.metadata.pop("run")
        changed = changes(root, record["inputs"])
    except (OSError, ValueError, KeyError, AttributeError):
        return None, ["not executed yet"]
    return (None, changed) if changed else (Executed(name, notebook, record["seconds"]), [])


async def execute_all(
    root: Path, names: list[str], folder: Path, jobs: int, tell: Callable[[str], None]
) -> tuple[list[Executed], list[ChapterError]]:
    """Executes these chapters, ``jobs`` at a time, to the end even if some of them fail."""
    free = asyncio.Semaphore(jobs)
    # The same for one chapter as for many: BLAS gives the same digits only for the same number of threads.
    threads = max(1, (os.cpu_count() or 1) // jobs)
    longest_first = sorted(names, key=lambda name: -BUDGETS.get(name, BUDGET))

    async def one(name: str) -> Executed | ChapterError:
        async with free:
            try:
                executed = await execute(root, name, folder, threads)
            except ChapterError as error:
                tell(f"FAILED    {name}")
                return error
            budget = BUDGETS.get(name, BUDGET)
            over = f" (its budget is {budget} s)" if executed.seconds > budget else ""
            tell(f"executed  {name} in {executed.seconds:.1f} s{over}")
            return executed

    results = await asyncio.gather(*map(one, longest_first))
    done = [result for result in results if isinstance(result, Executed)]
    return done, [result for result in results if isinstance(result, ChapterError)]


async def execute(root: Path, name: str, folder: Path, threads: int) -> Executed:
    """Executes a chapter in its own folder and keeps the result; raises ChapterError."""
    chapter = root / f"{name}.md"
    started = time.time()
    notebook = read(root, chapter)
    with tempfile.TemporaryDirectory(prefix="minitf-") as scratch:
        trace, log = Path(scratch, "trace"), Path(scratch, "log")
        trace.touch()
        await _run(root, chapter, notebook, log, _environment(root, folder, trace, threads))
        rested_on = inputs(root, chapter, trace.read_text(encoding="utf-8"), started)
    seconds = time.time() - started
    record = nbformat.from_dict({"inputs": rested_on, "seconds": round(seconds, 1)})
    whole = NotebookNode({**notebook, "metadata": NotebookNode({**notebook.metadata, "run": record})})
    file = folder / f"{name}.ipynb"
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    nbformat.write(whole, part)
    part.replace(file)
    return Executed(name, notebook, seconds)


def read(root: Path, chapter: Path) -> NotebookNode:
    """The notebook that a chapter's text stands for; a warning about a cell then leads to its line in the text."""
    text = chapter.read_text(encoding="utf-8")
    try:
        notebook = jupytext.myst.myst_to_notebook(text, add_source_map=True)
    except jupytext.myst.MystMetadataParsingError as error:
        raise ChapterError(f"{chapter.relative_to(root)} cannot be read: {error}") from None
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
    return nbformat.from_dict({**notebook, "nbformat": 4, "nbformat_minor": 5})


async def _run(root: Path, chapter: Path, notebook: NotebookNode, log: Path, environment: Mapping[str, str]) -> None:
    current = 0

    def starts(cell: NotebookNode, cell_index: int) -> None:
        nonlocal current
        current = cell_index

    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=TIMEOUT,
        resources={"metadata": {"path": str(chapter.parent)}},
        extra_arguments=list(_KERNEL_ARGUMENTS),
        coalesce_streams=True,  # of a progress bar, only what it says last
        record_timing=False,
        on_cell_start=starts,
    )
    try:
        with log.open("wb") as kernel_says:
            await client.async_execute(env=dict(environment), stdout=kernel_says, stderr=kernel_says)
    except CellExecutionError:
        cause = _traceback(notebook.cells[current])
    except CellTimeoutError:
        cause = f"It did not end in {TIMEOUT} s."
    except DeadKernelError:
        cause = f"The kernel died.\n{log.read_text(encoding='utf-8', errors='replace')}"
    else:
        return
    raise ChapterError(_complaint(root, chapter, notebook, current, cause))


def _environment(root: Path, folder: Path, trace: Path, threads: int) -> dict[str, str]:
    """Where a chapter runs: this checkout's minitf, observed, and nothing of the reader's own settings."""
    observe = Path(__file__).parent / "observe"
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPYCACHEPREFIX", "MPLBACKEND")}
    return {
        **inherited,
        **dict.fromkeys(_THREADS, str(threads)),
        "PYTHONPATH": os.pathsep.join([str(observe), str(root), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "MINITF_BOOK_ROOT": str(root),
        "MINITF_BOOK_TRACE": str(trace),
        "IPYTHONDIR": str(folder.parent / "ipython"),
        "MPLCONFIGDIR": str(folder.parent / "matplotlib"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def _complaint(root: Path, chapter: Path, notebook: NotebookNode, index: int, cause: str) -> str:
    cell = notebook.cells[index]
    number = sum(earlier.cell_type == "code" for earlier in notebook.cells[: index + 1])
    line = notebook.metadata["source_map"][index]
    source = textwrap.indent(cell.source, "    ")
    return f"{chapter.relative_to(root)}, code cell {number} (line {line}):\n\n{source}\n\n{cause.rstrip()}\n"


def _traceback(cell: NotebookNode) -> str:
    errors = [output for output in cell.outputs if output.output_type == "error"]
    return _ANSI.sub("", "\n".join(errors[-1].traceback)) if errors else "It failed without a traceback."
