"""``jit``: compiles a loop with Numba when it is first called, and finds it again the next time.

    @jit
    def scale_rows(start, stop, x, factor, out):
        for i in range(start, stop): ...

Numba is imported by the first kernel that runs, not before. Kernels release the GIL and never run in parallel by
themselves (``minitf.kernels.pool`` cuts the range). Their arithmetic may be contracted and reordered only as far as
infinities and NaN keep their meaning; a loop whose sum may be reordered says so: ``@jit(reorder=True)``.

Compiled code is kept on disk, one file for each kernel and signature, in a folder named after a hash of every source
file in ``minitf/kernels``: an edit in any of them, also in a function that another file calls, compiles anew. (Numba's
own cache looks at the calling file alone and would return the old result.) The folder is below MINITF_CACHE, by default
the user's cache directory. Where nothing can be written, and for functions of other places, whose edits the hash does not
see, compiled code lives as long as the process.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import os
import pickle
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

#: everything but "nnan" and "ninf", for masks are made of infinities, and "reassoc", which moves rounding errors
ARITHMETIC = frozenset(("nsz", "arcp", "contract", "afn"))
#: seconds after which the folder of other sources may be removed
FORGOTTEN = 30 * 24 * 3600

_lock = threading.RLock()
#: what is being compiled, each inside the one before: [its signature, when it began, seconds of those inside it]
_compiling: list[list[Any]] = []


class Kernel:
    """A function that is compiled on first use."""

    def __init__(self, function: Callable[..., Any], reorder: bool, inline: bool):
        self.function, self.inline = function, inline
        self.arithmetic = ARITHMETIC | {"reassoc"} if reorder else ARITHMETIC
        self._dispatcher: Any = None
        functools.update_wrapper(self, function)
        KERNELS.append(self)

    def __call__(self, *args: Any) -> Any:
        return (self._dispatcher or self.dispatcher())(*args)

    def dispatcher(self) -> Any:
        """Numba's dispatcher, with those of the kernels that this one calls in place of their names."""
        with _lock:
            if self._dispatcher is None:
                scope = self.function.__globals__
                for name in _names(self.function.__code__):
                    if isinstance(scope.get(name), Kernel | ByDtype):
                        scope[name] = scope[name].dispatcher()
                import numba

                # "numpy": division by zero is infinite; Python's exception could not be vectorized
                options = {"nogil": True, "error_model": "numpy", "forceinline": self.inline}
                self._dispatcher = numba.njit(**options, fastmath=set(self.arithmetic))(self.function)
                if self.function.__module__.startswith(f"{__package__}."):
                    self._dispatcher._cache = _cache_of(self.function)
            return self._dispatcher

    @property
    def compiled(self) -> dict[str, float]:
        """The signatures that this process has compiled, and the CPU seconds of each; loading costs none.

        The kernels that this one calls count for themselves, unless they are inlined.
        """
        return {} if self._dispatcher is None else getattr(self._dispatcher._cache, "compiled", {})


class ByDtype:
    """A scalar function with one body for float32 and another for float64, under one name inside kernels."""

    def __init__(self, float32: Kernel, float64: Kernel):
        self.float32, self.float64 = float32, float64
        self._dispatcher: Any = None

    def __call__(self, x: Any, *others: Any) -> Any:
        return (self.float32 if getattr(x, "dtype", None) == "float32" else self.float64)(x, *others)

    def dispatcher(self) -> Any:
        with _lock:
            if self._dispatcher is None:
                from numba import types
                from numba.extending import overload

                narrow, wide = self.float32.dispatcher(), self.float64.dispatcher()

                def chosen(x, *others):
                    return self(x, *others)

                @overload(chosen, jit_options={"forceinline": True})
                def choose(x, *others):
                    of_x = getattr(x, "dtype", x)
                    if of_x == types.float32:
                        return lambda x, *others: narrow(x, *others)
                    return lambda x, *others: wide(x, *others)

                self._dispatcher = chosen
            return self._dispatcher


#: every kernel whose module has been imported
KERNELS: list[Kernel] = []


def jit(function: Callable[..., Any] | None = None, *, reorder: bool = False, inline: bool = False) -> Any:
    """Marks a function over plain arrays and numbers as a kernel; see the module's docstring.

    reorder: let the compiler add up in another order, which is faster and as accurate, but not what is written.
    inline: a copy for every caller, however long it is; no loop can be vectorized around a call.
    """
    if function is None:
        return lambda f: Kernel(f, reorder, inline)
    return Kernel(function, reorder, inline)


def _names(code: CodeType) -> set[str]:
    """The global names that a function uses, inner functions included."""
    inner = [_names(c) for c in code.co_consts if isinstance(c, CodeType)]
    return {i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL"}.union(*inner)


# -- compiled code on disk ----------------------------------------------------------------------------------------


@functools.cache
def sources() -> str:
    """The hash of all source files in ``minitf/kernels``."""
    total = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        total.update(file.name.encode() + b"\0" + file.read_bytes())
    return total.hexdigest()[:16]


def folder() -> Path:
    """Where compiled code of these sources is kept."""
    return _root() / f"kernels-{sources()}"


def _root() -> Path:
    if chosen := os.environ.get("MINITF_CACHE"):
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "minitf"
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "minitf" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minitf"


def _cache_of(function: Callable[..., Any]) -> Any:
    """A cache in Numba's sense for one function."""
    from numba.core.caching import _Cache
    from numba.core.compiler import CompileResult

    class Cache(_Cache):
        def __init__(self) -> None:
            self.compiled: dict[str, float] = {}

        @property
        def cache_path(self) -> str:
            return str(folder())

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            target_context.refresh()
            try:
                parts = pickle.loads(self._file(sig, target_context.codegen()).read_bytes())
                return CompileResult._rebuild(target_context, *parts)
            except Exception:  # missing, damaged or of another machine: compiling always works
                _compiling.append([sig, time.thread_time(), 0.0])
                return None

        def save_overload(self, sig: Any, data: Any) -> None:
            from numba.core.serialize import dumps

            self.compiled[str(sig)] = _finish_compiling(sig)
            path = self._file(sig, data.codegen)
            try:
                if not path.parent.is_dir():
                    path.parent.mkdir(parents=True)
                    _forget_others(path.parent)
                handle, name = tempfile.mkstemp(dir=path.parent)
                with os.fdopen(handle, "wb") as stream:
                    stream.write(dumps(data._reduce()))
                os.replace(name, path)
            except OSError:
                pass  # a cache that cannot be written is no reason to fail

        def _file(self, sig: Any, codegen: Any) -> Path:
            import numba

            key = (sig, codegen.magic_tuple(), numba.__version__, sys.version_info[:3], function.__module__)
            digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
            return folder() / f"{function.__name__}-{digest}"

        def enable(self) -> None: ...
        def disable(self) -> None: ...
        def flush(self) -> None: ...

    return Cache()


def _finish_compiling(sig: Any) -> float:
    """CPU seconds since this signature was missed, without those of what it called. (Numba compiles under a lock.)"""
    while _compiling:
        of, began, inside = _compiling.pop()
        if of == sig:  # others failed to compile
            seconds = time.thread_time() - began
            if _compiling:
                _compiling[-1][2] += seconds
            return seconds - inside
    return 0.0


def _forget_others(mine: Path) -> None:
    """Removes folders of other sources that nobody has used for a month."""
    for other in mine.parent.glob("kernels-*"):
        if other != mine and time.time() - other.stat().st_mtime > FORGOTTEN:
            shutil.rmtree(other, ignore_errors=True)
