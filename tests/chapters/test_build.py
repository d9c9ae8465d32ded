"""The machinery of the book: what is executed again and when, what a broken cell says, and that pages load nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "chapters" / "_book"
sys.path.insert(0, str(BOOK))

import external  # noqa: E402
import inputs  # noqa: E402

SOURCES = {
    "minitf/__init__.py": "import importlib\n__getattr__ = lambda name: importlib.import_module('minitf.' + name)",
    "minitf/lazy.py": "from minitf import below",
    "minitf/below.py": "from pathlib import Path\ntable = Path(__file__).with_name('table.toml').read_text()",
    "minitf/table.toml": "a = 1",
    "minitf/unrelated.py": "",
    "minitf/scanned.py": "",
    "chapters/room/chapter.md": "# A chapter",
    "chapters/style.mplstyle": "",
    "chapters/room/written.txt": "",
    "_build/cached": "",
}
#: what a chapter does: loads a room by name, reads a style sheet and a source, and reads what it wrote itself
CELLS = """
import minitf
minitf.lazy
open("../style.mplstyle").close()
open("../../minitf/scanned.py").close()
open("../../_build/cached").close()
with open("written.txt", "w") as file:
    file.write("x")
open("written.txt").close()
try:
    import minitf.optional
except ImportError:
    pass
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A small repository, and the recorded inputs of a run of its chapter, which loads a module in a child process."""
    root = tmp_path_factory.mktemp("house").resolve()
    for name, text in SOURCES.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        os.utime(file, (1e9, 1e9))
    (root / "trace").touch()
    environment = os.environ | {
        "PYTHONPATH": f"{BOOK / 'observe'}{os.pathsep}{root}",
        "MINITF_BOOK_ROOT": str(root),
        "MINITF_BOOK_TRACE": str(root / "trace"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CELLS!r}], check=True)"
    subprocess.run([sys.executable, "-c", parent], cwd=root / "chapters/room", env=environment, check=True)
    trace = (root / "trace").read_text()
    return root, inputs.inputs(root, root / "chapters/room/chapter.md", trace, time.time() + 1)


def test_inputs_are_the_text_the_imports_and_the_data_of_a_chapter(house: tuple[Path, dict[str, str]]) -> None:
    root, recorded = house
    assert {name for name in recorded if (root / name).is_file()} == {
        "chapters/room/chapter.md",
        "minitf/__init__.py",
        "minitf/lazy.py",
        "minitf/below.py",
        "minitf/table.toml",
        "chapters/style.mplstyle",
    }
    assert inputs.changes(root, recorded) == []


@pytest.mark.parametrize(
    ("file", "matters"),
    [
        ("chapters/room/chapter.md", True),
        ("minitf/lazy.py", True),
        ("minitf/below.py", True),
        ("minitf/table.toml", True),
        ("chapters/style.mplstyle", True),
        ("minitf/optional.py", True),  # could not be imported, and now can
        ("minitf/unrelated.py", False),
        ("minitf/scanned.py", False),  # read, and never imported
        ("chapters/room/written.txt", False),
        ("_build/cached", False),
        ("minitf/new.py", False),
    ],
)
def test_a_chapter_is_out_of_date_exactly_when_an_input_changed(
    house: tuple[Path, dict[str, str]], file: str, matters: bool
) -> None:
    root, recorded = house
    before = (root / file).read_bytes() if (root / file).exists() else None
    (root / file).write_text("# edited")
    try:
        assert inputs.changes(root, recorded) == ([file] if matters else [])
    finally:
        (root / file).unlink()
        if before is not None:
            (root / file).write_bytes(before)
    assert inputs.changes(root, recorded) == []


def test_a_removed_module_and_another_version_of_a_library_are_changes(
    house: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, recorded = house
    (root / "minitf/below.py").rename(root / "elsewhere")
    assert inputs.changes(root, recorded) == ["minitf/below.py"]
    (root / "elsewhere").rename(root / "minitf/below.py")
    monkeypatch.setattr(inputs, "_version", lambda library: "9.9" if library == "numpy" else recorded_version(library))
    recorded_version = lambda library: recorded[f"version of {library}"]
    assert inputs.changes(root, recorded) == ["version of numpy"]


def test_a_module_edited_during_the_run_is_out_of_date_at_once(house: tuple[Path, dict[str, str]]) -> None:
    root, _ = house
    record = inputs.inputs(root, root / "chapters/room/chapter.md", "imported\tminitf.lazy\n", started=1e8)
    assert inputs.changes(root, record) == ["chapters/room/chapter.md", "minitf/lazy.py"]


@pytest.mark.parametrize(
    ("page", "address"),
    [
        ('<script src="https://cdn.example/x.js"></script>', "https://cdn.example/x.js"),
        ('<script src="//cdn.example/x.js"></script>', "//cdn.example/x.js"),
        ('<link rel="stylesheet" href="http://cdn.example/x.css">', "http://cdn.example/x.css"),
        ('<img src="https://badge.example/x.svg">', "https://badge.example/x.svg"),
        ('<p style="background: url(https://a.example/x.png)">', "https://a.example/x.png"),
        ('<style>@import "https://fonts.example/x";</style>', "https://fonts.example/x"),
        ('<script type="module">import x from "https://cdn.example/x.mjs"</script>', "https://cdn.example/x.mjs"),
        ('<script>const THEBE_JS_URL = "https://cdn.example/thebe.js"</script>', "https://cdn.example/thebe.js"),
        ('<script src="../_static/x.js"></script><img src="data:image/png;base64,//8=">', None),
        ('<a href="https://arxiv.org/abs/2410.05258">a paper</a>', None),
        ('<link rel="canonical" href="https://minitf.example/">', None),
        ('<pre>&lt;script src="https://cdn.example/x.js"&gt;</pre>', None),
        ("<script>const comment = 'see https://example.org'</script>", None),
    ],
)
def test_what_a_page_would_load_from_the_network_is_found(tmp_path: Path, page: str, address: str | None) -> None:
    (tmp_path / "page.html").write_text(page)
    (tmp_path / "local.css").write_text("a { background: url(x.png) }")
    assert external.external_resources(tmp_path) == ([f"page.html: {address}"] if address else [])


def test_what_a_style_sheet_would_load_from_the_network_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("@font-face { src: url('https://fonts.example/x.woff2') }")
    assert external.external_resources(tmp_path) == ["a.css: https://fonts.example/x.woff2"]


# From here on a chapter is really executed and rendered, which needs what `make book` installs.

CHAPTER = """\
---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {name: python3, display_name: Python 3, language: python}
---
# A chapter

$$ \\operatorname{softmax}(x)_i = \\frac{e^{x_i}}{\\sum_j e^{x_j}} $$ (eq-softmax)

```{literalinclude} ../../minitf/registry.py
:pyobject: implements
```

```{code-cell} ipython3
import matplotlib.pyplot as plt

plt.style.use("../_static/minitf.mplstyle")
plt.plot([1, 2]);
```
"""
BROKEN = """
```{code-cell} ipython3
:tags: [hide-input]

def f(x):
    return 1 / x

f(0)
```
"""


@pytest.fixture
def execution() -> ModuleType:
    return pytest.importorskip("execution", reason="minitf[book] is not installed")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with one chapter."""
    root = tmp_path.resolve() / "checkout"
    shutil.copytree(BOOK.parent / "_static", root / "chapters/_static")
    shutil.copytree(BOOK, root / "chapters/_book", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("_config.yml", "references.bib", "minitf/registry.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    (root / "minitf/__init__.py").touch()
    (root / "_toc.yml").write_text("format: jb-book\nroot: chapters/intro\nchapters: [{file: chapters/room/chapter}]\n")
    (root / "chapters/intro.md").write_text("# Welcome\n")
    (root / "chapters/room").mkdir()
    (root / "chapters/room/chapter.md").write_text(CHAPTER)
    return root


@pytest.mark.slow
def test_a_broken_cell_is_named_with_chapter_cell_line_and_traceback(execution: ModuleType, checkout: Path) -> None:
    chapter = checkout / "chapters/room/chapter.md"
    chapter.write_text(CHAPTER + BROKEN)
    run = execution.execute(checkout, "chapters/room/chapter", checkout / "_build/executed", threads=1)
    with pytest.raises(execution.ChapterError) as caught:
        asyncio.run(run)
    message = str(caught.value)
    line = chapter.read_text().splitlines().index(BROKEN.splitlines()[1], 20) + 1
    assert message.startswith(f"chapters/room/chapter.md, code cell 2 (line {line}):\n")
    assert "    return 1 / x" in message
    assert "ZeroDivisionError: division by zero" in message
    assert "\x1b" not in message


@pytest.mark.slow
def test_a_book_is_built_whole_then_kept_and_its_warnings_are_errors(execution: ModuleType, checkout: Path) -> None:
    def build() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(checkout / "chapters/_book")]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    first = build()
    assert first.returncode == 0, first.stderr
    assert "1 chapters executed, 0 kept" in first.stdout
    html = checkout / "_build/html"
    page = (html / "chapters/room/chapter.html").read_text()
    assert "softmax" in page
    assert "Registers the decorated function" in page
    assert (html / "_static/tex-svg-full.js").is_file()
    assert "tex-svg-full.js" in page
    assert list((html / "_images").glob("*.svg"))
    assert external.external_resources(html) == []

    again = build()
    assert again.returncode == 0, again.stderr
    assert "unchanged" in again.stdout
    assert "0 chapters executed, 1 kept" in again.stdout

    chapter = checkout / "chapters/room/chapter.md"
    chapter.write_text(CHAPTER + "\n[nowhere](#nowhere)\n")
    for _ in range(2):  # a second try does not forget the warning
        wrong = build()
        assert wrong.returncode == 1
        assert f"chapters/room/chapter.md:{CHAPTER.count(chr(10)) + 2}: WARNING" in wrong.stderr
