"""A transformer block and a small decoder against the same written with torch.nn.functional: loss, first derivatives with
respect to everything, second derivatives in every way there is to compute them.
"""

import functools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as tF  # noqa: E402

import minitf as mt  # noqa: E402
from minitf.attention.dot_product import MultiHeadAttention, scaled_dot_product_attention  # noqa: E402
from minitf.attention.masks import padding_mask  # noqa: E402
from minitf.feedforward.mlp import FeedForward  # noqa: E402
from minitf.models.transformer import NORMS, Block, Decoder  # noqa: E402
from minitf.nn import Dropout, functional_call  # noqa: E402
from minitf.nn.functional import cross_entropy  # noqa: E402

pytestmark = [
    pytest.mark.cross,
    pytest.mark.parametrize("norm", ["layer", "rms"]),
    pytest.mark.parametrize("place", ["pre", "post"]),
]

B, T, D, H, K, F, V, L, EPS = 3, 6, 8, 4, 2, 20, 13, 2, 1e-5
LENGTHS = np.array([6, 4, 1])
VALID = np.arange(T) < LENGTHS[:, None]


# -- PyTorch ------------------------------------------------------------------------------------------------------


def torch_norm(w, name, x):
    if f"{name}.bias" in w:
        return tF.layer_norm(x, (D,), w[f"{name}.weight"], w[f"{name}.bias"], EPS)
    return tF.rms_norm(x, (D,), w[f"{name}.weight"], EPS)


def torch_linear(w, name, x):
    return tF.linear(x, w[f"{name}.weight"].T, w[f"{name}.bias"])


def torch_attention(w, x, bias, kv_heads):
    heads = lambda name, n: torch_linear(w, f"attention.{name}", x).unflatten(-1, (n, D // H)).transpose(1, 2)
    allowed = torch.tensor(VALID)[:, None, None] & torch.ones(T, T, dtype=torch.bool).tril()
    extra = torch.zeros(B, H, T, T).double().masked_fill(~allowed, -torch.inf) + bias
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):  # the one with second derivatives
        y = tF.scaled_dot_product_attention(
            heads("q", H), heads("k", kv_heads), heads("v", kv_heads), attn_mask=extra, enable_gqa=True
        )
    return torch_linear(w, "attention.out", y.transpose(1, 2).flatten(2))


def torch_block(w, x, bias, place, kv_heads=K):
    feed_forward = lambda z: torch_linear(w, "feed_forward.down", tF.gelu(torch_linear(w, "feed_forward.up", z)))
    if place == "pre":
        x = x + torch_attention(w, torch_norm(w, "attention_norm", x), bias, kv_heads)
        return x + feed_forward(torch_norm(w, "feed_forward_norm", x))
    x = torch_norm(w, "attention_norm", x + torch_attention(w, x, bias, kv_heads))
    return torch_norm(w, "feed_forward_norm", x + feed_forward(x))


def torch_decoder_loss(w, bias, ids, targets, place):
    x = w["embedding.weight"][torch.tensor(ids)] + w["positions.weight"][:T]
    for layer in range(L):
        prefix = f"blocks.{layer}."
        own = {name.removeprefix(prefix): value for name, value in w.items() if name.startswith(prefix)}
        x = torch_block(own, x, bias, place, kv_heads=H)
    if place == "pre":
        x = torch_norm(w, "norm", x)
    logits = x @ w["embedding.weight"].T
    return tF.cross_entropy(logits.flatten(0, 1), torch.tensor(targets).flatten(), ignore_index=-100)


@functools.cache
def torch_derivatives(problem, norm, place):
    """The loss, its gradient, and the Hessian times the problem's direction, by name."""
    _, loss, w = problem(norm, place)
    along = direction(w)
    w = {name: torch.tensor(value, requires_grad=True) for name, value in w.items()}
    value = loss(w)
    first = torch.autograd.grad(value, list(w.values()), create_graph=True)
    slope = sum((g * torch.tensor(along[name])).sum() for name, g in zip(w, first, strict=True))
    second = torch.autograd.grad(slope, list(w.values()), materialize_grads=True)
    named = lambda gs: {name: g.detach().numpy() for name, g in zip(w, gs, strict=True)}
    return value.item(), named(first), named(second)


# -- ours ---------------------------------------------------------------------------------------------------------


def drawn(module, rng):
    """Every parameter of the module by name, with values that are in no way special."""
    return {
        name: rng.normal(size=p.shape) / np.sqrt(p.shape[0] if p.ndim == 2 else 4) + (p.ndim == 1) * 0.5
        for name, p in module.named_parameters()
    }


def block_problem(norm, place):
    """Our loss and PyTorch's, functions of one dict: parameters, the input and the additive bias; and a point."""
    rng = np.random.default_rng(0)
    layers = MultiHeadAttention(D, H, K, rng=rng), FeedForward(D, F, rng=rng)
    block = Block(*layers, lambda: NORMS[norm](D, eps=EPS), place, Dropout(0))
    point = drawn(block, rng) | {"x": rng.normal(size=(B, T, D)), "bias": rng.normal(size=(H, T, T))}
    weigh = rng.normal(size=(B, T, D)) / (B * T)

    def ours(w):
        parameters = {name: value for name, value in w.items() if name not in ("x", "bias")}
        options = {"mask": padding_mask(VALID), "causal": True, "bias": w["bias"]}
        return mt.sum(mt.sin(functional_call(block, parameters, w["x"], **options)) * weigh)

    theirs = lambda w: (torch.sin(torch_block(w, w["x"], w["bias"], place)) * torch.tensor(weigh)).sum()
    return ours, theirs, point


def decoder_problem(norm, place):
    rng = np.random.default_rng(1)
    bias = rng.normal(size=(H, T, T))
    biased = functools.partial(scaled_dot_product_attention, bias=bias)
    decoder = Decoder(
        V, D, L, H, F, norm=norm, norm_place=place, eps=EPS, max_length=T + 2, tied=True, rng=rng,
        attention=lambda layer, rng: MultiHeadAttention(D, H, attention=biased, rng=rng),
    )  # fmt: skip
    ids = rng.integers(0, V, (B, T))
    targets = np.where(VALID, rng.integers(0, V, (B, T)), -100)

    def ours(w):
        return cross_entropy(functional_call(decoder, w, ids, mask=padding_mask(VALID)), targets)

    return ours, lambda w: torch_decoder_loss(w, torch.tensor(bias), ids, targets, place), drawn(decoder, rng)


PROBLEMS = pytest.mark.parametrize("problem", [block_problem, decoder_problem], ids=["block", "decoder"])


def direction(point):
    rng = np.random.default_rng(2)
    return {name: rng.normal(size=value.shape) for name, value in point.items()}


def compare(got, want, rtol):
    """Every array, to ``rtol`` of its largest entry."""
    assert got.keys() == want.keys()
    for name, g in got.items():
        # softmax does not see the bias of the keys: its derivatives are rounding errors around 0
        scale = 1.0 if name.endswith("k.bias") else np.abs(want[name]).max()
        assert scale > 1e-6, f"{name} has no derivative to compare"
        np.testing.assert_allclose(np.asarray(g), want[name], rtol=0, atol=rtol * scale, err_msg=name)


# -- they agree ---------------------------------------------------------------------------------------------------


@PROBLEMS
def test_loss_and_all_gradients(problem, norm, place):
    ours, _, point = problem(norm, place)
    value, gradient, _ = torch_derivatives(problem, norm, place)
    loss, got = mt.value_and_grad(ours)(point)
    assert loss.item() == pytest.approx(value, rel=1e-13)
    compare(got, gradient, 1e-12)


@PROBLEMS
def test_backward_gives_what_grad_gives(problem, norm, place):
    ours, _, point = problem(norm, place)
    leaves = {name: mt.tensor(value, requires_grad=True) for name, value in point.items()}
    ours(leaves).backward()
    _, gradient, _ = torch_derivatives(problem, norm, place)
    compare({name: leaf.grad for name, leaf in leaves.items()}, gradient, 1e-12)


def forward_over_reverse(f, w, along):
    return mt.hvp(f, (w,), (along,))


def jvp_of_grad(f, w, along):
    return mt.jvp(mt.grad(f), (w,), (along,))[1]


def grad_of_grad(f, w, along):
    slope = lambda w: sum(mt.sum(g * along[name]) for name, g in mt.grad(f)(w).items())
    return mt.grad(slope)(w)


def grad_of_jvp(f, w, along):
    return mt.grad(lambda w: mt.jvp(f, (w,), (along,))[1])(w)


def grad_inside_checkpoint(f, w, along):
    slope = lambda w: sum(mt.sum(g * along[name]) for name, g in mt.grad(f)(w).items())
    return mt.grad(mt.checkpoint(slope))(w)


def checkpoint_inside_grads(f, w, along):
    return grad_of_grad(mt.checkpoint(f), w, along)


@PROBLEMS
@pytest.mark.parametrize(
    "way",
    [forward_over_reverse, jvp_of_grad, grad_of_grad, grad_of_jvp, grad_inside_checkpoint, checkpoint_inside_grads],
)
def test_hessian_vector_products(problem, way, norm, place):
    ours, _, point = problem(norm, place)
    _, _, product = torch_derivatives(problem, norm, place)
    compare(way(ours, point, direction(point)), product, 1e-9)


@PROBLEMS
def test_checkpointed_gradients(problem, norm, place):
    ours, _, point = problem(norm, place)
    _, gradient, _ = torch_derivatives(problem, norm, place)
    compare(mt.grad(mt.checkpoint(ours))(point), gradient, 1e-12)
