"""Cases: the inputs of a technique, and the right answer in float64.

    case = oracle.case("attention.differential", seed=0, size="small", dtype="bfloat16", options="causal")
    out  = my_function(*case.inputs.values(), **case.options)

Inputs and cotangents are rounded to ``dtype`` before the reference sees them, so an implementation in that dtype gets
exactly what the reference got, and the whole difference between the two is the implementation's own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minitf.autodiff.dtypes import is_inexact
from minitf.autodiff.precision import FORMATS, round_to
from minitf.autodiff.tensor import Tensor, as_tensor
from minitf.autodiff.transform import vjp
from minitf.oracle.draw import Draw
from minitf.oracle.references import find
from minitf.papers.catalogue import did_you_mean
from minitf.registry import Reference

#: of what a name, size, seed and option label stand for; frozen within a major version of minitf
FORMAT_VERSION = 1
SIZES = ("tiny", "small", "medium")
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Case:
    """One question to a technique, with the answer.

    name, seed, size, dtype, label: what it is; ``label`` names the option combination.
    inputs: arrays by name, in the order of the function's positional parameters; floating ones are float64 arrays of
        values that ``dtype`` can hold.
    options: the keyword arguments, boolean masks and numbers.
    cotangents: for every floating output the array that is pulled back to the gradients; values of ``dtype``.
    outputs, gradients: what the reference computes, float64. Gradients are those of sum(output * cotangent).
    """

    name: str
    seed: int
    size: str
    dtype: str
    label: str
    inputs: Arrays
    options: dict[str, Any]
    cotangents: Arrays
    outputs: Arrays
    gradients: Arrays
    format_version: int = FORMAT_VERSION

    @property
    def sha256(self) -> str:
        """Of everything that is asked: inputs, options, cotangents. (The last bits of an answer depend on the BLAS.)"""
        total = hashlib.sha256()
        asked = (self.format_version, self.name, self.seed, self.size, self.dtype, self.label)
        total.update(json.dumps(asked).encode())
        for kind, things in (("input", self.inputs), ("option", self.options), ("cotangent", self.cotangents)):
            for key, value in things.items():
                if isinstance(value, np.ndarray):
                    little = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"))
                    total.update(json.dumps([kind, key, value.dtype.name, value.shape]).encode())
                    total.update(little.tobytes())
                else:
                    total.update(json.dumps([kind, key, value], default=repr).encode())
        return total.hexdigest()

    def __str__(self) -> str:
        return f"{self.name}, {self.place}, {self.dtype}"

    @property
    def place(self) -> str:
        """Which case of its name this is, in few words."""
        return f"{self.size} {self.label} seed {self.seed}"

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {x.shape}" for name, x in self.inputs.items())
        return f"<Case {self}: {shapes}>"


def case(
    name: str,
    seed: int = 0,
    size: str = "small",
    dtype: str = "float64",
    options: int | str | Mapping[str, Any] | None = None,
) -> Case:
    """The case of ``name`` with this seed and size, for implementations in ``dtype``.

    size: "tiny", "small" or "medium".
    dtype: "float64", "float32", "bfloat16", "float16", "float8_e4m3fn" or "float8_e5m2".
    options: which option combination: its position, its label (``labels(name)``) or its dict; default the first. Some
        names have more, on request; ``minitf oracle show NAME`` tells.

    Raises UnknownName, and ValueError for what is not in these lists.
    """
    reference = find(name)
    dtype = dtype_name(dtype)
    if size not in SIZES:
        raise ValueError(f"oracle.case: size must be one of {', '.join(SIZES)}, got {size!r}")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"oracle.case: seed must be a non-negative integer, got {seed!r}")
    seed = int(seed)
    combination = _combination(reference, options)
    label = label_of(combination)
    key = (FORMAT_VERSION, name, size, seed, label)
    inputs, keywords = reference.example(Draw(*key), size, **combination)
    inputs = {key: _round(value, dtype) for key, value in inputs.items()}
    keywords = {
        key: _round(value, dtype) if isinstance(value, np.ndarray) else value for key, value in keywords.items()
    }
    if unknown := set(reference.differentiable) - set(inputs):
        raise ValueError(f"{name}: differentiable names {sorted(unknown)}, the example draws {list(inputs)}")

    shapes = [out.shape if is_inexact(out.dtype) else None for out in outputs_of(reference.function, inputs, keywords)]
    if len(shapes) != len(reference.outputs):
        raise ValueError(f"{name}: the reference returns {len(shapes)} arrays, registered are {reference.outputs}")
    draw = Draw(*key, "cotangents")
    cotangents = {
        output: _round(draw.normal(shape), dtype)
        for output, shape in zip(reference.outputs, shapes, strict=True)
        if shape is not None
    }
    outputs, gradients = answer(reference, inputs, keywords, cotangents)
    return Case(name, seed, size, dtype, label, inputs, keywords, cotangents, outputs, gradients)


def cases(
    name: str, seeds: Sequence[int] = (0,), sizes: Sequence[str] = ("small",), dtype: str = "float64"
) -> Iterator[Case]:
    """Every option combination of ``name`` in every size, for every seed."""
    combinations = find(name).options
    for seed in seeds:
        for size in sizes:
            for combination in combinations:
                yield case(name, seed, size, dtype, combination)


def labels(name: str) -> list[str]:
    """The option combinations that the cases of ``name`` walk through: "default", "causal", "K=2,causal", ..."""
    return [label_of(combination) for combination in find(name).options]


def answer(
    reference: Reference, inputs: Mapping[str, Any], options: Mapping[str, Any], cotangents: Mapping[str, Any]
) -> tuple[Arrays, Arrays]:
    """Outputs and gradients of ``reference`` as arrays by name."""
    outputs, gradients = outputs_and_gradients(
        reference.function,
        tuple(inputs.values()),
        options,
        tuple(cotangents.get(name) for name in reference.outputs),
        tuple(list(inputs).index(name) for name in reference.differentiable),
    )
    return (
        {name: np.asarray(x) for name, x in zip(reference.outputs, outputs, strict=True)},
        {name: np.asarray(x) for name, x in zip(reference.differentiable, gradients, strict=True)},
    )


def imposed(reference: Reference, options: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
    """``options``, and with them the decisions among ``outputs`` as given."""
    return {**options, **{decision.option: outputs[name] for name, decision in reference.decisions.items()}}


def outputs_and_gradients(
    function: Callable[..., Any],
    inputs: Sequence[Any],
    options: Mapping[str, Any],
    cotangents: Sequence[Any],
    positions: Sequence[int],
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The outputs of ``function``, and the gradients of its inputs at ``positions`` along ``cotangents``.

    A cotangent may be None, for an output that has none.
    """
    if not positions:
        return outputs_of(function, inputs, options), ()

    def of_selected(*selected: Any) -> tuple[Tensor, ...]:
        full = list(inputs)
        for position, value in zip(positions, selected, strict=True):
            full[position] = value
        return outputs_of(function, full, options)

    outputs, pullback = vjp(of_selected, *(inputs[position] for position in positions))
    along = [np.zeros(out.shape) if g is None else g for out, g in zip(outputs, cotangents, strict=True)]
    return outputs, pullback(tuple(along))


def outputs_of(function: Callable[..., Any], inputs: Any, options: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """The outputs as a tuple, however many there are."""
    values = inputs.values() if isinstance(inputs, Mapping) else inputs
    out = function(*values, **options)
    return tuple(as_tensor(o) for o in (out if isinstance(out, tuple | list) else (out,)))


def dtype_name(dtype: Any) -> str:
    """The name of a dtype that the oracle speaks; raises ValueError for others."""
    name = dtype if isinstance(dtype, str) else getattr(dtype, "name", None) or getattr(dtype, "__name__", str(dtype))
    name = name.removeprefix("torch.")
    if name not in FORMATS:
        hint = did_you_mean(name, FORMATS)
        raise ValueError(f"oracle: dtype must be one of {', '.join(FORMATS)}, got {dtype!r}{hint}")
    return name


def _round(value: Any, dtype: str) -> np.ndarray:
    array = np.asarray(value)
    return round_to(array.astype(np.float64), dtype) if array.dtype.kind == "f" else array


def label_of(combination: Mapping[str, Any]) -> str:
    """The name of an option combination: "default", "causal", "K=2,causal", ...; "K=2" is K with the value 2."""
    told = (key if value is True else f"{key}={value}" for key, value in combination.items())
    return ",".join(told) or "default"


def _combination(reference: Reference, options: Any) -> Mapping[str, Any]:
    combinations = (*reference.options, *reference.on_request)
    known = [label_of(combination) for combination in combinations]
    if options is None:
        return combinations[0]
    if isinstance(options, Mapping):
        options = label_of(options)
    if isinstance(options, str):
        if options not in known:
            hint = did_you_mean(options, known)
            raise ValueError(f"oracle.case: {reference.name} has the options {', '.join(known)}; got {options!r}{hint}")
        return combinations[known.index(options)]
    if isinstance(options, bool) or not isinstance(options, int) or not 0 <= options < len(combinations):
        raise ValueError(
            f"oracle.case: options of {reference.name} are 0 to {len(combinations) - 1} ({', '.join(known)}), "
            f"got {options!r}"
        )
    return combinations[options]
