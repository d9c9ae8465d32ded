"""Cases as files, for implementations in any language: arrays with their tolerances, and a manifest that explains them.

Every case becomes one file of arrays. Their names say what they are: ``input.q1``, ``option.mask``, ``cotangent.out``,
``output.out``, ``gradient.q1``, ``tolerance.output.out``, ``tolerance.gradient.q1``. What an implementation is given is
in its own dtype, low-precision formats as their bits in unsigned integers; answers and tolerances are float64.
``manifest.json`` lists for each file the case, its scalar options, its SHA-256, and for each array shape and dtype.
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
    folder to write to, ModuleNotFoundError when
    ``safetensors`` is needed and not installed.
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
