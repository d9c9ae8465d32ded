"""Tokenizers."""

from minitf.tokens.bpe import BPETokenizer
from minitf.tokens.byte_bpe import ByteBPETokenizer
from minitf.tokens.bytes import ByteTokenizer
from minitf.tokens.characters import CharacterTokenizer
from minitf.tokens.fields import TokenizerFileError
from minitf.tokens.tokenizer import AddedToken
from minitf.tokens.tokenizer_json import load_tokenizer
from minitf.tokens.unigram import UnigramTokenizer
from minitf.tokens.wordpiece import WordPieceTokenizer

__all__ = [
    "AddedToken",
    "BPETokenizer",
    "ByteBPETokenizer",
    "ByteTokenizer",
    "CharacterTokenizer",
    "TokenizerFileError",
    "UnigramTokenizer",
    "WordPieceTokenizer",
    "load_tokenizer",
]
