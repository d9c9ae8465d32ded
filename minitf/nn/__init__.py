"""Layers, losses and the functions they are made of."""

from minitf.nn import functional, init
from minitf.nn.causal_conv import CausalConv1d
from minitf.nn.layers import Dropout, Embedding, GroupNorm, LayerNorm, Linear, RMSNorm
from minitf.nn.module import Buffer, Module, Parameter, count_parameters, functional_call

__all__ = [
    "Buffer",
    "CausalConv1d",
    "Dropout",
    "Embedding",
    "GroupNorm",
    "LayerNorm",
    "Linear",
    "Module",
    "Parameter",
    "RMSNorm",
    "count_parameters",
    "functional",
    "functional_call",
    "init",
]
