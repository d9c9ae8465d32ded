"""Attention to neighbours and in windows, beside what PyTorch code does without kernels for them, written anew."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sides import Cases, Sides, floats, with_gradients

from minitf.attention.neighborhood import neighborhood_attention_2d, neighborhood_start
from minitf.attention.windows import window_attention

B, H, Y, X, E, K, SHIFT = 1, 4, 56, 56, 32, 7, 3


def arrays() -> list[np.ndarray]:
    return [*(floats(B, H, Y, X, E, seed=i) for i in range(3)), floats(H, 2 * K - 1, 2 * K - 1, seed=3)]


def unfolded(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Neighbourhood attention by a gather of every query's keys and values, (B, H, Y, X, k k, E)."""
    index = lambda n: torch.tensor(neighborhood_start(n, K))[:, None] + torch.arange(K)
    rows, columns = index(Y)[:, None, :, None], index(X)[None, :, None, :]
    offset = lambda at, n, shape: (at - torch.arange(n).reshape(shape)) + K - 1
    keys, values = (x[:, :, rows, columns].reshape(B, H, Y, X, K * K, E) for x in (k, v))
    biases = bias[:, offset(rows, Y, (Y, 1, 1, 1)), offset(columns, X, (1, X, 1, 1))].reshape(H, Y, X, K * K)
    s = torch.einsum("bhyxe,bhyxne->bhyxn", q * E**-0.5, keys) + biases
    return torch.einsum("bhyxn,bhyxne->bhyxe", s.softmax(-1), values)


def rolled(mask: torch.Tensor, at: torch.Tensor) -> Callable[..., torch.Tensor]:
    """Shifted windows as Swin's code has them: roll, partition, attention with a mask, reverse, roll."""
    n = K * K

    def cut(x: torch.Tensor) -> torch.Tensor:
        x = torch.roll(x, (-SHIFT, -SHIFT), (2, 3)).reshape(B, H, Y // K, K, X // K, K, E)
        return x.permute(0, 2, 4, 1, 3, 5, 6).reshape(-1, H, n, E)

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        q, k, v = cut(q), cut(k), cut(v)
        s = q * E**-0.5 @ k.transpose(-2, -1) + bias.reshape(H, -1)[:, at].reshape(H, n, n)
        s = (s.reshape(B, -1, H, n, n) + mask[None, :, None]).reshape(-1, H, n, n)
        y = (s.softmax(-1) @ v).reshape(B, Y // K, X // K, H, K, K, E)
        return torch.roll(y.permute(0, 3, 1, 4, 2, 5, 6).reshape(B, H, Y, X, E), (SHIFT, SHIFT), (2, 3))

    return attend


def neighborhood() -> Sides:
    ours = lambda q, k, v, bias: neighborhood_attention_2d(q, k, v, K, bias=bias)
    return with_gradients(ours, unfolded, *arrays())


def shifted_windows() -> Sides:
    region = torch.zeros(Y, X)
    slices = (slice(0, -K), slice(-K, -SHIFT), slice(-SHIFT, None))
    for i, rows in enumerate(slices):
        for j, columns in enumerate(slices):
            region[rows, columns] = 3 * i + j
    region = region.reshape(Y // K, K, X // K, K).transpose(1, 2).reshape(-1, K * K)
    mask = torch.where(region[:, None] == region[..., None], 0.0, -100.0)
    at = torch.cartesian_prod(torch.arange(K), torch.arange(K))
    at = (at[:, None] - at[None] + K - 1) @ torch.tensor([2 * K - 1, 1])
    ours = lambda q, k, v, bias: window_attention(q, k, v, K, shift=SHIFT, bias=bias)
    return with_gradients(ours, rolled(mask, at.reshape(-1)), *arrays())


SHAPE = f"B={B} H={H} {Y}x{X} E={E}"
CASES: Cases = {
    "neighborhood_attention": (neighborhood, f"{SHAPE}, {K}x{K} neighbours with bias, forward and backward"),
    "shifted_window_attention": (shifted_windows, f"{SHAPE}, {K}x{K} windows shifted by {SHIFT}, forward and backward"),
}
