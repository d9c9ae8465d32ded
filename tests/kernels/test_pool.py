"""The thread pool: every row once, any number of threads, concurrent callers, errors, fork, and what it leaves alone."""

import multiprocessing
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from minitf.kernels import pool
from minitf.kernels import softmax as kernels


def count(start, stop, seen):
    seen[start:stop] += 1


@pytest.mark.parametrize("threads", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("rows", [0, 1, 2, 5, 1000])
def test_every_row_is_computed_once(rows, threads):
    seen = np.zeros(rows, int)
    pool.over_rows(count, rows, seen, threads=threads)
    assert (seen == 1).all()


def test_few_rows_are_not_worth_a_thread():
    who = set()
    pool.over_rows(lambda start, stop: who.add(threading.get_ident()), 99, threads=4, least=50)
    assert who == {threading.get_ident()}


def test_an_error_in_any_piece_reaches_the_caller_and_the_pool_goes_on():
    def fail(start, stop):
        if start > 0:
            raise RuntimeError("in a thread")

    with pytest.raises(RuntimeError, match="in a thread"):
        pool.over_rows(fail, 10, threads=3)
    seen = np.zeros(10, int)
    pool.over_rows(count, 10, seen, threads=3)
    assert (seen == 1).all()


def test_concurrent_callers_do_not_disturb_each_other():
    rng = np.random.default_rng(0)
    xs = rng.standard_normal((8, 64, 600)).astype(np.float32)
    wanted = [kernels.softmax(x, axis=-1, threads=1) for x in xs]
    found = [None] * len(xs)

    def call(i):
        for _ in range(20):
            found[i] = kernels.softmax(xs[i], axis=-1, threads=3)

    callers = [threading.Thread(target=call, args=(i,)) for i in range(len(xs))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for f, w in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(f, w)


def in_child(x, queue):
    queue.put(kernels.softmax(x, axis=-1, threads=3))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_process_has_a_pool_of_its_own():
    x = np.random.default_rng(0).standard_normal((64, 600)).astype(np.float32)
    want = kernels.softmax(x, axis=-1, threads=3)  # this process has threads now
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=in_child, args=(x, queue))
    child.start()
    np.testing.assert_array_equal(queue.get(timeout=60), want)
    child.join()
    assert child.exitcode == 0


def test_blas_runs_on_one_thread_inside_and_as_before_outside():
    from threadpoolctl import ThreadpoolController

    with pool.blas_alone():  # loads SciPy's
        pass
    libraries = ThreadpoolController().select(user_api="blas")
    threads = lambda: [library["num_threads"] for library in libraries.info()]
    with libraries.limit(limits=2):
        before = threads()
        with pool.blas_alone():
            assert set(threads()) == {1}
            with pool.blas_alone():
                assert set(threads()) == {1}
            assert set(threads()) == {1}
        assert threads() == before


def test_the_process_ends_while_the_pool_has_threads():
    code = (
        "import numpy as np; from minitf.kernels import softmax as s; "
        "print(s.softmax(np.ones((64, 600), np.float32), axis=-1, threads=4).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "(64, 600)\n"
