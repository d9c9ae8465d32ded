"""Normalization of rows and of groups of channels, and what pulls cotangents back through it.

    norm         x̂ = (x - [mean(x)]) r,   r = rsqrt(mean((x - [mean(x)])²) + eps),   y = x̂ (offset + w) + b
    group_norm   the same where a row is all of a group of channels, with w and b for each channel

The bracket belongs to ``center``: layer norm with it, RMS norm without. With g' = g (offset + w) the cotangent of x is
r (g' - [mean(g')] - x̂ mean(g' x̂)). Those of w and b are sums over rows, added up in parts that the number of rows
decides, never the number of threads.
"""

from __future__ import annotations

import math

import numpy as np

from minitf.kernels.compile import jit
from minitf.kernels.pool import over_rows

#: elements that are worth a thread of their own
WORTH = 1 << 14
#: parts in which a sum over all rows is added up, at most
PARTS = 64


@jit(reorder=True)
def _mean(row, center):
    """The mean, 0 unless ``center``."""
    total = row.dtype.type(0)
    if center:
        for j in range(row.size):
            total += row[j]
    return total / row.dtype.type(row.size)


@jit
def _reciprocal_root(squares, D, eps):
    """r, from the sum of D squares."""
    number = type(squares)
    return number(1) / np.sqrt(squares / number(D) + number(eps))


@jit(reorder=True)
def _moments(row, eps, center):
    """The mean, 0 unless ``center``, and r."""
    mean = _mean(row, center)
    squares = row.dtype.type(0)
    for j in range(row.size):
        squares += (row[j] - mean) * (row[j] - mean)
    return mean, _reciprocal_root(squares, row.size, eps)


@jit
def _norm_rows(start, stop, x, weight, bias, eps, center, out):
    for i in range(start, stop):
        row, y = x[i], out[i]
        mean, r = _moments(row, eps, center)
        for j in range(row.size):
            y[j] = (row[j] - mean) * r * weight[j] + bias[j]


@jit(reorder=True)
def _norm_vjp_parts(start, stop, g, x, weight, eps, center, of_x, of_weight, of_bias):
    """Parts start:stop of all rows; of_weight and of_bias have a row for each part."""
    N, D = x.shape
    number = x.dtype.type
    parts = len(of_weight)
    for part in range(start, stop):
        scale, shift = of_weight[part], of_bias[part]
        scale[:] = 0
        shift[:] = 0
        for i in range(N * part // parts, N * (part + 1) // parts):
            row, h, y = x[i], g[i], of_x[i]
            mean = _mean(row, center)
            squares, along, total = number(0), number(0), number(0)
            for j in range(D):
                pulled = h[j] * weight[j]
                squares += (row[j] - mean) * (row[j] - mean)
                along += pulled * (row[j] - mean)
                total += pulled
            r = _reciprocal_root(squares, D, eps)
            along *= r / number(D)
            total = total / number(D) if center else number(0)
            for j in range(D):
                normal = (row[j] - mean) * r
                y[j] = (h[j] * weight[j] - total - normal * along) * r
                scale[j] += h[j] * normal
                shift[j] += h[j]


@jit
def _group_norm_rows(start, stop, x, groups, weight, bias, eps, out):
    """x and out (rows, channels of a group, positions)."""
    for i in range(start, stop):
        mean, r = _moments(x[i].reshape(-1), eps, True)
        first = i % groups * x.shape[1]
        for c in range(x.shape[1]):
            row, y = x[i, c], out[i, c]
            scale, shift = weight[first + c] * r, bias[first + c]
            for j in range(row.size):
                y[j] = (row[j] - mean) * scale + shift


@jit(reorder=True)
def _group_norm_vjp_rows(start, stop, g, x, groups, weight, eps, of_x, of_weight, of_bias):
    """g, x and of_x (rows, channels of a group, positions), of_weight and of_bias (rows, channels of a group)."""
    number = x.dtype.type
    for i in range(start, stop):
        mean, r = _moments(x[i].reshape(-1), eps, True)
        first = i % groups * x.shape[1]
        along, total = number(0), number(0)
        for c in range(x.shape[1]):
            row, h = x[i, c], g[i, c]
            product, plain = number(0), number(0)
            for j in range(row.size):
                product += h[j] * (row[j] - mean)
                plain += h[j]
            of_weight[i, c] = product * r
            of_bias[i, c] = plain
            along += product * weight[first + c]
            total += plain * weight[first + c]
        D = number(x.shape[1] * x.shape[2])
        along *= r * r / D
        total /= D
        for c in range(x.shape[1]):
            row, h, y = x[i, c], g[i, c], of_x[i, c]
            for j in range(row.size):
                y[j] = (h[j] * weight[first + c] - total - (row[j] - mean) * along) * r


def _affine(x: np.ndarray, D: int, weight: np.ndarray | None, bias: np.ndarray | None, offset: float = 0.0):
    """Factors and summands, also where there are none."""
    weight = np.ones(D, x.dtype) if weight is None else np.ascontiguousarray(weight + offset if offset else weight)
    return weight, np.zeros(D, x.dtype) if bias is None else np.ascontiguousarray(bias)


def norm(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None = None,
    *,
    eps: float,
    center: bool,
    offset: float,
    threads: int,
) -> np.ndarray:
    """x (*, D), weight and bias (D,) -> (*, D)."""
    rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    out = np.empty_like(rows)
    weight, bias = _affine(x, x.shape[-1], weight, bias, offset)
    least = max(1, WORTH // x.shape[-1])
    over_rows(_norm_rows, len(rows), rows, weight, bias, eps, center, out, threads=threads, least=least)
    return out.reshape(x.shape)


def norm_vjp(
    g: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    *,
    eps: float,
    center: bool,
    offset: float,
    bias: bool = False,
    threads: int,
) -> tuple[np.ndarray, ...]:
    """The cotangents of x, of the weight if there is one, and of the bias if ``bias``, from g (*, D) of the output."""
    rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    of_x = np.empty_like(rows)
    parts = min(len(rows), PARTS)
    of_weight, of_bias = np.empty((2, parts, x.shape[-1]), x.dtype)
    factor, _ = _affine(x, x.shape[-1], weight, None, offset)
    arrays = (np.ascontiguousarray(g).reshape(rows.shape), rows, factor, eps, center, of_x, of_weight, of_bias)
    least = max(1, WORTH * parts // max(x.size, 1))
    over_rows(_norm_vjp_parts, parts, *arrays, threads=threads, least=least)
    given = (weight is not None, bias)
    wanted = [part.sum(0) for part, wanted in zip((of_weight, of_bias), given, strict=True) if wanted]
    return of_x.reshape(x.shape), *wanted


def group_norm(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None = None,
    *,
    groups: int,
    eps: float,
    threads: int,
) -> np.ndarray:
    """x (B, C, *), weight and bias (C,) -> (B, C, *)."""
    rows = _grouped(x, groups)
    out = np.empty_like(rows)
    weight, bias = _affine(x, x.shape[1], weight, bias)
    least = max(1, WORTH * len(rows) // max(x.size, 1))
    over_rows(_group_norm_rows, len(rows), rows, groups, weight, bias, eps, out, threads=threads, least=least)
    return out.reshape(x.shape)


def group_norm_vjp(
    g: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    *,
    groups: int,
    eps: float,
    bias: bool = False,
    threads: int,
) -> tuple[np.ndarray, ...]:
    """The cotangents of x, of the weight if there is one, and of the bias if ``bias``, from g (B, C, *)."""
    rows = _grouped(x, groups)
    of_x = np.empty_like(rows)
    of_weight, of_bias = np.empty((2, *rows.shape[:2]), x.dtype)
    factor, _ = _affine(x, x.shape[1], weight, None)
    arrays = (_grouped(g, groups), rows, groups, factor, eps, of_x, of_weight, of_bias)
    least = max(1, WORTH * len(rows) // max(x.size, 1))
    over_rows(_group_norm_vjp_rows, len(rows), *arrays, threads=threads, least=least)
    images = [part.reshape(x.shape[:2]) for part in (of_weight, of_bias)]
    wanted = [part.sum(0) for part, given in zip(images, (weight is not None, bias), strict=True) if given]
    return of_x.reshape(x.shape), *wanted


def _grouped(x: np.ndarray, groups: int) -> np.ndarray:
    """(B, C, *) as (B groups, channels of a group, positions), contiguous."""
    return np.ascontiguousarray(x).reshape(len(x) * groups, x.shape[1] // groups, math.prod(x.shape[2:]))


# -- twins --------------------------------------------------------------------------------------------------------


def _standardize(x: np.ndarray, eps: float, center: bool) -> tuple[np.ndarray, np.ndarray]:
    """x̂ and r of rows on the last axis."""
    y = x - np.mean(x, axis=-1, keepdims=True) if center else x
    r = 1 / np.sqrt(np.mean(y * y, axis=-1, keepdims=True) + eps)
    return y * r, r


def _standardize_vjp(g: np.ndarray, y: np.ndarray, r: np.ndarray, center: bool) -> np.ndarray:
    """The cotangent of x from g of x̂ = y."""
    of_x = g - y * np.mean(g * y, axis=-1, keepdims=True)
    return (of_x - np.mean(g, axis=-1, keepdims=True) if center else of_x) * r


def norm_twin(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None = None,
    *,
    eps: float,
    center: bool,
    offset: float,
) -> np.ndarray:
    y, _ = _standardize(x, eps, center)
    y = y if weight is None else y * (weight + offset)
    return y if bias is None else y + bias


def norm_vjp_twin(
    g: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    *,
    eps: float,
    center: bool,
    offset: float,
    bias: bool = False,
) -> tuple[np.ndarray, ...]:
    y, r = _standardize(x, eps, center)
    rows = tuple(range(x.ndim - 1))
    of_x = _standardize_vjp(g if weight is None else g * (weight + offset), y, r, center)
    return of_x, *([] if weight is None else [np.sum(g * y, rows)]), *([np.sum(g, rows)] if bias else [])


def group_norm_twin(
    x: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None = None, *, groups: int, eps: float
) -> np.ndarray:
    y, _ = _standardize(x.reshape(len(x), groups, math.prod(x.shape[1:]) // groups), eps, True)
    each = (-1, *[1] * (x.ndim - 2))
    y = y.reshape(x.shape) if weight is None else y.reshape(x.shape) * weight.reshape(each)
    return y if bias is None else y + bias.reshape(each)


def group_norm_vjp_twin(
    g: np.ndarray, x: np.ndarray, weight: np.ndarray | None, *, groups: int, eps: float, bias: bool = False
) -> tuple[np.ndarray, ...]:
    y, r = _standardize(x.reshape(len(x), groups, math.prod(x.shape[1:]) // groups), eps, True)
    pulled = g if weight is None else g * weight.reshape(-1, *[1] * (x.ndim - 2))
    of_x = _standardize_vjp(pulled.reshape(y.shape), y, r, True).reshape(x.shape)
    others = (0, *range(2, x.ndim))
    of_weight = [] if weight is None else [np.sum(g * y.reshape(x.shape), others)]
    return of_x, *of_weight, *([np.sum(g, others)] if bias else [])
