"""Submissions that try to break the grader, or to get points for nothing.

None may gain a point that an honest answer would not have had, hang, or take the grader down; and each gets one message
that says what happened.
"""

import os
import re
import signal
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest

from minitf.grade import Exercise, Limits, grade

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits")

ROOT = hasattr(os, "geteuid") and os.geteuid() == 0

#: The import guard is a teaching device and easily passed; what a submission reaches then is for the rest to hold.
PREAMBLE = """
import contextlib
import numpy as np
os, sys = contextlib.os, contextlib.sys
time = sys.modules["time"]

def everywhere(data):
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, data)
        except OSError:
            pass

def frame(number):
    header = b'{"value": {"dict": {"number": %d, "value": true}}, "arrays": []}' % number
    return b"MTF1" + len(header).to_bytes(4, "little") + bytes(8) + header
"""

#: The functions of one submission, each asked once for twice its argument: what it does, what the learner is told.
#: They share a process until one of them ends it, so each also shows that the next is graded all the same.
HOSTILE = {
    "raises_system_exit": ("raise SystemExit(0)", "called sys.exit()"),
    "raises_keyboard_interrupt": ("raise KeyboardInterrupt", "raised KeyboardInterrupt"),
    "raises_without_words": (
        """
        class Silent(Exception):
            def __str__(self): raise Exception
        raise Silent
        """,
        "raised Silent",
    ),
    "raises_terminal_codes": ("raise ValueError('\\x1b[2J' * 10**6)", "raised ValueError: \ufffd[2J"),
    "exits_at_once": ("os._exit(0)", "ended the process (exit status 0)"),
    "kills_itself": ("os.kill(os.getpid(), 9)", "was killed"),
    "kills_its_group": ("os.killpg(0, 15)", "signal SIGTERM"),
    "recurses": ("return recurses(x)", "raised RecursionError"),
    "allocates": ("return np.ones(10**11)", "needs more memory than allowed (512 MiB)"),
    "allocates_bit_by_bit": (
        """
        kept = []
        while True: kept.append(bytes(1 << 25))
        """,
        "needs more memory than allowed",
    ),
    "prints_without_end": ("while True: print('x' * 10**5)", "printed, or wrote to a file, more than 1 MiB"),
    "writes_a_large_file": (
        """
        with open("f", "wb") as file: file.write(bytes(1 << 22))
        return 2 * x
        """,
        "printed, or wrote to a file, more than 1 MiB",
    ),
    "returns_too_much": ("return np.ones(1 << 18)", "returned 2097"),
    "returns_nothing": ("2 * x", "returned None (is a `return` missing?)"),
    "returns_an_object": ("return object()", "returned an object of type object"),
    "returns_an_array_of_objects": ("return np.array([None])", "returned an array of dtype object"),
    "returns_a_generator": ("yield 2 * x", "returned an object of type generator"),
    "returns_text": ("return '2x'", "returned str '2x'"),
    "returns_complex_numbers": ("return 2 * x + 0j", "dtype complex128"),
    "returns_another_shape": ("return 2 * x[None]", "shape (1, 3); expected (3,)"),
    "returns_nan": ("return np.nan * x", "NaN"),
    "returns_a_list_in_itself": (
        """
        loop = []
        loop.append(loop)
        return loop
        """,
        "returned nested more than 16 deep",
    ),
    "returns_a_liar": (
        """
        class Liar(np.ndarray):
            __eq__ = __le__ = lambda *_: True
            shape = property(lambda _: (3,))
        return np.zeros(5).view(Liar)
        """,
        "",
    ),
    "talks_on_every_descriptor": (
        """
        everywhere(b'{"passed": true}' * 9)
        return x
        """,
        "malformed",
    ),
    "answers_before_it_is_asked": (
        """
        everywhere(frame(10**6))
        return x
        """,
        "not the reply to this call",
    ),
    "sends_half_a_frame_and_leaves": (
        """
        everywhere(frame(1)[:30])
        os._exit(0)
        """,
        "ended the process (exit status 0)",
    ),
    "announces_too_much": ("everywhere(b'MTF1' + b'\\xff' * 12)", "malformed: the reply announces"),
    "closes_every_descriptor": ("os.closerange(0, 64)", ""),
    "deletes_itself": ("for name in os.listdir(): os.remove(name)", "returned None"),
    "patches_numpy": (
        """
        np.allclose = np.array_equal = np.isnan = np.testing = lambda *_, **__: True
        return x
        """,
        "the double is not right",
    ),
    "breaks_numpy": (
        """
        np.asarray = None
        return x
        """,
        "raised TypeError",
    ),
}


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    names = [*HOSTILE][:-1] + ["is_honest", "breaks_numpy"]
    stub = "import numpy as np\n" + "".join(f"def {name}(x: np.ndarray) -> np.ndarray: ...\n" for name in names)
    source = PREAMBLE + "def is_honest(x): return 2 * x\n"
    for name, (body, _) in HOSTILE.items():
        source += f"def {name}(x):\n{textwrap.indent(textwrap.dedent(body).strip(), '    ')}\n"
    (folder / "exercise.py").write_text(stub)
    (folder / "submission.py").write_text(source)
    (folder / "grader.py").write_text(GRADER.format(names=names))
    limits = Limits(seconds=5, total_seconds=60, cpu_seconds=5, memory_mib=512, file_mib=1, reply_mib=1)
    exercise = Exercise("hostile", folder, "Hostile", len(names), "none", (), limits=limits)
    return {result.check.name: result for result in grade(exercise, folder / "submission.py").results}


GRADER = """
import numpy as np
from minitf.grade import check, expect_close

def asks(name):
    def doubles(student, rng):
        x = rng.standard_normal(3)
        expect_close(getattr(student, name)(x), 2 * x, what="the double")
    doubles.__name__ = name
    return check(name, points=1)(doubles)

globals().update({{name: asks(name) for name in {names}}})
"""


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_is_gained(graded, name):
    failure = graded[name].failure
    assert failure is not None
    assert HOSTILE[name][1] in failure.reason
    assert len(failure.reason) < 1000
    assert failure.called.startswith(name)


def test_what_is_right_is_still_graded(graded):
    assert graded["is_honest"].passed


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise SystemExit(0)", "called sys.exit()"),
        ("os._exit(0)", "ended the process (exit status 0)"),
        ("np.ones(10**11)", "needs more memory"),
        ("\x00", "null byte"),
        (f"x = {'(' * 5000}{')' * 5000}", "raised"),
    ],
)
def test_at_once(exercise, submission, source, message):
    result = grade(exercise, submission(PREAMBLE + source))
    assert result.points == 0
    assert message in result.problem.reason


@pytest.mark.slow
def test_recursion_without_a_limit(exercise, submission):
    source = """
def deep(n):
    return max([n], key=lambda m: deep(m))

def double(x):
    sys.setrecursionlimit(10**9)
    return deep(1)
"""
    assert grade(exercise, submission(PREAMBLE + source)).failed == ("doubles",)


def test_time(exercise, submission):
    """Sleeping stands for looping: it costs the tests nothing. It also ignores every signal that it can."""
    quick = replace(exercise.limits, seconds=1)
    source = """
signal = sys.modules["_signal"]
for number in (1, 2, 15):
    signal.signal(number, signal.SIG_IGN)

def double(x):
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
"""
    result = grade(exercise, submission(PREAMBLE + source), limits=quick)
    assert result.failed == ("doubles",)
    assert result.results[0].failure.reason == "took longer than 1 s"


def test_all_time_together(exercise, submission):
    source = "def double(x):\n    time.sleep(60)\ntotal = double\n"
    limits = replace(exercise.limits, seconds=1, total_seconds=1)
    result = grade(exercise, submission(PREAMBLE + source), limits=limits)
    assert result.points == 0
    first, second = (check.failure.reason for check in result.results)
    assert re.fullmatch(r"took longer than (1|0\.\d+) s", first)  # what starting the student left of the second
    assert second == "the time for all checks together (1 s) is used up"


def test_importing_takes_too_long(exercise, submission):
    result = grade(exercise, submission(PREAMBLE + "time.sleep(60)"), limits=replace(exercise.limits, seconds=1))
    assert result.points == 0
    assert result.problem.reason == "took longer than 1 s"


@pytest.mark.slow
def test_cpu_time(exercise, submission):
    limits = replace(exercise.limits, cpu_seconds=1)
    result = grade(exercise, submission(PREAMBLE + "def double(x):\n    while True: pass\n"), limits=limits)
    assert result.failed == ("doubles",)
    assert "CPU time" in result.results[0].failure.reason


def test_threads_that_never_end(exercise, submission):
    source = (
        "threading = __builtins__['__import__']('threading', {})\n"
        "def forever():\n    time.sleep(600)\n"
        "def double(x):\n    threading.Thread(target=forever).start()\n    return 2 * x\n"
    )
    result = grade(exercise, submission(PREAMBLE + source))
    if ROOT:
        assert result.complete  # the threads end with the process
    else:
        assert result.failed == ("doubles",)
        assert "can't start new thread" in result.results[0].failure.reason


def test_children_do_not_survive(exercise, submission, tmp_path):
    note = tmp_path / "child"
    source = (
        f"def double(x):\n    child = os.fork()\n    if child == 0:\n        time.sleep(600)\n"
        f"    with open({str(note)!r}, 'w') as f:\n        f.write(str(child))\n    return 2 * x\n"
    )
    result = grade(exercise, submission(PREAMBLE + source))
    if ROOT:
        assert result.complete
        child = int(note.read_text())
        while not gone(child):
            pass
    else:
        assert result.failed == ("doubles",)
        assert "BlockingIOError" in result.results[0].failure.reason


def gone(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.skipif(not ROOT, reason="without root, a submission cannot start a process")
def test_an_escaped_child_that_holds_the_pipe_hangs_nobody(exercise, submission, tmp_path):
    note = tmp_path / "child"
    source = (
        f"def double(x):\n    if os.fork() == 0:\n        os.setsid()\n        with open({str(note)!r}, 'w') as f:\n"
        "            f.write(str(os.getpid()))\n        time.sleep(600)\n"
        f"    while not (os.path.exists({str(note)!r}) and open({str(note)!r}).read()): pass\n    os._exit(3)\n"
    )
    try:
        result = grade(exercise, submission(PREAMBLE + source), limits=replace(exercise.limits, seconds=1))
        assert result.failed == ("doubles",)
        assert result.results[0].failure.reason == "took longer than 1 s"
    finally:
        os.kill(int(note.read_text()), signal.SIGKILL)


def test_the_scratch_folder_holds_the_submission_alone_and_goes_away(exercise, submission, tmp_path):
    source = (
        f"with open({str(tmp_path / 'seen')!r}, 'w') as f:\n    f.write('\\n'.join([os.getcwd(), *os.listdir()]))\n"
    )
    assert grade(exercise, submission(PREAMBLE + source)).complete
    folder, *files = (tmp_path / "seen").read_text().splitlines()
    assert files == ["exercise.py"]
    assert not os.path.exists(folder)


def test_the_environment_is_scrubbed(exercise, submission, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "1")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    source = (
        f"with open({str(tmp_path / 'seen')!r}, 'w') as f:\n    f.write(repr((dict(os.environ), sys.path, sys.argv)))\n"
    )
    assert grade(exercise, submission(PREAMBLE + source)).complete
    seen = (tmp_path / "seen").read_text()
    for word in ("SECRET", "PYTHONPATH", "/somewhere", "grader.py", "solution"):
        assert word not in seen


def test_no_answer_is_in_the_process(exercise, submission, tmp_path):
    source = f"with open({str(tmp_path / 'seen')!r}, 'w') as f:\n    f.write('\\n'.join(sys.modules))\n"
    assert grade(exercise, submission(PREAMBLE + source)).complete
    assert not {m.partition(".")[0] for m in (tmp_path / "seen").read_text().split()} & {"minitf", "numba", "scipy"}


def test_the_grader_is_as_before(exercise, submission):
    """A submission that patched everything it could reach changed nothing here."""
    before = (np.asarray, np.abs, os._exit, os.getcwd(), dict(os.environ))
    grade(exercise, submission(PREAMBLE + "np.asarray = np.abs = os._exit = None\nos.chdir('/')\nos.environ.clear()\n"))
    assert before == (np.asarray, np.abs, os._exit, os.getcwd(), dict(os.environ))
