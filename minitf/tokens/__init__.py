"""Tokenizers."""

from minitf.tokens.bytes import ByteTokenizer

__all__ = ["ByteTokenizer"]
