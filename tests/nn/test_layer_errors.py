"""Wrong calls of layers: what was wrong, and what is allowed. One line a call, however long."""
# ruff: noqa: E501

import re

import numpy as np
import pytest

import minitf as mt
from minitf import nn
from minitf.nn import functional as F

rng = np.random.default_rng(0)
Shape, Type, Value = mt.ShapeError, TypeError, ValueError
image, line, row = np.ones((2, 4, 5, 5)), np.ones((2, 4, 5)), np.ones((2, 3))
conv, norm = nn.Conv2d(4, 6, 3, rng=rng), nn.BatchNorm2d(6)

# fmt: off
CALLS = [
    # -- convolutions
    ("no channels", lambda: nn.Conv2d(0, 4, 3, rng=rng), Shape, "Conv2d: C_in must be a positive integer, got 0"),
    ("groups", lambda: nn.Conv1d(4, 6, 3, groups=4, rng=rng), Shape, "Conv1d: groups = 4 must divide C_in = 4 and C_out = 6"),
    ("a kernel of nothing", lambda: nn.Conv2d(4, 4, 0, rng=rng), Value, "Conv2d: kernel_size must be an integer >= 1 or 2 of them, got 0"),
    ("a stride too many", lambda: nn.Conv2d(4, 4, 3, (1, 2, 3), rng=rng), Value, r"Conv2d: stride must be .* or 2 of them, got \(1, 2, 3\)"),
    ("padding", lambda: nn.Conv2d(4, 4, 3, padding="full", rng=rng), Value, "Conv2d: padding must be 'same', 'valid', an integer or 2 of them, got 'full'"),
    ("padding_mode", lambda: nn.Conv2d(4, 4, 3, padding_mode="mirror", rng=rng), Value, "padding_mode must be one of zeros, reflect, replicate, circular, got 'mirror'"),
    ("no generator", lambda: nn.Conv2d(4, 4, 3, rng=0), Type, "rng must be a numpy.random.Generator"),
    ("channels last", lambda: conv(np.moveaxis(image, 1, -1)), Shape, "conv2d: x has 5 channels"),
    ("a line as an image", lambda: conv(np.ones((4, 5))), Shape, r"conv2d: needs an array \(\.\.\., C, Y, X\), got shape \(4, 5\)"),
    ("reflecting too far", lambda: nn.Conv1d(4, 4, 9, padding=5, padding_mode="reflect", rng=rng)(line), Shape, r"Conv1d: reflect padding of 5 \+ 5 needs more values than the 5 of axis -1"),
    ("round and round", lambda: nn.Conv1d(4, 4, 9, padding=6, padding_mode="circular", rng=rng)(line), Shape, r"Conv1d: circular padding of 6 \+ 6 needs more values than the 5"),
    ("more than a stride", lambda: nn.ConvTranspose1d(4, 4, 3, 2, output_padding=2, rng=rng)(line), Value, r"output_padding \(2,\) must be below the stride"),
    ("the transpose's padding", lambda: nn.ConvTranspose2d(4, 4, 3, padding="same", rng=rng), Value, "ConvTranspose2d: padding must be an integer >= 0 or 2 of them, got 'same'"),
    ("a vector of weights", lambda: F.standardize_weight(np.ones(3)), Shape, r"standardize_weight: the weight must be \(C_out, C_in/groups, \*K\), got \(3,\)"),
    # -- norms
    ("one value a channel", lambda: nn.BatchNorm1d(3)(np.ones((1, 3))), Value, r"BatchNorm1d: one value a channel, in x \(1, 3\), has no variance; a batch needs at least 2"),
    ("one value, no estimates", lambda: nn.BatchNorm1d(3, track_running_stats=False).eval()(np.ones((1, 3))), Value, "BatchNorm1d: one value a channel"),
    ("one pixel of one image", lambda: norm(np.ones((1, 6, 1, 1))), Value, "BatchNorm2d: one value a channel"),
    ("a line instead of an image", lambda: norm(np.ones((2, 6, 5))), Shape, r"BatchNorm2d: needs x \(B, C, Y, X\) with C = 6, got shape \(2, 6, 5\)"),
    ("one or the other", lambda: nn.BatchNorm1d(3)(image), Shape, r"BatchNorm1d: needs x \(B, C\) or \(B, C, X\) with C = 3"),
    ("other channels", lambda: norm(image), Shape, r"BatchNorm2d: .* with C = 6, got shape \(2, 4, 5, 5\)"),
    ("momentum", lambda: nn.BatchNorm1d(3, momentum=2), Value, "BatchNorm1d: momentum must be between 0 and 1, or None for a plain average, got 2"),
    ("an empty batch", lambda: nn.BatchNorm1d(3)(np.ones((0, 3))), Shape, r"needs \(B, C, \*\) with something to normalize, got shape \(0, 3\)"),
    ("half the statistics", lambda: F.batch_norm(row, mean=np.zeros(3)), Value, "batch_norm: give both mean and var, or neither"),
    ("statistics of another width", lambda: F.batch_norm(row, np.zeros(2), np.ones(2)), Shape, r"batch_norm: mean must be \(C,\) = \(3,\) for x \(2, 3\), got \(2,\)"),
    ("integers", lambda: F.batch_norm([[1, 2]]), Type, "batch_norm: needs real floating values, got int64"),
    ("instances of one pixel", lambda: F.instance_norm(np.ones((2, 4, 1))), Shape, r"instance_norm: needs \(B, C, \*\) with at least 2 places a channel"),
    ("instances of a line", lambda: nn.InstanceNorm2d(4)(line), Shape, r"InstanceNorm2d: needs x \(B, C, Y, X\) with C = 4, got shape \(2, 4, 5\)"),
    ("fusing others", lambda: nn.fuse_conv_norm(nn.Linear(3, 4, rng=rng), norm), Type, "fuse_conv_norm: needs a Conv1d, Conv2d or Conv3d and the BatchNorm behind it, got Linear and BatchNorm2d"),
    ("fusing standardized weights", lambda: nn.fuse_conv_norm(nn.WeightStandardizedConv2d(4, 6, 3, rng=rng), norm), Type, "got WeightStandardizedConv2d and BatchNorm2d"),
    ("fusing other channels", lambda: nn.fuse_conv_norm(conv, nn.BatchNorm2d(4)), Shape, "fuse_conv_norm: the convolution has 6 outputs, the norm 4 channels"),
    ("nothing to fuse", lambda: nn.fuse_conv_norm(conv, nn.BatchNorm2d(6, track_running_stats=False)), Value, r"fuse_conv_norm: the norm has no running estimates"),
    ("a scale of another width", lambda: nn.LayerScale(4)(row), Shape, r"LayerScale: axis -1 must have 4 entries, got shape \(2, 3\)"),
    # -- recurrent
    ("a width of nothing", lambda: nn.LSTMCell(3, 0, rng=rng), Shape, "LSTMCell: D must be a positive integer, got 0"),
    ("nonlinearity", lambda: nn.RNNCell(3, 4, nonlinearity="gelu", rng=rng), Value, "RNNCell: nonlinearity must be 'tanh' or 'relu', got 'gelu'"),
    ("the wrong input", lambda: nn.GRUCell(4, 5, rng=rng)(row), Shape, r"GRUCell: x must be \(\*, D_in\) with D_in = 4, got \(2, 3\)"),
    ("the wrong state", lambda: nn.GRUCell(3, 5, rng=rng)(row, np.ones((2, 4))), Shape, r"GRUCell: the state must be 1 x \(2, 5\), got \(2, 4\)"),
    ("half a state", lambda: nn.LSTMCell(3, 5, rng=rng)(row, np.ones((2, 5))), Shape, r"LSTMCell: the state must be 2 x \(2, 5\), got \(5,\), \(5,\)"),
    ("no layers", lambda: nn.LSTM(3, 4, 0, rng=rng), Shape, "LSTM: L must be a positive integer, got 0"),
    ("an empty sequence", lambda: nn.LSTM(5, 4, rng=rng)(np.ones((2, 0, 5))), Shape, r"LSTM: x must be \(\*, T, D_in\) with D_in = 5 and T at least 1, got \(2, 0, 5\)"),
    ("a state of one layer", lambda: nn.GRU(5, 4, 2, rng=rng)(line, np.ones((1, 2, 4))), Shape, r"GRU: the state must be 1 x \(2, 2, 4\), got \(1, 2, 4\)"),
    ("dropout", lambda: nn.GRU(5, 4, dropout=2.0, rng=rng), Value, "p must be between 0 and 1, got 2.0"),
    # -- random networks
    ("a path too likely", lambda: nn.DropPath(2, rng=rng), Value, "DropPath: p must be between 0 and 1, got 2"),
    ("paths without a generator", lambda: nn.DropPath(0.5), Type, "rng must be a numpy.random.Generator"),
    ("a path's p", lambda: F.drop_path(row, 1.5, rng=rng), Value, "p must be between 0 and 1, got 1.5"),
    ("a mask of elements", lambda: F.drop_path(row, mask=row > 0), Shape, r"drop_path: mask must be \(B,\) = \(2,\), True = kept, got \(2, 3\)"),
    ("a mask of numbers", lambda: F.drop_path(row, mask=row[:, 0]), Type, "mask must be boolean, True = kept, got float64"),
    ("rates", lambda: nn.drop_path_rates(1.1, 3), Value, "drop_path_rates: rate must be between 0 and 1, got 1.1"),
    ("nothing to leave out", lambda: nn.DropConnect(nn.MaxPool2d(2), rng=rng), Type, "DropConnect: needs a layer with a parameter called weight, got MaxPool2d"),
    ("leaving out more than all", lambda: nn.DropConnect(conv, 3, rng=rng), Value, "DropConnect: p must be between 0 and 1, got 3"),
    # -- shapes and places
    ("a step that is no layer", lambda: nn.Sequential(conv, "relu"), Type, "Sequential: layers are modules and functions, one argument each, got 'relu'"),
    ("nothing to flatten", lambda: nn.Flatten(2)(row), Shape, r"Flatten: x \(2, 3\) has no axis 2 to start from"),
    ("shuffling 4 channels by 3", lambda: F.pixel_shuffle(image, 3), Shape, r"pixel_shuffle: needs \(\*, C·r², Y, X\) with r = 3, got shape \(2, 4, 5, 5\)"),
    ("unshuffling 5 pixels by 2", lambda: F.pixel_unshuffle(image, 2), Shape, r"pixel_unshuffle: needs \(\*, C, r·Y, r·X\) with r = 2"),
    ("shuffling by half", lambda: nn.PixelShuffle(0.5), Shape, "PixelShuffle: r must be a positive integer, got 0.5"),
    ("two targets", lambda: nn.Upsample((2, 2), 2), Value, "Upsample: give either size or scale_factor"),
    ("another pair", lambda: nn.Bilinear(3, 4, 5, rng=rng)(row, row), Shape, r"bilinear: needs x1 \(\*, D1\), x2 \(\*, D2\) and weight \(D1, D2, D_out\), got \(2, 3\), \(2, 3\)"),
    ("sampling how?", lambda: F.grid_sample(image, np.ones((2, 3, 3, 2)), "bicubic"), Value, "grid_sample: mode must be one of bilinear, nearest, got 'bicubic'"),
    ("sampling outside", lambda: F.grid_sample(image, np.ones((2, 3, 3, 2)), padding_mode="reflection"), Value, "padding_mode must be one of zeros, border, got 'reflection'"),
    ("another batch of places", lambda: F.grid_sample(image, np.ones((1, 3, 3, 2))), Shape, r"grid_sample: needs x \(B, C, Y, X\) and grid \(B, \*T, 2\), got \(2, 4, 5, 5\) and \(1, 3, 3, 2\)"),
    ("three coordinates", lambda: F.grid_sample(image, np.ones((2, 3, 3))), Shape, r"grid_sample: needs"),
    ("theta", lambda: F.affine_grid(np.ones((2, 3)), (1, 1, 2, 2)), Shape, r"affine_grid: needs theta \(B, 2, 3\) and size \(B, C, Y, X\), got \(2, 3\)"),
    ("ids for other rows", lambda: F.segment_sum(row, [0, 1, 0]), Shape, r"segment_sum: segment_ids must be \(M,\), one for each row of values \(2, 3\), got \(3,\)"),
    ("ids that are no integers", lambda: F.segment_max(row, [0.0, 1.0]), Type, "segment_max: segment_ids must be integers, got float64"),
    ("a number of groups", lambda: F.segment_softmax(row, [0, 1], -2), Value, "segment_softmax: n is the number of groups, an integer that is not negative, got -2"),
    ("the largest integer", lambda: F.segment_max([1, 2], [0, 1]), Type, "segment_max: needs real floating values, got int64"),
    ("a divisor of nothing", lambda: nn.AvgPool3d(1, divisor_override=0)(image), Value, "avg_pool3d: divisor_override must be a number other than 0, got 0"),
    ("an axis to take apart", lambda: mt.unstack(row, 2), Shape, "unstack: axis 2 is out of range for an array of 2 dimensions"),
]
# fmt: on


@pytest.mark.parametrize(("call", "error", "message"), [c[1:] for c in CALLS], ids=[c[0] for c in CALLS])
def test_a_wrong_call_is_explained(call, error, message):
    before = norm.state_dict()
    with pytest.raises(error, match=message) as caught:
        call()
    assert re.search("numpy/", str(caught.traceback[-1].path)) is None, "raised deep inside NumPy"
    for name, value in norm.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
