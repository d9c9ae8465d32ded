"""GPT in eager PyTorch, as people write it: what a training step of ours is timed against."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, D: int, H: int, width: int):
        super().__init__()
        self.H = H
        self.norm_1, self.norm_2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.up, self.down = nn.Linear(D, width), nn.Linear(width, D)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, T, D = x.shape
        q, k, v = self.qkv(self.norm_1(x)).view(B, T, 3, self.H, D // self.H).permute(2, 0, 3, 1, 4)
        heard = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(heard.transpose(1, 2).reshape(B, T, D))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class TorchGPT(nn.Module):
    """Learned positions, pre-norm, the output matrix tied to the embedding."""

    def __init__(self, V: int, D: int, L: int, H: int, width: int, max_length: int):
        super().__init__()
        self.embedding, self.positions = nn.Embedding(V, D), nn.Embedding(max_length, D)
        self.blocks = nn.ModuleList([Block(D, H, width) for _ in range(L)])
        self.norm = nn.LayerNorm(D)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids) + self.positions(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.embedding.weight.T
