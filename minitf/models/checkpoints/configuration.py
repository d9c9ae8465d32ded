"""Configurations: what ``config.json`` says about a model, under the names that its makers gave.

A configuration is a frozen dataclass whose fields have the defaults of the Transformers library. Keys of the file that
are no fields are kept in ``extra`` and written back; a field is checked when the configuration is made.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

#: no configuration file is longer than this many bytes, and no integer in it larger than that
LONGEST, LARGEST = 10_000_000, 2**24


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or that does not fit; nothing of it was loaded."""


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For ``json.loads``: an object, in which no name may occur twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The object in a JSON file. Raises CheckpointError when there is none."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if path.stat().st_size > LONGEST:
        raise CheckpointError(f"{path.name} is longer than {LONGEST} bytes")
    try:
        value = json.loads(path.read_text("utf-8"), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path.name} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path.name} must hold an object, it holds {type(value).__name__}")
    return value


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """The base of all configurations.

    model_type: the family's name. extra: what a file said beyond the fields.
    only: for fields of which not every value is implemented, the values that are. depth: the fields that count layers.
    may_be_zero: the counts that may be 0.
    """

    model_type: ClassVar[str]
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    depth: ClassVar[tuple[str, ...]]
    may_be_zero: ClassVar[tuple[str, ...]] = ()

    architectures: list[str] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            kinds = _kinds(str(each.type))
            if not _is_one_of(value, kinds):
                most = f" of at most {LARGEST}" if isinstance(value, int) and abs(value) > LARGEST else ""
                raise CheckpointError(
                    f"{self.model_type} configuration: {each.name} must be {' or '.join(kinds)}{most}, got {_short(value)}"
                )
            least = 0 if each.name in self.may_be_zero else 1
            counts = isinstance(value, int) and not isinstance(value, bool) and "float" not in kinds
            if counts and value < least and "_id" not in each.name:
                raise CheckpointError(
                    f"{self.model_type} configuration: {each.name} must be at least {least}, got {_short(value)}"
                )
            if isinstance(value, float) and not math.isfinite(value):
                raise CheckpointError(f"{self.model_type} configuration: {each.name} must be finite, got {value}")
            if "_eps" in each.name and value <= 0:
                raise CheckpointError(f"{self.model_type} configuration: {each.name} must be positive, got {value}")
        for name, allowed in self.only.items():
            if getattr(self, name) not in allowed:
                raise CheckpointError(
                    f"{self.model_type} configuration: {name} = {_short(getattr(self, name))} is not implemented; "
                    f"implemented: {', '.join(map(repr, allowed))}"
                )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The configuration in an object as ``config.json`` holds it; ``from_dict(c.to_dict()) == c``."""
        told = values.get("model_type", cls.model_type)
        if told != cls.model_type:
            raise CheckpointError(f"{cls.__name__}: a configuration of {cls.model_type!r}, but the file is of {told!r}")
        fields = {each.name for each in dataclasses.fields(cls)} - {"extra"}
        extra = {name: value for name, value in values.items() if name not in fields and name != "model_type"}
        return cls(**{name: value for name, value in values.items() if name in fields}, extra=extra)

    def to_dict(self) -> dict[str, Any]:
        """What ``config.json`` holds."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        extra = values.pop("extra")
        return {"model_type": self.model_type, **values, **extra}

    def fitted(self, tensors: Mapping[str, Any]) -> Self:
        """The configuration that these tensors of its file mean, where ``config.json`` alone does not say it."""
        return self

    def require_divisible(self, width: int, heads: int, told: str) -> None:
        """Raises CheckpointError unless ``heads`` divides ``width``."""
        if width % heads:
            raise CheckpointError(f"{self.model_type} configuration: {told}: {heads} does not divide {width}")


_TESTS: dict[str, Any] = {
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST,
    "float": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and not abs(value) > 2**64,
    "bool": lambda value: isinstance(value, bool),
    "str": lambda value: isinstance(value, str),
    "None": lambda value: value is None,
    "dict[str, Any]": lambda value: isinstance(value, dict),
    "list[str]": lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
    "list[int]": lambda value: isinstance(value, list) and all(_TESTS["int"](item) for item in value),
}


def _kinds(annotation: str) -> list[str]:
    return [kind.strip() for kind in annotation.split("|")]


def _is_one_of(value: Any, kinds: list[str]) -> bool:
    return any(_TESTS[kind](value) for kind in kinds)


def _short(value: Any) -> str:
    told = repr(value)
    return told if len(told) < 60 else f"{told[:57]}..."
