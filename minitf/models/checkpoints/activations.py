"""Activations by the names that configurations use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minitf.autodiff.tensor import Tensor
from minitf.feedforward.mlp import activation as ours

_OURS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
ACTIVATIONS = tuple(_OURS)


def activation(name: str) -> Callable[[Any], Tensor]:
    """The function that a configuration calls ``name``, one of ``ACTIVATIONS``."""
    return ours(_OURS[name])
