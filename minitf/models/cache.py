"""The cache of a whole decoder: one slot for each layer that keeps something."""

from __future__ import annotations

from typing import Any

from minitf.attention.kv_cache import ContextCache, KVCache


class DecoderCache:
    """Slots, and which of them a layer uses.

    slots: a list of ``KVCache`` (or anything with length, crop, reorder, nbytes). layer_slot: for each layer the index
    of its slot; by default every layer has its own. contexts: how many layers attend to a context, too, whose keys and
    values are computed once; those are in the list ``contexts``.
    """

    def __init__(self, layers: int, layer_slot: list[int] | None = None, contexts: int = 0):
        self.layer_slot = list(range(layers)) if layer_slot is None else list(layer_slot)
        if len(self.layer_slot) != layers:
            raise ValueError(f"DecoderCache: {layers} layers, but {len(self.layer_slot)} entries in layer_slot")
        used = set(self.layer_slot)
        if used != set(range(len(used))):
            raise ValueError(
                f"DecoderCache: layer_slot must count its slots from 0 and use each, got {self.layer_slot}"
            )
        self.slots: list[Any] = [KVCache() for _ in used]
        self.contexts = [ContextCache() for _ in range(contexts)]

    def __getitem__(self, layer: int) -> Any:
        return self.slots[self.layer_slot[layer]]

    @property
    def length(self) -> int:
        """Positions seen so far."""
        return max((slot.length for slot in self.slots), default=0)

    def crop(self, length: int) -> None:
        """Forgets everything from position ``length`` on; contexts stay whole."""
        for slot in self.slots:
            slot.crop(length)

    def reorder(self, rows: Any) -> None:
        """Replaces batch row b by row ``rows[b]`` in every slot."""
        for slot in [*self.slots, *self.contexts]:
            slot.reorder(rows)

    def nbytes(self, bits: int | None = None) -> int:
        """Bytes of all that is held, at ``bits`` an element (default: as stored)."""
        return sum(slot.nbytes(bits) for slot in [*self.slots, *self.contexts])
