"""Differential attention against Hugging Face's DiffLlama: same weights, logits and all gradients."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from keep_double import keep_double  # noqa: E402

from minitf.attention.dot_product import scaled_dot_product_attention  # noqa: E402
from minitf.inference.decoding import greedy  # noqa: E402
from minitf.models.diff_transformer import DiffTransformer  # noqa: E402
from minitf.nn.functional import cross_entropy  # noqa: E402

pytestmark = [pytest.mark.cross, pytest.mark.paper("differential-transformer", kind="cross")]

#: (attention heads, key/value heads) of DiffLlama: twice our H and K
HEADS = [(4, 2), (4, 4), (8, 2)]
#: DiffLlama's names for our parameters of a layer; matrices are transposed
NAMES = {
    "attention.q.weight": "self_attn.q_proj.weight",
    "attention.k.weight": "self_attn.k_proj.weight",
    "attention.v.weight": "self_attn.v_proj.weight",
    "attention.out.weight": "self_attn.o_proj.weight",
    "attention.lambda_q1": "self_attn.lambda_q1",
    "attention.lambda_k1": "self_attn.lambda_k1",
    "attention.lambda_q2": "self_attn.lambda_q2",
    "attention.lambda_k2": "self_attn.lambda_k2",
    "feed_forward.gate.weight": "mlp.gate_proj.weight",
    "feed_forward.up.weight": "mlp.up_proj.weight",
    "feed_forward.down.weight": "mlp.down_proj.weight",
    "attention_norm.weight": "input_layernorm.weight",
    "feed_forward_norm.weight": "post_attention_layernorm.weight",
}


def theirs(heads, kv_heads):
    torch.manual_seed(0)
    config = transformers.DiffLlamaConfig(
        vocab_size=40, hidden_size=32, intermediate_size=24, num_hidden_layers=2, num_attention_heads=heads,
        num_key_value_heads=kv_heads, attn_implementation="eager", pad_token_id=0,
    )  # fmt: skip
    model = transformers.DiffLlamaForCausalLM(config)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p) * 0.2 + (p.ndim == 1 and p.shape[0] == 32))
    return model.eval(), config


def ours(model, config):
    copy = DiffTransformer(
        40, 32, 2, config.num_attention_heads // 2, config.num_key_value_heads // 2, 24, eps=config.rms_norm_eps,
        pairing="halves", layout="half", norm_affine=False, rng=np.random.default_rng(0),
    )  # fmt: skip
    copy.load_state_dict(translated({name: p.detach() for name, p in model.named_parameters()}))
    return copy


def translated(tensors):
    array = {name: t.double().numpy() for name, t in tensors.items()}
    found = {
        "embedding.weight": array["model.embed_tokens.weight"],
        "norm.weight": array["model.norm.weight"],
        "head.weight": array["lm_head.weight"].T,
    }
    for layer in range(2):
        for mine, other in NAMES.items():
            found[f"blocks.{layer}.{mine}"] = array[f"model.layers.{layer}.{other}"].T
    return found


@pytest.mark.parametrize(("heads", "kv_heads"), HEADS)
def test_logits_and_gradients_in_float64(heads, kv_heads):
    ids = np.random.default_rng(0).integers(1, 40, (2, 9))
    with keep_double():
        model, config = theirs(heads, kv_heads)
        logits = model(torch.tensor(ids)).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, 40), torch.tensor(ids[:, 1:]).reshape(-1))
        loss.backward()
    copy = ours(model, config)
    mine = copy(ids)
    np.testing.assert_allclose(mine.data, logits.detach().numpy(), rtol=0, atol=1e-10)
    cross_entropy(mine[:, :-1], ids[:, 1:]).backward()
    wanted = translated({name: p.grad for name, p in model.named_parameters()})
    got = {name: p.grad.data for name, p in copy.named_parameters()}
    assert got.keys() == wanted.keys()
    for name, g in got.items():
        np.testing.assert_allclose(g, wanted[name], rtol=0, atol=1e-10, err_msg=name)


def test_as_released_in_float32():
    ids = np.random.default_rng(0).integers(1, 40, (2, 9))
    model, config = theirs(4, 2)
    with torch.no_grad():
        logits = model(torch.tensor(ids)).logits.numpy()
    scale = np.abs(logits).max()
    np.testing.assert_allclose(ours(model, config)(ids).data, logits, rtol=0, atol=1e-5 * max(scale, 1))


def test_left_padded_batch():
    ids = np.random.default_rng(1).integers(1, 40, (2, 7))
    valid = np.ones((2, 7), bool)
    valid[0, :3] = False
    positions = np.maximum(np.cumsum(valid, 1) - 1, 0)
    with keep_double(), torch.no_grad():
        model, config = theirs(4, 2)
        logits = model(
            torch.tensor(ids), attention_mask=torch.tensor(valid.astype(int)), position_ids=torch.tensor(positions)
        ).logits.numpy()
    mine = ours(model, config)(ids, mask=valid[:, None, None, :], positions=positions).data
    np.testing.assert_allclose(mine[valid], logits[valid], rtol=0, atol=1e-10)


def test_greedy_generation_with_caches_is_token_identical():
    ids = np.random.default_rng(2).integers(1, 40, (2, 4))
    with keep_double(), torch.no_grad():
        model, config = theirs(4, 2)
        generated = model.generate(
            torch.tensor(ids), attention_mask=torch.ones(2, 4, dtype=torch.long), max_new_tokens=12, min_new_tokens=12,
            do_sample=False, eos_token_id=None,
        ).numpy()  # fmt: skip
    np.testing.assert_array_equal(greedy(ours(model, config), ids, 12), generated)


@pytest.mark.parametrize("K", [1, 2, 4])
@pytest.mark.parametrize("causal", [False, True])
def test_scaled_dot_product_attention(K, causal):
    rng = np.random.default_rng(3)
    q, k, v = (rng.normal(size=(2, h, 5, 8)) for h in (4, K, K))
    tensors = [torch.tensor(x, requires_grad=True) for x in (q, k, v)]
    want = torch.nn.functional.scaled_dot_product_attention(*tensors, is_causal=causal, enable_gqa=True)
    got = scaled_dot_product_attention(q, k, v, causal=causal)
    np.testing.assert_allclose(got.data, want.detach().numpy(), rtol=0, atol=1e-13)
