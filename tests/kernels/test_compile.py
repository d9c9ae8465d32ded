"""``jit``: nothing is compiled before its time, compiled code is found again, and an edit anywhere is noticed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minitf
from minitf.kernels import compile as kernel_compile
from minitf.kernels.compile import jit
from minitf.kernels.elementary import exp, largest

PACKAGE = Path(minitf.__file__).parent


def run(code: str, cache: Path, package: Path = PACKAGE) -> str:
    """What ``code`` prints in a process with this cache, importing this copy of the package."""
    environment = {**os.environ, "MINITF_CACHE": str(cache), "PYTHONPATH": str(package.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=package.parent, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_kernels_imports_no_numba(tmp_path):
    modules = sorted(file.stem for file in (PACKAGE / "kernels").glob("*.py") if file.stem != "__init__")
    imports = "; ".join(f"import minitf.kernels.{name}" for name in modules)
    assert run(f"{imports}; import sys; print('numba' in sys.modules)", tmp_path) == "False"


CALL = """
import numpy as np
from minitf.kernels import compile as c, softmax as s
out = s.softmax(np.zeros((2, 4), np.float32), axis=-1, threads=1)
print(out[0, 0], any(k.compiled for k in c.KERNELS))
"""


def test_compiled_code_is_kept_and_an_edit_in_what_it_calls_is_noticed(tmp_path):
    package, cache = tmp_path / "copy" / "minitf", tmp_path / "cache"
    for file in PACKAGE.glob("kernels/*.py"):
        (package / "kernels").mkdir(parents=True, exist_ok=True)
        shutil.copy(file, package / "kernels")
    (package / "__init__.py").touch()
    assert run(CALL, cache, package) == "0.25 True"
    source = package / "kernels" / "elementary.py"
    text = source.read_text()
    edited = text.replace("def exp_float32(x):", "def exp_float32(x):\n    return x - np.float32(np.inf)", 1)
    assert edited != text
    source.write_text(edited)
    assert run(CALL, cache, package) == "nan True"  # -inf / -inf
    source.write_text(text)
    assert run(CALL, cache, package) == "0.25 False"  # the first sources' code is still there


@pytest.mark.slow
def test_a_damaged_or_unwritable_cache_is_no_reason_to_fail(tmp_path):
    assert run(CALL, tmp_path) == "0.25 True"
    (folder,) = tmp_path.iterdir()
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[:100])
    assert run(CALL, tmp_path) == "0.25 True"
    (tmp_path / "a file").touch()
    assert run(CALL, tmp_path / "a file") == "0.25 True"


def test_a_scalar_function_by_dtype_is_the_one_inside_loops():
    @jit
    def both(x, out):
        for i in range(x.size):
            out[i] = exp(x[i])

    for dtype in (np.float32, np.float64):
        x = np.linspace(-3, 3, 37).astype(dtype)
        out = np.empty_like(x)
        both(x, out)
        np.testing.assert_array_equal(out, [exp(value) for value in x])
    assert largest(np.array([1.0, -np.inf, 3.0])) == 3.0


def test_kernels_never_run_in_parallel_by_themselves_and_keep_infinities():
    for kernel in kernel_compile.KERNELS:
        assert not kernel.arithmetic & {"nnan", "ninf", "fast"}
    for file in PACKAGE.glob("kernels/*.py"):
        assert "parallel=" not in file.read_text().replace("``parallel=True``", "")
