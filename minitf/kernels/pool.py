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

#: pieces for each thread when rows are of unequal cost: those who are done take what is left
UNEVEN = 8

_pool: ThreadPoolExecutor | None = None
_workers = 0
_lock = threading.Lock()


def over_rows(
    kernel: Callable[..., Any], rows: int, *arguments: Any, threads: int = 1, least: int = 1, uneven: bool = False
) -> None:
    """Calls ``kernel(start, stop, *arguments)`` on pieces that together are range(rows).

    threads: that compute at the same time. least: rows that are worth a thread of their own.
    uneven: rows cost differently, so cut finer than there are threads.
    """
    if rows <= 0:
        return
    threads = min(threads, max(1, rows // max(least, 1)))
    if threads == 1:
        kernel(0, rows, *arguments)
        return
    pieces = min(rows, threads * UNEVEN if uneven else threads)
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
    global _pool, _workers, _lock, _blas_lock, _blas_users, _blas_limits
    _pool, _workers, _lock = None, 0, threading.Lock()
    _blas_lock, _blas_users, _blas_limits = threading.Lock(), 0, None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


# -- BLAS on one thread -------------------------------------------------------------------------------------------

_blas: Any = None
_blas_limits: Any = None
_blas_users = 0
_blas_lock = threading.Lock()


@contextlib.contextmanager
def blas_alone() -> Iterator[None]:
    """NumPy's and SciPy's BLAS run on one thread inside; the last caller to leave restores what was."""
    global _blas, _blas_users, _blas_limits
    with _blas_lock:
        if _blas_users == 0:
            if _blas is None:  # finding the libraries takes half a millisecond, so only once
                import scipy.linalg.cython_blas  # noqa: F401  # loads the BLAS that kernels call
                from threadpoolctl import ThreadpoolController

                _blas = ThreadpoolController().select(user_api="blas")
            _blas_limits = _blas.limit(limits=1)
        _blas_users += 1
    try:
        yield
    finally:
        with _blas_lock:
            _blas_users -= 1
            if _blas_users == 0 and _blas_limits is not None:
                _blas_limits.restore_original_limits()
                _blas_limits = None
