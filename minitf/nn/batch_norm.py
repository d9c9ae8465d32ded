"""Batch normalization: every channel is normalized by what it does on the whole batch.

    y = (x - mean) rsqrt(var + eps) w + b                     mean, var, w, b: one number a channel

While training, mean and (biased) variance are those of the batch, over all its samples and places, and gradients flow
through them; running estimates follow at the side,

    running <- (1 - momentum) running + momentum statistic    with the unbiased variance, N / (N - 1) times the biased

and take the place of the batch's own statistics after ``eval()``. A layer in training therefore sees its samples
together, a layer in evaluation each by itself.

The idea is of Ioffe and Szegedy, "Batch Normalization" (2015); the running variance is PyTorch's.
"""

from __future__ import annotations

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import ArrayLike, Tensor, as_tensor
from minitf.nn import init
from minitf.nn.module import Buffer, Module, Parameter, require_sizes
from minitf.nn.softmax import real_floating


def _channels_last(what: str, x: ArrayLike) -> Tensor:
    x = real_floating(what, x)
    if x.ndim < 2 or 0 in x.shape:
        raise ShapeError(f"{what}: needs (B, C, *) with something to normalize, got shape {x.shape}")
    return mt.moveaxis(x, 1, -1)


def batch_statistics(x: ArrayLike) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of every channel: ``(B, C, *) -> (C,), (C,)``."""
    x = _channels_last("batch_statistics", x)
    others = tuple(range(x.ndim - 1))
    mean = mt.mean(x, others)
    return mean, mt.mean(mt.square(x - mean), others)


def batch_norm(
    x: ArrayLike,
    mean: ArrayLike | None = None,
    var: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) rsqrt(var + eps) for every channel of ``x (B, C, *)``, times ``weight (C,)``, plus ``bias (C,)``, if given.

    mean, var: ``(C,)``, for example running estimates; those of the batch by default. Nothing is updated.

    Raises ShapeError when shapes disagree, ValueError when only one of mean and var is given.
    """
    rows = _channels_last("batch_norm", x)
    if (mean is None) != (var is None):
        raise ValueError("batch_norm: give both mean and var, or neither to use the statistics of the batch")
    given = {"mean": mean, "var": var, "weight": weight, "bias": bias}
    channels = {name: as_tensor(value) for name, value in given.items() if value is not None}
    for name, value in channels.items():
        if value.shape != rows.shape[-1:]:
            raise ShapeError(
                f"batch_norm: {name} must be (C,) = ({rows.shape[-1]},) for x {as_tensor(x).shape}, got {value.shape}"
            )
    if mean is None:
        channels["mean"], channels["var"] = batch_statistics(x)
    scale = mt.rsqrt(channels["var"] + eps)
    y = (rows - channels["mean"]) * (scale * channels["weight"] if "weight" in channels else scale)
    return mt.moveaxis(y + channels["bias"] if "bias" in channels else y, -1, 1)


class _BatchNorm(Module):
    axes: tuple[int, ...]  # how many spatial axes there may be

    def __init__(
        self,
        C: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ):
        name = type(self).__name__
        require_sizes(name, C=C)
        if momentum is not None and not 0 <= momentum <= 1:
            raise ValueError(f"{name}: momentum must be between 0 and 1, or None for a plain average, got {momentum!r}")
        self.C, self.eps, self.momentum = C, eps, momentum
        self.weight = Parameter(np.ones(C)) if affine else None
        self.bias = Parameter(np.zeros(C)) if affine else None
        self.running_mean = Buffer(init.zeros((C,))) if track_running_stats else None
        self.running_var = Buffer(init.ones((C,))) if track_running_stats else None
        self.num_batches_tracked = Buffer(np.zeros((), np.int64)) if track_running_stats else None

    def forward(self, x: ArrayLike) -> Tensor:
        x = as_tensor(x)
        if x.ndim - 2 not in self.axes or x.shape[1] != self.C:
            wanted = " or ".join(f"({', '.join(('B', 'C', *'ZYX'[3 - n :]))})" for n in self.axes)
            raise ShapeError(f"{type(self).__name__}: needs x {wanted} with C = {self.C}, got shape {x.shape}")
        mean, var = self.running_mean, self.running_var
        if self.training or mean is None:
            N = x.size // self.C
            if N == 1:
                raise ValueError(
                    f"{type(self).__name__}: one value a channel, in x {x.shape}, has no variance; a batch needs at least 2"
                )
            mean, var = batch_statistics(x)
            if self.training and self.running_mean is not None:
                self._track(mean.data, var.data * (N / (N - 1)))
        return batch_norm(x, mean, var, self.weight, self.bias, self.eps)

    def _track(self, mean: np.ndarray, var: np.ndarray) -> None:
        """Moves the running estimates; on plain arrays, so that nothing of it is recorded."""
        count = Buffer(self.num_batches_tracked.data + 1)  # pyright: ignore[reportOptionalMemberAccess]
        share = 1 / count.item() if self.momentum is None else self.momentum
        for name, statistic in (("running_mean", mean), ("running_var", var)):
            before = getattr(self, name)
            setattr(self, name, Buffer((1 - share) * before.data + share * statistic, before.dtype))
        self.num_batches_tracked = count

    def extra_repr(self) -> str:
        options = "" if self.weight is not None else ", affine=False"
        options += "" if self.running_mean is not None else ", track_running_stats=False"
        return f"{self.C}, eps={self.eps}, momentum={self.momentum}{options}"


class BatchNorm1d(_BatchNorm):
    """``batch_norm`` of ``(B, C)`` or ``(B, C, X)``; see ``BatchNorm2d``."""

    axes = (0, 1)


class BatchNorm2d(_BatchNorm):
    """``batch_norm`` of ``(B, C, Y, X)`` with the batch's statistics while training, running estimates in evaluation.

    momentum: the weight of the newest batch in the running estimates; None gives all batches the same weight.
    affine: False leaves out weight and bias.
    track_running_stats: False keeps no estimates; the batch's own statistics are then used in evaluation too.

    Under ``mt.checkpoint`` the forward pass runs twice, and the running estimates move twice.

    Raises ShapeError for another layout, ValueError for a batch with one value a channel.
    """

    axes = (2,)


class BatchNorm3d(_BatchNorm):
    """``batch_norm`` of ``(B, C, Z, Y, X)``; see ``BatchNorm2d``."""

    axes = (3,)
