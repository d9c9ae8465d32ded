"""Averages of weights over the steps of training: t ← m t + (1 - m) s.

An average forgets with a time constant of 1 / (1 - m) steps; it is what evaluation often uses, and what a self-distilled
student looks up to.
"""

from __future__ import annotations

import copy

import numpy as np

from minitf.nn.module import Module


def ema_update(target: Module, source: Module, momentum: float) -> None:
    """Moves every floating parameter and buffer of ``target`` to that of ``source``, in place; other buffers are copied.

    Raises ValueError if the two modules do not have the same names and shapes, or for a momentum outside [0, 1].
    """
    if not 0 <= momentum <= 1:
        raise ValueError(f"ema_update: momentum must be in [0, 1], got {momentum!r}")
    mine, theirs = ({**dict(m.named_parameters()), **dict(m.named_buffers())} for m in (target, source))
    if {n: x.shape for n, x in mine.items()} != {n: x.shape for n, x in theirs.items()}:
        other = sorted(n for n in mine.keys() | theirs.keys() if n not in mine or n not in theirs)
        what = f"only one of them has {other[0]}" if other else "their shapes differ"
        raise ValueError(f"ema_update: target and source must be the same kind of module, but {what}")
    for name, x in mine.items():
        new = theirs[name].data
        x.data[...] = momentum * x.data + (1 - momentum) * new if x.data.dtype.kind in "fc" else new


class EMA:
    """A module that is the average of another one.

    module: the average, a copy in eval mode, without gradients. momentum: how much of the average a step keeps.
    warmup: begin with min(momentum, (1 + t) / (10 + t)) in step t, so that the first weights are soon forgotten.
    """

    def __init__(self, model: Module, momentum: float = 0.999, warmup: bool = False):
        self.module = copy.deepcopy(model).requires_grad_(False).eval()
        self.momentum, self.warmup, self.steps = momentum, warmup, 0
        ema_update(self.module, model, momentum)  # raises for a momentum out of range; changes nothing

    def update(self, model: Module) -> None:
        """Takes one more step of ``model`` in."""
        slow = (1 + self.steps) / (10 + self.steps) if self.warmup else 1.0
        ema_update(self.module, model, min(self.momentum, slow))
        self.steps += 1

    def state_dict(self) -> dict[str, np.ndarray]:
        """The averaged values by name."""
        return self.module.state_dict()
