"""Layers against PyTorch's: values, and gradients with respect to input and parameters, float64, to 1e-12."""

import numpy as np
import pytest

import minitf as mt
from minitf import nn
from minitf.nn import functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional
pytestmark = pytest.mark.cross


def rng(seed=0):
    return np.random.default_rng(seed)


def close(got, want, what=""):
    want = want.detach().numpy() if isinstance(want, torch.Tensor) else want
    got = got.data if isinstance(got, mt.Tensor) else got
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12, err_msg=what)


def transposed(value):
    """Matrices act on the right here, on the left there."""
    return value.T if value.ndim == 2 else value


def same(ours, theirs, *inputs, translate=lambda name: name, convert=lambda value: value):
    """``theirs`` gets our parameters; both are run and differentiated along one random cotangent."""
    theirs = theirs.double()
    values = {translate(name): torch.tensor(convert(p.data)) for name, p in ours.named_parameters()}
    theirs.load_state_dict(values)
    leaves = [mt.tensor(x, requires_grad=True) for x in inputs]
    others = [torch.tensor(x, requires_grad=True) for x in inputs]
    out, expected = ours(*leaves), theirs(*others)
    close(out, expected, "output")
    g = rng(9).standard_normal(out.shape)
    out.backward(mt.tensor(g))
    expected.backward(torch.tensor(g))
    for leaf, other in zip(leaves, others, strict=True):
        close(leaf.grad, other.grad, "input")
    wanted = dict(theirs.named_parameters())
    for name, p in ours.named_parameters():
        close(convert(p.grad.data), wanted[translate(name)].grad, name)
    return ours, theirs


SIZES = {1: (9,), 2: (8, 7), 3: (5, 6, 4)}
CONVOLUTIONS = [
    {"kernel_size": 3},
    {"kernel_size": 3, "stride": 2, "padding": 1, "bias": False},
    {"kernel_size": 2, "padding": "same", "dilation": 2},
    {"kernel_size": 3, "padding": "valid", "groups": 2},
    {"kernel_size": 3, "padding": 2, "dilation": 2, "groups": 4, "padding_mode": "reflect"},
    {"kernel_size": 3, "stride": 2, "padding": 2, "padding_mode": "replicate"},
    {"kernel_size": 2, "padding": "same", "padding_mode": "circular"},
    {"kernel_size": 3, "stride": 3, "padding": 3, "padding_mode": "circular"},
]


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_convolutions(axes, options):
    ours = getattr(nn, f"Conv{axes}d")(4, 8, **options, rng=rng())
    theirs = getattr(torch.nn, f"Conv{axes}d")(4, 8, **options)
    same(ours, theirs, rng(1).standard_normal((2, 4, *SIZES[axes])))


@pytest.mark.parametrize("options", [
    {"kernel_size": 3},
    {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1, "bias": False},
    {"kernel_size": 2, "stride": 3, "dilation": 2, "groups": 2},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_transposed_convolutions(axes, options):
    ours = getattr(nn, f"ConvTranspose{axes}d")(4, 6, **options, rng=rng())
    theirs = getattr(torch.nn, f"ConvTranspose{axes}d")(4, 6, **options)
    same(ours, theirs, rng(1).standard_normal((2, 4, *SIZES[axes])))


@pytest.mark.parametrize(("name", "arguments"), [
    ("Conv2d", (6, 900, 5, 1, 0, 1, 2)), ("ConvTranspose1d", (8, 900, 5, 1, 0, 0, 2)),
    ("Bilinear", (9, 40, 900)), ("GRU", (40, 300)),
])  # fmt: skip
def test_initial_values_fill_the_range_that_theirs_do(name, arguments):
    torch.manual_seed(0)
    ours = getattr(nn, name)(*arguments, rng=rng())
    for mine, other in zip(ours.parameters(), getattr(torch.nn, name)(*arguments).parameters(), strict=True):
        other = other.detach().numpy()
        assert np.abs(mine.data).max() == pytest.approx(np.abs(other).max(), rel=0.02)
        assert mine.data.std() == pytest.approx(other.std(), rel=0.05)


@pytest.mark.parametrize("options", [
    {}, {"affine": False}, {"momentum": None}, {"momentum": 0.3, "eps": 1e-2}, {"track_running_stats": False},
], ids=str)  # fmt: skip
@pytest.mark.parametrize(("axes", "shape"), [(1, (5, 3)), (1, (2, 3, 4)), (2, (2, 3, 4, 2)), (3, (2, 3, 2, 1, 3))])
def test_batch_norm_while_training_and_after(axes, shape, options):
    """Three steps of SGD on a layer behind another layer: outputs, gradients and running state at every step."""
    ours = getattr(nn, f"BatchNorm{axes}d")(3, **options)
    theirs = getattr(torch.nn, f"BatchNorm{axes}d")(3, **options).double()
    gain, offset = mt.tensor(1.5, requires_grad=True), mt.tensor(0.5, requires_grad=True)
    other_gain, other_offset = (torch.tensor(v.data, requires_grad=True) for v in (gain, offset))
    mine, other = [gain, offset, *ours.parameters()], [other_gain, other_offset, *theirs.parameters()]
    for step in range(3):
        x, target = rng(step).normal(2, 3, (2, *shape))
        out, expected = ours(gain * x + offset), theirs(other_gain * torch.tensor(x) + other_offset)
        close(out, expected, f"output at {step}")
        mt.mean((out - target) ** 2).backward()
        ((expected - torch.tensor(target)) ** 2).mean().backward()
        for p, q in zip(mine, other, strict=True):
            close(p.grad, q.grad, f"gradient at {step}")
            p.data -= 0.1 * p.grad.data
            q.data -= 0.1 * q.grad
            p.grad = q.grad = None
        state = ours.state_dict()
        for name, value in theirs.state_dict().items():
            close(state.pop(name), value, f"{name} at {step}")
        assert not state
    x = rng(7).standard_normal(shape)
    same_mode = ours.eval()(mt.tensor(x)), theirs.eval()(torch.tensor(x))
    close(*same_mode, "in evaluation")


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_instance_norm(axes, affine):
    ours = getattr(nn, f"InstanceNorm{axes}d")(3, affine=affine)
    theirs = getattr(torch.nn, f"InstanceNorm{axes}d")(3, affine=affine)
    if affine:
        ours.weight.data[:], ours.bias.data[:] = rng(2).standard_normal((2, 3))
    same(ours, theirs, rng(1).standard_normal((2, 3, *SIZES[axes])))


def test_layer_norm_of_channels():
    ours = nn.LayerNorm2d(5)
    ours.weight.data[:], ours.bias.data[:] = rng(2).standard_normal((2, 5))

    class Theirs(torch.nn.LayerNorm):
        def forward(self, x):
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    same(ours, Theirs(5), rng(1).standard_normal((2, 5, 3, 4)))


@pytest.mark.parametrize("bias", [False, True])
def test_bilinear(bias):
    ours, theirs = nn.Bilinear(4, 3, 5, bias, rng=rng()), torch.nn.Bilinear(4, 3, 5, bias)

    def convert(value):
        return np.moveaxis(value, -1, 0) if value.ndim == 3 else value

    same(ours, theirs, *(rng(i).standard_normal((2, 6, n)) for i, n in ((1, 4), (2, 3))), convert=convert)


# -- recurrent layers ---------------------------------------------------------------------------------------------

KINDS = ["RNN", "LSTM", "GRU"]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, "ReLU"])
def test_cells(kind, bias):
    options = {"nonlinearity": "relu"} if kind == "ReLU" else {}
    kind = "RNN" if kind == "ReLU" else kind
    ours = getattr(nn, f"{kind}Cell")(3, 4, bias, **options, rng=rng())
    theirs = getattr(torch.nn, f"{kind}Cell")(3, 4, bias, **options)

    class Ours(nn.Module):
        def __init__(self):
            self.cell = ours

        def forward(self, x, *state):
            y, state = self.cell(x, state if kind == "LSTM" else state[0])
            return mt.concatenate(state, -1) if kind == "LSTM" else y

    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = theirs

        def forward(self, x, *state):
            out = self.cell(x, state if kind == "LSTM" else state[0])
            return torch.cat(out, -1) if kind == "LSTM" else out

    states = rng(2).standard_normal((2 if kind == "LSTM" else 1, 5, 4))
    same(Ours(), Theirs(), rng(1).standard_normal((5, 3)), *states, convert=transposed)


def recurrent_name(name):
    """layers.1.0.weight_ih here is weight_ih_l1 there, layers.1.1.weight_ih is weight_ih_l1_reverse."""
    _, depth, backward, name = name.split(".")
    return f"{name}_l{depth}{'_reverse' if int(backward) else ''}"


@pytest.mark.parametrize("options", [{}, {"bias": False, "bidirectional": True}], ids=str)
@pytest.mark.parametrize("L", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_recurrent_layers(kind, L, options):
    """Outputs and states in one array, so that the gradients of both are compared."""
    ours = getattr(nn, kind)(3, 4, L, **options, rng=rng())
    theirs = getattr(torch.nn, kind)(3, 4, L, batch_first=True, **options)
    rows = L * (2 if options else 1)

    class Ours(nn.Module):
        def __init__(self):
            self.layers = ours.layers

        def forward(self, x, *state):
            y, end = ours(x, state if kind == "LSTM" else state[0])
            return mt.concatenate([mt.ravel(v) for v in (y, *(end if kind == "LSTM" else (end,)))])

    class Theirs(type(theirs)):
        def forward(self, x, *state):
            y, end = super().forward(x, state if kind == "LSTM" else state[0])
            return torch.cat([v.ravel() for v in (y, *(end if kind == "LSTM" else (end,)))])

    states = rng(2).standard_normal((2 if kind == "LSTM" else 1, rows, 2, 4))
    same(
        Ours(), Theirs(3, 4, L, batch_first=True, **options), rng(1).standard_normal((2, 6, 3)), *states,
        translate=recurrent_name, convert=transposed,
    )  # fmt: skip
    theirs = theirs.double()
    theirs.load_state_dict({recurrent_name(n): torch.tensor(transposed(p.data)) for n, p in ours.named_parameters()})
    x = rng(3).standard_normal((2, 5, 3))
    close(ours(x)[0], theirs(torch.tensor(x))[0])


# -- images -------------------------------------------------------------------------------------------------------

IMAGE = rng(4).standard_normal((2, 8, 6, 4))


@pytest.mark.parametrize(("ours", "theirs"), [
    (nn.MaxPool2d(3, 2, 1, ceil_mode=True), lambda: torch.nn.MaxPool2d(3, 2, 1, ceil_mode=True)),
    (nn.MaxPool2d(2, dilation=2), lambda: torch.nn.MaxPool2d(2, dilation=2)),
    (nn.AvgPool2d((3, 2), 2, (1, 0), count_include_pad=False), lambda: torch.nn.AvgPool2d((3, 2), 2, (1, 0), False, False)),
    (nn.AvgPool2d(2, divisor_override=3), lambda: torch.nn.AvgPool2d(2, divisor_override=3)),
    (nn.AdaptiveAvgPool2d((4, None)), lambda: torch.nn.AdaptiveAvgPool2d((4, None))),
    (nn.MaxPool3d(2, (1, 2, 2)), lambda: torch.nn.MaxPool3d(2, (1, 2, 2))),
    (nn.AvgPool3d(2, 1, 1, ceil_mode=True), lambda: torch.nn.AvgPool3d(2, 1, 1, True)),
    (nn.AdaptiveAvgPool3d((3, 2, 3)), lambda: torch.nn.AdaptiveAvgPool3d((3, 2, 3))),
    (nn.PixelShuffle(2), lambda: torch.nn.PixelShuffle(2)),
    (nn.PixelUnshuffle(2), lambda: torch.nn.PixelUnshuffle(2)),
    (nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
     lambda: torch.nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)),
    (nn.Upsample((5, 9)), lambda: torch.nn.Upsample((5, 9))),
    (nn.Flatten(2), lambda: torch.nn.Flatten(2)),
], ids=lambda value: repr(value) if isinstance(value, nn.Module) else "")  # fmt: skip
def test_layers_of_images(ours, theirs):
    same(ours, theirs(), IMAGE)


@pytest.mark.parametrize(("ours", "theirs"), [
    (nn.MaxPool1d(3, 2, 1), lambda: torch.nn.MaxPool1d(3, 2, 1)),
    (nn.AvgPool1d(3, 2, 1, True, False), lambda: torch.nn.AvgPool1d(3, 2, 1, True, False)),
    (nn.AdaptiveAvgPool1d(4), lambda: torch.nn.AdaptiveAvgPool1d(4)),
], ids=["max", "avg", "adaptive"])  # fmt: skip
def test_layers_of_lines(ours, theirs):
    same(ours, theirs(), rng(4).standard_normal((2, 3, 7)))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("padding_mode", ["zeros", "border"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_grid_sample(mode, padding_mode, align_corners):
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    grid = rng(5).uniform(-1.6, 1.6, (2, 5, 3, 2))
    grid[0, 0, 0], grid[0, 0, 1] = (40.0, -3.0), (-1.0, 1.0)  # far outside, and a corner
    out, pull = mt.vjp(lambda x, grid: F.grid_sample(x, grid, **options), IMAGE, grid)
    leaves = [torch.tensor(v, requires_grad=True) for v in (IMAGE, grid)]
    expected = TF.grid_sample(*leaves, **options)
    close(out, expected)
    g = rng(6).standard_normal(out.shape)
    expected.backward(torch.tensor(g))
    of_x, of_grid = pull(g)
    close(of_x, leaves[0].grad)
    inner = np.ones(grid.shape[:3], bool)
    inner[0, 0, 1] = False  # between two pixels' pieces: either slope is a derivative
    close(of_grid.data[inner], leaves[1].grad.numpy()[inner])


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(2, 3, 4, 5), (2, 1, 2, 6)])
def test_affine_grid(size, align_corners):
    theta = rng(5).standard_normal((2, 2, 3))
    out, pull = mt.vjp(lambda theta: F.affine_grid(theta, size, align_corners), theta)
    leaf = torch.tensor(theta, requires_grad=True)
    expected = TF.affine_grid(leaf, size, align_corners)
    close(out, expected)
    g = rng(6).standard_normal(out.shape)
    expected.backward(torch.tensor(g))
    close(pull(g)[0], leaf.grad)


def test_weight_standardization():
    """As batch norm of the filters, which is how it is often written."""
    weight = rng(1).standard_normal((5, 3, 2, 2))
    leaf = torch.tensor(weight, requires_grad=True)
    expected = TF.batch_norm(leaf.reshape(1, 5, -1), None, None, training=True, eps=1e-4).reshape(leaf.shape)
    out, pull = mt.vjp(lambda w: F.standardize_weight(w, 1e-4), weight)
    close(out, expected)
    g = rng(2).standard_normal(weight.shape)
    expected.backward(torch.tensor(g))
    close(pull(g)[0], leaf.grad)


def test_segments():
    """Sums and maxima as scatter reductions."""
    ids = rng(1).integers(0, 4, 9)
    ids[ids == 2] = 3  # an empty group
    values = rng(2).standard_normal((9, 3))
    index = torch.tensor(ids)[:, None].expand(9, 3)
    for ours, reduce, start in ((F.segment_sum, "sum", 0.0), (F.segment_max, "amax", -np.inf)):
        leaf = torch.tensor(values, requires_grad=True)
        expected = torch.full((4, 3), start, dtype=torch.float64).scatter_reduce(0, index, leaf, reduce)
        out, pull = mt.vjp(lambda v, ours=ours: ours(v, ids, 4), values)
        close(out, expected)
        g = rng(3).standard_normal(out.shape)
        expected.backward(torch.tensor(g))
        close(pull(g)[0], leaf.grad)
