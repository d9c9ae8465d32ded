"""Writes recorded.json: what Transformers' models answer, with weights that anybody can draw again.

``python chapters/models/record.py`` from the root of the repository.
"""

import json
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file

sys.path.insert(0, "tests/cross")
from keep_double import keep_double

V, D = 23, 8
BERT = {"vocab_size": V, "hidden_size": D, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12,
        "max_position_embeddings": 12}  # fmt: skip
VIT = {"hidden_size": D, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12, "image_size": 4,
       "patch_size": 2, "num_channels": 1}  # fmt: skip
T5 = {"vocab_size": V, "d_model": D, "d_kv": 4, "d_ff": 12, "num_layers": 2, "num_heads": 2}
MODELS = {
    "GPT-2": ("GPT2LMHeadModel", {"vocab_size": V, "n_positions": 12, "n_embd": D, "n_layer": 2, "n_head": 2}),
    "Llama": ("LlamaForCausalLM", {"vocab_size": V, "hidden_size": D, "intermediate_size": 12, "num_hidden_layers": 2,
                                   "num_attention_heads": 4, "num_key_value_heads": 2}),
    "CTRL": ("CTRLLMHeadModel", {"vocab_size": V, "n_positions": 12, "n_embd": D, "dff": 12, "n_layer": 2, "n_head": 2}),
    "BERT": ("BertForMaskedLM", BERT),
    "RoBERTa": ("RobertaForMaskedLM", BERT),
    "ELECTRA": ("ElectraForPreTraining", BERT | {"embedding_size": 4}),
    "DistilBERT": ("DistilBertForMaskedLM", {"vocab_size": V, "dim": D, "n_layers": 2, "n_heads": 2, "hidden_dim": 12,
                                             "max_position_embeddings": 12}),
    "T5": ("T5ForConditionalGeneration", T5),
    "mT5": ("MT5ForConditionalGeneration", T5 | {"feed_forward_proj": "gated-gelu"}),
    "BART": ("BartForConditionalGeneration", {
        "vocab_size": V, "d_model": D, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 12, "decoder_ffn_dim": 12, "max_position_embeddings": 12}),
    "ViT": ("ViTForImageClassification", VIT),
    "DeiT": ("DeiTForImageClassificationWithTeacher", VIT),
}  # fmt: skip


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor of that name: N(0, 0.3²), around 1 for the factors of norms."""
    factor = len(shape) == 1 and name.endswith("weight")
    return np.random.default_rng(zlib.crc32(name.encode())).normal(factor, 0.3, shape)


recorded = {}
for family, (kind, options) in MODELS.items():
    with tempfile.TemporaryDirectory() as folder, keep_double(), torch.no_grad():
        made = getattr(transformers, kind)
        made(made.config_class(**options)).save_pretrained(folder)
        path = Path(folder) / "model.safetensors"
        shapes = {name: list(x.shape) for name, x in sorted(load_file(path).items())}
        save_file({name: drawn(name, tuple(shape)) for name, shape in shapes.items()}, path, {"format": "pt"})
        model = made.from_pretrained(folder, attn_implementation="eager", dtype=torch.float64).eval()
        rng = np.random.default_rng(0)
        source, ids, image = rng.integers(3, V, (1, 6)), rng.integers(3, V, (1, 4)), rng.normal(size=(1, 1, 4, 4))
        if "image_size" in options:
            inputs = {"pixel_values": torch.tensor(image)}
        elif family in ("T5", "mT5", "BART"):
            inputs = {"input_ids": torch.tensor(source), "decoder_input_ids": torch.tensor(ids)}
        else:
            inputs = {"input_ids": torch.tensor(ids)}
        told = json.loads((Path(folder) / "config.json").read_text())
        recorded[family] = {"config": told, "shapes": shapes, "logits": model(**inputs).logits[0].tolist()}
versions = {"torch": torch.__version__, "transformers": transformers.__version__}
Path("chapters/models/recorded.json").write_text(json.dumps({"versions": versions, "models": recorded}) + "\n")
