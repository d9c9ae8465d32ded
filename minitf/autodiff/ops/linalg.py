"""Linear algebra, ``mt.linalg``: NumPy's names and meaning, over the last two axes, leading axes broadcast.

Integers are computed in float64, 16- and 8-bit floats in float32 and rounded back; LAPACK has no longdouble.
A singular or indefinite matrix raises ``numpy.linalg.LinAlgError``.

``cholesky`` and ``eigh`` read the Hermitian part (A + Aᴴ)/2 of their argument, so that their derivative is that of the
function as it is computed, also along directions that are not Hermitian.

Eigenvectors and singular vectors are defined up to a sign (a phase, when complex), and not at all where values
coincide. The signs are LAPACK's, and their derivatives are right while the signs stay; a complex loss must not depend
on the phases. Where two values coincide the vectors have no derivative and asking for one raises ``LinAlgError``; the
values alone keep theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minitf.autodiff.dtypes import is_complex, is_inexact, real_dtype, to_add_up
from minitf.autodiff.errors import ShapeError, broadcast_message
from minitf.autodiff.ops import elementwise as ew
from minitf.autodiff.ops import reduce
from minitf.autodiff.ops.broadcast import astype, conj, imag, normalize_axes, real, unbroadcast
from minitf.autodiff.ops.broadcast import sum as sum_
from minitf.autodiff.ops.contract import matmul
from minitf.autodiff.ops.shape import diag, diagonal, expand_dims, moveaxis, squeeze, swapaxes, trace, tril
from minitf.autodiff.rules import defcost, defjvp, defjvp_all, defvjp, defvjp_all
from minitf.autodiff.tensor import ArrayLike, Primitive, Tensor, as_tensor, bind

LinAlgError = np.linalg.LinAlgError

__all__ = [
    "LinAlgError",
    "cholesky",
    "det",
    "eigh",
    "eigvalsh",
    "inv",
    "norm",
    "slogdet",
    "solve",
    "solve_triangular",
    "svd",
    "svdvals",
]


def _lapack(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` on arrays of one dtype that LAPACK has; small floats go through float32."""

    def apply(*arrays: np.ndarray, **params: Any) -> Any:
        values, dtype = to_add_up(*arrays)
        if dtype.char in "gG":
            raise TypeError(f"mt.linalg has no {dtype}: LAPACK computes in float32, float64, complex64 and complex128")
        out = function(*values, **params)
        if dtype.itemsize > 2:
            return out
        return tuple(o.astype(dtype) for o in out) if isinstance(out, tuple) else out.astype(dtype)

    return apply


def _matrices(what: str, x: ArrayLike, square: bool = True) -> Tensor:
    x = as_tensor(x)
    if x.ndim < 2 or (square and x.shape[-1] != x.shape[-2]):
        raise ShapeError(f"{what}: needs {'square ' if square else ''}matrices (..., N, {'N' if square else 'M'}), "
                         f"got shape {x.shape}")  # fmt: skip
    return x if is_inexact(x.dtype) else Tensor(x.data.astype(np.float64))


def _adjoint(x: Any) -> Tensor:
    return swapaxes(conj(x), -1, -2)


def _hermitian(x: Tensor) -> Tensor:
    return (x + _adjoint(x)) * 0.5


def _count(x: Any) -> int:
    """How many matrices ``x`` holds."""
    return math.prod(x.shape[:-2])


# -- linear systems ---------------------------------------------------------------------------------------------


def _solve(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.solve(a, b)
    except LinAlgError:
        raise LinAlgError("the matrix is singular, so the system has no unique solution") from None


solve_p = Primitive("solve", _lapack(_solve))
defvjp(
    solve_p,
    lambda g, out, a, b: unbroadcast(-matmul(bind(solve_p, _adjoint(a), g), _adjoint(out)), a),
    lambda g, out, a, b: unbroadcast(bind(solve_p, _adjoint(a), g), b),
    saves=((0, "out"), (0,)),
)
defjvp(
    solve_p,
    lambda t, out, a, b: bind(solve_p, a, -matmul(t, out)),
    lambda t, out, a, b: bind(solve_p, a, t),
)
defcost(solve_p, lambda out, a, b: (_count(a) * 2 * a.shape[-1] ** 3 // 3 + 2 * out.size * a.shape[-1], 0))


def _system(what: str, a: ArrayLike, b: ArrayLike) -> tuple[Tensor, Tensor, bool]:
    a, b = _matrices(what, a), as_tensor(b)
    if not is_inexact(b.dtype):
        b = astype(b, a.dtype)
    vector = b.ndim == 1
    rows = b.shape[-1] if vector else b.shape[-2] if b.ndim else None
    if rows != a.shape[-1]:
        raise ShapeError(
            f"{what}: matrices {a.shape} need a vector ({a.shape[-1]},) or matrices (..., {a.shape[-1]}, K) "
            f"on the right, got shape {b.shape}"
        )
    if reason := broadcast_message([a.shape[:-2], () if vector else b.shape[:-2]]):
        raise ShapeError(f"{what}: the leading {reason} (arguments: {a.shape}, {b.shape})")
    return a, expand_dims(b, -1) if vector else b, vector


def solve(a: ArrayLike, b: ArrayLike) -> Tensor:
    """The solution x of a @ x = b; ``b`` is one vector if it has one axis, matrices ``(..., N, K)`` otherwise."""
    a, b, vector = _system("solve", a, b)
    x = bind(solve_p, a, b)
    return squeeze(x, -1) if vector else x


def _solve_triangular(a: np.ndarray, b: np.ndarray, lower: bool, unit_diagonal: bool) -> np.ndarray:
    """Substitution, row by row: exact about its structure, and for every dtype."""
    (a, b), dtype = to_add_up(a, b)
    n = a.shape[-1]
    if not unit_diagonal and (np.diagonal(a, axis1=-2, axis2=-1) == 0).any():
        raise LinAlgError("the matrix is singular: it has a zero on its diagonal")
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    x = np.array(np.broadcast_to(b, (*batch, *b.shape[-2:])))
    for i in range(n) if lower else range(n - 1, -1, -1):
        known = slice(0, i) if lower else slice(i + 1, n)
        row = x[..., i, :] - np.matmul(a[..., i : i + 1, known], x[..., known, :])[..., 0, :]
        x[..., i, :] = row if unit_diagonal else row / a[..., i, i, None]
    return x.astype(dtype, copy=False)


solve_triangular_p = Primitive("solve_triangular", _solve_triangular)


def _triangle(x: Tensor, lower: bool, unit_diagonal: bool) -> Tensor:
    """The part of a matrix that a triangular solve reads."""
    k = -1 if unit_diagonal else 0
    return tril(x, k) if lower else swapaxes(tril(swapaxes(x, -1, -2), k), -1, -2)


def _back(g: Tensor, a: Any, lower: bool, unit_diagonal: bool) -> Tensor:
    return bind(solve_triangular_p, _adjoint(a), g, lower=not lower, unit_diagonal=unit_diagonal)


defvjp(
    solve_triangular_p,
    lambda g, out, a, b, **kind: unbroadcast(_triangle(-matmul(_back(g, a, **kind), _adjoint(out)), **kind), a),
    lambda g, out, a, b, **kind: unbroadcast(_back(g, a, **kind), b),
    saves=((0, "out"), (0,)),
)
defjvp(
    solve_triangular_p,
    lambda t, out, a, b, **kind: bind(solve_triangular_p, a, -matmul(_triangle(t, **kind), out), **kind),
    lambda t, out, a, b, **kind: bind(solve_triangular_p, a, t, **kind),
)
defcost(solve_triangular_p, lambda out, a, b, **kind: (out.size * a.shape[-1], 0))


def solve_triangular(a: ArrayLike, b: ArrayLike, *, lower: bool = True, unit_diagonal: bool = False) -> Tensor:
    """The solution x of a @ x = b for a triangular ``a``, by substitution; the other triangle is not read.

    unit_diagonal: take the diagonal of ``a`` to be ones, without reading it.
    """
    a, b, vector = _system("solve_triangular", a, b)
    x = bind(solve_triangular_p, a, b, lower=bool(lower), unit_diagonal=bool(unit_diagonal))
    return squeeze(x, -1) if vector else x


def _inv(a: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.inv(a)
    except LinAlgError:
        raise LinAlgError("the matrix is singular and has no inverse") from None


inv_p = Primitive("inv", _lapack(_inv))
defvjp(inv_p, lambda g, out, a: -matmul(matmul(_adjoint(out), g), _adjoint(out)), saves=("out",))
defjvp(inv_p, lambda t, out, a: -matmul(matmul(out, t), out))
defcost(inv_p, lambda out, a: (2 * _count(a) * a.shape[-1] ** 3, 0))


def inv(a: ArrayLike) -> Tensor:
    """The inverse; ``solve`` is cheaper and more accurate where a product with it is what is needed."""
    return bind(inv_p, _matrices("inv", a))


# -- determinants -----------------------------------------------------------------------------------------------

slogdet_p = Primitive("slogdet", _lapack(lambda a: tuple(np.asarray(o) for o in np.linalg.slogdet(a))), outputs="many")


def _slogdet_vjp(g: tuple[Tensor, Tensor], out: tuple[Tensor, Tensor], a: Tensor) -> tuple[Tensor]:
    g_sign, g_log = g
    if is_complex(a.dtype):  # the sign is a phase, which moves with the imaginary part of tr(A⁻¹ dA)
        g_log = g_log - imag(conj(g_sign) * out[0]) * 1j
    return (expand_dims(g_log, (-1, -2)) * _adjoint(inv(a)),)


def _slogdet_jvp(tangents: list[Any], out: tuple[Tensor, Tensor], a: Tensor) -> tuple[Tensor | None, Tensor]:
    change = trace(solve(a, tangents[0]))
    return (out[0] * imag(change) * 1j if is_complex(a.dtype) else None), real(change)


defvjp_all(slogdet_p, _slogdet_vjp)
defjvp_all(slogdet_p, _slogdet_jvp)
defcost(slogdet_p, lambda out, a: (2 * _count(a) * a.shape[-1] ** 3 // 3, 0))


def slogdet(a: ArrayLike) -> tuple[Tensor, Tensor]:
    """``(sign, log|det a|)``; (0, -inf), without a derivative, for a singular matrix."""
    return bind(slogdet_p, _matrices("slogdet", a))


det_p = Primitive("det", _lapack(lambda a: np.asarray(np.linalg.det(a))))
defvjp(det_p, lambda g, out, a: expand_dims(g * conj(out), (-1, -2)) * _adjoint(inv(a)), saves=(0, "out"))
defjvp(det_p, lambda t, out, a: out * trace(solve(a, t)))
defcost(det_p, lambda out, a: (2 * _count(a) * a.shape[-1] ** 3 // 3, 0))


def det(a: ArrayLike) -> Tensor:
    """The determinant; differentiable where it is not zero."""
    return bind(det_p, _matrices("det", a))


# -- cholesky ---------------------------------------------------------------------------------------------------


def _cholesky(a: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.cholesky(a)
    except LinAlgError:
        if not np.isfinite(a).all():
            raise LinAlgError("the matrix is not finite") from None
        smallest = np.linalg.eigvalsh(a).min()
        raise LinAlgError(
            f"the matrix is not positive definite, its smallest eigenvalue is {smallest:.3g}; "
            "add a multiple of the identity"
        ) from None


def _lower_half(x: Tensor) -> Tensor:
    """The lower triangle with its diagonal halved: the lower factor in x = y + yᴴ."""
    return tril(x) - diag(diagonal(x)) * 0.5


cholesky_p = Primitive("cholesky", _lapack(_cholesky))


def _cholesky_vjp(g: Tensor, out: Tensor, a: Any) -> Tensor:
    up = _adjoint(out)
    left = solve_triangular(up, _lower_half(matmul(up, g)), lower=False)
    return _hermitian(_adjoint(solve_triangular(up, _adjoint(left), lower=False)))


def _cholesky_jvp(t: Tensor, out: Tensor, a: Any) -> Tensor:
    left = solve_triangular(out, t)
    return matmul(out, _lower_half(_adjoint(solve_triangular(out, _adjoint(left)))))


defvjp(cholesky_p, _cholesky_vjp, saves=("out",))
defjvp(cholesky_p, _cholesky_jvp)
defcost(cholesky_p, lambda out, a: (_count(a) * a.shape[-1] ** 3 // 3, 0))


def cholesky(a: ArrayLike) -> Tensor:
    """The lower triangular L with L Lᴴ = ``a``, for positive definite ``a``."""
    return bind(cholesky_p, _hermitian(_matrices("cholesky", a)))


# -- eigenvalues and singular values ----------------------------------------------------------------------------


def _gaps(what: str, values: Tensor) -> Tensor:
    """1 / (values[k] - values[j]) as a matrix (j, k), zeros on the diagonal; LinAlgError where two values coincide."""
    difference = expand_dims(values, -2) - expand_dims(values, -1)
    same = np.eye(values.shape[-1], dtype=bool)
    allowed = 8 * np.finfo(values.dtype).eps * np.abs(values.data).max(axis=-1, initial=0.0)[..., None, None]
    if (np.abs(difference.data) <= allowed)[..., ~same].any():
        raise LinAlgError(
            f"{what}: two values coincide, so their vectors have no derivative; "
            f"differentiate the values alone ({'eigvalsh' if what == 'eigh' else 'svdvals'}) or separate them"
        )
    return ew.where(same, 0.0, 1.0 / ew.where(same, 1.0, difference))


def _is_zero(g: Tensor) -> bool:
    """True for a cotangent that is zero and stays zero: the vectors were not used."""
    return g.trace is None and not g.data.any()


eigh_p = Primitive("eigh", _lapack(lambda a: tuple(np.linalg.eigh(a))), outputs="many")


def _eigh_vjp(g: tuple[Tensor, Tensor], out: tuple[Tensor, Tensor], a: Any) -> tuple[Tensor]:
    (g_w, g_v), (w, v) = g, out
    inner = diag(g_w)
    if not _is_zero(g_v):
        inner = inner + _gaps("eigh", w) * matmul(_adjoint(v), g_v)
    return (_hermitian(matmul(matmul(v, inner), _adjoint(v))),)


def _eigh_jvp(tangents: list[Any], out: tuple[Tensor, Tensor], a: Any) -> tuple[Tensor, Tensor]:
    w, v = out
    change = matmul(matmul(_adjoint(v), tangents[0]), v)
    return real(diagonal(change)), matmul(v, _gaps("eigh", w) * change)


defvjp_all(eigh_p, _eigh_vjp, saves=("out",))
defjvp_all(eigh_p, _eigh_jvp)
defcost(eigh_p, lambda out, a: (9 * _count(a) * a.shape[-1] ** 3, 0))

eigvalsh_p = Primitive("eigvalsh", _lapack(np.linalg.eigvalsh))


def _eigvalsh_vjp(g: Tensor, out: Tensor, a: Tensor) -> Tensor:
    v = bind(eigh_p, a)[1]
    return matmul(v * expand_dims(g, -2), _adjoint(v))


def _eigvalsh_jvp(t: Tensor, out: Tensor, a: Tensor) -> Tensor:
    v = bind(eigh_p, a)[1]
    return sum_(real(conj(v) * matmul(t, v)), axis=-2)


defvjp(eigvalsh_p, _eigvalsh_vjp, saves=(0,))
defjvp(eigvalsh_p, _eigvalsh_jvp)
defcost(eigvalsh_p, lambda out, a: (4 * _count(a) * a.shape[-1] ** 3 // 3, 0))


def eigh(a: ArrayLike) -> tuple[Tensor, Tensor]:
    """``(w, v)`` of Hermitian matrices: eigenvalues in ascending order, eigenvectors as the columns of ``v``."""
    return bind(eigh_p, _hermitian(_matrices("eigh", a)))


def eigvalsh(a: ArrayLike) -> Tensor:
    """The eigenvalues of Hermitian matrices in ascending order; differentiable once also where they coincide."""
    return bind(eigvalsh_p, _hermitian(_matrices("eigvalsh", a)))


svd_p = Primitive("svd", _lapack(lambda a: tuple(np.linalg.svd(a, full_matrices=False))), outputs="many")


def _svd_factors(s: Tensor, vectors_complete: bool) -> tuple[Tensor, Tensor]:
    """1/(s_k² - s_j²), and 1/s where it is needed."""
    gaps = _gaps("svd", ew.square(s))
    smallest = 8 * np.finfo(s.dtype).eps * s.data.max(axis=-1, keepdims=True, initial=0.0)
    if not vectors_complete and (s.data <= smallest).any():
        raise LinAlgError("svd: a singular value is zero, so its vectors have no derivative; use svdvals")
    return gaps, s if vectors_complete else 1.0 / s


def _off(x: Tensor, u: Tensor) -> Tensor:
    """``x`` without its part in the span of the columns of ``u``."""
    return x - matmul(u, matmul(_adjoint(u), x))


def _svd_vjp(g: tuple[Tensor, ...], out: tuple[Tensor, ...], a: Any) -> tuple[Tensor]:
    (g_u, g_s, g_vh), (u, s, vh) = g, out
    inner = astype(diag(g_s), u.dtype)
    if _is_zero(g_u) and _is_zero(g_vh):
        return (matmul(matmul(u, inner), vh),)
    v, g_v = _adjoint(vh), _adjoint(g_vh)
    plain_square = a.shape[-2] == a.shape[-1] and not is_complex(u.dtype)
    gaps, inverse = _svd_factors(s, plain_square)
    row, column = expand_dims(s, -2), expand_dims(s, -1)
    m, n = matmul(_adjoint(u), g_u), matmul(_adjoint(v), g_v)
    inner = inner + gaps * (m - _adjoint(m)) * row + column * (gaps * (n - _adjoint(n)))
    if is_complex(u.dtype):
        phase_m, phase_n = imag(diagonal(m)), imag(diagonal(n))
        size = np.abs(m.data).max(initial=0.0) + np.abs(n.data).max(initial=0.0)
        if np.abs((phase_m + phase_n).data).max(initial=0.0) > np.sqrt(np.finfo(s.dtype).eps) * size:
            raise LinAlgError(
                "svd: what is differentiated depends on the phases of the singular vectors, which are arbitrary; "
                "let it depend on products such as u * vh in which they cancel"
            )
        inner = inner + diag((phase_m - phase_n) * 0.5 * inverse) * 1j
    total = matmul(matmul(u, inner), vh)
    if a.shape[-2] > a.shape[-1]:
        total = total + matmul(_off(g_u, u) * expand_dims(inverse, -2), vh)
    if a.shape[-2] < a.shape[-1]:
        total = total + matmul(u, _adjoint(_off(g_v, v) * expand_dims(inverse, -2)))
    return (total,)


def _svd_jvp(tangents: list[Any], out: tuple[Tensor, ...], a: Any) -> tuple[Tensor, ...]:
    u, s, vh = out
    t, v = tangents[0], _adjoint(vh)
    plain_square = a.shape[-2] == a.shape[-1] and not is_complex(u.dtype)
    gaps, inverse = _svd_factors(s, plain_square)
    row, column = expand_dims(s, -2), expand_dims(s, -1)
    p = matmul(matmul(_adjoint(u), t), v)
    x = gaps * (p * row + column * _adjoint(p))
    y = gaps * (column * p + _adjoint(p) * row)
    if is_complex(u.dtype):
        phase = diag(imag(diagonal(p)) * 0.5 * inverse) * 1j
        x, y = x + phase, y - phase
    t_u, t_v = matmul(u, x), matmul(v, y)
    if a.shape[-2] > a.shape[-1]:
        t_u = t_u + _off(matmul(t, v), u) * expand_dims(inverse, -2)
    if a.shape[-2] < a.shape[-1]:
        t_v = t_v + _off(matmul(_adjoint(t), u), v) * expand_dims(inverse, -2)
    return t_u, real(diagonal(p)), _adjoint(t_v)


def _svd_cost(out: Any, a: np.ndarray) -> tuple[int, int]:
    large, small = max(a.shape[-2:]), min(a.shape[-2:])
    return _count(a) * (6 * large * small**2 + 20 * small**3), 0


defvjp_all(svd_p, _svd_vjp, saves=("out",))
defjvp_all(svd_p, _svd_jvp)
defcost(svd_p, _svd_cost)

svdvals_p = Primitive("svdvals", _lapack(lambda a: np.linalg.svd(a, compute_uv=False)))


def _svdvals_vjp(g: Tensor, out: Tensor, a: Tensor) -> Tensor:
    u, _, vh = bind(svd_p, a)
    return matmul(u * expand_dims(g, -2), vh)


def _svdvals_jvp(t: Tensor, out: Tensor, a: Tensor) -> Tensor:
    u, _, vh = bind(svd_p, a)
    return sum_(real(conj(u) * matmul(t, _adjoint(vh))), axis=-2)


defvjp(svdvals_p, _svdvals_vjp, saves=(0,))
defjvp(svdvals_p, _svdvals_jvp)
defcost(svdvals_p, lambda out, a: (_count(a) * 2 * max(a.shape[-2:]) * min(a.shape[-2:]) ** 2, 0))


def svd(a: ArrayLike) -> tuple[Tensor, Tensor, Tensor]:
    """The reduced decomposition ``(u, s, vh)``: a = (u * s) @ vh, singular values in descending order."""
    return bind(svd_p, _matrices("svd", a, square=False))


def svdvals(a: ArrayLike) -> Tensor:
    """The singular values in descending order; differentiable once also where they coincide."""
    return bind(svdvals_p, _matrices("svdvals", a, square=False))


# -- norms ------------------------------------------------------------------------------------------------------

norm2_p = Primitive(
    "norm", lambda x, axis, keepdims: np.sqrt(np.sum(np.square(np.abs(x)), axis=axis, keepdims=keepdims))
)


def _inverse_norm(out: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    """1/|x|, and 0 for x = 0: the derivatives of the norm there are 0."""
    zero = ew.equal(out, 0)
    inverse = ew.where(zero, 0.0, 1.0 / ew.where(zero, 1.0, out))
    return inverse if keepdims else expand_dims(inverse, axis)


def _norm2_vjp(g: Tensor, out: Tensor, x: Any, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    return (g if keepdims else expand_dims(g, axis)) * _inverse_norm(out, axis, keepdims) * x


def _norm2_jvp(t: Tensor, out: Tensor, x: Any, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    return sum_(real(conj(x) * t) * _inverse_norm(out, axis, keepdims), axis, keepdims)


defvjp(norm2_p, _norm2_vjp)
defjvp(norm2_p, _norm2_jvp)
defcost(norm2_p, lambda out, x, axis, keepdims: (2 * x.size, 0))


def norm(
    x: ArrayLike, ord: Any = None, axis: int | Sequence[int] | None = None, keepdims: bool = False
) -> Tensor:  # fmt: skip
    """Vector norms over one axis, matrix norms over two, with NumPy's ``ord``; without both, the 2-norm of everything.

    ord: a vector's p, inf, -inf or 0 (how many are not zero); a matrix's "fro", "nuc", 2, -2, 1, -1, inf or -inf. The
        default is the 2-norm or "fro". A derivative at 0 is 0.
    """
    x = as_tensor(x)
    if not is_inexact(x.dtype):
        x = Tensor(x.data.astype(np.float64))
    if axis is None and ord is not None and x.ndim not in (1, 2):
        raise ShapeError(f"norm: ord={ord!r} needs an axis or a pair of axes for an array of shape {x.shape}")
    axes = normalize_axes("norm", axis, x.ndim)
    if ord is None or (ord == 2 and len(axes) == 1) or (isinstance(ord, str) and ord == "fro" and len(axes) == 2):
        return bind(norm2_p, x, axis=axes, keepdims=keepdims)
    if len(axes) == 1:
        return _vector_norm(x, ord, axes, keepdims)
    if len(axes) == 2:
        pair = tuple(a % x.ndim for a in axis) if isinstance(axis, (tuple, list)) else axes
        out = _matrix_norm(moveaxis(x, pair, (-2, -1)), ord)
        return expand_dims(out, axes) if keepdims else out
    raise ShapeError(f"norm: a norm is over one axis or two, got axis={axis} for shape {x.shape}")


def _vector_norm(x: Tensor, p: Any, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    if isinstance(p, str) or not np.isreal(p):
        raise ValueError(f"norm: a vector's ord is a real number, inf or -inf, got {p!r}")
    if p == 0:
        return Tensor(np.sum(x.data != 0, axis=axes, keepdims=keepdims).astype(real_dtype(x.dtype)))
    size = ew.abs(x)
    if math.isinf(p):
        return (reduce.max if p > 0 else reduce.min)(size, axes, keepdims)
    if p == 1:
        return sum_(size, axes, keepdims)
    zero = ew.equal(size, 0)  # where powers have no derivative
    powers = ew.where(zero, 0.0 if p > 0 else math.inf, ew.power(ew.where(zero, 1.0, size), p))
    total = sum_(powers, axes, keepdims)
    zero = ew.equal(total, 0)
    return ew.where(zero, 0.0, ew.power(ew.where(zero, 1.0, total), 1 / p))


def _matrix_norm(x: Tensor, kind: Any) -> Tensor:
    if kind in ("nuc", 2, -2):
        s = svdvals(x)
        return sum_(s, -1) if kind == "nuc" else reduce.max(s, -1) if kind == 2 else reduce.min(s, -1)
    if kind in (1, -1, math.inf, -math.inf):
        lines = sum_(ew.abs(x), -2 if abs(kind) == 1 else -1)
        return reduce.max(lines, -1) if kind > 0 else reduce.min(lines, -1)
    raise ValueError(f"norm: a matrix's ord is 'fro', 'nuc', 2, -2, 1, -1, inf or -inf, got {kind!r}")
