"""Losses of class scores: ``(input, target)``, averaged over what is counted.

Classes are on the last axis of the logits, ``(*, V)``, and the targets have the shape ``(*)`` in front of it (PyTorch
has classes on axis 1). With p = softmax(logits), q the target distribution and lse = logsumexp(logits),

    cross_entropy = lse - sum(q ∘ logits) + z_loss lse²          for class t:  q = (1 - ε) onehot(t) + ε / V

Its primitive keeps the logits and one number a row for the backward sweep, and writes one array of their size there
(``minitf.kernels.cross_entropy``).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.dispatch import compiled, widened
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.rules import defcost, defvjp_all
from minitf.autodiff.tensor import ArrayLike, Primitive, Tensor, as_tensor, bind
from minitf.kernels import cross_entropy as kernels
from minitf.nn.softmax import log_softmax, real_floating
from minitf.registry import reference

#: what becomes of the losses of a batch
REDUCTIONS = ("mean", "sum", "none")


# -- what all losses share --------------------------------------------------------------------------------------


def reduced(what: str, losses: Tensor, reduction: str, counted: float | None = None) -> Tensor:
    """The mean over ``counted`` (default: all of the losses; 0 if there are none), the sum, or the losses themselves."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"{what}: reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    if reduction == "none":
        return losses
    total = mt.sum(losses)
    return total if reduction == "sum" else total / max(losses.size if counted is None else counted, 1)


def pair(what: str, input: ArrayLike, target: ArrayLike) -> tuple[Tensor, Tensor]:
    """Input and target as floating Tensors of one shape; integer and boolean targets become numbers."""
    input, target = real_floating(what, input), as_tensor(target)
    if target.dtype.kind in "iub":
        target = mt.astype(target, input.dtype)
    target = real_floating(f"{what}, target", target)
    if input.shape != target.shape:
        raise ShapeError(f"{what}: input and target must have the same shape, got {input.shape} and {target.shape}")
    return input, target


def expected(weight: Tensor, values: Tensor) -> Tensor:
    """weight ∘ values, where 0 times an infinite value is 0: what cannot happen costs nothing."""
    absent = (weight.data == 0) & np.isinf(values.data)
    return weight * (mt.where(absent, 0.0, values) if absent.any() else values)


# -- rows of logits against classes -----------------------------------------------------------------------------
# logits (N, V), target (N,): the class of each row, or -1 for a row that does not count -> (losses, lse), each (N,).


def _decomposed_class_losses(logits: Any, target: Any, *, smoothing: float) -> tuple[Tensor, Tensor]:
    counted = as_tensor(target).data >= 0
    logits = mt.where(counted[:, None], logits, 0.0)
    lse = mt.logsumexp(logits, -1)
    chosen = mt.take_along_axis(logits, np.where(counted, as_tensor(target).data, 0)[:, None], -1)[:, 0]
    if smoothing:
        chosen = (1 - smoothing) * chosen + smoothing * mt.mean(logits, -1)
    return mt.where(counted, lse - chosen, 0.0), mt.where(counted, lse, 0.0)


def _decomposed_class_losses_vjp(g: Any, h: Any, logits: Any, lse: Any, target: Any, *, smoothing: float) -> Tensor:
    target = as_tensor(target).data
    counted = target >= 0
    q = np.full(logits.shape, smoothing / logits.shape[-1])
    q[np.arange(len(target)), np.where(counted, target, 0)] += 1 - smoothing
    p = mt.exp(mt.where(counted[:, None], logits - lse[:, None], -math.inf))
    return (g + h)[:, None] * p - g[:, None] * np.where(counted[:, None], q, 0).astype(logits.dtype)


class_losses_p = Primitive(
    "cross_entropy",
    widened(compiled(kernels.class_losses, kernels.class_losses_twin)),
    outputs="many",
    decomposition=_decomposed_class_losses,
)
class_losses_vjp_p = Primitive(
    "cross_entropy_vjp",
    widened(compiled(kernels.class_losses_vjp, kernels.class_losses_vjp_twin)),
    decomposition=_decomposed_class_losses_vjp,
)


def _pull_class_losses(g: Any, out: Any, logits: Any, target: Any, *, smoothing: float) -> tuple[Tensor, None]:
    return bind(class_losses_vjp_p, *g, logits, out[1], target, smoothing=smoothing), None


defvjp_all(class_losses_p, _pull_class_losses)


def _class_losses_cost(out: Any, logits: np.ndarray, target: np.ndarray, *, smoothing: float) -> tuple[int, int]:
    return (3 + bool(smoothing)) * logits.size + (2 + 3 * bool(smoothing)) * target.size, 0


def _class_losses_vjp_cost(
    out: Any, g: Any, h: Any, logits: np.ndarray, lse: Any, target: np.ndarray, *, smoothing: float
) -> tuple[int, int]:
    return (3 + bool(smoothing)) * logits.size + (3 + bool(smoothing)) * target.size, 0


defcost(class_losses_p, _class_losses_cost)
defcost(class_losses_vjp_p, _class_losses_vjp_cost)


def _classes(what: str, input: Tensor, target: Any, ignore_index: int) -> np.ndarray:
    """Class indices as a flat array with -1 where ``ignore_index`` was, checked."""
    target = as_tensor(target).data
    if target.dtype.kind not in "iu":
        raise TypeError(f"{what}: class indices must be integers, got {target.dtype}")
    if target.shape != input.shape[:-1]:
        raise ShapeError(
            f"{what}: scores of shape {input.shape} have their {input.shape[-1]} classes on the last axis, so class "
            f"indices must have shape {input.shape[:-1]}, got {target.shape}"
        )
    ignored = target == ignore_index
    wrong = ~ignored & ((target < 0) | (target >= input.shape[-1]))
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"{what}: target {target[where]} at {where} is not a class; classes are 0 to {input.shape[-1] - 1}, and "
            f"ignore_index={ignore_index} marks what does not count"
        )
    return np.where(ignored, -1, target).reshape(-1).astype(np.intp)


def _scores(what: str, input: ArrayLike) -> Tensor:
    input = real_floating(what, input)
    if input.ndim == 0 or input.shape[-1] == 0:
        raise ShapeError(f"{what}: needs scores with classes on the last axis, got shape {input.shape}")
    return input


def cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    z_loss: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """The cross-entropy of softmax(input) with the target, in nats.

    input: logits ``(*, V)``, classes on the last axis.
    target: class indices ``(*)`` if integer, probabilities ``(*, V)`` if floating (differentiable, too).
    label_smoothing: ε in [0, 1]; the target becomes (1 - ε) target + ε / V.
    ignore_index: class indices of this value do not count: zero loss and gradient.
    z_loss: adds z_loss · logsumexp(input)², which keeps the normalizer near 1.
    reduction: "mean" over the rows that count (0 if none does), "sum", or "none" for the losses ``(*)``.
    """
    input = _scores("cross_entropy", input)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing must be between 0 and 1, got {label_smoothing!r}")
    target = as_tensor(target)
    if target.dtype.kind in "iu":
        classes = _classes("cross_entropy", input, target, ignore_index)
        rows = mt.reshape(input, (classes.size, input.shape[-1]))
        losses, lse = bind(class_losses_p, rows, classes, smoothing=float(label_smoothing))
        counted = int(np.count_nonzero(classes >= 0))
    else:
        losses, lse = _distribution_losses(input, target, label_smoothing), None
        counted = losses.size
    if z_loss:
        losses = losses + z_loss * mt.square(mt.logsumexp(input, -1) if lse is None else lse)
    return reduced("cross_entropy", mt.reshape(losses, input.shape[:-1]), reduction, counted)


def _distribution_losses(input: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """-sum(q log p), where a class with q = 0 contributes 0 even if it is impossible."""
    target = real_floating("cross_entropy, target probabilities", target)
    if target.shape != input.shape:
        raise ShapeError(
            f"cross_entropy: target probabilities must have the shape of the logits, {input.shape}, got {target.shape}"
        )
    if smoothing:
        target = target * (1 - smoothing) + smoothing / input.shape[-1]
    return -mt.sum(expected(target, log_softmax(input)), -1)


def nll_loss(input: ArrayLike, target: ArrayLike, *, ignore_index: int = -100, reduction: str = "mean") -> Tensor:
    """-input[target]: the loss of log-probabilities ``(*, V)`` for class indices ``(*)``."""
    input = _scores("nll_loss", input)
    classes = _classes("nll_loss", input, target, ignore_index)
    rows = mt.reshape(input, (classes.size, input.shape[-1]))
    chosen = rows[np.arange(classes.size), np.maximum(classes, 0)]
    losses = mt.where(classes >= 0, -chosen, 0.0)
    return reduced("nll_loss", mt.reshape(losses, input.shape[:-1]), reduction, int(np.count_nonzero(classes >= 0)))


def kl_div(input: ArrayLike, target: ArrayLike, *, log_target: bool = False, reduction: str = "mean") -> Tensor:
    """target (log target - input): the Kullback-Leibler divergence KL(target, exp(input)), term by term.

    input: log-probabilities ``(B, *)``. target: probabilities of the same shape, or their logarithms (``log_target``).
    reduction: "batchmean" is the divergence, the sum divided by B; "mean" divides by the number of terms instead.

    What has probability 0 in the target contributes 0; probability 0 in the input alone makes the divergence infinite.
    """
    input, target = pair("kl_div", input, target)
    if log_target:
        q, log_q = mt.exp(target), target
    else:
        q, log_q = target, mt.log(mt.where(target.data == 0, 1.0, target))
    terms = expected(q, log_q) - expected(q, input)
    if reduction != "batchmean":
        return reduced("kl_div", terms, reduction)
    if input.ndim == 0:
        raise ShapeError("kl_div: 'batchmean' needs a batch axis, got a scalar")
    return reduced("kl_div", terms, "mean", input.shape[0])


# -- what the oracle asks --------------------------------------------------------------------------------------------


def _example(
    draw: Any, size: str, *, ignored: bool = False, large: bool = False, **options: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    B, T, V = {"tiny": (1, 3, 5), "small": (2, 9, 37), "medium": (2, 65, 514)}[size]
    logits, target = 2 * draw.normal((B, T, V)), draw.integers((B, T), 0, V)
    if ignored:
        target[draw.boolean((B, T), 0.3)] = -100
        target[0, 0], target[0, 1] = 0, -100
    if large:
        logits[0, 0] *= 40
    return {"input": logits, "target": target}, options


reference(
    "nn.cross_entropy",
    cross_entropy,
    example=_example,
    differentiable=("input",),
    options=(
        {},
        {"reduction": "none"},
        {"label_smoothing": 0.1, "reduction": "none"},
        {"ignored": True},
        {"ignored": True, "label_smoothing": 0.1, "z_loss": 1e-2, "reduction": "sum"},
        {"large": True, "reduction": "none"},
    ),
)
