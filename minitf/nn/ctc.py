"""Connectionist temporal classification: the probability of a label sequence, summed over all its alignments.

An alignment gives every frame a label or the blank; merging repetitions and then dropping blanks leaves the labels, so
equal neighbors need a blank between them. With the labels l_1 .. l_L interleaved with blanks,

    z = (blank, l_1, blank, l_2, ..., l_L, blank)                                        N = 2L + 1 states
    α_t(n) = p_t(z_n) (α_{t-1}(n) + α_{t-1}(n-1) + [z_n ≠ blank, z_n ≠ z_{n-2}] α_{t-1}(n-2))
    loss   = -ln (α_T(N) + α_T(N-1))

all in logarithms, for the whole batch and all states at once: O(T N) a sequence, in time and in memory. In front of the
first frame, everything is in the first state. The gradient is what differentiation makes of the recursion, to any order.
"""

from __future__ import annotations

import math

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.shape import unstack
from minitf.autodiff.tensor import ArrayLike, Tensor, as_tensor
from minitf.nn.losses import reduced
from minitf.nn.softmax import real_floating


def _lengths(name: str, lengths: ArrayLike, B: int, most: int) -> np.ndarray:
    lengths = as_tensor(lengths).data
    if lengths.dtype.kind not in "iu":
        raise TypeError(f"ctc_loss: {name} must be integers, got {lengths.dtype}")
    if lengths.shape != (B,):
        raise ShapeError(f"ctc_loss: {name} must be (B,) = ({B},), got {lengths.shape}")
    if ((lengths < 0) | (lengths > most)).any():
        raise ValueError(f"ctc_loss: {name} must be between 0 and {most}, got {lengths.tolist()}")
    return lengths


def _states(targets: ArrayLike, lengths: np.ndarray, V: int, blank: int) -> np.ndarray:
    """Labels (B, S) with blanks around them, (B, 2S + 1); what is behind a sequence's end is blank, too."""
    targets = as_tensor(targets).data
    B, S = targets.shape
    inside = np.arange(S) < lengths[:, None]
    wrong = inside & ((targets < 0) | (targets >= V) | (targets == blank))
    if wrong.any():
        b, s = (int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"ctc_loss: target {targets[b, s]} at ({b}, {s}) is no label; labels are 0 to {V - 1} without blank={blank}"
        )
    states = np.full((B, 2 * S + 1), blank)
    states[:, 1::2] = np.where(inside, targets, blank)
    return states


def ctc_loss(
    log_probs: ArrayLike,
    targets: ArrayLike,
    input_lengths: ArrayLike,
    target_lengths: ArrayLike,
    *,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """-ln of the probability of all alignments of ``targets`` with the frames.

    log_probs: ``(B, T, V)``, from ``log_softmax`` (PyTorch has (T, B, V)); -inf is legal.
    targets: labels ``(B, S)``, integers other than ``blank``; padded with anything.
    input_lengths, target_lengths: ``(B,)``, how many frames and labels of each sequence count; the others are not read.
    reduction: "mean" divides each loss by its target length (at least 1) and averages over the batch; "sum"; "none".
    zero_infinity: a loss of inf becomes 0.

    Labels that do not fit into the frames cost inf, with a zero gradient. The gradient is that of the definition, the
    negative posterior of the labels at each frame; PyTorch's is only right behind ``log_softmax``, where both agree.
    """
    log_probs, targets = real_floating("ctc_loss", log_probs), as_tensor(targets)
    if log_probs.ndim != 3 or targets.ndim != 2 or targets.shape[0] != log_probs.shape[0]:
        raise ShapeError(
            f"ctc_loss: needs log_probs (B, T, V) and targets (B, S), padded, got {log_probs.shape} and {targets.shape}"
        )
    if targets.dtype.kind not in "iu":
        raise TypeError(f"ctc_loss: targets must be integers, got {targets.dtype}")
    B, T, V = log_probs.shape
    if not 0 <= blank < V:
        raise ValueError(f"ctc_loss: blank must be one of the {V} classes, got {blank!r}")
    frames = _lengths("input_lengths", input_lengths, B, T)
    labels = _lengths("target_lengths", target_lengths, B, targets.shape[1])
    states = _states(targets, labels, V, blank)
    counts = (np.arange(T) < frames[:, None])[:, :, None]
    emitted = mt.where(counts, mt.take_along_axis(log_probs, states[:, None, :], -1), 0.0)

    N = states.shape[1]
    may_skip = np.zeros((B, N), bool)
    may_skip[:, 2:] = (states[:, 2:] != blank) & (states[:, 2:] != states[:, :-2])
    start = np.full((B, N), -math.inf, log_probs.dtype)
    start[:, 0] = 0
    alphas = [as_tensor(start)]
    for frame in unstack(emitted, 1):
        alpha = alphas[-1]
        before = mt.pad(alpha, ((0, 0), (2, 0)), -math.inf)
        skip = mt.where(may_skip, before[:, :-2], -math.inf)
        alphas.append(mt.logaddexp(mt.logaddexp(alpha, before[:, 1:-1]), skip) + frame)
    final = mt.stack(alphas, 1)[np.arange(B), frames]
    ends = 2 * labels[:, None] - np.arange(N)
    losses = -mt.logsumexp(mt.where((ends == 0) | (ends == 1), final, -math.inf), 1)
    if zero_infinity:
        losses = mt.where(losses.data == math.inf, 0.0, losses)
    return reduced("ctc_loss", losses / np.maximum(labels, 1) if reduction == "mean" else losses, reduction)
