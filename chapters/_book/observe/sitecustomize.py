"""Notes what a chapter reads. Python imports this module when a process starts, because its folder is on PYTHONPATH.

Processes that a chapter starts inherit the environment and are observed as well. Each thing noted is a line

    imported  minitf.attention.differential
    read      /path/to/the/repository/chapters/_static/minitf.mplstyle
    wrote     /path/to/the/repository/chapters/attention/notes.txt

appended to the file that MINITF_BOOK_TRACE names. Modules are noted by import, not by the files that are opened: some
of minitf is loaded by name on first use, and some of it reads the source of modules that it never imports.
"""

import os
import sys

_ROOT = os.environ["MINITF_BOOK_ROOT"] + os.sep
_TRACE = os.environ["MINITF_BOOK_TRACE"]
_noted = set()


def _note(kind, what):
    line = f"{kind}\t{what}\n"
    if line not in _noted:
        _noted.add(line)
        with open(_TRACE, "a", encoding="utf-8") as trace:
            trace.write(line)


class _Imports:
    """A finder that finds nothing, and so is asked about every module that is not loaded yet."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "minitf":
            _note("imported", name)


def _opened(event, arguments):
    if event != "open" or not isinstance(arguments[0], (str, bytes)) or not isinstance(arguments[1], str):
        return
    path = os.path.abspath(os.fsdecode(arguments[0]))
    if path.startswith(_ROOT) and path != _TRACE and not path.endswith((".py", ".pyc")):
        _note("wrote" if set(arguments[1]) & set("wax+") else "read", path)


sys.meta_path.insert(0, _Imports)
sys.addaudithook(_opened)
