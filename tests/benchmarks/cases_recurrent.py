"""Recurrences beside the loops over time that public libraries fall back to on a processor, written anew in PyTorch.

The loops walk over ``unbind``: libraries that index each step pay O(T²) for gradients on top.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sides import Cases, Sides, with_gradients

from minitf.recurrent.linear_recurrence import gated_linear_recurrence
from minitf.recurrent.mamba import selective_scan
from minitf.recurrent.rwkv import wkv4, wkv6


def torch_scan(u, dt, A, B, C, D):
    decay, drive = torch.exp(dt[..., None] * A), (dt * u)[..., None] * B[:, :, None]
    h, y = torch.zeros_like(decay[:, 0]), []
    for decay_t, drive_t, C_t in zip(*(x.unbind(1) for x in (decay, drive, C)), strict=True):
        h = decay_t * h + drive_t
        y.append(torch.matmul(h, C_t[..., None])[..., 0])
    return torch.stack(y, 1) + D * u


def torch_recurrence(a, b):
    h, states = torch.zeros_like(a[:, 0]), []
    for a_t, b_t in zip(a.unbind(1), b.unbind(1), strict=True):
        h = a_t * h + b_t
        states.append(h)
    return torch.stack(states, 1)


def torch_wkv4(k, v, w, u):
    a, b, p, y = torch.zeros_like(k[:, 0]), torch.zeros_like(k[:, 0]), torch.full_like(k[:, 0], -1e38), []
    for k_t, v_t in zip(k.unbind(1), v.unbind(1), strict=True):
        q = torch.maximum(p, u + k_t)
        old, new = torch.exp(p - q), torch.exp(u + k_t - q)
        y.append((old * a + new * v_t) / (old * b + new))
        q = torch.maximum(p - w, k_t)
        old, new = torch.exp(p - w - q), torch.exp(k_t - q)
        a, b, p = old * a + new * v_t, old * b + new, q
    return torch.stack(y, 1)


def torch_wkv6(r, k, v, w, u):
    S, y = r.new_zeros(*r.shape[:2], r.shape[3], v.shape[3]), []
    for r_t, k_t, v_t, w_t in zip(*(x.unbind(2) for x in (r, k, v, w)), strict=True):
        kv = k_t[..., None] * v_t[:, :, None]
        y.append(torch.matmul(r_t[:, :, None], S + u[..., None] * kv)[:, :, 0])
        S = w_t[..., None] * S + kv
    return torch.stack(y, 2)


def draw_scan(rng, B=1, T=2048, P=256, N=16):
    return (
        rng.standard_normal((B, T, P)), rng.uniform(0.001, 0.1, (B, T, P)), -rng.uniform(1, N, (P, N)),
        *rng.standard_normal((2, B, T, N)), np.ones(P),
    )  # fmt: skip


def draw_recurrence(rng, B=1, T=2048, P=256):
    return rng.uniform(0, 1, (B, T, P)), rng.standard_normal((B, T, P))


def draw_wkv4(rng, B=1, T=1024, C=256):
    return *rng.standard_normal((2, B, T, C)), rng.uniform(0.01, 1, C), rng.standard_normal(C)


def draw_wkv6(rng, B=1, H=4, T=1024, E=64):
    r, k, v = rng.standard_normal((3, B, H, T, E))
    return r, k, v, rng.uniform(0.9, 1, (B, H, T, E)), rng.standard_normal((H, E))


def beside(ours: Callable[..., Any], theirs: Callable[..., Any], draw: Callable[..., Any]) -> Callable[[], Sides]:
    def make() -> Sides:
        arrays = [x.astype(np.float32) for x in draw(np.random.default_rng(0))]
        return with_gradients(ours, theirs, *arrays)

    return make


CASES: Cases = {
    "selective_scan": (beside(selective_scan, torch_scan, draw_scan), "B=1 T=2048 P=256 N=16, forward and backward"),
    "gated_linear_recurrence": (
        beside(gated_linear_recurrence, torch_recurrence, draw_recurrence),
        "B=1 T=2048 P=256, forward and backward",
    ),
    "wkv": (beside(wkv4, torch_wkv4, draw_wkv4), "RWKV-4, B=1 T=1024 C=256, forward and backward"),
    "wkv6": (beside(wkv6, torch_wkv6, draw_wkv6), "RWKV-6, B=1 H=4 T=1024 E=64, forward and backward"),
}
