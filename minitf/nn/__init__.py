"""Layers, losses and the functions they are made of."""

from minitf.nn import functional, init
from minitf.nn.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from minitf.nn.causal_conv import CausalConv1d
from minitf.nn.containers import Flatten, Identity, Sequential
from minitf.nn.conv_norm import ConvNorm, fuse_conv_norm
from minitf.nn.convolutions import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from minitf.nn.depthwise_separable import DepthwiseSeparableConv1d, DepthwiseSeparableConv2d
from minitf.nn.layers import (
    Bilinear,
    Dropout,
    Embedding,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
    LayerNorm,
    LayerNorm2d,
    LayerScale,
    Linear,
    RMSNorm,
    Upsample,
)
from minitf.nn.module import Buffer, Module, Parameter, count_parameters, functional_call
from minitf.nn.pixel_shuffle import PixelShuffle, PixelUnshuffle
from minitf.nn.pooling import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveAvgPool3d,
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
)
from minitf.nn.recurrent_cells import GRUCell, LSTMCell, RNNCell
from minitf.nn.recurrent_layers import GRU, LSTM, RNN
from minitf.nn.regularization import DropConnect, DropPath, drop_path_rates
from minitf.nn.weight_standardization import WeightStandardizedConv2d

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Bilinear",
    "Buffer",
    "CausalConv1d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvNorm",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "DepthwiseSeparableConv1d",
    "DepthwiseSeparableConv2d",
    "DropConnect",
    "DropPath",
    "Dropout",
    "Embedding",
    "Flatten",
    "GRUCell",
    "GroupNorm",
    "Identity",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LSTMCell",
    "LayerNorm",
    "LayerNorm2d",
    "LayerScale",
    "Linear",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "Module",
    "Parameter",
    "PixelShuffle",
    "PixelUnshuffle",
    "RMSNorm",
    "RNNCell",
    "Sequential",
    "Upsample",
    "WeightStandardizedConv2d",
    "count_parameters",
    "drop_path_rates",
    "functional",
    "functional_call",
    "fuse_conv_norm",
    "init",
]
