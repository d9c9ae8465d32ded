"""The names the oracle knows, and the reference behind each."""

from __future__ import annotations

import importlib
from fnmatch import fnmatchcase

from minitf.papers import index
from minitf.papers.catalogue import did_you_mean
from minitf.registry import REFERENCES, Reference


class UnknownName(LookupError):
    """A name that the oracle does not know."""


def names(pattern: str = "*") -> list[str]:
    """The names that match ``pattern`` (``*``, ``?`` and ``[...]`` as in file names), sorted.

    Everything in minitf, found without importing it, and whatever the running program registered itself with
    ``minitf.registry.reference``.
    """
    if not isinstance(pattern, str):
        raise TypeError(f"oracle.names: the pattern is a string such as 'attention.*', got {pattern!r}")
    return sorted(name for name in {*index.reference_modules(), *REFERENCES} if fnmatchcase(name, pattern))


def find(name: str) -> Reference:
    """The reference called ``name``, its module imported now if it was not yet; raises UnknownName."""
    if not isinstance(name, str):
        raise TypeError(f"oracle: a name is a string such as 'attention.differential', got {name!r}")
    if name not in REFERENCES:
        modules = index.reference_modules()
        if name not in modules:
            known = names()
            hint = did_you_mean(name, known) or "; `minitf oracle list` shows all names"
            raise UnknownName(f"the oracle knows no {name!r}{hint}")
        importlib.import_module(modules[name])
    return REFERENCES[name]
