"""Records what timm's LAMB and bitsandbytes' 8-bit AdamW give, as ``optimizers.npz`` beside this file.

    python tests/optim/record_optimizers.py

Recorded with timm 1.0.31, bitsandbytes 0.50.2 and torch 2.13.0, all in float64. timm's global clipping of gradients, which
the paper does not have, is off, and its scaling is on for parameters without weight decay too. bitsandbytes' update for
CPUs, which works in float32, runs with its casts kept in float64 and on the table before it is rounded to float32; its
compiled encoder, which takes a neighbour of the nearest code for some small values, is replaced by the paper's rule.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

STEPS = 50
HYPER = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-6}
SHAPES = ((5, 7), (11,))


def drawn() -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    """The parameters before the first step, and the gradients of every step."""
    rng = np.random.default_rng(0)
    start = [rng.normal(size=shape) for shape in SHAPES]
    return start, [[rng.normal(size=shape) for shape in SHAPES] for _ in range(STEPS)]


def drawn_for_8_bits() -> tuple[np.ndarray, np.ndarray]:
    """600 numbers, so that the last block is not full, and gradients (50, 600) of many sizes."""
    rng = np.random.default_rng(1)
    return rng.normal(size=600), rng.normal(size=(STEPS, 600)) * 10.0 ** rng.uniform(-4, 0, (STEPS, 600))


def bitsandbytes_adamw() -> np.ndarray:
    import torch
    from bitsandbytes.backends.cpu import ops

    from minitf.optim.adamw_8bit import dynamic_codes

    sys.path.insert(0, str(Path(__file__).parents[1] / "cross"))
    from keep_double import keep_double

    def decode(codes: Any, largest: Any, table: Any, block: int) -> Any:
        return table[codes.long()] * largest.repeat_interleave(block)[: codes.numel()]

    def encode(x: Any, table: Any, largest: Any, codes: Any, block: int) -> None:
        for i, part in enumerate(x.split(block)):
            largest[i] = part.abs().max()
            codes[i * block : i * block + len(part)] = ((part / largest[i])[:, None] - table).abs().argmin(-1)

    ops._dequant_blockwise_fp32_direct, ops._quant_blockwise_fp32_direct = decode, encode
    start, gradients = drawn_for_8_bits()
    tables = [torch.tensor(dynamic_codes(signed)) for signed in (True, False)]
    with keep_double():
        p = torch.tensor(start)
        codes = [torch.full((len(start),), int((table == 0).nonzero()), dtype=torch.uint8) for table in tables]
        largest = [torch.zeros(-(-len(start) // 256)) for _ in tables]
        for step, g in enumerate(gradients, 1):
            ops._optimizer_update_8bit_blockwise_cpu(
                "adam", torch.tensor(g), p, *codes, *HYPER["betas"], 0.0, 0.0, HYPER["eps"], step, HYPER["lr"],
                *tables, *largest, weight_decay=0.05, gnorm_scale=1.0,
            )  # fmt: skip
    return p.numpy()


def main() -> None:
    import torch
    from bitsandbytes.functional import create_dynamic_map
    from timm.optim.lamb import Lamb

    found = {}
    for weight_decay in (0.0, 0.05):
        start, gradients = drawn()
        p = [torch.nn.Parameter(torch.tensor(x)) for x in start]
        lamb = Lamb(p, **HYPER, weight_decay=weight_decay, max_grad_norm=None, always_adapt=True)
        for step in gradients:
            for parameter, g in zip(p, step, strict=True):
                parameter.grad = torch.tensor(g)
            lamb.step()
        for i, parameter in enumerate(p):
            found[f"lamb_{weight_decay}_{i}"] = parameter.detach().numpy()
    found["adamw_8bit"] = bitsandbytes_adamw()
    for signed in (True, False):
        found[f"codes_{signed}"] = create_dynamic_map(signed).double().numpy()
    np.savez(Path(__file__).with_name("optimizers.npz"), **found)


if __name__ == "__main__":
    main()
