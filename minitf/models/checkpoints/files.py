"""Tensors in ``*.safetensors`` files: one file, or shards with an index.

A file is 8 bytes with the length n of a header, n bytes of JSON ``{name: {"dtype", "shape", "data_offsets"}}``, and the
numbers. The ``safetensors`` library reads it and checks the offsets; here what it leaves open is checked as well: a name
given twice, a dtype that NumPy does not have, shards that disagree with their index.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minitf.files import replacing, write_atomically
from minitf.models.checkpoints.configuration import CheckpointError, read_json, unique_keys

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
#: dtypes by their name in a header; BF16 is widened to float32, exactly
DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.float32, "I64": np.int64, "I32": np.int32,
    "I16": np.int16, "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The tensors of one file by name, each an array of its own.

    Raises CheckpointError for a file that is damaged or not of this format, FileNotFoundError if there is none.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"read_safetensors: there is no file {path}")
    library = _library()
    try:
        with library.safe_open(path, framework="numpy") as file:
            _require_unique_names(path)
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            for name, part in slices.items():
                if part.get_dtype() not in DTYPES:
                    raise CheckpointError(
                        f"{path.name}: tensor {name!r} is {part.get_dtype()}; readable are {', '.join(DTYPES)}"
                    )
            return {name: _array(file.get_tensor(name), part.get_dtype()) for name, part in slices.items()}
    except library.SafetensorError as error:
        raise CheckpointError(f"{path.name} is damaged, or no safetensors file: {error}") from None


def _array(values: np.ndarray, dtype: str) -> np.ndarray:
    return np.array(values, DTYPES[dtype], order="C")


def _library() -> Any:
    try:
        import ml_dtypes  # noqa: F401  (makes NumPy know bfloat16, which the library asks it for)
        import safetensors
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "reading and writing checkpoints needs the safetensors package: pip install 'minitf[checkpoints]'"
        ) from None
    return safetensors


def _require_unique_names(path: Path) -> None:
    """JSON with a name twice means different things to different readers. The header's length has been checked."""
    with path.open("rb") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
    try:
        json.loads(header, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path.name} is damaged: its header cannot be read: {error}") from None


def write_safetensors(
    tensors: Mapping[str, np.ndarray], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes arrays by name into one file, which is replaced whole or not at all; ``metadata`` are strings by name.

    Raises TypeError for a dtype that the format does not have.
    """
    from_numpy = {np.dtype(kind) for name, kind in DTYPES.items() if name != "BF16"}
    arrays = {name: np.ascontiguousarray(values).reshape(np.shape(values)) for name, values in tensors.items()}
    for name, values in arrays.items():
        if values.dtype not in from_numpy:
            raise TypeError(f"write_safetensors: {name} has dtype {values.dtype}; writable are {', '.join(DTYPES)}")
    _library()
    from safetensors.numpy import save_file

    with replacing(path) as scratch:
        save_file(arrays, scratch, dict(metadata) if metadata else None)


def read_folder(folder: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint folder: of ``model.safetensors``, or of the shards that its index names.

    Raises CheckpointError when a shard is missing, holds what the index does not say, or points out of the folder.
    """
    folder = Path(folder)
    if (folder / SINGLE).is_file():
        return read_safetensors(folder / SINGLE)
    if not (folder / INDEX).is_file():
        found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        raise FileNotFoundError(
            f"{folder} holds neither {SINGLE} nor {INDEX}; there is: {', '.join(found) or 'nothing'}. Other formats of "
            "weights are not read, because reading a pickle executes it"
        )
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise CheckpointError(f"{INDEX}: weight_map must say for each tensor the name of its file")
    tensors: dict[str, np.ndarray] = {}
    for shard in sorted(set(weight_map.values())):
        if Path(shard).name != shard or shard in ("", ".", ".."):
            raise CheckpointError(f"{INDEX}: {shard!r} is no file of this folder")
        if not (folder / shard).is_file():
            raise CheckpointError(f"{INDEX} names {shard}, but there is no such file")
        held = read_safetensors(folder / shard)
        promised = {name for name, place in weight_map.items() if place == shard}
        if held.keys() != promised:
            wrong = sorted(held.keys() ^ promised)
            raise CheckpointError(
                f"{shard} and {INDEX} disagree about {len(wrong)} tensors, the first of them {wrong[0]!r}"
            )
        tensors |= held
    return tensors


def write_folder(
    tensors: Mapping[str, np.ndarray], folder: str | os.PathLike[str], max_shard_size: int | None = None
) -> None:
    """Writes tensors as ``model.safetensors`` or, if they have more than ``max_shard_size`` bytes, as shards with an index.

    A shard holds tensors in the order given until the next would not fit; a larger tensor has a shard of its own.
    """
    if max_shard_size is not None and max_shard_size < 1:
        raise ValueError(f"write_folder: max_shard_size must be a positive number of bytes, got {max_shard_size!r}")
    folder = Path(folder)
    shards: list[dict[str, np.ndarray]] = [{}]
    size = 0
    for name, values in tensors.items():
        if max_shard_size is not None and shards[-1] and size + values.nbytes > max_shard_size:
            shards.append({})
            size = 0
        shards[-1][name] = values
        size += values.nbytes
    metadata = {"format": "pt"}  # what other readers expect to be told: the layout of weights is PyTorch's
    if len(shards) == 1:
        write_safetensors(shards[0], folder / SINGLE, metadata)
        kept = {SINGLE}
    else:
        names = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
        for name, shard in zip(names, shards, strict=True):
            write_safetensors(shard, folder / name, metadata)
        index = {
            "metadata": {"total_size": sum(values.nbytes for values in tensors.values())},
            "weight_map": {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard},
        }
        write_atomically(folder / INDEX, json.dumps(index, indent=2) + "\n")
        kept = {INDEX, *names}
    for path in [folder / SINGLE, folder / INDEX, *folder.glob("model-*-of-*.safetensors")]:
        if path.name not in kept:
            path.unlink(missing_ok=True)  # of another checkpoint, which must not be mistaken for this one
