"""Control codes: every window of a text begins with ids that name its source, which a model is told and never asked.

inputs, targets = prepend_codes(ids, [CODE["reviews"], CODE["four stars"]], T=256)
loss = F.cross_entropy(model(inputs).reshape(-1, V), targets.reshape(-1))

A model that has learned -log p(x_i | x_<i, codes) writes in the manner of whichever codes a prompt begins with, and says
by ``inference.scoring.source_attribution`` which of its sources a text is likely to come from.

Paper: ctrl, "CTRL: A Conditional Transformer Language Model for Controllable Generation" (2019).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.data.corruption import IGNORED
from minitf.registry import implements


@implements("ctrl")
def prepend_codes(ids: Any, codes: Any, T: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (B, T) and targets (B, T): windows of the text ids (n,), each after the codes (c,).

    A window has the c codes and T - c + 1 tokens, of which the first is predicted from the last code. Codes as targets are
    -100, which losses ignore. The windows follow each other; what does not fill one at the end is left out, so B is
    n // (T - c + 1).

    Raises ShapeError if there is no code, no room for a token in T, or not one full window in the text.
    """
    ids, codes = np.asarray(ids), np.asarray(codes)
    if ids.ndim != 1 or codes.ndim != 1 or not 1 <= len(codes) <= T:
        raise ShapeError(
            f"prepend_codes: needs ids (n,) and from 1 to T = {T} codes (c,), got shapes {ids.shape} and {codes.shape}"
        )
    width = T - len(codes) + 1
    B = len(ids) // width
    if B == 0:
        raise ShapeError(
            f"prepend_codes: {len(ids)} ids do not fill a window; T = {T} with {len(codes)} codes has {width}"
        )
    texts = ids[: B * width].reshape(B, width)
    rows = np.concatenate([np.broadcast_to(codes, (B, len(codes))), texts], axis=1)
    targets = rows[:, 1:].astype(np.int64)
    targets[:, : len(codes) - 1] = IGNORED
    return rows[:, :-1], targets
