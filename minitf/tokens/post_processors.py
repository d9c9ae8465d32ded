"""Special tokens around the ids of a text, or of a pair of texts.

A post-processor is ``ids = around(a, b)``; b is None where there is one text. Each is a dataclass whose fields are those
of the component of the same name in a ``tokenizer.json``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from minitf.tokens.fields import (
    Fields,
    TokenizerFileError,
    checked_integer,
    checked_text,
    components,
    kind_of,
)

Ids = list[int]


@dataclass(frozen=True)
class ByteLevel:
    """Changes offsets, which are not kept here, and no ids."""

    add_prefix_space: bool = True
    trim_offsets: bool = True
    use_regex: bool = True

    def __call__(self, a: Ids, b: Ids | None) -> Ids:
        return a + (b or [])

    def special_tokens(self) -> dict[str, int]:
        return {}

    @classmethod
    def read(cls, fields: Fields) -> ByteLevel:
        return cls(*(fields.flag(name, True) for name in ("add_prefix_space", "trim_offsets", "use_regex")))

    def written(self) -> dict[str, Any]:
        return {"type": "ByteLevel", **vars(self)}


def _named(fields: Fields, key: str) -> tuple[str, int]:
    value = fields.list(key)
    if len(value) != 2:
        raise TokenizerFileError(f"{fields.path(key)}: must be [token, id], got {len(value)} values")
    return checked_text(f"{fields.path(key)}[0]", value[0]), checked_integer(f"{fields.path(key)}[1]", value[1])


@dataclass(frozen=True)
class BertProcessing:
    """cls A sep, or cls A sep B sep."""

    sep: tuple[str, int]
    cls: tuple[str, int]

    def __call__(self, a: Ids, b: Ids | None) -> Ids:
        ids = [self.cls[1], *a, self.sep[1]]
        return ids if b is None else [*ids, *b, self.sep[1]]

    def special_tokens(self) -> dict[str, int]:
        return dict((self.sep, self.cls))

    @classmethod
    def read(cls, fields: Fields) -> BertProcessing:
        return cls(_named(fields, "sep"), _named(fields, "cls"))

    def written(self) -> dict[str, Any]:
        return {"type": "BertProcessing", "sep": [*self.sep], "cls": [*self.cls]}


@dataclass(frozen=True)
class RobertaProcessing:
    """cls A sep, or cls A sep sep B sep."""

    sep: tuple[str, int]
    cls: tuple[str, int]
    trim_offsets: bool = True
    add_prefix_space: bool = True

    def __call__(self, a: Ids, b: Ids | None) -> Ids:
        ids = [self.cls[1], *a, self.sep[1]]
        return ids if b is None else [*ids, self.sep[1], *b, self.sep[1]]

    def special_tokens(self) -> dict[str, int]:
        return dict((self.sep, self.cls))

    @classmethod
    def read(cls, fields: Fields) -> RobertaProcessing:
        sep, cls_ = _named(fields, "sep"), _named(fields, "cls")
        return cls(sep, cls_, fields.flag("trim_offsets"), fields.flag("add_prefix_space"))

    def written(self) -> dict[str, Any]:
        return {"type": "RobertaProcessing", **vars(self), "sep": [*self.sep], "cls": [*self.cls]}


@dataclass(frozen=True)
class TemplateProcessing:
    """Any arrangement: ``single`` and ``pair`` are sequences of "$A", "$B" and names of special tokens.

    single, pair: items (name, type id); "A" and "B" where ``is_text``. ids: the ids that a name stands for.
    """

    single: tuple[tuple[str, bool, int], ...]
    pair: tuple[tuple[str, bool, int], ...]
    ids: dict[str, tuple[int, ...]]
    tokens: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, single: str, pair: str, vocab: dict[str, int]) -> TemplateProcessing:
        """From two templates such as "[CLS] $A [SEP]" and "[CLS] $A [SEP] $B:1 [SEP]:1" (type ids after colons)."""

        def items(template: str) -> tuple[tuple[str, bool, int], ...]:
            parsed = []
            for word in template.split():
                name, _, type_id = word.rpartition(":") if ":" in word[1:] else (word, "", "0")
                parsed.append((name[1:] if name in ("$A", "$B") else name, name in ("$A", "$B"), int(type_id)))
            return tuple(parsed)

        arranged = items(single), items(pair)
        names = {name for template in arranged for name, is_text, _ in template if not is_text}
        unknown = sorted(names - vocab.keys())
        if unknown:
            raise ValueError(f"TemplateProcessing: {unknown[0]!r} is no token")
        return cls(*arranged, {name: (vocab[name],) for name in sorted(names)}, {name: (name,) for name in names})

    def __call__(self, a: Ids, b: Ids | None) -> Ids:
        texts = {"A": a, "B": b or []}
        template = self.single if b is None else self.pair
        return [id for name, is_text, _ in template for id in (texts[name] if is_text else self.ids[name])]

    def special_tokens(self) -> dict[str, int]:
        return {token: id for name in self.ids for token, id in zip(self.tokens[name], self.ids[name], strict=True)}

    @classmethod
    def read(cls, fields: Fields) -> TemplateProcessing:
        single, pair = (cls._items(fields, key) for key in ("single", "pair"))
        where = fields.path("special_tokens")
        special = fields.take("special_tokens")
        if not isinstance(special, dict):
            raise TokenizerFileError(f"{where}: must be an object, got {kind_of(special)}")
        ids, tokens = {}, {}
        for name, value in special.items():
            entry = Fields(f"{where}.{kind_of(name)[1:-1]}", value)
            if entry.text("id") != name:
                raise TokenizerFileError(f"{entry.path('id')}: must be the name it stands under")
            ids[name] = tuple(checked_integer(entry.path("ids"), id) for id in entry.list("ids"))
            tokens[name] = tuple(checked_text(entry.path("tokens"), token) for token in entry.list("tokens"))
            if len(ids[name]) != len(tokens[name]):
                raise TokenizerFileError(f"{entry.where}: has {len(ids[name])} ids and {len(tokens[name])} tokens")
            entry.finish()
        for key, template in (("single", single), ("pair", pair)):
            for name, is_text, _ in template:
                if not is_text and name not in ids:
                    raise TokenizerFileError(f"{fields.path(key)}: {kind_of(name)} is not in special_tokens")
        if any(name == "B" for name, is_text, _ in single if is_text):
            raise TokenizerFileError(f"{fields.path('single')}: has no text B")
        return cls(single, pair, ids, tokens)

    @staticmethod
    def _items(fields: Fields, key: str) -> tuple[tuple[str, bool, int], ...]:
        items = []
        for i, value in enumerate(fields.list(key)):
            where = f"{fields.path(key)}[{i}]"
            if not isinstance(value, dict) or len(value) != 1 or next(iter(value)) not in ("Sequence", "SpecialToken"):
                raise TokenizerFileError(f"{where}: must be an object with the one key Sequence or SpecialToken")
            (kind, content), is_text = next(iter(value.items())), "Sequence" in value
            item = Fields(f"{where}.{kind}", content)
            name = item.text("id")
            if is_text and name not in ("A", "B"):
                raise TokenizerFileError(f"{item.path('id')}: must be 'A' or 'B', got {kind_of(name)}")
            items.append((name, is_text, item.integer("type_id")))
            item.finish()
        return tuple(items)

    def written(self) -> dict[str, Any]:
        single, pair = (
            [
                {"Sequence" if is_text else "SpecialToken": {"id": name, "type_id": type_id}}
                for name, is_text, type_id in template
            ]
            for template in (self.single, self.pair)
        )
        special = {name: {"id": name, "ids": [*ids], "tokens": [*self.tokens[name]]} for name, ids in self.ids.items()}
        return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}


@dataclass(frozen=True)
class Sequence:
    """ByteLevel, which changes nothing, and at most one other."""

    processors: tuple[Any, ...]

    def __call__(self, a: Ids, b: Ids | None) -> Ids:
        chosen = [one for one in self.processors if not isinstance(one, ByteLevel)]
        return chosen[0](a, b) if chosen else a + (b or [])

    def special_tokens(self) -> dict[str, int]:
        return {token: id for one in self.processors for token, id in one.special_tokens().items()}

    @classmethod
    def read(cls, fields: Fields) -> Sequence:
        processors = components(fields.path("processors"), fields.take("processors"), POST_PROCESSORS)
        if sum(not isinstance(one, ByteLevel) for one in processors) > 1:
            raise TokenizerFileError(f"{fields.path('processors')}: minitf implements one besides ByteLevel")
        return cls(tuple(processors))

    def written(self) -> dict[str, Any]:
        return {"type": "Sequence", "processors": [one.written() for one in self.processors]}


POST_PROCESSORS: dict[str, Any] = {
    cls.__name__: cls for cls in (ByteLevel, BertProcessing, RobertaProcessing, TemplateProcessing, Sequence)
}
