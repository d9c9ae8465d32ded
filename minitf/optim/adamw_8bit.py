"""AdamW with its two moments in 8 bits each (Dettmers and others, 8-bit Optimizers via Block-wise Quantization).

A moment is cut into blocks; a block keeps its largest absolute value and a code of 8 bits for each element, which names the
nearest of 256 numbers in [-1, 1]. These are dense where moments are: their spacing is in proportion to their size, over
seven decades. (With equal spacing small v would become 0, and steps infinite.) A step decodes, updates as AdamW, encodes.

State is 2 bytes and 8 / block an element instead of 8 (16 in float64). Small parameters keep whole numbers.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from minitf.optim.adamw import AdamW
from minitf.optim.optimizer import Params, Row

MOMENTS = {"exp_avg": True, "exp_avg_sq": False}


@cache
def dynamic_codes(signed: bool) -> np.ndarray:
    """(256,) ascending numbers that codes stand for: 0, 1, and in each decade 10^-6 .. 1 twice as many as in the one below,
    midpoints of equal parts of [0.1, 1] of it, with both signs if ``signed`` (else twice as many)."""
    numbers = [0.0, 1.0]
    for decade in range(7):
        parts = 2**decade if signed else 2 ** (decade + 1)
        edges = np.linspace(0.1, 1, parts + 1)
        middles = 10.0 ** (decade - 6) * (edges[1:] + edges[:-1]) / 2
        numbers += [*middles, *(-middles if signed else ())]
    return np.sort(np.array(numbers))


def encode(x: np.ndarray, block: int, signed: bool) -> tuple[np.ndarray, np.ndarray]:
    """x of n elements -> codes (n,) uint8, and the largest absolute value of each block (ceil(n / block),) in x's dtype."""
    flat = x.reshape(-1)
    starts = np.arange(0, flat.size, block)
    largest = np.maximum.reduceat(np.abs(flat), starts) if flat.size else flat
    scale = np.repeat(np.where(largest > 0, largest, 1), block)[: flat.size]
    numbers = dynamic_codes(signed)
    codes = np.searchsorted((numbers[1:] + numbers[:-1]) / 2, flat / scale)
    return codes.astype(np.uint8), largest


def decode(codes: np.ndarray, largest: np.ndarray, block: int, signed: bool) -> np.ndarray:
    """The numbers (n,) that ``encode`` kept, in the dtype of ``largest``."""
    return dynamic_codes(signed).astype(largest.dtype)[codes] * np.repeat(largest, block)[: codes.size]


class AdamW8bit(AdamW):
    """AdamW whose moments take a byte each.

    block: elements that share a scale. min_size: parameters with fewer elements keep their moments as they are.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        block: int = 256,
        min_size: int = 4096,
    ):
        if block < 1:
            raise ValueError(f"AdamW8bit: block must be at least 1, got {block}")
        self.block, self.min_size = block, min_size
        super().__init__(params, lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def _update_all(self, rows: list[Row], **options: Any) -> None:
        small = [row for row in rows if row[0].size < self.min_size]
        super()._update_all(small, **options)
        for p, g, state in (row for row in rows if row[0].size >= self.min_size):
            whole: dict[str, Any] = {}
            if state:
                whole["step"] = state["step"]
                for name, signed in MOMENTS.items():
                    whole[name] = decode(state[name], state[f"{name}_max"], self.block, signed).reshape(p.shape)
            super()._update_all([(p, g, whole)], **options)
            state["step"] = whole["step"]
            for name, signed in MOMENTS.items():
                state[name], state[f"{name}_max"] = encode(whole[name], self.block, signed)

    def _state_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        size = int(np.prod(shape))
        if size < self.min_size:
            return shape
        return (-(-size // self.block),) if name.endswith("_max") else (size,)

    def state_bytes(self) -> int:
        """Bytes of all arrays in the state."""
        return sum(x.nbytes for state in self.state.values() for x in state.values() if isinstance(x, np.ndarray))
