"""What another library calls our parameters, and how it lays them out.

A table says for modules (or single parameters) of ours what they are called there, ``{}`` standing for a layer's number:

    Names({"embedding": "wte", "blocks.{}.attention_norm": "h.{}.ln_1", ...})

The rest follows from the module: the weight of a ``Linear`` is (D_in, D_out) here and (D_out, D_in) in PyTorch, so it is
transposed, and nothing else is, nor is what the table marks ``AsIs``. A tuple of our modules is one of theirs, side by
side along the output axis.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from minitf.models.checkpoints.configuration import CheckpointError
from minitf.nn.layers import Linear
from minitf.nn.module import Module

#: so many of the things that do not fit are told
TOLD = 12


class AsIs(str):
    """A name of theirs whose weight is laid out as ours, although our module is a ``Linear``."""


@dataclass(frozen=True)
class Names:
    """A table of names, and what is peculiar about a family's files.

    table: ours -> theirs.
    prefix: what the names of the body begin with in a model with a head; files exist with and without it.
    tied: their names that may be there besides, and the name whose values they repeat.
    ignored: patterns of names that hold no parameters, such as masks that old versions kept.
    """

    table: Mapping[str | tuple[str, ...], str]
    prefix: str = ""
    tied: Mapping[str, str] = field(default_factory=dict)
    ignored: Sequence[str] = ()

    def inside(
        self, ours: str, theirs: str, table: Mapping[str | tuple[str, ...], str], tied: Mapping[str, str]
    ) -> Names:
        """The names of a model with this one in its attribute ``ours``, which is called ``theirs`` there.

        table, tied: what the outer model adds.
        """
        under = lambda part: f"{ours}.{part}"
        body = {
            tuple(map(under, mine)) if isinstance(mine, tuple) else under(mine): type(other)(f"{theirs}.{other}")
            for mine, other in self.table.items()
        }
        ignored = [rf"({re.escape(theirs)}\.)?{pattern}" for pattern in self.ignored]
        return Names({**body, **table}, prefix=theirs, tied=tied, ignored=ignored)


@dataclass(frozen=True)
class Place:
    """One tensor of theirs: its name, our parameters that it holds side by side, and whether it is transposed."""

    name: str
    parts: tuple[str, ...]
    turned: bool


def places(model: Module, names: Names) -> Iterator[Place]:
    """The places of all parameters and buffers of ``model``. Raises KeyError for one that the table does not know."""
    modules = dict(model.named_modules())
    patterns = [
        (re.compile(re.escape(_first(ours)).replace(r"\{\}", r"(\d+)")), ours, theirs)
        for ours, theirs in names.table.items()
    ]
    rest = {part for ours in names.table if isinstance(ours, tuple) for part in ours[1:]}
    for name in _shapes(model):
        path, _, leaf = name.rpartition(".")
        if re.sub(r"\b\d+\b", "{}", path) in rest:
            continue  # its place is found with the first module of the tuple
        for pattern, ours, theirs in patterns:
            if match := pattern.fullmatch(name):
                yield Place(theirs.format(*match.groups()), (name,), False)
                break
            if match := pattern.fullmatch(path):
                parts = ours if isinstance(ours, tuple) else (ours,)
                turned = leaf == "weight" and isinstance(modules[path], Linear) and not isinstance(theirs, AsIs)
                yield Place(
                    f"{theirs.format(*match.groups())}.{leaf}",
                    tuple(f"{part.format(*match.groups())}.{leaf}" for part in parts),
                    turned,
                )
                break
        else:
            raise KeyError(f"the table of names of {type(model).__name__} does not say where {name} is kept")


def _first(ours: str | tuple[str, ...]) -> str:
    return ours if isinstance(ours, str) else next(iter(ours))


def _shapes(model: Module) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in [*model.named_parameters(), *model.named_buffers()]}


def to_theirs(model: Module, names: Names, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Our arrays by name (parameters, gradients, ...) under their names and in their layout."""
    found = {}
    for place in places(model, names):
        array = np.concatenate([values[part] for part in place.parts], axis=-1)
        found[place.name] = np.ascontiguousarray(array.T) if place.turned else array
    return found


def to_ours(
    model: Module, names: Names, tensors: Mapping[str, np.ndarray], *, ignore_unexpected: bool = False
) -> dict[str, np.ndarray]:
    """Their tensors under our names and in our layout, ready for ``load_state_dict``.

    Raises CheckpointError that lists what is missing, unexpected, or of the wrong shape or dtype.
    """
    wanted = list(places(model, names))
    shapes = _shapes(model)
    tensors = _renamed(dict(tensors), {place.name for place in wanted}, names)
    problems = [f"missing: {place.name}" for place in wanted if place.name not in tensors]
    state: dict[str, np.ndarray] = {}
    for place in wanted:
        if place.name not in tensors:
            continue
        values = tensors.pop(place.name)
        widths = [shapes[part][-1] for part in place.parts]
        shape = (*shapes[place.parts[0]][:-1], sum(widths))
        shape = shape[::-1] if place.turned else shape
        if values.shape != shape:
            problems.append(f"shape: {place.name} is {values.shape}; the configuration asks for {shape}")
        elif values.dtype.kind != "f":
            problems.append(f"dtype: {place.name} is {values.dtype}; a parameter is floating")
        else:
            turned = values.T if place.turned else values
            split = np.split(turned, np.cumsum(widths)[:-1], axis=-1) if len(widths) > 1 else [turned]
            state |= dict(zip(place.parts, split, strict=True))
    if not ignore_unexpected:
        problems += [f"unexpected: {name} {values.shape}" for name, values in tensors.items()]
    if problems:
        more = f"\n  and {len(problems) - TOLD} more" if len(problems) > TOLD else ""
        raise CheckpointError(
            f"{type(model).__name__}: nothing was loaded, because of\n  " + "\n  ".join(problems[:TOLD]) + more
        )
    return state


def _renamed(tensors: dict[str, np.ndarray], wanted: set[str], names: Names) -> dict[str, np.ndarray]:
    """Names as they are today, each tensor once."""
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        for name in [name for name in tensors if name.endswith(old) and name.removesuffix(old) + new in wanted]:
            tensors.setdefault(name.removesuffix(old) + new, tensors.pop(name))
    prefix = f"{names.prefix}."
    if names.prefix and not any(name.startswith(prefix) for name in tensors):
        tensors = {prefix + name if prefix + name in wanted else name: values for name, values in tensors.items()}
        prefix = ""
    elif names.prefix and not any(name.startswith(prefix) for name in wanted):
        tensors = {name.removeprefix(prefix): values for name, values in tensors.items()}
    for name in [name for name in tensors if any(re.fullmatch(pattern, name) for pattern in names.ignored)]:
        if name not in wanted:
            del tensors[name]
    for copy, original in names.tied.items():
        if copy in wanted or copy not in tensors:
            continue
        values = tensors.pop(copy)
        if not np.array_equal(tensors.setdefault(original, values), values, equal_nan=values.dtype.kind == "f"):
            raise CheckpointError(f"{copy} and {original} are one parameter in this model, but differ in the file")
    return tensors
