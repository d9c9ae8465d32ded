"""Attention to a part of the keys, beside what PyTorch code does on a processor: a dense mask, or gathered copies."""

from __future__ import annotations

import numpy as np
import torch
from sides import Cases, Sides, floats, with_gradients

from minitf.attention.block_sparse import block_sparse_attention
from minitf.attention.lsh import lsh_attention

B, H, T, E, BLOCK, CHUNK, ROUNDS = 1, 8, 4096, 64, 64, 64, 4


def blocks() -> Sides:
    listed = np.random.default_rng(0).random((2, H, T // BLOCK, T // BLOCK)) < 0.1
    listed |= np.eye(T // BLOCK, dtype=bool)
    mask = torch.tensor(listed.repeat(BLOCK, -2).repeat(BLOCK, -1))
    return with_gradients(
        lambda q, k, v: block_sparse_attention(q, k, v, listed, block=BLOCK),
        lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask),
        *(floats(2, H, T, E, seed=i) for i in range(3)), numpy=False,
    )  # fmt: skip


def sorted_copies(qk: torch.Tensor, v: torch.Tensor, rotations: torch.Tensor) -> torch.Tensor:
    """Causal LSH attention by sorted copies of all rounds: gather, cut, look one chunk back, undo the sort, average."""
    rounds, places, count = rotations.shape[1], torch.arange(T), T // CHUNK
    h = torch.einsum("bhte,enr->bhntr", qk.detach(), rotations)
    buckets = torch.cat([h, -h], -1).argmax(-1) + count * torch.arange(rounds)[:, None]
    order = (T * buckets + places).flatten(2).argsort(-1)
    undo, order = order.argsort(-1), order % T
    cut = lambda x: x.gather(2, order[..., None].expand(-1, -1, -1, E)).reshape(B, H, rounds * count, CHUNK, E)
    back = lambda x: torch.cat([x, x.roll(1, 2)], 3)
    queries, values, at = cut(qk), back(cut(v)), order.reshape(B, H, rounds * count, CHUNK)
    s = E**-0.5 * queries @ back(torch.nn.functional.normalize(queries, dim=-1)).transpose(-1, -2)
    key_at = back(at)
    s = s.masked_fill(at[..., None] < key_at[..., None, :], -torch.finfo(s.dtype).max)
    s = s.masked_fill(at[..., None] == key_at[..., None, :], -5e4)
    z = s.logsumexp(-1, keepdim=True)
    out = ((s - z).exp() @ values).flatten(2, 3).gather(2, undo[..., None].expand(-1, -1, -1, E))
    z = z.flatten(2, 3).gather(2, undo[..., None]).reshape(B, H, rounds, T, 1)
    return (out.reshape(B, H, rounds, T, E) * (z - z.logsumexp(2, keepdim=True)).exp()).sum(2)


def hashes() -> Sides:
    rotations = floats(E, ROUNDS, T // CHUNK // 2, seed=2)
    given = torch.tensor(rotations)
    return with_gradients(
        lambda qk, v: lsh_attention(qk, v, chunk=CHUNK, rotations=rotations, causal=True),
        lambda qk, v: sorted_copies(qk, v, given),
        *(floats(B, H, T, E, seed=i) for i in range(2)), numpy=False,
    )  # fmt: skip


CASES: Cases = {
    "block_sparse_attention": (blocks, f"B·H=16 T={T} E={E}, 10 % of blocks of {BLOCK}, forward and backward"),
    "lsh_attention": (
        hashes,
        f"B={B} H={H} T={T} E={E}, {ROUNDS} rounds, chunks of {CHUNK}, causal, forward and backward",
    ),
}
