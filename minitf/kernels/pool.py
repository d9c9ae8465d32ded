"""The thread pool: cuts a range of output rows and lets every thread compute whole rows.

    over_rows(kernel, rows, *arguments, threads=2)      calls kernel(start, stop, *arguments) until all rows are done

Which thread computes a row, and in which company, makes no difference to the row: results are the same bits for any
number of threads. Kernels run without the GIL; the calling thread works too. Any number of threads may call at once,
and a process forked off has a pool of its own.

Inside ``blas_alone`` the BLAS libraries of NumPy and SciPy run on one thread: for kernels that multiply matrices
themselves while their siblings do the same. Nothing else in the process is changed, OpenMP and other frameworks' thread
counts in particular.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

#: pieces for each thread: who is done first takes what is left, for rows cost differently and processors have other guests
PIECES = 8

_pool: ThreadPoolExecutor | None = None
_workers = 0
_lock = threading.Lock()


def over_rows(kernel: Callable[..., Any], rows: int, *arguments: Any, threads: int = 1, least: int = 1) -> None:
    """Calls ``kernel(start, stop, *arguments)`` on pieces that together are range(rows).

    threads: that compute at the same time. least: rows that are worth a thread of their own.
    """
    if rows <= 0:
        return
    worthy = max(1, rows // max(least, 1))
    threads = min(threads, worthy)
    if threads == 1:
        kernel(0, rows, *arguments)
        return
    pieces = min(threads * PIECES, worthy)
    bounds = iter([(rows * i // pieces, rows * (i + 1) // pieces) for i in range(pieces)])  # next() is atomic

    def work() -> None:
        for start, stop in bounds:
            kernel(start, stop, *arguments)

    others = [_threads(threads - 1).submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:
        for other in others:
            other.result()


def _threads(count: int) -> ThreadPoolExecutor:
    """The pool, with at least ``count`` workers."""
    global _pool, _workers
    with _lock:
        if _pool is None or _workers < count:
            _pool, _workers = ThreadPoolExecutor(count, thread_name_prefix="minitf"), count
        return _pool


def _forked() -> None:
    """A child process has none of its parent's threads, and a lock may have been held by one of them."""
    global _pool, _workers, _lock, _blas_lock
    _pool, _workers, _lock = None, 0, threading.Lock()
    _blas_lock = threading.Lock()
    for library in _blas.values():  # nobody in the child is inside
        if library.users:
            library.users = 1
            library.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


# -- BLAS on one thread -------------------------------------------------------------------------------------------


class _Library:
    """A BLAS in the process, and how many want it alone."""

    def __init__(self, controller: Any):
        self.controller, self.users, self.threads = controller, 0, 0

    def enter(self) -> None:
        if self.users == 0:
            self.threads = self.controller.get_num_threads()
            self._set(1)
        self.users += 1

    def leave(self) -> None:
        self.users -= 1
        if self.users == 0:
            self._set(self.threads)

    def _set(self, threads: int) -> None:
        # newer versions listen to one thread of the process only, but here the last to leave restores what the first changed
        release = getattr(self.controller, "clear_controlling_thread", lambda force: None)
        release(force=True)
        self.controller.set_num_threads(threads)
        release(force=True)


#: NumPy's, and as soon as a kernel needs it SciPy's too
_blas: dict[str, _Library] = {}
_blas_complete = False
_blas_lock = threading.Lock()


@contextlib.contextmanager
def blas_alone(*, kernels: bool = True) -> Iterator[None]:
    """BLAS runs on one thread inside; the last caller to leave restores what was.

    kernels: whether compiled code calls it, which uses SciPy's, or NumPy's alone matters.
    """
    with _blas_lock:
        libraries = _libraries(kernels)
        for library in libraries:
            library.enter()
    try:
        yield
    finally:
        with _blas_lock:
            for library in libraries:
                library.leave()


def _libraries(kernels: bool) -> list[_Library]:
    global _blas_complete
    if not _blas or (kernels and not _blas_complete):  # to find them takes half a millisecond
        from threadpoolctl import ThreadpoolController

        if kernels:
            import scipy.linalg.cython_blas  # noqa: F401  # half a second, and loads the BLAS that kernels call

            _blas_complete = True
        for controller in ThreadpoolController().select(user_api="blas").lib_controllers:
            if controller.filepath not in _blas:
                _blas[controller.filepath] = _Library(controller)
    return list(_blas.values())
