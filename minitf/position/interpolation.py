"""Rotary frequencies for contexts longer than those of the training: slower clocks.

linear     freq / factor: positions are interpolated between those that were seen
llama3     clocks that turned less than ``low`` times in the original length are slowed by the factor, those that turned
           more than ``high`` times are left alone, and between the two the slowing fades out:
           freq ((1 - s) / factor + s),  s = (turns - low) / (high - low),  turns = length freq / (2 π)
"""

from __future__ import annotations

import numpy as np


def linearly_scaled(freqs: np.ndarray, factor: float) -> np.ndarray:
    """(n,) frequencies for a context ``factor`` times as long. Raises ValueError unless the factor is positive."""
    if not factor > 0:
        raise ValueError(f"linearly_scaled: factor must be positive, got {factor!r}")
    return np.asarray(freqs) / factor


def llama3_scaled(freqs: np.ndarray, factor: float, length: int, low: float = 1.0, high: float = 4.0) -> np.ndarray:
    """(n,) frequencies of Llama 3.1: only the slow clocks are slowed further.

    length: the context of the training. Raises ValueError unless factor and length are positive and low < high.
    """
    if not (factor > 0 and length > 0 and low < high):
        raise ValueError(
            f"llama3_scaled: needs a positive factor and length and low < high, got factor={factor!r}, length={length!r}, "
            f"low={low!r}, high={high!r}"
        )
    freqs = np.asarray(freqs)
    turns = length * freqs / (2 * np.pi)
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return freqs * ((1 - kept) / factor + kept)
