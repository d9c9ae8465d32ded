"""Products of arrays: ``matmul``, and ``einsum`` on top of it."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np

from minitf.autodiff.config import current
from minitf.autodiff.dtypes import common_dtype, to_add_up
from minitf.autodiff.errors import ShapeError, broadcast_message
from minitf.autodiff.ops.broadcast import astype, broadcast_to, conj, reshape, unbroadcast
from minitf.autodiff.ops.broadcast import sum as sum_
from minitf.autodiff.ops.elementwise import multiply
from minitf.autodiff.ops.shape import diagonal, expand_dims, squeeze, swapaxes, transpose
from minitf.autodiff.rules import defcost, defjvp, defvjp
from minitf.autodiff.tensor import ArrayLike, Primitive, Tensor, as_tensor, bind
from minitf.kernels import product


def _matmul(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.dtype is y.dtype and x.dtype.itemsize > 2:
        return product.matmul(x, y, threads=current().threads)
    (x, y), dtype = to_add_up(x, y)
    return product.matmul(x, y, threads=current().threads).astype(dtype, copy=False)


matmul_p = Primitive("matmul", _matmul)
defvjp(
    matmul_p,
    lambda g, out, x, y: unbroadcast(bind(matmul_p, g, swapaxes(conj(y), -1, -2)), x),
    lambda g, out, x, y: unbroadcast(bind(matmul_p, swapaxes(conj(x), -1, -2), g), y),
    saves=((1,), (0,)),
)
defjvp(matmul_p, lambda t, out, x, y: bind(matmul_p, t, y), lambda t, out, x, y: bind(matmul_p, x, t))


def _matmul_cost(out: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[int, int]:
    macs = out.size * x.shape[-1]
    return 2 * macs, macs


defcost(matmul_p, _matmul_cost)


def matmul(x: ArrayLike, y: ArrayLike) -> Tensor:
    """The matrix product over the last two axes, leading axes broadcast; 1-D arguments are vectors (NumPy's ``@``)."""
    x, y = as_tensor(x), as_tensor(y)
    if x.ndim == 0 or y.ndim == 0:
        raise ShapeError("matmul: needs at least one axis on both sides; multiply by a scalar with *")
    inner_y = y.shape[0] if y.ndim == 1 else y.shape[-2]
    if x.shape[-1] != inner_y:
        raise ShapeError(
            f"matmul: the last axis of {x.shape} (size {x.shape[-1]}) must equal "
            f"the {'only' if y.ndim == 1 else 'second last'} axis of {y.shape} (size {inner_y})"
        )
    if x.ndim > 2 and y.ndim == 2:  # one large product, here and in the gradient of y
        rows = reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))
        return reshape(bind(matmul_p, rows, y), (*x.shape[:-1], y.shape[-1]))
    if x.ndim > 1 and y.ndim > 1:
        leading = [x.shape[:-2], y.shape[:-2]]
        if leading[0] != leading[1] and (reason := broadcast_message(leading)):
            raise ShapeError(f"matmul: the leading {reason} (arguments: {x.shape}, {y.shape})")
        return bind(matmul_p, x, y)
    left = expand_dims(x, 0) if x.ndim == 1 else x
    right = expand_dims(y, 1) if y.ndim == 1 else y
    out = bind(matmul_p, left, right)
    if y.ndim == 1:
        out = squeeze(out, -1)
    return squeeze(out, -1 if y.ndim == 1 else -2) if x.ndim == 1 else out


def dot(x: ArrayLike, y: ArrayLike) -> Tensor:
    """The inner product of two vectors; otherwise ``matmul``."""
    return matmul(x, y)


def outer(x: ArrayLike, y: ArrayLike) -> Tensor:
    """``out[..., i, j] = x[..., i] * y[..., j]``."""
    x, y = as_tensor(x), as_tensor(y)
    if x.ndim < 1 or y.ndim < 1:
        raise ShapeError(f"outer: needs vectors, got shapes {x.shape} and {y.shape}")
    return expand_dims(x, -1) * expand_dims(y, -2)


# -- einsum -------------------------------------------------------------------------------------------------------


def _parse(pattern: str, operands: list[Tensor]) -> tuple[list[str], str]:
    """One label a axis for every operand and for the output; ``...`` becomes capital Greek letters."""
    text = pattern.replace(" ", "")
    inputs, arrow, output = text.partition("->")
    terms = inputs.split(",")
    if len(terms) != len(operands):
        raise ShapeError(f"einsum: {pattern!r} names {len(terms)} operands, {len(operands)} were given")
    widths = []
    for term, x in zip(terms, operands, strict=True):
        letters = term.replace("...", "")
        if not all(c.isascii() and c.isalpha() for c in letters) or term.count("...") > 1:
            raise ShapeError(f"einsum: {term!r} in {pattern!r} is not made of letters and at most one '...'")
        width = x.ndim - len(letters)
        if width < 0 or (width > 0 and "..." not in term):
            raise ShapeError(
                f"einsum: {term!r} in {pattern!r} names {len(letters)} axes, the operand has shape {x.shape}"
            )
        widths.append(width)
    most = max(widths, default=0)
    dots = "".join(chr(0x391 + i) for i in range(most))
    terms = [t.replace("...", dots[most - w :]) for t, w in zip(terms, widths, strict=True)]
    counts = Counter("".join(terms))
    if not arrow:
        output = dots + "".join(sorted(c for c, n in counts.items() if n == 1 and c not in dots))
    else:
        if "..." not in output and dots:
            raise ShapeError(f"einsum: {pattern!r} has '...' in the inputs but not in the output")
        output = output.replace("...", dots)
    for c in output:
        if c not in counts or output.count(c) > 1:
            raise ShapeError(
                f"einsum: output label {c!r} of {pattern!r} must occur in an input, and once in the output"
            )
    return terms, output


def _sizes(pattern: str, terms: list[str], operands: list[Tensor]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for term, x in zip(terms, operands, strict=True):
        for label, n in zip(term, x.shape, strict=True):
            known = sizes.setdefault(label, n)
            dots = label >= "Α"
            if known == 1 and dots:
                sizes[label] = n
            elif n != known and not (dots and n == 1):
                written = pattern.replace(" ", "").partition("->")[0].split(",")
                told = ", ".join(f"{t} {x.shape}" for t, x in zip(written, operands, strict=True))
                name = "..." if dots else label
                raise ShapeError(f"einsum: label {name!r} of {pattern!r} has sizes {known} and {n} ({told})")
    return sizes


def _reduce_alone(x: Tensor, term: str, needed: set[str]) -> tuple[Tensor, str]:
    """Takes the diagonals of repeated labels and sums over labels that nobody else needs."""
    for label, n in Counter(term).items():
        for _ in range(n - 1):
            i = term.index(label)
            j = term.index(label, i + 1)
            x = diagonal(x, 0, i, j)
            term = term[:i] + term[i + 1 : j] + term[j + 1 :] + label
    alone = tuple(i for i, label in enumerate(term) if label not in needed)
    if alone:
        x = sum_(x, alone)
        term = "".join(label for label in term if label in needed)
    return x, term


def _contract_pair(x: Tensor, a: str, y: Tensor, b: str, needed: set[str], sizes: dict[str, int]) -> tuple[Tensor, str]:
    """Two operands as one batched matrix product; ``needed``: labels that must survive."""
    x, a = _reduce_alone(x, a, needed | set(b))
    y, b = _reduce_alone(y, b, needed | set(a))
    shared = [c for c in a if c in b]
    batch = [c for c in shared if c in needed]
    inner = [c for c in shared if c not in needed]
    left = [c for c in a if c not in b]
    right = [c for c in b if c not in a]
    out = "".join(batch + left + right)

    def group(t: Tensor, term: str, *parts: list[str]) -> Tensor:
        return transpose(t, [term.index(c) for part in parts for c in part])

    if not inner:
        xs = group(x, a, batch, left)
        ys = group(y, b, batch, right)
        xs = reshape(xs, (*xs.shape, *(1,) * len(right)))
        ys = reshape(ys, (*ys.shape[: len(batch)], *(1,) * len(left), *ys.shape[len(batch) :]))
        return multiply(xs, ys), out

    def size(labels: list[str], t: Tensor, term: str) -> list[int]:
        return [t.shape[term.index(c)] for c in labels]

    if any(x.shape[a.index(c)] != y.shape[b.index(c)] for c in inner):
        x = broadcast_to(x, [sizes[c] if c in inner else n for c, n in zip(a, x.shape, strict=True)])
        y = broadcast_to(y, [sizes[c] if c in inner else n for c, n in zip(b, y.shape, strict=True)])
    nl, nr, ni = size(left, x, a), size(right, y, b), size(inner, x, a)
    xs = group(x, a, batch, left, inner)
    ys = group(y, b, batch, inner, right)
    xs = reshape(xs, (*size(batch, x, a), math.prod(nl), math.prod(ni)))
    ys = reshape(ys, (*size(batch, y, b), math.prod(ni), math.prod(nr)))
    product = bind(matmul_p, xs, ys)
    return reshape(product, (*product.shape[: len(batch)], *nl, *nr)), out


def einsum(pattern: str, *operands: ArrayLike) -> Tensor:
    """Einstein summation, any pattern NumPy takes: repeated labels, ``...``, implicit output, several operands.

    A label has one size wherever it stands; only what ``...`` stands for broadcasts.
    Operands are contracted in pairs, each pair as one batched matrix product, in the order that
    ``numpy.einsum_path`` finds cheapest.
    """
    if not isinstance(pattern, str):
        raise TypeError(f"einsum: the first argument is the pattern, such as 'bhte,bhse->bhts', got {pattern!r}")
    tensors = [as_tensor(x) for x in operands]
    terms, output = _parse(pattern, tensors)
    sizes = _sizes(pattern, terms, tensors)
    work = [
        _reduce_alone(x, t, set(output).union(*terms[:i], *terms[i + 1 :]))
        for i, (x, t) in enumerate(zip(tensors, terms, strict=True))
    ]
    for pair in _path(work, output):
        later = [work[i] for i in range(len(work)) if i not in pair]
        needed = set(output).union(*(t for _, t in later))
        (x, a), (y, b) = (work[i] for i in sorted(pair))
        work = [*later, _contract_pair(x, a, y, b, needed, sizes)]
    ((result, term),) = work
    result, term = _reduce_alone(result, term, set(output))
    result = transpose(result, [term.index(c) for c in output])
    result = broadcast_to(result, tuple(sizes[c] for c in output))
    return astype(result, common_dtype(*(x.dtype for x in tensors)))  # integers were summed to int64


def _path(work: list[tuple[Tensor, str]], output: str) -> list[tuple[int, ...]]:
    if len(work) < 3:
        return [(0, 1)] if len(work) == 2 else []
    labels = {c: i for i, c in enumerate(sorted({c for _, t in work for c in t}))}
    arguments: list[Any] = []
    for x, t in work:
        arguments += [np.broadcast_to(np.zeros(()), x.shape), [labels[c] for c in t]]
    path = np.einsum_path(*arguments, [labels[c] for c in output], optimize="greedy")[0][1:]
    pairs: list[tuple[int, ...]] = []
    count = len(work)
    for step in path:  # NumPy may leave several operands for one last step
        step = tuple(sorted(step))
        while len(step) > 2:
            pairs.append(step[:2])
            count -= 1
            step = (*(i - 2 for i in step[2:]), count - 1)
        if len(step) == 2:
            pairs.append(step)
            count -= 1
    return pairs


def tensordot(x: ArrayLike, y: ArrayLike, axes: int = 2) -> Tensor:
    """The last ``axes`` axes of ``x`` contracted with the first ``axes`` of ``y``."""
    x, y = as_tensor(x), as_tensor(y)
    if not isinstance(axes, (int, np.integer)) or axes < 0:
        raise ShapeError(f"tensordot: axes is how many axes to contract, got {axes!r}; for any others use einsum")
    if axes > min(x.ndim, y.ndim) or x.shape[x.ndim - axes :] != y.shape[:axes]:
        raise ShapeError(f"tensordot: the last {axes} axes of {x.shape} must equal the first {axes} of {y.shape}")
    inner = math.prod(y.shape[:axes])
    rows, columns = x.shape[: x.ndim - axes], y.shape[axes:]
    product = bind(matmul_p, reshape(x, (math.prod(rows), inner)), reshape(y, (inner, math.prod(columns))))
    return reshape(product, (*rows, *columns))
