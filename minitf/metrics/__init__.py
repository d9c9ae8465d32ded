"""Measures of results: arrays in, a number out."""

from minitf.metrics.correlation import concordance_cc, pearson
from minitf.metrics.images import psnr, ssim

__all__ = [
    "concordance_cc",
    "pearson",
    "psnr",
    "ssim",
]
