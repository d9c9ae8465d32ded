"""Library-wide settings, as a context manager over one context variable.

    with mt.config(dtype="float32", threads=1):
        model = Decoder(...)

Settings are read once in the caller and passed on as arguments: a context does not reach pool threads.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minitf.autodiff.dtypes import as_dtype

KERNELS = ("numba", "numpy")


_FLOAT64 = np.dtype(np.float64)


def _processors() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Config:
    """kernels: "numba" or "numpy" (the naive twins); threads: that compute at a time; dtype: of new parameters."""

    kernels: str = "numba"
    threads: int = _processors()
    dtype: np.dtype = _FLOAT64


_default = Config()
_current: ContextVar[Config] = ContextVar("minitf_config", default=_default)


def current() -> Config:
    """The settings in force here."""
    return _current.get()


@contextlib.contextmanager
def config(**settings: Any) -> Iterator[Config]:
    """Changes settings inside a ``with`` block: ``kernels``, ``threads``, ``dtype``.

    Raises ValueError for an unknown setting or a value that is not allowed.
    """
    allowed = Config.__dataclass_fields__
    for name in settings:
        if name not in allowed:
            raise ValueError(f"config: unknown setting {name!r}; there are {', '.join(allowed)}")
    if settings.get("kernels", "numba") not in KERNELS:
        raise ValueError(f"config: kernels must be one of {', '.join(KERNELS)}, got {settings['kernels']!r}")
    threads = settings.get("threads", 1)
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"config: threads must be a positive integer, got {threads!r}")
    if "dtype" in settings:
        dtype = as_dtype(settings["dtype"])
        if dtype.kind != "f":
            raise ValueError(f"config: dtype must be a floating type such as 'float32', got {dtype}")
        settings["dtype"] = dtype
    token = _current.set(replace(current(), **settings))
    try:
        yield current()
    finally:
        _current.reset(token)
