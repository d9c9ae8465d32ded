"""The 1797 handwritten digits of 8 x 8 pixels, the smallest real images there are.

Test set of "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, UCI Machine Learning Repository (1998),
https://doi.org/10.24432/C50P49, licensed under CC BY 4.0. The pixels are counts from 0 to 16: bitmaps of 32 x 32, of which
each square of 4 x 4 became one number. Thirteen people wrote them.
"""

from __future__ import annotations

from importlib.resources import files
from typing import NamedTuple

import numpy as np

ATTRIBUTION = (
    "Digits: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (1998), "
    "https://doi.org/10.24432/C50P49, CC BY 4.0"
)


class Digits(NamedTuple):
    """images ``(B, 1, 8, 8)`` from 0 (paper) to 1 (ink), float64. labels ``(B,)``: 0 to 9."""

    images: np.ndarray
    labels: np.ndarray


def digits8x8(*, rng: np.random.Generator | None = None) -> Digits:
    """All 1797 digits, in their own order or, with ``rng``, shuffled. See ATTRIBUTION."""
    with (files("minitf.data") / "digits8x8.npz").open("rb") as stream, np.load(stream, allow_pickle=False) as held:
        images, labels = held["images"], held["labels"]
    order = np.arange(len(labels)) if rng is None else rng.permutation(len(labels))
    return Digits(images[order, None] / 16, labels[order].astype(np.int64))
