"""Byte-pair encoding: see README.md for the task."""


def pair_counts(symbols: list[list[str]], times: list[int]) -> dict[str, int]:
    """How often each pair stands side by side, by its symbols with a space between; only pairs that occur."""
    raise NotImplementedError


def merge(word: list[str], a: str, b: str) -> list[str]:
    """``word`` with each ``a`` that ``b`` follows made ``ab``, from the left."""
    raise NotImplementedError


def train(words: dict[str, int], n: int) -> list[list[str]]:
    """The first n merges [a, b] that are learned from words and how often they occur."""
    raise NotImplementedError


def encode(word: str, merges: list[list[str]]) -> list[str]:
    """The symbols of ``word``."""
    raise NotImplementedError
