"""Products with packed or sparse weights, beside unpacking them and multiplying: what PyTorch code does without a kernel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sides import Cases, Sides, floats

from minitf.autodiff.config import current
from minitf.kernels import block_sparse
from minitf.kernels.low_bit import (
    int4_matmul,
    int4_matmul_twin,
    pack_int4,
    pack_ternary,
    ternary_matmul,
    ternary_matmul_twin,
)  # fmt: skip
from minitf.kernels.product import matmul

K = N = 2048


def int4(M: int) -> Callable[[], Sides]:
    def make() -> Sides:
        rng = np.random.default_rng(0)
        x, packed = floats(M, K), pack_int4(rng.integers(0, 16, (K, N)))
        scale, zero = floats(K // 128, N, seed=1), np.full((K // 128, N), 8, np.float32)
        x_, packed_, scale_, zero_ = (torch.tensor(a) for a in (x, packed, scale, zero))

        def unpacked() -> torch.Tensor:
            codes = torch.stack([packed_ & 15, packed_ >> 4], 1).reshape(K // 128, 128, N)
            return x_ @ ((codes - zero_[:, None]) * scale_[:, None]).reshape(K, N)

        return {
            "ours": lambda: int4_matmul(x, packed, scale, zero, threads=current().threads),
            "torch": unpacked,
            "numpy": lambda: int4_matmul_twin(x, packed, scale, zero),
        }

    return make


def ternary(M: int) -> Callable[[], Sides]:
    def make() -> Sides:
        x, packed = floats(M, K), pack_ternary(np.random.default_rng(0).integers(-1, 2, (K, N)))
        scale = np.float32(0.01)
        x_, packed_ = torch.tensor(x), torch.tensor(packed)

        def unpacked() -> torch.Tensor:
            codes = torch.cat([packed_ >> shift & 3 for shift in (0, 2, 4, 6)], 1).to(torch.float32) - 1
            return x_ @ codes * 0.01

        return {
            "ours": lambda: ternary_matmul(x, packed, N, scale, threads=current().threads),
            "torch": unpacked,
            "numpy": lambda: ternary_matmul_twin(x, packed, N, scale),
        }

    return make


def block_product(block: tuple[int, int], sparsity: float) -> Callable[[], Sides]:
    """128 tokens times BERT-base's (768, 3072); the other side multiplies with the dense matrix."""

    def make() -> Sides:
        rng, (r, c), shape = np.random.default_rng(0), block, (768, 3072)
        kept = rng.random((shape[0] // r, shape[1] // c)) >= sparsity
        columns, indices = np.nonzero(kept.T)
        indptr = np.searchsorted(columns, np.arange(kept.shape[1] + 1))
        data, x, dense = floats(len(indices), r, c), floats(128, shape[0]), floats(*shape)
        x_, dense_ = torch.tensor(x), torch.tensor(dense)
        return {
            "ours": lambda: block_sparse.matmul(x, data, indices, indptr, threads=current().threads),
            "torch": lambda: x_ @ dense_,
            "numpy": lambda: matmul(x, dense, threads=current().threads),
        }

    return make


CASES: Cases = {
    "ternary_matmul": (ternary(1), "one row, 2048 x 2048"),
    "ternary_matmul_16": (ternary(16), "16 rows, 2048 x 2048"),
    "int4_matmul": (int4(1), "one row, 2048 x 2048, groups of 128"),
    "int4_matmul_16": (int4(16), "16 rows, 2048 x 2048, groups of 128"),
    **{
        f"block_sparse_matmul_{c}x{r}_{round(100 * sparsity)}": (
            block_product((r, c), sparsity),
            f"128 x 768 x 3072, blocks of {c} outputs x {r} inputs, {sparsity:.0%} zeros, beside the dense product",
        )
        for r, c in ((1, 4), (1, 16))
        for sparsity in (0.5, 0.8, 0.9)
    },
}
