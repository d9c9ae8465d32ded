"""Cases as files, for implementations in any language: arrays with their tolerances, and a manifest that explains them.

Every case becomes one file of arrays. Their names say what they are; X stands for the name of an argument, Y for that
of an output:

    input.X                the positional arguments, in the dtype of the case; integers and booleans in their own
    option.X               keyword arguments that are arrays, such as masks; the others are in the manifest
    cotangent.Y            what is pulled back to the gradients, in the dtype of the case; none for integer outputs
    output.Y               the right answer, float64; decisions (which expert, which token) are int64
    gradient.X             of sum(output * cotangent) over all outputs, float64; only for inputs that have one
    tolerance.output.Y, tolerance.gradient.X
                           how far each element may be from the right one, float64, in the shape of what it belongs to

An element is right if it equals the answer or if |got - right| <= tolerance. Tolerance 0 asks for the very value:
infinities, structural zeros and decisions. Arrays are row-major (and little-endian in binary files); ``bfloat16`` and
the 8-bit formats, which NumPy does not have, are stored as their bits, in unsigned integers of the same width.

``manifest.json`` describes the files of one call of ``export``:

    schema           integer, of this description: 1; a reader should refuse another
    format_version   integer, of what a name, size, seed and label stand for; frozen within a major version of minitf
    accumulate       the format of arithmetic for which the tolerances are, such as "float32"; null: the default, float32
                     (float64 for float64)
    files            a list, one object for each case:
      file           its file, beside the manifest
      name, label, dtype, size, seed
                     the arguments of ``oracle.case`` that draw it again; ``label`` is the option combination
      sha256         of everything that is asked, ``Case.sha256`` in hexadecimal; it is not the hash of the file
      options        the keyword arguments that are no arrays, by name: numbers, booleans, strings
      arrays         by name, kind after kind as above, inputs in the order of the function's parameters:
        shape        list of integers, [] for a scalar
        dtype        NumPy's name of what is stored: "float64", "float32", "float16", "int64", "uint16", "bool", ...
        bits_of      only where ``dtype`` stores bits: the format whose bits they are, such as "bfloat16"

The three formats hold the same arrays: ``safetensors`` (8 bytes length, a JSON header, raw data), ``npz`` (NumPy's), and
``json``, an object of {"shape": [...], "data": [...]} with flat data whose numbers read back exactly; infinities and
NaN are the strings "inf", "-inf" and "nan". ``chapters/oracle/read_case.c`` judges an answer by a safetensors file in
plain C.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minitf.autodiff.dtypes import LOW_PRECISION
from minitf.files import replacing, write_atomically
from minitf.oracle.answers import FORMAT_VERSION, Case, case, labels
from minitf.oracle.frameworks import typed
from minitf.oracle.references import UnknownName, names
from minitf.oracle.tolerances import tolerances_of

SCHEMA = 1
FORMATS = ("safetensors", "npz", "json")


def export(
    patterns: str | Sequence[str],
    folder: str | Path,
    *,
    format: str = "npz",
    dtype: str = "float32",
    accumulate: str | None = None,
    size: str = "tiny",
    seed: int = 0,
) -> list[Path]:
    """Writes every option combination of every name that matches ``patterns``, and ``manifest.json``, into ``folder``.

    Returns the paths, the manifest last. A file is written whole or not at all, and the manifest after all others.
    Raises UnknownName for a pattern that matches nothing, ValueError for an unknown format, OSError when there is no
    folder to write to, ModuleNotFoundError when ``safetensors`` is needed and not installed.
    """
    if format not in FORMATS:
        raise ValueError(f"oracle.export: format must be one of {', '.join(FORMATS)}, got {format!r}")
    write = _writer(format)
    chosen: list[str] = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        found = names(pattern)
        if not found:
            raise UnknownName(f"oracle.export: no name matches {pattern!r}; `minitf oracle list` shows all names")
        chosen += [name for name in found if name not in chosen]
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        told = f"oracle.export cannot make this folder ({error.strerror}); give one in a place where you may write"
        raise OSError(error.errno, told, str(folder)) from None
    written, entries = [], []
    for name in chosen:
        for position, label in enumerate(labels(name)):
            this = case(name, seed=seed, size=size, dtype=dtype, options=position)
            arrays, bits = _arrays(this, accumulate)
            path = folder / f"{name}-{label.replace('=', '').replace(',', '-')}-{dtype}-{size}-{seed}.{format}"
            with replacing(path) as scratch:
                write(scratch, arrays)
            written.append(path)
            entries.append(_entry(this, path.name, arrays, bits))
    manifest = {"schema": SCHEMA, "format_version": FORMAT_VERSION, "accumulate": accumulate, "files": entries}
    write_atomically(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    return [*written, folder / "manifest.json"]


def _arrays(this: Case, accumulate: str | None) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a case by their names in the file, and which of them are bits of another dtype."""
    outputs, gradients = tolerances_of(this, accumulate)
    given = {f"input.{key}": value for key, value in this.inputs.items()}
    given |= {f"option.{key}": value for key, value in this.options.items() if isinstance(value, np.ndarray)}
    given |= {f"cotangent.{key}": value for key, value in this.cotangents.items()}
    arrays = {key: typed(value, this.dtype) for key, value in given.items()}
    arrays |= {f"output.{key}": value for key, value in this.outputs.items()}
    arrays |= {f"gradient.{key}": value for key, value in this.gradients.items()}
    arrays |= {f"tolerance.output.{key}": value for key, value in outputs.items()}
    arrays |= {f"tolerance.gradient.{key}": value for key, value in gradients.items()}
    formats = {dtype: name for name, dtype in LOW_PRECISION.items()}
    bits = {key: formats[value.dtype] for key, value in arrays.items() if value.dtype in formats}
    for key in bits:
        arrays[key] = arrays[key].view(f"u{arrays[key].dtype.itemsize}")
    return {key: np.ascontiguousarray(value) for key, value in arrays.items()}, bits


def _entry(this: Case, file: str, arrays: dict[str, np.ndarray], bits: dict[str, str]) -> dict[str, Any]:
    scalars = {key: value for key, value in this.options.items() if not isinstance(value, np.ndarray)}
    told = {
        key: {"shape": list(value.shape), "dtype": value.dtype.name} | ({"bits_of": bits[key]} if key in bits else {})
        for key, value in arrays.items()
    }
    facts = {name: getattr(this, name) for name in ("name", "label", "dtype", "size", "seed", "sha256")}
    return {"file": file, **facts, "options": scalars, "arrays": told}


def _writer(format: str) -> Callable[[Path, dict[str, np.ndarray]], Any]:
    if format == "npz":
        return _write_npz
    if format == "json":
        return lambda path, arrays: path.write_text(
            json.dumps({key: {"shape": list(x.shape), "data": _numbers(x)} for key, x in arrays.items()}) + "\n"
        )
    try:
        from safetensors.numpy import save_file
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "oracle.export: format='safetensors' needs the safetensors package: pip install 'minitf[checkpoints]'"
        ) from None
    return lambda path, arrays: save_file(arrays, str(path))


def _numbers(x: np.ndarray) -> list[Any]:
    """Row-major; floats as JSON numbers that read back exactly, infinities and NaN as strings."""
    return [v if not isinstance(v, float) or np.isfinite(v) else str(v) for v in x.reshape(-1).tolist()]


def _write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as stream:
        np.savez(stream, **arrays)  # pyright: ignore[reportArgumentType]
