"""Neighborhoods against a PyTorch unfold of padded maps, written anew, and shifted windows against Hugging Face's Swin."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from keep_double import keep_double  # noqa: E402
from transformers.models.swin import modeling_swin  # noqa: E402

import minitf as mt  # noqa: E402
from minitf.attention.neighborhood import neighborhood_attention_1d, neighborhood_attention_2d  # noqa: E402
from minitf.attention.windows import window_attention  # noqa: E402

pytestmark = pytest.mark.cross


def same(ours, theirs, *arrays):
    """``ours(*arrays)`` is ``theirs(*tensors)``: the output, and the gradients of all arrays."""
    out, pullback = mt.vjp(ours, *arrays)
    g = np.random.default_rng(0).standard_normal(out.shape)
    with keep_double():
        tensors = [torch.tensor(x, requires_grad=True) for x in arrays]
        want = theirs(*tensors)
        gradients = torch.autograd.grad(want, tensors, torch.tensor(g))
    for mine, other in zip([out, *pullback(g)], [want, *gradients], strict=True):
        np.testing.assert_allclose(mine.data, other.detach().numpy(), rtol=0, atol=1e-10)


def neighborhoods(q, k, v, bias, size):
    """Without dilation: all windows of the map by ``unfold``; a query at the border takes the nearest whole one."""
    Y, X = q.shape[2:4]
    first = [(torch.arange(n) - s // 2).clamp(0, n - s) for n, s in zip((Y, X), size, strict=True)]
    whole = lambda x: x.unfold(2, size[0], 1).unfold(3, size[1], 1)[:, :, first[0]][:, :, :, first[1]]
    s = torch.einsum("bhyxe,bhyxeij->bhyxij", q, whole(k)) * q.shape[-1] ** -0.5
    rows, columns = (
        f[:, None] + torch.arange(m) - torch.arange(n)[:, None] + m - 1
        for f, m, n in zip(first, size, (Y, X), strict=True)
    )
    s = s + bias[:, rows[:, None, :, None], columns[None, :, None, :]]
    return torch.einsum("bhyxij,bhyxwij->bhyxw", s.flatten(-2).softmax(-1).reshape(s.shape), whole(v))


def dilated(q, k, v, bias, size, dilation):
    """Every residue is a map of its own."""
    out = torch.empty_like(v)
    for i in range(dilation[0]):
        for j in range(dilation[1]):
            part = (slice(None), slice(None), slice(i, None, dilation[0]), slice(j, None, dilation[1]))
            out[part] = neighborhoods(q[part], k[part], v[part], bias, size)
    return out


@pytest.mark.parametrize("dilation", [(1, 1), (2, 1), (2, 3)])
@pytest.mark.parametrize(("size", "Y", "X"), [((3, 3), 9, 11), ((5, 3), 11, 10), ((7, 7), 24, 23)])
def test_neighborhoods(size, Y, X, dilation):
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, 2, 2, Y, X, 5))
    bias = rng.standard_normal((2, *(2 * s - 1 for s in size)))
    ours = lambda q, k, v, b: neighborhood_attention_2d(q, k, v, size, dilation=dilation, bias=b)
    same(ours, lambda *xs: dilated(*xs, size, dilation), q, k, v, bias)


@pytest.mark.parametrize("dilation", [1, 3])
def test_neighborhoods_in_a_sequence(dilation):
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, 2, 3, 200, 6))
    ours = lambda q, k, v, b: neighborhood_attention_1d(q, k, v, 7, dilation=dilation, bias=b)

    def theirs(q, k, v, bias):
        return dilated(*(x[:, :, None] for x in (q, k, v)), bias[:, None], (1, 7), (1, dilation))[:, :, 0]

    same(ours, theirs, q, k, v, rng.standard_normal((3, 13)))


@pytest.mark.parametrize("shift", [0, 3])
def test_the_windows_of_swin(shift):
    """Its layer around the attention, with projections that do nothing, on maps (B, Y, X, H E)."""
    B, H, Y, X, E, M = 2, 3, 21, 28, 4, 7
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, B, H, Y, X, E))
    table = rng.standard_normal((H, 2 * M - 1, 2 * M - 1))
    region = torch.zeros(1, Y, X, 1)
    if shift:
        slices = slice(0, -M), slice(-M, -shift), slice(-shift, None)
        for i, rows in enumerate(slices):
            for j, columns in enumerate(slices):
                region[:, rows, columns] = 3 * i + j
    region = modeling_swin.window_partition(region, M).reshape(-1, M * M)
    mask = torch.where(region[:, None] == region[..., None], 0.0, -torch.inf).double().repeat(B, 1, 1)[:, None]
    at = torch.cartesian_prod(torch.arange(M), torch.arange(M))
    at = (at[:, None] - at[None] + M - 1) @ torch.tensor([2 * M - 1, 1])

    def theirs(q, k, v, table):
        def windows(x):
            x = torch.roll(x.permute(0, 2, 3, 1, 4).reshape(B, Y, X, H * E), (-shift, -shift), (1, 2))
            return modeling_swin.window_partition(x, M).reshape(-1, M * M, H, E).transpose(1, 2)

        bias = table.reshape(H, -1)[:, at]
        y = torch.nn.functional.scaled_dot_product_attention(windows(q), windows(k), windows(v), bias + mask)
        y = modeling_swin.window_reverse(y.transpose(1, 2).reshape(-1, M, M, H * E), M, Y, X)
        return torch.roll(y, (shift, shift), (1, 2)).reshape(B, Y, X, H, E).permute(0, 3, 1, 2, 4)

    same(lambda q, k, v, b: window_attention(q, k, v, M, shift=shift, bias=b), theirs, q, k, v, table)
