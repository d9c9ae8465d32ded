"""Writes recorded.json: tokenizers that the library ``tokenizers`` has trained, and how they cut some texts.

``python chapters/tokens/record.py`` from the root of the repository.
"""

import json
from pathlib import Path

import tokenizers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TRAINING = Path("chapters/models/transformer.md").read_text()
SAMPLES = [
    "The transformer, precisely",
    "  two spaces, don't they? 1234567",
    "naïve façade — 漢字 and emoji 🙂‍↔️",
    "unbelievably ununderstandable",
    "tab\tnew\nline\r\n\r\nend ",
]
quiet = {"show_progress": False}


def byte_bpe() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator([TRAINING], trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, **quiet))
    return made


def bpe() -> Tokenizer:
    made = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.WhitespaceSplit(), decoders.BPEDecoder("</w>")
    options = {"special_tokens": ["<unk>"], "end_of_word_suffix": "</w>"}
    made.train_from_iterator([TRAINING], trainers.BpeTrainer(vocab_size=400, **options, **quiet))
    return made


def wordpiece() -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train_from_iterator([TRAINING], trainers.WordPieceTrainer(vocab_size=400, special_tokens=specials, **quiet))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def unigram() -> Tokenizer:
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    options = {"special_tokens": ["<unk>"], "unk_token": "<unk>"}
    made.train_from_iterator([TRAINING], trainers.UnigramTrainer(vocab_size=400, **options, **quiet))
    return made


record = {"versions": {"tokenizers": tokenizers.__version__}, "samples": SAMPLES, "kinds": {}}
for make in (bpe, byte_bpe, wordpiece, unigram):
    made = make()
    record["kinds"][make.__name__] = {
        "tokenizer": json.loads(made.to_str()),
        "ids": [made.encode(text).ids for text in SAMPLES],
        "decoded": [made.decode(made.encode(text).ids) for text in SAMPLES],
    }
Path("chapters/tokens/recorded.json").write_text(json.dumps(record, ensure_ascii=False) + "\n")
