"""minitf: the transformer literature made exact, readable and checkable.

    import minitf as mt

Array operations are ``mt.<NumPy's name>``, neural functions ``mt.nn.functional.<PyTorch's name>``, transformations
``mt.<JAX's name>``. The rooms (``mt.nn``, ``mt.attention``, ``mt.oracle``, ...) load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from minitf.autodiff import *  # noqa: F403

if TYPE_CHECKING:
    from minitf import (
        attention,
        data,
        feedforward,
        inference,
        models,
        nn,
        optim,
        oracle,
        position,
        recurrent,
        tokens,
        training,
    )

__version__ = "0.1.0"

_ROOMS = frozenset(
    (
        "attention", "autodiff", "data", "feedforward", "fft", "grade", "inference", "linalg", "models", "nn", "optim",
        "oracle", "papers", "position", "recurrent", "registry", "tokens", "training",
    )
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        home = "minitf.autodiff.ops." if name in ("fft", "linalg") else "minitf."
        return importlib.import_module(home + name)
    if name.startswith("_"):
        raise AttributeError(f"module 'minitf' has no attribute {name!r}")
    import difflib

    from minitf.nn import functional

    known = {name: f"mt.nn.functional.{name}" for name in functional.__all__}
    known |= {name: f"mt.{name}" for name in __dir__()}
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {known[close[0]]}?" if close else ""
    raise AttributeError(f"module 'minitf' has no attribute {name!r}{hint}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
