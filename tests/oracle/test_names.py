"""Layers, losses, positions and local attention under the oracle: NumPy in float32 stays below 0.7, a mistake is caught.

In the smallest size and of values alone; ``tests/cross/test_oracle_names.py`` asks for larger ones, with gradients.
"""

import numpy as np
import pytest
from scipy.special import erf

from minitf import oracle
from minitf.position.rotary import apply_rotary

HALF = np.float32(0.5)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.maximum(x, -80)))


def softmax(x, *, axis=-1, where=True, wrong=False):
    """``wrong``: the first element is missing in the sum."""
    masked = np.where(where, x, -np.inf)
    top = masked.max(axis, keepdims=True)
    e = np.exp(masked - np.where(np.isinf(top), 0, top))
    total = (e if not wrong else np.delete(e, 0, axis)).sum(axis, keepdims=True)
    return e / np.where(total == 0, 1, total)


def log_softmax(x, *, axis=-1, where=True, wrong=False):
    masked = np.where(where, x, -np.inf)
    top = masked.max(axis, keepdims=True)
    shifted = masked - np.where(np.isinf(top), 0, top)
    e = np.exp(shifted)
    total = (e if not wrong else np.delete(e, 0, axis)).sum(axis, keepdims=True)
    return shifted - np.log(np.where(total == 0, 1, total))


def layer_norm(x, weight, bias, *, eps=1e-5, wrong=False):
    """``wrong``: the variance is the unbiased one."""
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, ddof=int(wrong), keepdims=True) + eps) * weight + bias


def rms_norm(x, weight, *, eps=1e-6, offset=0.0, wrong=False):
    """``wrong``: divided by the sum of squares over D - 1."""
    D = np.float32(x.shape[-1] - wrong)
    return x / np.sqrt(np.square(x).sum(-1, keepdims=True) / D + np.float32(eps)) * (np.float32(offset) + weight)


def group_norm(x, weight, bias, *, groups, eps=1e-5, wrong=False):
    rows = x.reshape(len(x), groups, -1)
    mean, var = rows.mean(-1, keepdims=True), rows.var(-1, ddof=int(wrong), keepdims=True)
    each = (-1, *[1] * (x.ndim - 2))
    return ((rows - mean) / np.sqrt(var + eps)).reshape(x.shape) * weight.reshape(each) + bias.reshape(each)


def gelu(x, *, approximate="none", wrong=False):
    """``wrong``: a third approximation."""
    if wrong:
        return x * sigmoid(np.float32(1.702) * x)
    if approximate == "tanh":
        return HALF * x * (1 + np.tanh(np.float32((2 / np.pi) ** 0.5) * (x + np.float32(0.044715) * x**3)))
    return HALF * x * (1 + erf(x * HALF**HALF))


def silu(x, *, wrong=False):
    return x * sigmoid(np.float32(1.1 if wrong else 1) * x)


def cross_entropy(x, target, *, label_smoothing=0.0, z_loss=0.0, reduction="mean", wrong=False):
    """``wrong``: rows that do not count have a loss."""
    counted = (target >= 0) | wrong
    top = x.max(-1)
    lse = top + np.log(np.exp(x - top[..., None]).sum(-1))
    chosen = np.take_along_axis(x, np.maximum(target, 0)[..., None], -1)[..., 0]
    chosen = np.float32(1 - label_smoothing) * chosen + np.float32(label_smoothing) * x.mean(-1)
    losses = np.where(counted, lse - chosen + np.float32(z_loss) * lse**2, 0)
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / counted.sum()}[reduction]


def causal_conv1d(x, weight, bias, state, *, wrong=False):
    """``wrong``: the newest input meets the first weight."""
    seen, T = np.concatenate([state, x], 1), x.shape[1]
    taps = weight[:, ::-1] if wrong else weight
    y = bias + sum(taps[:, j] * seen[:, j : j + T] for j in range(weight.shape[1]))
    return y, seen[:, T:]


def conv2d(x, weight, bias, *, stride=1, padding=0, dilation=1, groups=1, wrong=False):
    """``wrong``: one of the products is missing."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    Y, X = ((n - 2 * dilation - 1) // stride + 1 for n in x.shape[2:])
    parts = []
    for part, rows in zip(np.split(x, groups, 1), np.split(weight, groups, 0), strict=True):
        taps = [(a, b) for a in range(3) for b in range(3)][int(wrong) :]
        ends = [(a * dilation, b * dilation) for a, b in taps]
        pieces = [part[:, :, y : y + stride * Y : stride, z : z + stride * X : stride] for y, z in ends]
        parts.append(
            sum(
                np.einsum("fc,bcyx->bfyx", rows[..., a, b], p[..., :Y, :X])
                for (a, b), p in zip(taps, pieces, strict=True)
            )
        )
    return np.concatenate(parts, 1) + bias[:, None, None]


def gated(x, w_gate, w_up, w_down, *, act, wrong=False):
    """``wrong``: gate and up are exchanged."""
    gate, up = x @ w_gate, x @ w_up
    if wrong:
        gate, up = up, gate
    gate = silu(gate) if act == "silu" else gelu(gate, approximate=act.removeprefix("gelu_") if "_" in act else "none")
    return (gate * up) @ w_down


def rotary(x, positions, freqs, *, layout="half", wrong=False):
    """``wrong``: positions count from one."""
    n, out = len(freqs), x.copy()
    angle = ((positions + int(wrong))[..., None].astype(np.float32) * freqs)[:, None]
    first, second = (slice(0, n), slice(n, 2 * n)) if layout == "half" else (slice(0, 2 * n, 2), slice(1, 2 * n, 2))
    out[..., first] = x[..., first] * np.cos(angle) - x[..., second] * np.sin(angle)
    out[..., second] = x[..., second] * np.cos(angle) + x[..., first] * np.sin(angle)
    return out


def attend(q, k, v, bias, seen):
    return softmax(q @ k.swapaxes(-1, -2) * np.float32(q.shape[-1] ** -0.5) + bias, where=seen) @ v


def neighbors(length, kernel_size, dilation, wrong):
    """Who sees whom, and the entry of the bias. ``wrong``: neighbourhoods leave the map instead of stopping at its end."""
    seen, apart = np.zeros((length, length), bool), np.zeros((length, length), int)
    for i in range(length):
        own = np.arange(i % dilation, length, dilation)
        first = i // dilation - kernel_size // 2
        for t in range(kernel_size):
            place = first + t if wrong else min(max(first, 0), len(own) - kernel_size) + t
            if 0 <= place < len(own):
                seen[i, own[place]] = True
                apart[i, own[place]] = place - i // dilation + kernel_size - 1
    return seen, apart


def neighborhood_1d(q, k, v, bias, *, kernel_size, dilation=1, wrong=False):
    seen, apart = neighbors(q.shape[-2], kernel_size, dilation, wrong)
    return attend(q, k, v, bias[:, apart], seen)


def on_map(q, k, v, bias, seen):
    """Attention of all pixels (..., Y, X, E) as one sequence."""
    q, k, flat = (x.reshape(*x.shape[:2], -1, x.shape[-1]) for x in (q, k, v))
    return attend(q, k, flat, bias, seen).reshape(v.shape)


def neighborhood_2d(q, k, v, bias, *, kernel_size, dilation=1, wrong=False):
    (Y, X), n = q.shape[2:4], q.shape[2] * q.shape[3]
    (down, apart_y), (across, apart_x) = (neighbors(length, kernel_size, dilation, wrong) for length in (Y, X))
    seen = (down[:, None, :, None] & across[None, :, None, :]).reshape(n, n)
    return on_map(q, k, v, bias[:, apart_y[:, None, :, None], apart_x[None, :, None, :]].reshape(-1, n, n), seen)


def window(q, k, v, bias, *, window, shift=0, wrong=False):
    """``wrong``: windows that do not move."""
    y, x = (i.ravel() for i in np.indices(q.shape[2:4]))
    cells = [(i + window - (0 if wrong else shift)) // window for i in (y, x)]
    seen = (cells[0][:, None] == cells[0]) & (cells[1][:, None] == cells[1])
    apart = [np.clip(i[:, None] - i + window - 1, 0, 2 * window - 2) for i in (y, x)]
    return on_map(q, k, v, bias[:, apart[0], apart[1]], seen)


def block_sparse(q, k, v, block_mask, *, block, causal=False, mask=True, wrong=False):
    """``wrong``: the last key of the last block is forgotten."""
    T, S = q.shape[-2], k.shape[-2]
    seen = block_mask.repeat(block, -2).repeat(block, -1)[..., :T, :S] & mask
    seen = seen & np.tri(T, S, S - T, dtype=bool) if causal else seen
    seen = seen & (np.arange(S) < S - 1) if wrong else seen
    k, v = (x.repeat(q.shape[1] // x.shape[1], 1) for x in (k, v))
    return attend(q, k, v, np.float32(0), np.broadcast_to(seen, (*q.shape[:-1], S)))


IMPLEMENTATIONS = {
    "nn.softmax": softmax,
    "nn.log_softmax": log_softmax,
    "nn.layer_norm": layer_norm,
    "nn.rms_norm": rms_norm,
    "nn.group_norm": group_norm,
    "nn.gelu": gelu,
    "nn.silu": silu,
    "nn.cross_entropy": cross_entropy,
    "nn.causal_conv1d": causal_conv1d,
    "nn.conv2d": conv2d,
    "feedforward.gated": gated,
    "position.rotary": rotary,
    "attention.neighborhood_1d": neighborhood_1d,
    "attention.neighborhood_2d": neighborhood_2d,
    "attention.window": window,
    "attention.block_sparse": block_sparse,
}


def in_float32(function, **how):
    """``function`` in float32, its results cast to the dtype of its first argument."""

    def cast(*arrays, **options):
        given = [x if x.dtype.kind in "biu" else x.astype(np.float32) for x in arrays]
        with np.errstate(divide="ignore", invalid="ignore"):
            out = function(*given, **options, **how)
        many = out if isinstance(out, tuple) else (out,)
        found = tuple(np.asarray(x, np.float32).astype(arrays[0].dtype) for x in many)
        return found if isinstance(out, tuple) else found[0]

    return cast


def largest(name, dtype, **how):
    fn = in_float32(IMPLEMENTATIONS[name], **how)
    report = oracle.check(name, fn, dtype=dtype, gradients=False, trials=1, sizes="tiny")
    assert not report.problems, report
    return max(row.largest for row in report.rows), report


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_values_of_an_honest_implementation(name, dtype):
    found, report = largest(name, dtype)
    assert found < 0.7, report


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_a_mistake_is_caught(name):
    """In the coarsest format."""
    assert largest(name, "bfloat16", wrong=True)[0] > 1


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_the_reference_passes_and_a_billionth_more_does_not(name):
    case = oracle.case(name, size="tiny", dtype="float64")
    assert oracle.judge(name, case, case.outputs, case.gradients).passed
    spoiled = {key: value * (1 + 1e-9) for key, value in case.outputs.items()}
    assert not oracle.judge(name, case, spoiled).passed


@pytest.mark.parametrize("label", oracle.labels("position.rotary"))
def test_rotary_with_its_angles_as_operations_is_apply_rotary(label):
    case = oracle.case("position.rotary", options=label)
    x, positions, freqs = case.inputs.values()
    np.testing.assert_array_equal(apply_rotary(x, positions, freqs, **case.options).data, case.outputs["out"])
