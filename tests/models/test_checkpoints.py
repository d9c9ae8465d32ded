"""Checkpoint folders: what is written is read back, and whatever does not fit gets one clear error and loads nothing."""

import contextlib
import json
import resource
import signal
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minitf as mt
from minitf.models.bert import BERT, BERTConfig, BERTForMaskedLM, BERTForSequenceClassification
from minitf.models.checkpoints import (
    AutoModel,
    CheckpointError,
    load_pretrained,
    read_folder,
    read_safetensors,
    save_pretrained,
    write_folder,
    write_safetensors,
)
from minitf.models.checkpoints.names import to_theirs
from minitf.models.gpt2 import GPT2, GPT2Config
from minitf.models.llama import Llama, LlamaConfig
from minitf.models.t5 import MT5, T5, MT5Config, T5Config
from minitf.models.transformer import Decoder

pytest.importorskip("safetensors")

SMALL = {"vocab_size": 7, "n_positions": 6, "n_embd": 4, "n_layer": 1, "n_head": 2}
BODY = {"vocab_size": 7, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 6,
        "max_position_embeddings": 6}  # fmt: skip
IDS = np.array([[1, 4, 2], [6, 0, 3]])


def gpt2(seed=0, **options):
    model = GPT2(GPT2Config(**(SMALL | options)), rng=np.random.default_rng(seed))
    for p in model.parameters():
        p.data[...] += np.random.default_rng(seed + 1).normal(0, 0.3, p.shape)
    return model.eval()


@pytest.fixture
def folder(tmp_path):
    save_pretrained(gpt2(), tmp_path)
    return tmp_path


def header_of(content):
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def packed(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def rewrite(path, change):
    """The JSON file with ``change(object)`` applied to what it holds."""
    value = json.loads(path.read_text())
    path.write_text(json.dumps(change(value) or value))


# -- there and back -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_saved_model_comes_back_bit_for_bit(tmp_path, dtype):
    with mt.config(dtype=dtype):
        model = gpt2()
        save_pretrained(model, tmp_path / "new" / "folder")
        again = load_pretrained(tmp_path / "new" / "folder")
    assert type(again) is GPT2
    assert not again.training
    assert again.config == AutoModel.configuration(
        json.loads((tmp_path / "new" / "folder" / "config.json").read_text())
    )
    for name, value in model.state_dict().items():
        assert value.dtype == dtype
        np.testing.assert_array_equal(again.state_dict()[name], value, strict=True)
    np.testing.assert_array_equal(again(IDS), model(IDS))


def test_the_configured_dtype_is_what_is_loaded(folder):
    with mt.config(dtype="float32"):
        model = load_pretrained(folder)
    assert {p.dtype for p in model.parameters()} == {np.dtype("float32")}
    want = gpt2().state_dict()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, want[name].astype(np.float32))


def test_what_a_file_holds_is_what_pytorch_calls_it(folder):
    model, tensors = gpt2(), read_folder(folder)
    attention = model.blocks[0].attention
    fused = np.concatenate([attention.q.weight.data, attention.k.weight.data, attention.v.weight.data], axis=1)
    np.testing.assert_array_equal(tensors["transformer.h.0.attn.c_attn.weight"], fused)
    assert "lm_head.weight" not in tensors  # tied
    untied = gpt2(tie_word_embeddings=False)
    theirs = to_theirs(untied, untied.names, untied.state_dict())
    np.testing.assert_array_equal(theirs["lm_head.weight"], untied.head.weight.data.T)


@pytest.mark.parametrize("limit", [1, 200, 1000, 10**9])
def test_shards(tmp_path, limit):
    model = gpt2()
    save_pretrained(model, tmp_path, max_shard_size=limit)
    names = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    if limit == 10**9:
        assert names == ["model.safetensors"]
    else:
        assert len(names) > 1
        tensors = [read_safetensors(tmp_path / name) for name in names]
        assert all(sum(x.nbytes for x in shard.values()) <= limit or len(shard) == 1 for shard in tensors)
    for name, value in load_pretrained(tmp_path).state_dict().items():
        np.testing.assert_array_equal(value, model.state_dict()[name])


def test_shards_and_single_files_do_not_stay_beside_each_other(tmp_path):
    save_pretrained(gpt2(0), tmp_path, max_shard_size=1)
    save_pretrained(gpt2(1), tmp_path, max_shard_size=500)
    np.testing.assert_array_equal(load_pretrained(tmp_path)(IDS), gpt2(1)(IDS))
    save_pretrained(gpt2(2), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    np.testing.assert_array_equal(load_pretrained(tmp_path)(IDS), gpt2(2)(IDS))


def test_configurations_keep_what_they_do_not_know(folder):
    rewrite(folder / "config.json", lambda c: c | {"made_by": {"hand": [1, None]}, "use_cache": True})
    model = load_pretrained(folder)
    assert model.config.extra["made_by"] == {"hand": [1, None]}
    assert type(model.config).from_dict(model.config.to_dict()) == model.config
    save_pretrained(model, folder)
    assert json.loads((folder / "config.json").read_text())["made_by"] == {"hand": [1, None]}


def test_bfloat16_is_widened_exactly(tmp_path):
    numbers = np.array([1.0, -0.0, 3.140625, np.inf, 1e-38, np.nan], np.float32)
    bits = (numbers.view(np.uint32) >> 16).astype("<u2")
    header = {"x": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}}
    (tmp_path / "a.safetensors").write_bytes(packed(header, bits.tobytes()))
    got = read_safetensors(tmp_path / "a.safetensors")["x"]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got.view(np.uint32) >> 16, bits.reshape(2, 3))


def test_every_dtype_and_shape_is_written_and_read(tmp_path):
    arrays = {
        f"{kind} {shape}": np.ones(shape, kind)
        for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")
        for shape in ((), (0,), (3,), (2, 0, 4), (2, 3))
    }
    arrays["turned"] = np.arange(6.0).reshape(2, 3).T
    write_safetensors(arrays, tmp_path / "a", {"about": "ones"})
    read = read_safetensors(tmp_path / "a")
    assert read.keys() == arrays.keys()
    for name, value in arrays.items():
        np.testing.assert_array_equal(read[name], value, strict=True)
        assert read[name].flags.writeable
    with pytest.raises(TypeError, match="z has dtype complex128; writable are F64"):
        write_safetensors({"z": np.ones(2, complex)}, tmp_path / "b")
    assert not (tmp_path / "b").exists()


# -- bodies, heads, old names ---------------------------------------------------------------------------------------------


def test_a_body_is_read_from_a_model_with_a_head_and_the_other_way_round(tmp_path):
    config = BERTConfig(**BODY)
    whole = BERTForSequenceClassification(config, rng=np.random.default_rng(0)).eval()
    save_pretrained(whole, tmp_path / "whole")
    with pytest.raises(CheckpointError, match=r"unexpected: classifier\.bias \(2,\)"):
        load_pretrained(tmp_path / "whole", "base")
    body = load_pretrained(tmp_path / "whole", "base", ignore_unexpected=True)
    assert type(body) is BERT
    np.testing.assert_array_equal(body(IDS), whole.bert(IDS))
    save_pretrained(body, tmp_path / "body")
    assert "pooler.dense.weight" in read_folder(tmp_path / "body")
    with pytest.raises(CheckpointError, match=r"missing: cls\.predictions\.bias"):
        load_pretrained(tmp_path / "body", "masked-lm", ignore_unexpected=True)
    tensors = read_folder(tmp_path / "body")
    head = BERTForMaskedLM(config, rng=np.random.default_rng(1))
    added = {k: v for k, v in to_theirs(head, head.names, head.state_dict()).items() if k.startswith("cls.")}
    write_folder(tensors | added, tmp_path / "body")
    masked = load_pretrained(tmp_path / "body", "masked-lm", ignore_unexpected=True)
    np.testing.assert_array_equal(masked.bert(IDS), whole.bert(IDS))


def test_names_of_old_files(folder):
    want, tensors = load_pretrained(folder)(IDS), read_folder(folder)
    tensors = {name.removeprefix("transformer."): value for name, value in tensors.items()}
    tensors["h.0.attn.bias"] = np.tril(np.ones((1, 1, 6, 6), bool))  # the causal mask, which old versions saved
    tensors["lm_head.weight"] = tensors["wte.weight"].copy()
    write_folder(tensors, folder)
    np.testing.assert_array_equal(load_pretrained(folder)(IDS), want)
    tensors["lm_head.weight"][0, 0] += 1
    write_folder(tensors, folder)
    with pytest.raises(CheckpointError, match=r"lm_head\.weight and transformer\.wte\.weight are one parameter"):
        load_pretrained(folder)


def test_gamma_and_beta_are_weight_and_bias(tmp_path):
    model = BERT(BERTConfig(**BODY), rng=np.random.default_rng(0)).eval()
    save_pretrained(model, tmp_path)
    old = lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    write_folder({old(name): value for name, value in read_folder(tmp_path).items()}, tmp_path)
    np.testing.assert_array_equal(load_pretrained(tmp_path)(IDS), model(IDS))


def test_the_tensors_say_whether_t5_is_tied(tmp_path):
    sizes = {"vocab_size": 7, "d_model": 4, "d_kv": 2, "d_ff": 6, "num_layers": 1, "num_heads": 2}
    for kind, config in ((T5, T5Config), (MT5, MT5Config)):
        for tied in (True, False):
            model = kind(config(**sizes, tie_word_embeddings=tied), rng=np.random.default_rng(0)).eval()
            save_pretrained(model, tmp_path)
            scaled = {"scale_decoder_outputs": model.config.scaled}
            for told in (True, False):  # what config.json says about it is not to be relied on
                change = scaled | {"tie_word_embeddings": told}
                rewrite(tmp_path / "config.json", lambda c, change=change: c | change)
                again = load_pretrained(tmp_path)
                assert (again.decoder.head is None) is tied
                np.testing.assert_array_equal(again(IDS, IDS), model(IDS, IDS))


def test_rotary_parameters_of_old_and_new_files():
    sizes = {
        "vocab_size": 7,
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    old = LlamaConfig(**sizes, rope_theta=500.0, rope_scaling={"type": "linear", "factor": 4.0})
    new = LlamaConfig(**sizes, rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0})
    np.testing.assert_array_equal(old.frequencies(), 500.0 ** -np.array([0, 0.5]) / 4)
    np.testing.assert_array_equal(new.frequencies(), old.frequencies())


# -- what does not fit ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gtp2"}, r"unknown model_type 'gtp2'; did you mean gpt2\?.*known are: bart, bert"),
        ({"model_type": None}, "unknown model_type None; known are"),
        ({"architectures": ["GPT2DoubleHeads"]}, "'GPT2DoubleHeads' is not implemented; of gpt2 there are: GPT2LMHead"),
        ({"n_embd": "4"}, "gpt2 configuration: n_embd must be int, got '4'"),
        ({"n_embd": 5}, "n_head must divide n_embd: 2 does not divide 5"),
        ({"n_layer": -1}, "n_layer must be at least 1, got -1"),
        ({"n_layer": 2}, r"missing: transformer\.h\.1\.ln_1\.weight"),
        ({"n_layer": 3000}, "n_layer = 3000, but the file holds 16 tensors"),
        ({"vocab_size": 8}, r"shape: transformer\.wte\.weight is \(7, 4\); the configuration asks for \(8, 4\)"),
        ({"vocab_size": 10**20}, "vocab_size must be int of at most 16777216, got 1000000000"),
        ({"vocab_size": 2**24, "n_positions": 2**24, "n_embd": 2**24}, "the configuration asks for"),
        ({"activation_function": "mish"}, "activation_function = 'mish' is not implemented; implemented: 'gelu'"),
        ({"add_cross_attention": True}, "add_cross_attention = True is not implemented"),
        ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon must be finite, got nan"),
        ({"layer_norm_epsilon": -1.0}, "layer_norm_epsilon must be positive, got -1.0"),
        ({"resid_pdrop": 1.5}, "config.json makes no model: Dropout: p must be between 0 and 1, got 1.5"),
    ],
)  # fmt: skip
def test_configurations_that_do_not_fit(folder, change, message):
    rewrite(folder / "config.json", lambda c: c | change)
    with pytest.raises(CheckpointError, match=message):
        load_pretrained(folder)


def test_a_real_number_may_be_written_as_an_integer(folder):
    rewrite(folder / "config.json", lambda c: c | {"resid_pdrop": 0, "embd_pdrop": 0})
    assert load_pretrained(folder).config.resid_pdrop == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "config.json is no JSON"),
        (b"\xff\xfe", "config.json is no JSON"),
        (b"[1]", "config.json must hold an object, it holds list"),
        (b'{"n_layer": 1, "n_layer": 2}', "config.json is no JSON: 'n_layer' is there twice"),
        (b"[" * 100_000, "config.json is no JSON"),
        (b" " * 10_000_001, "longer than 10000000 bytes"),
        (b'{"a": ' + b"9" * 5000 + b"}", "config.json is no JSON"),
    ],
)
def test_configurations_that_are_no_json(folder, text, message):
    (folder / "config.json").write_bytes(text)
    with pytest.raises(CheckpointError, match=message):
        load_pretrained(folder)


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged"),
        (b"\x05\x00\x00", "is damaged"),
        (struct.pack("<Q", 2**63) + b"{}", "is damaged"),
        (struct.pack("<Q", 900) + b"{}", "is damaged"),
        (packed(b"\xff\xfe{}", b""), "is damaged"),
        (packed({"x": ONE}, bytes(7)), "is damaged"),
        (packed({"x": ONE}, bytes(9)), "is damaged"),
        (packed({"x": ONE, "y": ONE}, bytes(8)), "is damaged"),
        (packed({"x": ONE, "y": ONE | {"data_offsets": [4, 12]}}, bytes(12)), "is damaged"),
        (packed({"x": ONE, "y": ONE | {"data_offsets": [12, 20]}}, bytes(20)), "is damaged"),
        (packed({"x": ONE | {"data_offsets": [8, 0]}}, bytes(8)), "is damaged"),
        (packed({"x": ONE | {"data_offsets": [-8, 0]}}, bytes(8)), "is damaged"),
        (packed({"x": ONE | {"shape": [3]}}, bytes(8)), "is damaged"),
        (packed({"x": ONE | {"shape": [2**62, 4]}}, bytes(8)), "is damaged"),
        (packed({"x": ONE | {"shape": [-2]}}, bytes(8)), "is damaged"),
        (packed({"x": ONE | {"dtype": "F33"}}, bytes(8)), "is damaged"),
        (packed({"x": ONE | {"dtype": "F8_E4M3", "shape": [8]}}, bytes(8)), "tensor 'x' is F8_E4M3; readable are F64"),
        (packed(b'{"x":%b,"x":%b}' % ((json.dumps(ONE).encode(),) * 2), bytes(8)), "'x' is there twice"),
    ],
)
def test_damaged_tensor_files(tmp_path, content, message):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_safetensors(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("transformer.ln_f.bias"), r"missing: transformer\.ln_f\.bias"),
        (lambda t: t.update(extra=np.zeros((2, 3))), r"unexpected: extra \(2, 3\)"),
        (
            lambda t: t.update({"transformer.ln_f.bias": np.zeros(4, np.int64)}),
            r"dtype: transformer\.ln_f\.bias is int64; a parameter is floating",
        ),
        (
            lambda t: t.update({"transformer.h.0.mlp.c_fc.weight": np.zeros((16, 4))}),
            r"shape: transformer\.h\.0\.mlp\.c_fc\.weight is \(16, 4\); the configuration asks for \(4, 16\)",
        ),
        (lambda t: [t.pop(name) for name in list(t)[:13]], r"missing: (.|\n)*\n  and 1 more"),
    ],
)
def test_tensors_that_do_not_fit(folder, change, message):
    tensors = read_folder(folder)
    change(tensors)
    write_folder(tensors, folder)
    with pytest.raises(CheckpointError, match=message) as error:
        load_pretrained(folder)
    assert str(error.value).startswith("GPT2: nothing was loaded")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: i.pop("weight_map") and None, "weight_map must say"),
        (lambda i: i.update(weight_map=[1]), "weight_map must say"),
        (lambda i: i["weight_map"].update(x=3), "weight_map must say"),
        (
            lambda i: i["weight_map"].update(x="../model.safetensors"),
            "'../model.safetensors' is no file of this folder",
        ),
        (lambda i: i["weight_map"].update(x="/etc/passwd"), "'/etc/passwd' is no file of this folder"),
        (lambda i: i["weight_map"].update(x="other.safetensors"), "names other.safetensors, but there is no such file"),
        (lambda i: i["weight_map"].popitem() and None, "disagree about 1 tensors"),
        (lambda i: i["weight_map"].update(x="model-00001-of-00002.safetensors"), "the first of them 'x'"),
    ],
)
def test_indices_that_do_not_fit(tmp_path, change, message):
    save_pretrained(gpt2(), tmp_path, max_shard_size=1800)
    rewrite(tmp_path / "model.safetensors.index.json", change)
    with pytest.raises(CheckpointError, match=message):
        load_pretrained(tmp_path)


def test_folders_without_a_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*; models are not downloaded"):
        load_pretrained(tmp_path / "gpt2")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*config\.json"):
        load_pretrained(tmp_path)
    save_pretrained(gpt2(), tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(
        FileNotFoundError, match=r"there is: config.json, pytorch_model.bin. .* reading a pickle executes it"
    ):
        load_pretrained(tmp_path)


def test_models_and_tasks_that_are_not_known(folder, tmp_path):
    with pytest.raises(ValueError, match="gpt2 has no model for task 'masked-lm'; there are: causal-lm"):
        load_pretrained(folder, "masked-lm")
    plain = Decoder(7, 4, 1, 2, max_length=6, rng=np.random.default_rng(0))
    with pytest.raises(TypeError, match="Decoder has no configuration; the families that have one are: gpt2"):
        save_pretrained(plain, tmp_path / "plain")
    assert not (tmp_path / "plain").exists()
    with pytest.raises(ValueError, match="unknown task 'chat'; there are: base"):
        AutoModel.register(GPT2Config, {"chat": GPT2})
    with pytest.raises(
        CheckpointError, match="rope_type 'yarn' is not implemented; implemented: default, linear, llama3"
    ):
        LlamaConfig(rope_parameters={"rope_type": "yarn"})
    with pytest.raises(CheckpointError, match="rope_type 'linear' needs 'factor'"):
        LlamaConfig(rope_parameters={"rope_type": "linear"})


def test_a_large_model_is_not_made_before_its_shapes_are_checked(folder):
    """An honest configuration of 100 GB beside tensors of 2 kB."""
    rewrite(folder / "config.json", lambda c: c | {"n_embd": 65536, "vocab_size": 200_000})
    with memory_limit(2**30), pytest.raises(CheckpointError, match=r"the configuration asks for \(200000, 65536\)"):
        load_pretrained(folder)


def test_every_family_can_be_made_from_its_configuration_and_registers_itself():
    from minitf.models.checkpoints.auto import FAMILIES

    for family in FAMILIES:
        configuration, tasks = AutoModel.family(family)
        assert configuration.model_type == family
        assert len({kind.architecture for kind in tasks.values()}) == len(tasks)
    model = AutoModel.from_config(LlamaConfig(vocab_size=7, hidden_size=4, intermediate_size=4, num_hidden_layers=1,
                                              num_attention_heads=1), rng=np.random.default_rng(0))  # fmt: skip
    assert type(model) is Llama


# -- mutated files --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def memory_limit(more):
    """The process may not take more than ``more`` bytes beyond what it has."""
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextlib.contextmanager
def time_limit(seconds):
    def stop(*_):
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def literally_read(content):
    """The format as its page describes it, for files that the reader accepted."""
    header, data = header_of(content)
    kinds = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1",
             "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1", "BOOL": "?", "BF16": "<u2"}  # fmt: skip
    found = {}
    for name, told in header.items():
        if name != "__metadata__":
            begin, end = told["data_offsets"]
            values = np.frombuffer(data[begin:end], kinds[told["dtype"]]).reshape(told["shape"])
            found[name] = (values.astype("<u4") << 16).view("<f4") if told["dtype"] == "BF16" else values
    return found


numbers = st.one_of(
    st.integers(-2, 20), st.sampled_from([2**24, 2**31, 2**63, 2**64, 10**30, -(2**63)]), st.floats(), st.booleans()
)
values = st.recursive(
    st.one_of(st.none(), numbers, st.text(max_size=6)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def mutated_bytes(draw, content):
    """A file with a few bytes changed, taken out, put in or repeated, most of them where the header is."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        end = draw(st.sampled_from([8, 64, 400, len(content)]))
        at = draw(st.integers(0, max(min(end, len(content)) - 1, 0)))
        match draw(st.sampled_from(["set", "flip", "cut", "drop", "insert", "repeat"])):
            case "set":
                content[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case "flip" if content:
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del content[draw(st.integers(0, len(content))) :]
            case "drop":
                del content[at : at + draw(st.integers(1, 16))]
            case "insert":
                content[at:at] = draw(st.binary(min_size=1, max_size=16))
            case "repeat":
                content[at:at] = content[at : at + draw(st.integers(1, 64))]
    return bytes(content)


@st.composite
def mutated_json(draw, value):
    """An object in which a few values are exchanged, left out or added, at any depth."""
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, 3))):
        place = value
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], (dict, list)) and draw(st.booleans()):
                place = place[key]
                continue
            match draw(st.sampled_from(["exchange", "exchange", "drop", "swap", "add"])):
                case "exchange":
                    place[key] = draw(values)
                case "drop":
                    del place[key]
                case "swap":
                    other = draw(st.sampled_from(keys))
                    place[key], place[other] = place[other], place[key]
                case "add" if isinstance(place, dict):
                    place[draw(st.text(max_size=5))] = draw(values)
            break
    return value


def try_to_load(folder):
    """Loads a folder that may be damaged; None, or the model, whose every number is then in the file."""
    with memory_limit(2**29), time_limit(20):
        try:
            tensors = {}
            for path in folder.glob("*.safetensors"):
                read = read_safetensors(path)
                wanted = literally_read(path.read_bytes())
                assert read.keys() == wanted.keys()
                for name, value in read.items():
                    np.testing.assert_array_equal(value, wanted[name], strict=True)
                tensors |= read
            model = load_pretrained(folder)
        except (CheckpointError, FileNotFoundError):
            return None
        theirs = to_theirs(model, model.names, model.state_dict())
        for name, value in theirs.items():
            origin = tensors.get(name, tensors.get(name.removeprefix("transformer.")))
            if origin is None:  # stored under the name of what it is tied to
                origin = tensors["lm_head.weight"]
            np.testing.assert_array_equal(value, origin.astype(value.dtype))
        return model


def fuzz(folder, examples):
    single, sharded = folder / "single", folder / "sharded"
    save_pretrained(gpt2(), single)
    save_pretrained(gpt2(), sharded, max_shard_size=1500)
    contents = {path: path.read_bytes() for path in [*single.iterdir(), *sharded.iterdir()]}
    seen = {"loaded": 0, "refused": 0}

    @settings(max_examples=examples, deadline=None, database=None, derandomize=True)
    @given(st.data())
    def run(data):
        path = data.draw(st.sampled_from(sorted(contents)))
        content = contents[path]
        if path.suffix == ".json" and data.draw(st.booleans()):
            mutated = json.dumps(data.draw(mutated_json(json.loads(content)))).encode()
        elif path.suffix == ".safetensors" and data.draw(st.booleans()):
            header, numbers = header_of(content)
            mutated = packed(data.draw(mutated_json(header)), numbers)
        else:
            mutated = data.draw(mutated_bytes(content))
        path.write_bytes(mutated)
        try:
            seen["refused" if try_to_load(path.parent) is None else "loaded"] += 1
        finally:
            path.write_bytes(content)

    run()
    return seen


def test_mutated_files_are_refused_or_read_as_they_are(tmp_path):
    seen = fuzz(tmp_path, 150)
    assert min(seen.values()) > 5, seen


@pytest.mark.slow
def test_ten_thousand_mutated_files(tmp_path):
    seen = fuzz(tmp_path, 12_000)
    print(seen)
    assert sum(seen.values()) >= 10_000
    assert min(seen.values()) > 500, seen
