"""Our model families against Transformers: their random model, saved, loaded here; logits, all gradients, and the way back."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("safetensors")

from keep_double import keep_double  # noqa: E402

import minitf as mt  # noqa: E402
from minitf.inference.decoding import beam_search, greedy  # noqa: E402
from minitf.models.checkpoints import load_pretrained, read_folder, save_pretrained  # noqa: E402
from minitf.models.checkpoints.names import to_theirs  # noqa: E402

pytestmark = pytest.mark.cross

V, B, T, S = 37, 2, 7, 9


def of(family, task, **config):
    return pytest.param(family, task, config, id=f"{family}-{task}-{'-'.join(str(v) for v in config.values())}"[:80])


DECODERS = {
    "GPT2": {
        "LMHeadModel": [
            {"vocab_size": V, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2},
            {"vocab_size": V, "n_positions": 32, "n_embd": 24, "n_layer": 3, "n_head": 3, "n_inner": 20,
             "activation_function": "relu", "tie_word_embeddings": False},
            {"vocab_size": V, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 4, "activation_function": "gelu",
             "scale_attn_by_inverse_layer_idx": True, "layer_norm_epsilon": 1e-3},
        ],
    },
    "Llama": {
        "ForCausalLM": [
            {"vocab_size": V, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "max_position_embeddings": 64},
            {"vocab_size": V, "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2,
             "head_dim": 12, "max_position_embeddings": 64, "tie_word_embeddings": True, "attention_bias": True,
             "mlp_bias": True, "rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.5}},
            {"vocab_size": V, "hidden_size": 32, "intermediate_size": 20, "num_hidden_layers": 1, "num_attention_heads": 4,
             "num_key_value_heads": 1, "max_position_embeddings": 64, "hidden_act": "gelu_pytorch_tanh",
             "rope_parameters": {"rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0,
                                 "high_freq_factor": 4.0, "original_max_position_embeddings": 16}},
        ],
    },
    "CTRL": {
        "LMHeadModel": [
            {"vocab_size": V, "n_positions": 32, "n_embd": 16, "dff": 24, "n_layer": 2, "n_head": 2},
            {"vocab_size": V, "n_positions": 32, "n_embd": 12, "dff": 10, "n_layer": 3, "n_head": 3},
        ],
    },
}  # fmt: skip
BERT = {"vocab_size": V, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
        "max_position_embeddings": 20}  # fmt: skip
BERT_2 = BERT | {"num_hidden_layers": 3, "num_attention_heads": 4, "hidden_act": "relu", "type_vocab_size": 3,
                 "layer_norm_eps": 1e-5}  # fmt: skip
DISTIL = {"vocab_size": V, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 20}
ENCODERS = {
    "Bert": {"Model": [BERT, BERT_2], "ForMaskedLM": [BERT, BERT_2 | {"hidden_act": "gelu_new"}],
             "ForSequenceClassification": [BERT, BERT_2]},
    "Roberta": {"Model": [BERT, BERT_2], "ForMaskedLM": [BERT, BERT_2]},
    "Electra": {"Model": [BERT | {"embedding_size": 8}, BERT_2 | {"embedding_size": 16}],
                "ForMaskedLM": [BERT | {"embedding_size": 8}, BERT_2 | {"embedding_size": 12}],
                "ForPreTraining": [BERT | {"embedding_size": 8}, BERT_2 | {"embedding_size": 16}]},
    "DistilBert": {"Model": [DISTIL], "ForMaskedLM": [DISTIL, DISTIL | {"activation": "relu", "n_layers": 1}]},
}  # fmt: skip
T5 = {
    "vocab_size": V,
    "d_model": 16,
    "d_kv": 6,
    "d_ff": 24,
    "num_layers": 2,
    "num_heads": 3,
    "decoder_start_token_id": 0,
}
BART = {"vocab_size": V, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 24, "decoder_ffn_dim": 20,
        "max_position_embeddings": 40}  # fmt: skip
BOTH = {
    "T5": {"ForConditionalGeneration": [
        T5,
        T5 | {"feed_forward_proj": "gated-gelu", "num_decoder_layers": 1, "tie_word_embeddings": False},  # not scaled
        T5 | {"feed_forward_proj": "gated-silu", "relative_attention_num_buckets": 8, "relative_attention_max_distance": 6},
    ]},
    "MT5": {"ForConditionalGeneration": [T5 | {"feed_forward_proj": "gated-gelu"}, T5 | {"feed_forward_proj": "relu"}]},
    "Bart": {"ForConditionalGeneration": [
        BART,
        BART | {"encoder_layers": 1, "decoder_layers": 3, "scale_embedding": True, "activation_function": "relu"},
    ]},
}  # fmt: skip
VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "image_size": 12,
       "patch_size": 4, "num_channels": 3}  # fmt: skip
VIT_2 = VIT | {"num_channels": 1, "patch_size": 3, "qkv_bias": False, "hidden_act": "relu", "layer_norm_eps": 1e-3}
VISION = {
    "ViT": {"Model": [VIT, VIT_2], "ForImageClassification": [VIT, VIT_2]},
    "DeiT": {"Model": [VIT, VIT_2], "ForImageClassification": [VIT], "ForImageClassificationWithTeacher": [VIT, VIT_2]},
}


#: of the families that are papers of the catalogue
SLUGS = {"CTRL": "ctrl"}


def cases(*groups):
    return [
        pytest.param(family, head, config, id=f"{family}{head}-{i}", marks=papers(family))
        for group in groups
        for family, heads in group.items()
        for head, configs in heads.items()
        for i, config in enumerate(configs)
    ]


def papers(family):
    return [pytest.mark.paper(SLUGS[family], kind="cross")] if family in SLUGS else []


def theirs(family, head, config, seed=0):
    """A model of theirs with weights that matter, in eval mode and with its dropout off."""
    torch.manual_seed(seed)
    made = getattr(transformers, f"{family}Config")(**config, attn_implementation="eager")
    model = getattr(transformers, family + head)(made)
    with torch.no_grad():
        for name, p in model.named_parameters():
            norm = p.ndim == 1 and "bias" not in name
            p.copy_(torch.randn_like(p) * 0.3 + norm)
        for name, b in model.named_buffers():
            if name == "final_logits_bias":
                b.copy_(torch.randn_like(b))
    return model.eval()


def inputs(family, config, seed=1):
    """(what our model takes, what theirs takes) for two texts, one of them padded, or for images."""
    rng = np.random.default_rng(seed)
    if family in VISION:
        images = rng.normal(size=(B, config["num_channels"], config["image_size"], config["image_size"]))
        return (images,), {}, {"pixel_values": torch.tensor(images)}
    ids = rng.integers(4, V, (B, T))
    valid = np.ones((B, T), bool)
    valid[1, T - 2 :] = False
    if family in BOTH:
        source, read = rng.integers(4, V, (B, S)), np.ones((B, S), bool)
        read[0, S - 3 :] = False
        mine = {"source_mask": read[:, None, None, :]}
        other = {"input_ids": source, "attention_mask": read.astype(int), "decoder_input_ids": ids}
        return (source, ids), mine, {name: torch.tensor(x) for name, x in other.items()}
    mine, other = {"mask": valid[:, None, None, :]}, {"input_ids": ids, "attention_mask": valid.astype(int)}
    if family == "Roberta":
        ids[~valid] = 1
    if family in ("Bert", "Electra"):
        types = rng.integers(0, config.get("type_vocab_size", 2), (B, T))
        mine["types"], other["token_type_ids"] = types, types
    return (ids,), mine, {name: torch.tensor(x) for name, x in other.items()}


def answer(output):
    """The scores of any of their models, or the last hidden states and what the pooler makes of them."""
    if "logits" in output:
        return output["logits"]
    return (output["last_hidden_state"], output["pooler_output"]) if "pooler_output" in output else output[0]


def answer_here(model, *args, **options):
    y = model(*args, **options)
    return (y, model.pool(y)) if getattr(model, "pooler", None) is not None else y


def losses(outputs, weights, valid):
    """A scalar in which every entry that means something has its own weight."""
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    total = 0
    for y, w in zip(outputs, weights, strict=True):
        of_tokens = tuple(w.shape[:2]) == tuple(valid.shape)
        total = total + (y * w * (valid.reshape(*valid.shape, *[1] * (w.ndim - 2)) if of_tokens else 1)).sum()
    return total


def gradients_of(model, folder):
    """Their gradients under the names that their files have, which are not always those in memory."""
    with keep_double(), torch.no_grad():
        copy = type(model)(model.config)
        for mine, other in zip(copy.parameters(), model.parameters(), strict=True):
            mine.copy_(torch.zeros_like(other) if other.grad is None else other.grad)
        for mine, other in zip(copy.buffers(), model.buffers(), strict=True):
            mine.copy_(other)
        copy.save_pretrained(folder)
    return read_folder(folder)


@pytest.mark.parametrize(("family", "head", "config"), cases(DECODERS, ENCODERS, BOTH, VISION))
def test_logits_and_all_gradients_in_float64_and_the_way_back(family, head, config, tmp_path):
    args, options, other = inputs(family, config)
    valid = options["mask"][:, 0, 0] if "mask" in options else np.ones((B, T), bool)
    with keep_double():
        model = theirs(family, head, config)
        model.save_pretrained(tmp_path / "theirs")
        wanted = answer(model(**other))
        every = wanted if isinstance(wanted, tuple) else (wanted,)
        rng = np.random.default_rng(2)
        weights = [rng.normal(size=tuple(y.shape)) for y in every]
        losses(wanted, [torch.tensor(w) for w in weights], torch.tensor(valid)).backward()
    copy = load_pretrained(tmp_path / "theirs")
    mine = answer_here(copy, *args, **options)
    for ours, want in zip(mine if isinstance(mine, tuple) else (mine,), every, strict=True):
        got, want = ours.data, want.detach().numpy()
        if got.shape[:2] == valid.shape:
            got, want = got[valid], want[valid]
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-10)
    losses(mine, weights, valid).backward()
    gradients = to_theirs(
        copy,
        copy.names,
        {name: value.grad.data for name, value in copy.named_parameters()}
        | {name: buffer.data for name, buffer in copy.named_buffers()},
    )
    wanted = gradients_of(model, tmp_path / "gradients")
    assert gradients.keys() == wanted.keys()
    for name, want in wanted.items():
        np.testing.assert_allclose(gradients[name], want, rtol=0, atol=1e-10 * max(1, np.abs(want).max()), err_msg=name)

    save_pretrained(copy, tmp_path / "ours")
    with keep_double(), torch.no_grad():
        back, told = getattr(transformers, family + head).from_pretrained(
            tmp_path / "ours", output_loading_info=True, attn_implementation="eager", dtype=torch.float64
        )
        assert not any(told.values()), told
        for name, value in model.state_dict().items():
            assert torch.equal(back.state_dict()[name], value), name
        again = answer(back.eval()(**other))
    for a, b in zip(again if isinstance(again, tuple) else (again,), every, strict=True):
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=0, atol=1e-12)


PROBABILITIES = {
    "Llama": {"attention_dropout": 0.3},
    "GPT2": {"embd_pdrop": 0.1, "resid_pdrop": 0.2, "attn_pdrop": 0.3},
    "CTRL": {"embd_pdrop": 0.1, "resid_pdrop": 0.2},
    "DistilBert": {"dropout": 0.1, "attention_dropout": 0.2, "seq_classif_dropout": 0.3},
    "T5": {"dropout_rate": 0.3},
    "MT5": {"dropout_rate": 0.3},
    "Bart": {"dropout": 0.1, "attention_dropout": 0.2, "activation_dropout": 0.3},
} | {
    family: {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.2}
    for family in ("Bert", "Roberta", "Electra", "ViT", "DeiT")
}


def waves(shape, p):
    """In the place of what dropout draws: factors that tell every element and every probability from the others."""
    return 1 + p * np.sin(1.0 + np.arange(np.prod(shape, dtype=int))).reshape(shape)


@pytest.mark.parametrize(
    ("family", "head", "config"), [case for case in cases(DECODERS, ENCODERS, BOTH, VISION) if case.id.endswith("-0")]
)
def test_dropout_is_where_theirs_is(family, head, config, tmp_path, monkeypatch):
    config = config | PROBABILITIES[family]
    args, options, other = inputs(family, config)

    def of_torch(x, p=0.5, training=True, inplace=False):
        return x * torch.tensor(waves(tuple(x.shape), p)) if training else x

    monkeypatch.setattr(torch.nn.functional, "dropout", of_torch)
    monkeypatch.setattr(
        mt.nn.functional,
        "dropout",
        lambda x, p=0.5, *, training=True, rng=None: x * waves(x.shape, p) if training and p else x,
    )
    with keep_double(), torch.no_grad():
        model = theirs(family, head, config)
        model.save_pretrained(tmp_path)
        still = answer(model(**other))
        wanted = answer(model.train()(**other))
    mine = answer_here(load_pretrained(tmp_path).train(), *args, **options)
    valid = options["mask"][:, 0, 0] if "mask" in options else np.ones((B, T), bool)
    as_tuple = lambda y: y if isinstance(y, tuple) else (y,)
    for ours, want, before in zip(as_tuple(mine), as_tuple(wanted), as_tuple(still), strict=True):
        got, want, before = ours.data, want.numpy(), before.numpy()
        if got.shape[:2] == valid.shape:
            got, want, before = got[valid], want[valid], before[valid]
        assert np.abs(want - before).max() > 1e-3
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("family", "head", "config"), cases(DECODERS, ENCODERS, BOTH, VISION))
def test_as_released_in_float32(family, head, config, tmp_path):
    args, options, other = inputs(family, config)
    model = theirs(family, head, config)
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        wanted = answer(model(**{name: x.float() if x.is_floating_point() else x for name, x in other.items()}))
    with mt.config(dtype="float32"):
        copy = load_pretrained(tmp_path)
        assert {p.dtype for p in copy.parameters()} == {np.dtype("float32")}
        mine = answer_here(copy, *(x.astype(np.float32) if x.dtype == np.float64 else x for x in args), **options)
    valid = options["mask"][:, 0, 0] if "mask" in options else np.ones((B, T), bool)
    for ours, want in zip(*((y if isinstance(y, tuple) else (y,)) for y in (mine, wanted)), strict=True):
        got, want = ours.data, want.numpy()
        if got.shape[:2] == valid.shape:
            got, want = got[valid], want[valid]
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * max(1, np.abs(want).max()))


def generating(family, config):
    """(prompt or source, its mask, what theirs takes besides) for generation from texts of different lengths."""
    ids, valid = np.random.default_rng(3).integers(4, V, (3, 5)), np.ones((3, 5), bool)
    if family in BOTH:
        valid[1, 3:] = False
    return ids, valid


#: pad with 1, since their beam search takes a padding id of 0 for none and pads with the end token
SETTINGS = {"pad_token_id": 1, "bos_token_id": None, "forced_eos_token_id": None, "forced_bos_token_id": None,
            "max_new_tokens": 12, "do_sample": False}  # fmt: skip


@pytest.mark.parametrize(("family", "head", "config"), cases(DECODERS, BOTH))
def test_greedy_and_beam_search_choose_the_same_tokens(family, head, config, tmp_path):
    ids, valid = generating(family, config)
    start = {"Bart": 2}.get(family, 0)
    with keep_double(), torch.no_grad():
        model = theirs(family, head, config)
        model.save_pretrained(tmp_path)
        model.generation_config = transformers.GenerationConfig(**SETTINGS, decoder_start_token_id=start)
        run = lambda **options: model.generate(
            torch.tensor(ids), attention_mask=torch.tensor(valid.astype(int)), **options
        ).numpy()
        copy = load_pretrained(tmp_path)
        mine, prompt = copy, ids
        if family in BOTH:
            mine, prompt = copy.condition(ids, valid[:, None, None, :]), np.full((3, 1), start)
        np.testing.assert_array_equal(greedy(mine, prompt, 12), run(eos_token_id=None))
        for beams, length_penalty, early_stopping, eos in [
            (2, 1.0, False, 5), (3, 0.0, True, 7), (4, 2.0, False, 9), (3, -1.0, "never", 11), (5, 1.0, True, None),
        ]:  # fmt: skip
            want = run(eos_token_id=eos, num_beams=beams, length_penalty=length_penalty, early_stopping=early_stopping)
            got, _ = beam_search(
                mine,
                prompt,
                12,
                beams=beams,
                eos=eos,
                pad=1,
                length_penalty=length_penalty,
                early_stopping=early_stopping,
            )
            np.testing.assert_array_equal(got, want, err_msg=f"{beams} {length_penalty} {early_stopping}")
