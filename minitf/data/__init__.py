"""Data sets and generators."""

from minitf.data import loader, text
from minitf.data.loader import Loader, pad, stack

__all__ = ["Loader", "loader", "pad", "stack", "text"]
