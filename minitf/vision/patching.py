"""Images as tokens: each patch of P x P pixels becomes one vector, row by row.

token(y, x) = W flatten(image[:, yP:(y+1)P, xP:(x+1)P]) + b                 a convolution with stride P
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.broadcast import reshape
from minitf.autodiff.ops.convolution import conv2d
from minitf.autodiff.ops.shape import swapaxes
from minitf.autodiff.tensor import Tensor, as_tensor
from minitf.nn import init
from minitf.nn.module import Module, Parameter


class PatchEmbed(Module):
    """Images (B, C, Y, X) -> tokens (B, Y/P · X/P, D), in row-major order; weight (D, C, P, P), bias (D,).

    The weight starts as that of a linear map of the pixels of a patch, U(±1/sqrt(C P²)).
    """

    def __init__(self, C: int, D: int, patch: int, *, rng: np.random.Generator):
        super().__init__()
        if min(C, D, patch) < 1:
            raise ShapeError(f"PatchEmbed: C, D and patch must be positive, got C={C}, D={D}, patch={patch}")
        bound = (C * patch * patch) ** -0.5
        self.weight = Parameter(init.uniform((D, C, patch, patch), -bound, bound, rng=rng))
        self.bias = Parameter(init.uniform((D,), -bound, bound, rng=rng))
        self.patch = patch

    def forward(self, images: Any) -> Tensor:
        images = as_tensor(images)
        C, P = self.weight.shape[1], self.patch
        if images.ndim != 4 or images.shape[1] != C or images.shape[2] % P or images.shape[3] % P:
            raise ShapeError(
                f"PatchEmbed: images must be (B, {C}, Y, X) with multiples of the patch's {P} pixels, got {images.shape}"
            )
        maps = conv2d(images, self.weight, self.bias, stride=P)
        return swapaxes(reshape(maps, (*maps.shape[:2], -1)), 1, 2)
