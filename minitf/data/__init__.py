"""Data sets and generators."""

from minitf.data import text

__all__ = ["text"]
