"""Weight standardization: the filters of a convolution are normalized instead of what comes out of it.

    ŵ[o] = (w[o] - mean(w[o])) / sqrt(var(w[o]) + eps)            over the C_in/groups · K values of filter o

The layer computes with ŵ and learns w. The mean and the scale of a filter then do nothing, so the gradient with respect to
w is orthogonal to both, and the activations of a layer keep their scale for batches of any size: it is made to go
with group norm.

The idea is of Qiao et al., "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization" (2019).
The variance is biased and eps inside the root, as there.
"""

from __future__ import annotations

import math
from typing import Any

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.broadcast import reshape
from minitf.autodiff.tensor import ArrayLike, Tensor, as_tensor
from minitf.nn.convolutions import Conv2d
from minitf.nn.norms import layer_norm


def standardize_weight(weight: ArrayLike, eps: float = 1e-5) -> Tensor:
    """``weight (C_out, ...)``, every filter with mean 0 and variance var / (var + eps).

    Raises ShapeError for what is not a weight of filters.
    """
    weight = as_tensor(weight)
    if weight.ndim < 2 or 0 in weight.shape:
        raise ShapeError(f"standardize_weight: the weight must be (C_out, C_in/groups, *K), got {weight.shape}")
    filters = reshape(weight, (weight.shape[0], math.prod(weight.shape[1:])))
    return reshape(layer_norm(filters, eps=eps), weight.shape)


class WeightStandardizedConv2d(Conv2d):
    """``Conv2d`` with standardized weight; the arguments are the same, and ``eps``."""

    def __init__(self, *args: Any, eps: float = 1e-5, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.eps = eps

    def forward(self, x: ArrayLike) -> Tensor:
        return self.convolve(x, standardize_weight(self.weight, self.eps))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, eps={self.eps}"
