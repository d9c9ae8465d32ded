"""Rearranging: the same values in another order or shape. All linear; each transpose undoes the move."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from minitf.autodiff.dtypes import promote
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.broadcast import Axes, astype, broadcast_to, normalize_axes, reshape
from minitf.autodiff.ops.broadcast import sum as sum_
from minitf.autodiff.ops.elementwise import where
from minitf.autodiff.rules import defjvp_all, deflinear, defvjp_all, defvjp_argnum
from minitf.autodiff.tensor import ArrayLike, Primitive, Tensor, as_tensor, bind, plain

transpose_p = Primitive("transpose", lambda x, axes: np.transpose(x, axes))
deflinear(transpose_p, lambda g, out, x, axes: transpose(g, tuple(int(i) for i in np.argsort(axes))))


def transpose(x: ArrayLike, axes: Sequence[int] | None = None) -> Tensor:
    """Axes permuted to ``axes`` (reversed by default); a view."""
    x = as_tensor(x)
    if axes is None:
        axes = range(x.ndim)[::-1]
    elif len(axes) != x.ndim:
        raise ShapeError(f"transpose: {tuple(axes)} does not permute the {x.ndim} axes of shape {x.shape}")
    else:
        normalize_axes("transpose", axes, x.ndim)
    axes = tuple(int(a) % x.ndim for a in axes)
    return x if axes == tuple(range(x.ndim)) else bind(transpose_p, x, axes=axes)


def swapaxes(x: ArrayLike, axis1: int, axis2: int) -> Tensor:
    """Two axes exchanged; a view."""
    x = as_tensor(x)
    (a,), (b,) = normalize_axes("swapaxes", axis1, x.ndim), normalize_axes("swapaxes", axis2, x.ndim)
    axes = list(range(x.ndim))
    axes[a], axes[b] = axes[b], axes[a]
    return bind(transpose_p, x, axes=tuple(axes))


def moveaxis(x: ArrayLike, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Axes moved to other positions, the rest in their order; a view."""
    x = as_tensor(x)
    if len(normalize_axes("moveaxis", source, x.ndim)) != len(normalize_axes("moveaxis", destination, x.ndim)):
        raise ShapeError(f"moveaxis: {source} and {destination} must name as many axes")
    sources, targets = ([int(a) % x.ndim for a in np.atleast_1d(axes)] for axes in (source, destination))
    order = [i for i in range(x.ndim) if i not in sources]
    for target, origin in sorted(zip(targets, sources, strict=True)):
        order.insert(target, origin)
    return bind(transpose_p, x, axes=tuple(order))


def expand_dims(x: ArrayLike, axis: int | Sequence[int]) -> Tensor:
    """New axes of size 1 at the given positions of the result."""
    x = as_tensor(x)
    count = 1 if isinstance(axis, (int, np.integer)) else len(axis)
    axes = normalize_axes("expand_dims", axis, x.ndim + count)
    sizes = iter(x.shape)
    return reshape(x, tuple(1 if i in axes else next(sizes) for i in range(x.ndim + count)))


def squeeze(x: ArrayLike, axis: Axes = None) -> Tensor:
    """Without the size-1 axes (all of them, or the given ones)."""
    x = as_tensor(x)
    if axis is None:
        return reshape(x, tuple(n for n in x.shape if n != 1))
    axes = normalize_axes("squeeze", axis, x.ndim)
    for a in axes:
        if x.shape[a] != 1:
            raise ShapeError(f"squeeze: axis {a} of shape {x.shape} has size {x.shape[a]}, only size 1 can go")
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in axes))


def ravel(x: ArrayLike) -> Tensor:
    """One axis, in row-major order."""
    return reshape(as_tensor(x), (-1,) if as_tensor(x).size else (0,))


# -- joining and splitting --------------------------------------------------------------------------------------

concatenate_p = Primitive("concatenate", lambda *xs, axis: np.concatenate(promote(*xs), axis=axis))


def _concatenate_vjp(argnum: int, g: Tensor, out: Any, args: list[Any], params: dict[str, Any]) -> Tensor:
    axis = params["axis"]
    start = sum(a.shape[axis] for a in args[:argnum])
    window = (slice(None),) * axis + (slice(start, start + args[argnum].shape[axis]),)
    return astype(g[window], args[argnum].dtype)


def _concatenate_jvp(tangents: list[Any], out: Tensor, *args: Any, axis: int) -> Tensor:
    parts = [plain(np.zeros(a.shape, out.dtype)) if t is None else t for t, a in zip(tangents, args, strict=True)]
    return concatenate(parts, axis)


defvjp_argnum(concatenate_p, _concatenate_vjp, saves=())
defjvp_all(concatenate_p, _concatenate_jvp)


def concatenate(arrays: Sequence[ArrayLike], axis: int = 0) -> Tensor:
    """Arrays joined along an existing axis."""
    parts = [as_tensor(a) for a in arrays]
    if not parts:
        raise ShapeError("concatenate: needs at least one array")
    (axis,) = normalize_axes("concatenate", axis, parts[0].ndim)
    for p in parts[1:]:
        if p.ndim != parts[0].ndim or any(p.shape[i] != parts[0].shape[i] for i in range(p.ndim) if i != axis):
            shapes = ", ".join(str(q.shape) for q in parts)
            raise ShapeError(f"concatenate: shapes {shapes} differ elsewhere than along axis {axis}")
    return bind(concatenate_p, *parts, axis=axis)


def stack(arrays: Sequence[ArrayLike], axis: int = 0) -> Tensor:
    """Arrays of one shape joined along a new axis."""
    parts = [as_tensor(a) for a in arrays]
    if not parts:
        raise ShapeError("stack: needs at least one array")
    if len({p.shape for p in parts}) > 1:
        raise ShapeError(f"stack: all shapes must be equal, got {', '.join(str(p.shape) for p in parts)}")
    (axis,) = normalize_axes("stack", axis, parts[0].ndim + 1)
    return concatenate([expand_dims(p, axis) for p in parts], axis)


def split(x: ArrayLike, sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """``x`` cut along ``axis`` into equal parts, or at the given indices (NumPy's meaning)."""
    x = as_tensor(x)
    (axis,) = normalize_axes("split", axis, x.ndim)
    length = x.shape[axis]
    if isinstance(sections, (int, np.integer)):
        if sections < 1 or length % sections:
            raise ShapeError(f"split: axis {axis} of size {length} does not divide into {sections} equal parts")
        cuts = list(range(0, length + 1, length // sections)) if length else [0] * (sections + 1)
    else:
        cuts = [0, *sections, length]
    before = (slice(None),) * axis
    return [x[(*before, slice(a, b))] for a, b in itertools.pairwise(cuts)]


# Slices whose cotangents come back as one array, not as many arrays of its size.
unstack_p = Primitive("unstack", lambda x, axis: tuple(np.moveaxis(x, axis, 0)), outputs="many")
defvjp_all(unstack_p, lambda g, out, x, axis: (stack(g, axis),), saves=())
defjvp_all(unstack_p, lambda tangents, out, x, axis: bind(unstack_p, tangents[0], axis=axis))


def unstack(x: ArrayLike, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices of ``x`` along ``axis``, in order: what ``stack`` makes one array of."""
    x = as_tensor(x)
    (axis,) = normalize_axes("unstack", axis, x.ndim)
    return bind(unstack_p, x, axis=axis)


# -- pad, flip, roll, repeat ------------------------------------------------------------------------------------

pad_p = Primitive("pad", lambda x, widths, value: np.pad(x, widths, constant_values=value))


def _unpad(g: Tensor, out: Any, x: Any, widths: tuple[tuple[int, int], ...], value: float) -> Tensor:
    return g[tuple(slice(low, low + n) for (low, _), n in zip(widths, x.shape, strict=True))]


deflinear(pad_p, _unpad)
defjvp_all(pad_p, lambda tangents, out, x, widths, value: bind(pad_p, tangents[0], widths=widths, value=0))


def pad(x: ArrayLike, widths: Sequence[Sequence[int]] | Sequence[int] | int, value: float = 0) -> Tensor:
    """``x`` with ``value`` around it. widths: (before, after) for each axis, one pair for all, or one number."""
    x = as_tensor(x)
    try:
        pairs = np.broadcast_to(np.asarray(widths, dtype=int), (x.ndim, 2)) if x.ndim else np.zeros((0, 2), int)
    except ValueError:
        raise ShapeError(
            f"pad: widths must be one number, a pair (before, after), or a pair for each of the {x.ndim} axes of "
            f"{x.shape}; got {widths}"
        ) from None
    if (pairs < 0).any():
        raise ShapeError(f"pad: widths must not be negative, got {widths}; slice to cut")
    return bind(pad_p, x, widths=tuple((int(a), int(b)) for a, b in pairs), value=value)


flip_p = Primitive("flip", lambda x, axis: np.flip(x, axis))
deflinear(flip_p, lambda g, out, x, axis: bind(flip_p, g, axis=axis))
roll_p = Primitive("roll", lambda x, shift, axis: np.roll(x, shift, axis))
deflinear(roll_p, lambda g, out, x, shift, axis: bind(roll_p, g, shift=tuple(-s for s in shift), axis=axis))


def flip(x: ArrayLike, axis: Axes = None) -> Tensor:
    """The order of elements reversed along ``axis`` (all by default)."""
    x = as_tensor(x)
    return bind(flip_p, x, axis=normalize_axes("flip", axis, x.ndim))


def roll(x: ArrayLike, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Tensor:
    """Elements shifted cyclically; without ``axis`` over the flattened array."""
    x = as_tensor(x)
    if axis is None:
        return reshape(roll(ravel(x), shift, 0), x.shape)
    axes = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    shifts = (shift,) * len(axes) if isinstance(shift, (int, np.integer)) else tuple(shift)
    if len(shifts) != len(axes):
        raise ShapeError(f"roll: {len(shifts)} shifts for {len(axes)} axes")
    for a in axes:
        normalize_axes("roll", a, x.ndim)
    return bind(roll_p, x, shift=shifts, axis=axes)


def repeat(x: ArrayLike, repeats: int, axis: int | None = None) -> Tensor:
    """Each element ``repeats`` times in a row along ``axis``; without ``axis`` over the flattened array."""
    x = as_tensor(x)
    if axis is None:
        return repeat(ravel(x), repeats, 0)
    (axis,) = normalize_axes("repeat", axis, x.ndim)
    if not isinstance(repeats, (int, np.integer)) or repeats < 0:
        raise ShapeError(f"repeat: repeats must be a non-negative integer, got {repeats!r}")
    wide = (*x.shape[: axis + 1], repeats, *x.shape[axis + 1 :])
    flat = (*x.shape[:axis], x.shape[axis] * repeats, *x.shape[axis + 1 :])
    return reshape(broadcast_to(expand_dims(x, axis + 1), wide), flat)


def tile(x: ArrayLike, reps: int | Sequence[int]) -> Tensor:
    """``x`` repeated whole, ``reps`` times along each axis (NumPy's meaning)."""
    x = as_tensor(x)
    counts = (reps,) if isinstance(reps, (int, np.integer)) else tuple(reps)
    ndim = max(x.ndim, len(counts))
    counts = (1,) * (ndim - len(counts)) + counts
    shape = (1,) * (ndim - x.ndim) + x.shape
    wide = tuple(k for n, c in zip(shape, counts, strict=True) for k in (c, n))
    apart = reshape(x, tuple(k for n in shape for k in (1, n)))
    return reshape(broadcast_to(apart, wide), tuple(n * c for n, c in zip(shape, counts, strict=True)))


# -- triangles and diagonals ------------------------------------------------------------------------------------

tril_p = Primitive("tril", lambda x, k: np.tril(x, k))
triu_p = Primitive("triu", lambda x, k: np.triu(x, k))
deflinear(tril_p, lambda g, out, x, k: bind(tril_p, g, k=k))
deflinear(triu_p, lambda g, out, x, k: bind(triu_p, g, k=k))


def _matrix(what: str, x: ArrayLike) -> Tensor:
    x = as_tensor(x)
    if x.ndim < 2:
        raise ShapeError(f"{what}: needs at least 2 dimensions, got shape {x.shape}")
    return x


def tril(x: ArrayLike, k: int = 0) -> Tensor:
    """The lower triangle of the last two axes, zeros above diagonal ``k``."""
    return bind(tril_p, _matrix("tril", x), k=k)


def triu(x: ArrayLike, k: int = 0) -> Tensor:
    """The upper triangle of the last two axes, zeros below diagonal ``k``."""
    return bind(triu_p, _matrix("triu", x), k=k)


def diagonal(x: ArrayLike, offset: int = 0, axis1: int = -2, axis2: int = -1) -> Tensor:
    """The diagonal of two axes, as the last axis of the result (NumPy's meaning, but the last axes by default)."""
    x = _matrix("diagonal", x)
    x = moveaxis(x, (axis1, axis2), (-2, -1))
    rows = max(min(x.shape[-2], x.shape[-1] - offset) if offset >= 0 else min(x.shape[-2] + offset, x.shape[-1]), 0)
    i = np.arange(rows)
    return x[(..., i + max(-offset, 0), i + max(offset, 0))]


def trace(x: ArrayLike) -> Tensor:
    """The sum of the diagonal of the last two axes."""
    return sum_(diagonal(x), axis=-1)


def diag(x: ArrayLike) -> Tensor:
    """A diagonal matrix from the last axis: ``(..., N) -> (..., N, N)``."""
    x = as_tensor(x)
    if x.ndim < 1:
        raise ShapeError("diag: needs at least 1 dimension")
    return where(np.eye(x.shape[-1], dtype=bool), expand_dims(x, -1), plain(np.zeros((), x.dtype)))
