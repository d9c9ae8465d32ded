"""Convolutions, patches, the largest entries of rows and routing to experts, beside PyTorch's eager code."""

from __future__ import annotations

import numpy as np
import torch
from sides import Cases, Sides, floats, with_gradients

import minitf as mt
from minitf.feedforward.routing import assign, combine, dispatch
from minitf.nn.functional import conv2d

TF = torch.nn.functional
N, D, EXPERTS, CHOICES = 8192, 512, 64, 2


def convolution(C: int, size: int, outs: int, kernel: int, B: int = 8, **options: int) -> Sides:
    weight = floats(outs, C // options.get("groups", 1), kernel, kernel, seed=1)
    return with_gradients(
        lambda x, w: conv2d(x, w, **options), lambda x, w: TF.conv2d(x, w, **options), floats(B, C, size, size), weight
    )


def top_k() -> Sides:
    return with_gradients(lambda x: mt.top_k(x, 8)[0], lambda x: torch.topk(x, 8)[0], floats(4096, 1024))


def experts() -> Sides:
    """Every token to its experts and back; what the experts do is left out."""
    chosen = np.random.default_rng(0).random((N, EXPERTS)).argsort(axis=1)[:, :CHOICES]
    flat = torch.tensor(chosen).reshape(-1)

    def ours(x: mt.Tensor, weights: mt.Tensor) -> mt.Tensor:
        routes = assign(chosen, EXPERTS)
        return combine(dispatch(x, routes.tokens), routes.tokens, routes.of_rows(weights), N)

    def theirs(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        order = flat.argsort(stable=True)
        flat.bincount(minlength=EXPERTS)
        tokens = order // CHOICES
        rows = x.index_select(0, tokens) * weights.reshape(-1)[order][:, None]
        return torch.zeros_like(x).index_add_(0, tokens, rows)

    return with_gradients(ours, theirs, floats(N, D), floats(N, CHOICES, seed=1))


CASES: Cases = {
    "conv2d_3x3": (lambda: convolution(64, 56, 64, 3, padding=1), "(8, 64, 56, 56) -> 64, forward and backward"),
    "depthwise_conv2d_7x7": (
        lambda: convolution(96, 56, 96, 7, padding=3, groups=96), "(8, 96, 56, 56), forward and backward"
    ),
    "patch_embedding": (
        lambda: convolution(3, 224, 384, 16, stride=16), "(8, 3, 224, 224), patches of 16 -> 384, forward and backward"
    ),
    "moe_dispatch_combine": (experts, f"N={N} D={D}, {EXPERTS} experts, k={CHOICES}, forward and backward"),
    "top_k": (top_k, "(4096, 1024), k=8, forward and backward"),
}  # fmt: skip
