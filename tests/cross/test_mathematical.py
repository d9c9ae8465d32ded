"""The transformer in columns against PyTorch's encoder layer in rows: same weights, values and all gradients."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from minitf.models.mathematical import (  # noqa: E402
    BlockWeights,
    MathematicalTransformer,
    from_row_convention,
    transformer_block_columns,
)
from minitf.nn.module import Parameter  # noqa: E402

pytestmark = [pytest.mark.cross, pytest.mark.paper("introduction-to-transformers", kind="cross")]

D, H, F, E, N = 8, 2, 32, 4, 7


def theirs(seed=0):
    """Everything random, but no biases in the attention: columns have none."""
    torch.manual_seed(seed)
    layer = torch.nn.TransformerEncoderLayer(
        d_model=D, nhead=H, dim_feedforward=F, norm_first=True, activation="gelu", dropout=0, batch_first=True,
        dtype=torch.float64,
    )  # fmt: skip
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(0.5 * torch.randn_like(p))
        layer.self_attn.in_proj_bias.zero_()
        layer.self_attn.out_proj.bias.zero_()
    return layer


def in_columns(tensors):
    """BlockWeights of the layer's parameters by name."""
    array = {name: t.detach().numpy() for name, t in tensors}
    W_q, W_k, W_v = (W.T for W in np.split(array["self_attn.in_proj_weight"], 3))
    heads = from_row_convention(W_q, W_k, W_v, array["self_attn.out_proj.weight"].T, E)
    rest = ("linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias")
    rest += ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias")
    return BlockWeights(*(Parameter(w) for w in (*heads, *(array[name] for name in rest))))


@pytest.mark.parametrize("causal", [False, True])
def test_values_and_gradients(causal):
    layer = theirs()
    x = torch.randn(3, N, D, dtype=torch.float64, requires_grad=True)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(N, dtype=torch.float64) if causal else None
    y = layer(x, src_mask=mask, is_causal=causal)
    direction = torch.randn_like(y)
    (y * direction).sum().backward()

    X, w = Parameter(x.detach().numpy().swapaxes(1, 2)), in_columns(layer.named_parameters())
    Y = transformer_block_columns(X, w, causal=causal)
    np.testing.assert_allclose(Y.data, y.detach().numpy().swapaxes(1, 2), rtol=0, atol=1e-12)
    (Y * direction.numpy().swapaxes(1, 2)).sum().backward()
    np.testing.assert_allclose(X.grad.data, x.grad.numpy().swapaxes(1, 2), rtol=0, atol=1e-12)
    wanted = in_columns((name, p.grad) for name, p in layer.named_parameters())
    for name, p, want in zip(w._fields, w, wanted, strict=True):
        # U = E^(-1/4) Wᵀ: the gradient with respect to U is E^(1/4) times that for Wᵀ, which arrives scaled like U.
        scale = E**0.5 if name in ("U_q", "U_k") else 1.0
        np.testing.assert_allclose(p.grad.data, scale * want.data, rtol=0, atol=1e-12, err_msg=name)


def test_the_fused_inference_path():
    """Without gradients PyTorch runs another implementation of the same layer."""
    layer = theirs(1).eval()
    x = np.random.default_rng(0).normal(size=(2, N, D))
    with torch.no_grad():
        y = layer(torch.tensor(x)).numpy()
    Y = transformer_block_columns(x.swapaxes(1, 2), in_columns(layer.named_parameters()))
    np.testing.assert_allclose(Y.data, y.swapaxes(1, 2), rtol=0, atol=1e-12)


def test_a_stack_of_layers_as_a_model():
    """torch.nn.TransformerEncoder between an embedding with positions, a last norm and an output matrix."""
    V, L = 11, 2
    layers = [theirs(seed) for seed in range(L)]
    encoder = torch.nn.TransformerEncoder(layers[0], L, torch.nn.LayerNorm(D, dtype=torch.float64), False)
    encoder.layers = torch.nn.ModuleList(layers)
    rng = np.random.default_rng(0)
    model = MathematicalTransformer(V, D, L, H, F, max_length=N, rng=rng)
    state = {name: rng.normal(size=p.shape) for name, p in model.named_parameters()}
    for i, layer in enumerate(layers):
        weights = in_columns(layer.named_parameters())._asdict()
        state |= {f"blocks.{i}.{name}": w.data for name, w in weights.items()}
    model.load_state_dict(state)
    ids = rng.integers(0, V, (3, N))
    with torch.no_grad():
        encoder.norm.weight.copy_(torch.tensor(state["gamma"]))
        encoder.norm.bias.copy_(torch.tensor(state["beta"]))
        x = torch.tensor(state["W"].T[ids] + state["p"].T)
        mask = torch.nn.Transformer.generate_square_subsequent_mask(N, dtype=torch.float64)
        scores = encoder(x, mask=mask, is_causal=True).numpy() @ state["W_head"].T
    np.testing.assert_allclose(model(ids).data, scores.swapaxes(1, 2), rtol=0, atol=1e-12)
