"""Runs other people's PyTorch models in float64 all the way.

Many models cast softmax, norms or rotary tables to float32 inside, so ``model.double()`` agrees with float64 only to
1e-7. Inside ``keep_double()`` float64 is the default dtype and every request for float32 is answered with float64. Build
the model inside as well: rotary frequencies are a buffer that is filled when the model is made.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _NoFloat32(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args = tuple(torch.float64 if a is torch.float32 else a for a in args)
        kwargs = {k: torch.float64 if v is torch.float32 else v for k, v in (kwargs or {}).items()}
        if func is torch.Tensor.float:
            return args[0].to(torch.float64)
        return func(*args, **kwargs)


@contextlib.contextmanager
def keep_double() -> Iterator[None]:
    """Build and run the other model inside."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _NoFloat32():
            yield
    finally:
        torch.set_default_dtype(before)
