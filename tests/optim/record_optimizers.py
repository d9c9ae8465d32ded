"""Records what timm's LAMB and the table of bitsandbytes give, as ``optimizers.npz`` beside this file.

    python tests/optim/record_optimizers.py

Recorded with timm 1.0.31, bitsandbytes 0.50.2 and torch 2.13.0, all in float64. timm's global clipping of gradients, which
the paper does not have, is off, and its scaling is on for parameters without weight decay too.
"""

from pathlib import Path

import numpy as np

STEPS = 50
HYPER = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-6}
SHAPES = ((5, 7), (11,))


def drawn() -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    """The parameters before the first step, and the gradients of every step."""
    rng = np.random.default_rng(0)
    start = [rng.normal(size=shape) for shape in SHAPES]
    return start, [[rng.normal(size=shape) for shape in SHAPES] for _ in range(STEPS)]


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
    for signed in (True, False):
        found[f"codes_{signed}"] = create_dynamic_map(signed).double().numpy()
    np.savez(Path(__file__).with_name("optimizers.npz"), **found)


if __name__ == "__main__":
    main()
