"""Neural functions under PyTorch's names: ``mt.nn.functional``.

Arrays or Tensors in, Tensors out. Two things differ from PyTorch: weights act on the right (``linear`` takes
``(D_in, D_out)``), and classes are on the last axis of a loss (of sequences, too: ``(B, T, V)``). Random functions
take an explicit ``rng``.
"""

from __future__ import annotations

import math

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.config import current
from minitf.autodiff.dispatch import compiled
from minitf.autodiff.dtypes import as_dtype
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.convolution import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    fold,
    unfold,
)
from minitf.autodiff.ops.elementwise import sigmoid, softplus, tanh
from minitf.autodiff.ops.pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from minitf.autodiff.ops.resample import interpolate
from minitf.autodiff.rules import defcost, defjvp, deflinear, defvjp
from minitf.autodiff.tensor import ArrayLike, Primitive, Tensor, as_tensor, bind, plain
from minitf.kernels import dropout as kernels
from minitf.kernels import product
from minitf.nn.activations import geglu, gelu, glu, reglu, relu, silu, softcap, squared_relu, swiglu
from minitf.nn.batch_norm import batch_norm
from minitf.nn.binary_losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    dice_loss,
    focal_loss,
)
from minitf.nn.causal_conv import causal_conv1d
from minitf.nn.contrastive_losses import (
    cosine_embedding_loss,
    cosine_similarity,
    hinge_embedding_loss,
    info_nce,
    margin_ranking_loss,
    normalize,
    pairwise_distance,
    triplet_margin_loss,
)
from minitf.nn.ctc import ctc_loss
from minitf.nn.gumbel import gumbel_softmax
from minitf.nn.image_losses import psnr, ssim, ssim_loss
from minitf.nn.init import generator
from minitf.nn.losses import cross_entropy, kl_div, nll_loss
from minitf.nn.norms import group_norm, instance_norm, layer_norm, rms_norm
from minitf.nn.pixel_shuffle import pixel_shuffle, pixel_unshuffle
from minitf.nn.regression_losses import (
    ccc_loss,
    charbonnier_loss,
    gaussian_nll_loss,
    huber_loss,
    l1_loss,
    mse_loss,
    poisson_nll_loss,
    smooth_l1_loss,
)
from minitf.nn.sampling import affine_grid, grid_sample
from minitf.nn.scaled_dot_product import scaled_dot_product_attention
from minitf.nn.segments import segment_max, segment_softmax, segment_sum
from minitf.nn.softmax import log_softmax, real_floating, softmax
from minitf.nn.weight_standardization import standardize_weight

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "affine_grid",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "batch_norm",
    "bilinear",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "causal_conv1d",
    "ccc_loss",
    "charbonnier_loss",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "cosine_embedding_loss",
    "cosine_similarity",
    "cross_entropy",
    "ctc_loss",
    "dice_loss",
    "drop_path",
    "dropout",
    "embedding",
    "focal_loss",
    "fold",
    "gaussian_nll_loss",
    "geglu",
    "gelu",
    "glu",
    "grid_sample",
    "group_norm",
    "gumbel_softmax",
    "hinge_embedding_loss",
    "huber_loss",
    "info_nce",
    "instance_norm",
    "interpolate",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "linear",
    "log_softmax",
    "margin_ranking_loss",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "mse_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "pairwise_distance",
    "pixel_shuffle",
    "pixel_unshuffle",
    "poisson_nll_loss",
    "psnr",
    "reglu",
    "relu",
    "repeat_kv",
    "rms_norm",
    "scaled_dot_product_attention",
    "segment_max",
    "segment_softmax",
    "segment_sum",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softcap",
    "softmax",
    "softplus",
    "squared_relu",
    "ssim",
    "ssim_loss",
    "standardize_weight",
    "swiglu",
    "tanh",
    "triplet_margin_loss",
    "unfold",
]


# -- linear -----------------------------------------------------------------------------------------------------


def _linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    out = product.matmul(x, weight, threads=current().threads)
    out += bias
    return out


# Rows (N, D_in) of one dtype: one product each way, also for the weight.
linear_p = Primitive("linear", _linear, decomposition=lambda x, weight, bias: mt.matmul(x, weight) + bias)
defvjp(
    linear_p,
    lambda g, out, x, weight, bias: mt.matmul(g, weight.T),
    lambda g, out, x, weight, bias: mt.matmul(x.T, g),
    lambda g, out, x, weight, bias: mt.sum(g, 0),
    saves=(0, 1),
)
defjvp(
    linear_p,
    lambda t, out, x, weight, bias: mt.matmul(t, weight),
    lambda t, out, x, weight, bias: mt.matmul(x, t),
    lambda t, out, x, weight, bias: mt.broadcast_to(t, out.shape),
)
defcost(linear_p, lambda out, x, weight, bias: ((2 * x.shape[-1] + 1) * out.size, x.shape[-1] * out.size))


def linear(x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None) -> Tensor:
    """x @ weight + bias: ``(*, D_in), (D_in, D_out), (D_out,) -> (*, D_out)``."""
    x, weight = as_tensor(x), as_tensor(weight)
    if weight.ndim != 2 or x.ndim < 1 or x.shape[-1] != weight.shape[0]:
        raise ShapeError(
            f"linear: weight must be (D_in, D_out) with D_in the last axis of x; x is {x.shape}, weight {weight.shape}"
        )
    rows = mt.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))
    if bias is None:
        out = mt.matmul(rows, weight)
    else:
        bias = as_tensor(bias)
        if bias.shape != weight.shape[1:]:
            raise ShapeError(f"linear: bias must be (D_out,) = {weight.shape[1:]}, got {bias.shape}")
        if rows.dtype == weight.dtype == bias.dtype:
            out = bind(linear_p, rows, weight, bias)
        else:
            out = mt.matmul(rows, weight) + bias
    return mt.reshape(out, (*x.shape[:-1], weight.shape[1]))


def bilinear(x1: ArrayLike, x2: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None) -> Tensor:
    """y_o = sum over i, j of x1_i weight_ijo x2_j, plus bias_o.

    ``(*, D1), (*, D2), (D1, D2, D_out), (D_out,) -> (*, D_out)``: ``linear`` of all products of an x1 and an x2.
    """
    x1, x2, weight = as_tensor(x1), as_tensor(x2), as_tensor(weight)
    if (
        x1.ndim < 1
        or x1.shape[:-1] != x2.shape[:-1]
        or weight.ndim != 3
        or weight.shape[:2] != (x1.shape[-1], x2.shape[-1])
    ):
        raise ShapeError(
            "bilinear: needs x1 (*, D1), x2 (*, D2) and weight (D1, D2, D_out), got "
            f"{x1.shape}, {x2.shape} and {weight.shape}"
        )
    D1, D2, D_out = weight.shape
    products = mt.reshape(mt.outer(x1, x2), (*x1.shape[:-1], D1 * D2))
    return linear(products, mt.reshape(weight, (D1 * D2, D_out)), bias)


# -- look-ups ---------------------------------------------------------------------------------------------------


def _ids(what: str, ids: ArrayLike, V: int) -> np.ndarray:
    ids = as_tensor(ids).data
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{what}: ids must be integers, got {ids.dtype} {ids.shape}")
    if ids.size and (ids.min() < 0 or ids.max() >= V):
        raise ValueError(f"{what}: ids must be between 0 and {V - 1}, got {ids.min()} to {ids.max()}")
    return ids


def embedding(ids: ArrayLike, weight: ArrayLike) -> Tensor:
    """Rows of ``weight (V, D)``: ids ``(*)`` -> ``(*, D)``."""
    weight = as_tensor(weight)
    if weight.ndim != 2:
        raise ShapeError(f"embedding: weight must be (V, D), got {weight.shape}")
    return weight[_ids("embedding", ids, weight.shape[0])]


def one_hot(ids: ArrayLike, V: int, dtype: object = None) -> Tensor:
    """1 at the id, 0 elsewhere: ids ``(*)`` -> ``(*, V)``, of the configured dtype by default; a constant."""
    dtype = current().dtype if dtype is None else as_dtype(dtype)
    return plain((_ids("one_hot", ids, V)[..., None] == np.arange(V)).astype(dtype))


def repeat_kv(x: ArrayLike, H: int) -> Tensor:
    """Keys or values of K heads for H query heads: ``(*, K, S, E) -> (*, H, S, E)``; head h reads h // (H // K)."""
    x = as_tensor(x)
    if x.ndim < 3 or x.shape[-3] == 0 or H % x.shape[-3]:
        raise ShapeError(f"repeat_kv: needs (*, K, S, E) with K a divisor of H = {H}, got {x.shape}")
    return x if x.shape[-3] == H else mt.repeat(x, H // x.shape[-3], -3)


# -- dropout ----------------------------------------------------------------------------------------------------


dropout_p = Primitive("dropout", compiled(kernels.dropout, kernels.dropout_twin))
deflinear(dropout_p, lambda g, out, x, keep, factor: bind(dropout_p, g, keep=keep, factor=factor))
defcost(dropout_p, lambda out, x, keep, factor: (x.size, 0))


def dropout(
    x: ArrayLike,
    p: float = 0.5,
    *,
    rng: np.random.Generator | None = None,
    training: bool = True,
    mask: ArrayLike | None = None,
) -> Tensor:
    """Each element zero with probability ``p``, the others divided by 1 - p; the identity unless ``training``.

    rng: draws which; needed unless nothing is drawn.
    mask: boolean, True = kept, broadcast to ``x``: given instead of drawn.
    """
    x = real_floating("dropout", x)
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p must be between 0 and 1, got {p!r}")
    if not training or (p == 0 and mask is None):
        return x
    if mask is None:
        keep = generator(rng).random(x.shape, dtype=np.float32) >= p
    else:
        keep = as_tensor(mask).data
        if keep.dtype != np.bool_:
            raise TypeError(f"dropout: mask must be boolean, True = kept, got {keep.dtype}")
        try:
            keep = np.broadcast_to(keep, x.shape)
        except ValueError:
            raise ShapeError(f"dropout: a mask of shape {keep.shape} does not broadcast to x {x.shape}") from None
    return bind(dropout_p, x, keep=keep, factor=1 / (1 - p) if p < 1 else 0.0)


def drop_path(
    x: ArrayLike,
    p: float = 0.5,
    *,
    rng: np.random.Generator | None = None,
    training: bool = True,
    mask: ArrayLike | None = None,
) -> Tensor:
    """Each sample of ``x (B, *)`` zero with probability ``p``, the others divided by 1 - p; the identity unless ``training``.

    rng: draws which; needed unless nothing is drawn.
    mask: boolean ``(B,)``, True = kept: given instead of drawn.
    """
    x = real_floating("drop_path", x)
    if x.ndim < 1:
        raise ShapeError("drop_path: needs samples along the first axis, got a scalar")
    if mask is None and training and 0 < p <= 1:
        mask = generator(rng).random(x.shape[0], dtype=np.float32) >= p
    if mask is not None:
        mask = as_tensor(mask)
        if mask.shape != x.shape[:1]:
            raise ShapeError(f"drop_path: mask must be (B,) = {x.shape[:1]}, True = kept, got {mask.shape}")
        mask = mt.reshape(mask, (*mask.shape, *[1] * (x.ndim - 1)))
    return dropout(x, p, training=training, mask=mask)
