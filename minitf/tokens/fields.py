"""Reading parsed JSON field by field: every value has the right type, and no field goes unread.

fields = Fields("model", {"type": "BPE", "dropout": None})
fields.text("type")                 # "BPE"
fields.must_be("dropout", None)     # what we do not implement may only have the value that turns it off
fields.finish()                     # an error that names what nobody asked for
"""

from __future__ import annotations

import math
from typing import Any

_REQUIRED: Any = object()


class TokenizerFileError(ValueError):
    """A tokenizer file that is malformed, or that asks for something minitf does not implement."""


def kind_of(value: Any) -> str:
    """How JSON calls a value, for messages; short however large the value is."""
    if value is None or isinstance(value, (bool, int, float)):
        shown = "null" if value is None else str(value).lower()
        return shown if len(shown) < 40 else "a huge number"
    if isinstance(value, str):
        return repr(value if len(value) < 60 else value[:57] + "...")
    return "an object" if isinstance(value, dict) else "an array"


def checked_text(where: str, value: Any) -> str:
    """``value`` if it is text that UTF-8 can say."""
    if not isinstance(value, str):
        raise TokenizerFileError(f"{where}: must be a string, got {kind_of(value)}")
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise TokenizerFileError(f"{where}: {kind_of(value)} holds a lone surrogate, which UTF-8 cannot say")
    return value


def checked_integer(where: str, value: Any) -> int:
    """``value`` if it is an integer from 0 to 2**31 - 1."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise TokenizerFileError(f"{where}: must be an integer from 0 to 2**31 - 1, got {kind_of(value)}")
    return value


def checked_number(where: str, value: Any) -> float:
    """``value`` as a float, if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e300 or math.isnan(value):
        raise TokenizerFileError(f"{where}: must be a finite number, got {kind_of(value)}")
    return float(value)


def checked_list(where: str, value: Any) -> list[Any]:
    """``value`` if it is an array."""
    if not isinstance(value, list):
        raise TokenizerFileError(f"{where}: must be an array, got {kind_of(value)}")
    return value


class Fields:
    """A JSON object, read one field after the other. ``where`` is its path in the file."""

    def __init__(self, where: str, value: Any):
        if not isinstance(value, dict):
            raise TokenizerFileError(f"{where}: must be an object, got {kind_of(value)}")
        self.where, self._left = where, dict(value)

    def path(self, key: str) -> str:
        """Where ``key`` is in the file."""
        return f"{self.where}.{key}" if self.where else key

    def take(self, key: str, default: Any = _REQUIRED) -> Any:
        """The value of ``key`` as it is."""
        if key not in self._left and default is _REQUIRED:
            raise TokenizerFileError(f"{self.path(key)}: is missing")
        return self._left.pop(key, default)

    def text(self, key: str, default: Any = _REQUIRED) -> str:
        """A string."""
        return checked_text(self.path(key), self.take(key, default))

    def text_or_null(self, key: str, default: Any = None) -> str | None:
        """A string or null, which is also what an absent field means."""
        value = self.take(key, default)
        return None if value is None else checked_text(self.path(key), value)

    def flag(self, key: str, default: Any = _REQUIRED) -> bool:
        """true or false."""
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise TokenizerFileError(f"{self.path(key)}: must be true or false, got {kind_of(value)}")
        return value

    def integer(self, key: str, default: Any = _REQUIRED) -> int:
        """An integer from 0 to 2**31 - 1."""
        return checked_integer(self.path(key), self.take(key, default))

    def list(self, key: str, default: Any = _REQUIRED) -> list[Any]:
        """An array."""
        return checked_list(self.path(key), self.take(key, default))

    def must_be(self, key: str, *allowed: Any) -> Any:
        """A field whose other values minitf does not implement; an absent one is the first of ``allowed``."""
        value = self.take(key, allowed[0])
        if not any(type(value) is type(one) and value == one for one in allowed):
            shown = " or ".join(map(kind_of, allowed))
            raise TokenizerFileError(f"{self.path(key)}: minitf implements only {shown} here, got {kind_of(value)}")
        return value

    def finish(self) -> None:
        """Raises TokenizerFileError if a field was not read."""
        if self._left:
            key = next(iter(self._left))
            raise TokenizerFileError(f"{self.path(kind_of(key)[1:-1])}: minitf does not know this field")


def component(where: str, value: Any, choices: dict[str, Any]) -> Any:
    """The object that ``{"type": name, ...}`` describes: ``choices[name].read(fields)``; None for null."""
    if value is None:
        return None
    fields = Fields(where, value)
    name = fields.text("type")
    if name not in choices:
        raise TokenizerFileError(
            f"{where}.type: minitf does not implement {kind_of(name)} here; it knows {', '.join(choices)}"
        )
    found = choices[name].read(fields)
    fields.finish()
    return found


def components(where: str, value: Any, choices: dict[str, Any]) -> list[Any]:
    """The objects that an array describes, which may not hold null."""
    listed = checked_list(where, value)
    if None in listed:
        raise TokenizerFileError(f"{where}[{listed.index(None)}]: must be an object, got null")
    return [component(f"{where}[{i}]", one, choices) for i, one in enumerate(listed)]
