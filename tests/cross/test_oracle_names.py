"""The names of minitf.nn, position, attention and feedforward under the oracle, asked about PyTorch: values and gradients."""

import numpy as np
import pytest

from minitf import oracle

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.cross
F = torch.nn.functional


def wide(x):
    """In the dtype of arithmetic."""
    return x if x.dtype == torch.float64 else x.float()


def softmax(x, *, axis=-1, where=None):
    x = wide(x)
    if where is None:
        return x.softmax(axis)
    empty = ~where.any(axis, keepdim=True)
    return x.masked_fill(~where & ~empty, -torch.inf).softmax(axis).masked_fill(~where, 0)


def log_softmax(x, *, axis=-1, where=None):
    x = wide(x)
    if where is None:
        return x.log_softmax(axis)
    empty = ~where.any(axis, keepdim=True)
    return x.masked_fill(~where & ~empty, -torch.inf).log_softmax(axis).masked_fill(~where, -torch.inf)


def layer_norm(x, weight, bias, *, eps=1e-5):
    return F.layer_norm(wide(x), weight.shape, wide(weight), wide(bias), eps)


def rms_norm(x, weight, *, eps=1e-6, offset=0.0):
    x = wide(x)
    return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * (offset + wide(weight))


def group_norm(x, weight, bias, *, groups, eps=1e-5):
    return F.group_norm(wide(x), groups, wide(weight), wide(bias), eps)


def gelu(x, *, approximate="none"):
    """By torch.erf: F.gelu is less accurate in float32 and fails there, with up to 1.5 of the tolerance in 30 seeds."""
    x = wide(x)
    return F.gelu(x, approximate="tanh") if approximate == "tanh" else 0.5 * x * (1 + torch.erf(x * 0.5**0.5))


def cross_entropy(input, target, *, label_smoothing=0.0, ignore_index=-100, z_loss=0.0, reduction="mean"):
    x, target = wide(input).flatten(0, -2), target.flatten()
    losses = F.cross_entropy(x, target, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction="none")
    counted = target != ignore_index
    losses = losses + z_loss * torch.where(counted, x.logsumexp(-1), 0).square()
    if reduction == "none":
        return losses.reshape(input.shape[:-1])
    return losses.sum() if reduction == "sum" else losses.sum() / counted.sum()


def gated(x, w_gate, w_up, w_down, *, act="silu"):
    """Products in the dtype of the weights, as they are, and what is between them too."""
    functions = {"silu": F.silu, "gelu": gelu, "gelu_tanh": lambda x: gelu(x, approximate="tanh")}
    gate, up = ((wide(x) @ wide(w)).to(x.dtype) for w in (w_gate, w_up))
    return wide((functions[act](wide(gate)) * wide(up)).to(x.dtype)) @ wide(w_down)


def rotary(x, positions, freqs, *, layout="half"):
    """As the product with complex numbers (cos + i sin)."""
    width, x = 2 * len(freqs), wide(x)
    angle = (positions[..., None].to(x.dtype) * wide(freqs))[:, None]
    turned, rest = x[..., :width], x[..., width:]
    pairs = turned.unflatten(-1, (2, -1)).mT if layout == "half" else turned.unflatten(-1, (-1, 2))
    product = torch.view_as_complex(pairs.contiguous()) * torch.polar(torch.ones_like(angle), angle)
    pairs = torch.view_as_real(product)
    return torch.cat([(pairs.mT if layout == "half" else pairs).flatten(-2), rest], -1)


def attend(q, k, v, bias, mask):
    """Attention with everything written out; rows without a key are zero."""
    q, k, v = wide(q), wide(k), wide(v)
    logits = q @ k.mT * q.shape[-1] ** -0.5
    if bias is not None:
        logits = logits + bias
    return softmax(logits, where=mask.expand(logits.shape)) @ v


def seen_along(length, kernel_size, dilation):
    """(length, length) booleans and offsets in neighbours, plus kernel_size - 1."""
    seen = np.zeros((length, length), bool)
    for i in range(length):
        own = np.arange(i % dilation, length, dilation)  # those of its residue
        first = min(max(i // dilation - kernel_size // 2, 0), len(own) - kernel_size)
        seen[i, own[first : first + kernel_size]] = True
    apart = (np.arange(length) - np.arange(length)[:, None]) // dilation + kernel_size - 1
    return seen, np.clip(apart, 0, 2 * kernel_size - 2)


def neighborhood_1d(q, k, v, bias, *, kernel_size, dilation=1):
    seen, apart = seen_along(q.shape[-2], kernel_size, dilation)
    return attend(q, k, v, wide(bias)[:, apart], torch.tensor(seen))


def neighborhood_2d(q, k, v, bias, *, kernel_size, dilation=1):
    (Y, X), n = q.shape[-3:-1], q.shape[-3] * q.shape[-2]
    (seen_y, apart_y), (seen_x, apart_x) = (seen_along(length, kernel_size, dilation) for length in (Y, X))
    seen = (seen_y[:, None, :, None] & seen_x[None, :, None, :]).reshape(n, n)
    bias = wide(bias)[:, apart_y[:, None, :, None], apart_x[None, :, None, :]].reshape(-1, n, n)
    q, k, v = (x.flatten(-3, -2) for x in (q, k, v))
    return attend(q, k, v, bias, torch.tensor(seen)).unflatten(-2, (Y, X))


def window(q, k, v, bias, *, window, shift=0):
    """Pixels see each other if a window of the map cut as it is has them both; no roll."""
    Y, X = q.shape[-3:-1]
    y, x = (i.flatten() for i in torch.meshgrid(torch.arange(Y), torch.arange(X), indexing="ij"))
    cells = [(i + window - shift) // window for i in (y, x)]
    seen = (cells[0][:, None] == cells[0]) & (cells[1][:, None] == cells[1])
    apart = [(i[:, None] - i + window - 1).clamp(0, 2 * window - 2) for i in (y, x)]
    q, k, v = (x.flatten(-3, -2) for x in (q, k, v))
    return attend(q, k, v, wide(bias)[:, apart[0], apart[1]], seen).unflatten(-2, (Y, X))


def block_sparse(q, k, v, block_mask, *, block, causal=False, mask=None):
    T, S = q.shape[-2], k.shape[-2]
    seen = block_mask.repeat_interleave(block, -2).repeat_interleave(block, -1)[..., :T, :S]
    if causal:
        seen = seen & torch.ones(T, S, dtype=torch.bool).tril(S - T)
    if mask is not None:
        seen = seen & mask
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    return attend(q, k, v, None, seen.expand(*q.shape[:-1], S))


def causal_conv1d(x, weight, bias, state):
    seen = torch.cat([state, x], 1)
    y = F.conv1d(wide(seen).mT, wide(weight)[:, None], wide(bias), groups=x.shape[-1])
    return y.mT, seen[:, x.shape[1] :]


def conv2d(x, weight, bias, **options):
    return F.conv2d(wide(x), wide(weight), wide(bias), **options)


CORRECT = {
    "nn.softmax": softmax,
    "nn.log_softmax": log_softmax,
    "nn.layer_norm": layer_norm,
    "nn.rms_norm": rms_norm,
    "nn.group_norm": group_norm,
    "nn.gelu": gelu,
    "nn.silu": lambda x: F.silu(wide(x)),
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


def cast(fn):
    """What ``fn`` returns, in the dtype of its first argument."""

    def wrapped(*arrays, **options):
        out = fn(*arrays, **options)
        if isinstance(out, tuple):
            return tuple(x.to(arrays[0].dtype) for x in out)
        return out.to(arrays[0].dtype)

    return wrapped


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", CORRECT)
def test_correct_implementations_pass(name, dtype):
    """Without oneDNN, whose convolutions in float32 have about twice the error of PyTorch's own."""
    with torch.backends.mkldnn.flags(enabled=False):
        report = oracle.check(name, cast(CORRECT[name]), "torch", dtype, trials=1)
    assert report.passed, report
