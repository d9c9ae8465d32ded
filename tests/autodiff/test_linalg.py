"""``mt.linalg``, one line an operation: against definitions written out, in all layouts, and its derivatives."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import scipy.linalg
from operation_table import CHECKS, Operation, apart, definite, normal, regular

import minitf as mt

SQUARE = (((3, 3),), ((2, 3, 3),), ((0, 2, 2),), ((0, 0),))
RECTANGLES = (((4, 3),), ((2, 3),), ((2, 3, 3),), ((0, 3, 2),))
SYSTEMS = (
    ((3, 3), (3, 2)), ((2, 3, 3), (3,)), ((2, 1, 3, 3), (2, 3, 2)), ((3, 3), (2, 3, 1)), ((3, 3), (3, 0)),
    ((0, 2, 2), (2, 2)), ((0, 0), (0, 2)),
)  # fmt: skip
LINES = (((3, 4),), ((2, 0, 3),))


# -- the definitions ----------------------------------------------------------------------------------------------


def each_matrix(function):
    """``function`` of one matrix, applied to stacks of them."""

    def stacked(a, *args):
        lead = a.shape[:-2]
        outs = [function(a[i], *args) for i in np.ndindex(*lead)]
        if not outs:  # the shape of what there is none of
            one = np.asarray(function(np.eye(*a.shape[-2:], dtype=a.dtype), *args))
            return np.zeros((*lead, *one.shape), one.dtype)
        return np.stack(outs).reshape((*lead, *np.shape(outs[0])))

    return stacked


def adjoint(x):
    return x.conj().swapaxes(-1, -2)


def hermitian(a):
    return (a + adjoint(a)) / 2


@each_matrix
def leibniz(a):
    """The determinant: all products of one entry a row and column, even permutations minus odd ones."""
    total = np.zeros((), a.dtype)
    for order in itertools.permutations(range(len(a))):
        odd = sum(i < j and order[i] > order[j] for i in range(len(a)) for j in range(len(a))) % 2
        total = total + (-1) ** odd * np.prod([a[i, j] for i, j in enumerate(order)], dtype=a.dtype)
    return total


def solved(a, b):
    inverse = np.linalg.inv(a)
    return inverse @ b


@each_matrix
def cholesky(a):
    """Column by column, the square root that a matrix has."""
    L = np.zeros_like(a)
    for j in range(len(a)):
        L[j, j] = np.sqrt(a[j, j].real - sum(abs(L[j, k]) ** 2 for k in range(j)))
        for i in range(j + 1, len(a)):
            L[i, j] = (a[i, j] - sum(L[i, k] * L[j, k].conj() for k in range(j))) / L[j, j].real
    return L


def of_one_phase(u, vh=None):
    """The columns of ``u`` turned so that their first entries are positive, the rows of ``vh`` turned back."""
    first = u[..., :1, :]
    back = mt.conj(first) / mt.abs(first)
    return u * back if vh is None else (u * back, vh * mt.conj(back).mT)


def eigh(a):
    w, v = mt.linalg.eigh(a)
    return w, of_one_phase(v)


def eigh_reference(a):
    a = hermitian(a)
    w = each_matrix(lambda m: scipy.linalg.eigh(m, driver="ev")[0])(a)
    v = each_matrix(lambda m: scipy.linalg.eigh(m, driver="ev")[1])(a)
    return w, of_one_phase(mt.tensor(v)).data


def svd(a):
    u, s, vh = mt.linalg.svd(a)
    u, vh = of_one_phase(u, vh)
    return u, s, vh


def svd_reference(a):
    """By the eigenvectors of the smaller of aᴴa and aaᴴ."""
    wide = a.shape[-1] > a.shape[-2]
    if wide:
        a = adjoint(a)
    w, v = np.linalg.eigh(adjoint(a) @ a)
    s, v = np.sqrt(w[..., ::-1]), v[..., ::-1]
    u = a @ v / s[..., None, :]
    u, vh = (v, adjoint(u)) if wide else (u, adjoint(v))
    u, vh = of_one_phase(mt.tensor(u), mt.tensor(vh))
    return u.data, s, vh.data


def lower(x):
    return np.tril(x)


def upper_with_ones(x):
    return np.triu(x, 1) + np.eye(x.shape[-1])


def vector_norm(p):
    def norm(x):
        return np.sum(np.abs(x) ** p, axis=-1) ** (1 / p)

    return norm


def spectrum(x):
    """The singular values, in no order."""
    return np.sqrt(np.linalg.eigvalsh(x @ adjoint(x) if x.shape[-2] < x.shape[-1] else adjoint(x) @ x))


# -- one line each ------------------------------------------------------------------------------------------------

solve_triangular = mt.linalg.solve_triangular
norm = mt.linalg.norm

TABLE = [
    Operation("solve", mt.linalg.solve, solved, regular, normal, shapes=SYSTEMS, complex=True),
    Operation("solve_triangular", solve_triangular, lambda a, b: solved(lower(a), b), regular, normal,
              shapes=SYSTEMS[:3] + SYSTEMS[4:], complex=True),
    Operation("solve_triangular upper", lambda a, b: solve_triangular(a, b, lower=False, unit_diagonal=True),
              lambda a, b: solved(upper_with_ones(a), b), normal, normal, shapes=SYSTEMS[:2] + SYSTEMS[-2:], complex=True),
    Operation("inv", mt.linalg.inv, lambda a: np.linalg.solve(a, np.eye(a.shape[-1])), regular, shapes=SQUARE,
              complex=True),
    Operation("det", mt.linalg.det, leibniz, normal, shapes=SQUARE, complex=True),
    Operation("slogdet", mt.linalg.slogdet, lambda a: (leibniz(a) / abs(leibniz(a)), np.log(abs(leibniz(a)))), normal,
              shapes=SQUARE, complex=True),
    Operation("cholesky", mt.linalg.cholesky, lambda a: cholesky(hermitian(a)), definite, shapes=SQUARE, complex=True),
    Operation("eigh", eigh, eigh_reference, normal, shapes=SQUARE, complex=True),
    Operation("eigh function", lambda a: (lambda w, v: (v * mt.exp(w)[..., None, :]) @ mt.conj(v).mT)(*mt.linalg.eigh(a)),
              lambda a: scipy.linalg.expm(hermitian(a)), normal, shapes=SQUARE[:1], complex=True),
    Operation("eigvalsh", mt.linalg.eigvalsh, lambda a: eigh_reference(a)[0], normal, shapes=SQUARE, complex=True),
    Operation("svd", svd, svd_reference, normal, shapes=RECTANGLES, complex=True),
    Operation("svd polar", lambda a: (lambda u, s, vh: u @ vh)(*mt.linalg.svd(a)),
              each_matrix(lambda a: scipy.linalg.polar(a)[0]), normal, shapes=RECTANGLES[:2], complex=True),
    Operation("svdvals", mt.linalg.svdvals, lambda a: spectrum(a)[..., ::-1], normal, shapes=RECTANGLES, complex=True),
    Operation("norm", norm, lambda x: np.sqrt(np.sum(np.abs(x) ** 2)), normal,
              shapes=[((3, 4),), ((),), ((0, 2),), ((2, 1, 3),)], complex=True),
    Operation("norm frobenius", lambda x: norm(x, "fro", (0, 2), True),
              lambda x: np.sqrt(np.sum(np.abs(x) ** 2, axis=(0, 2), keepdims=True)), normal, shapes=[((2, 3, 2),), ((0, 3, 2),)],
              complex=True),
    *(
        Operation(f"norm {p}", lambda x, p=p: norm(x, p, -1), vector_norm(p), apart, shapes=LINES, complex=True)
        for p in (0.5, 1, 2, 3, -1)
    ),
    Operation("norm inf", lambda x: norm(x, np.inf, 1), lambda x: np.abs(x).max(1), apart, shapes=[((3, 4),)], complex=True),
    Operation("norm -inf", lambda x: norm(x, -np.inf, 1), lambda x: np.abs(x).min(1), apart, shapes=[((3, 4),)], complex=True),
    Operation("norm 0", lambda x: norm(x, 0, 1, True), lambda x: np.sum(x != 0, axis=1, keepdims=True) * 1.0, apart,
              shapes=[((3, 4),)], constant=True),
    *(
        Operation(f"norm of matrices {kind}", lambda x, kind=kind: norm(x, kind, (2, 0)),
                  lambda x, of=of: of(np.moveaxis(x, (2, 0), (-2, -1))), normal, shapes=[((3, 2, 4),)], complex=True)
        for kind, of in {
            "nuc": lambda x: spectrum(x).sum(-1),
            2: lambda x: spectrum(x).max(-1),
            -2: lambda x: spectrum(x).min(-1),
            1: lambda x: np.abs(x).sum(-2).max(-1),
            -1: lambda x: np.abs(x).sum(-2).min(-1),
            np.inf: lambda x: np.abs(x).sum(-1).max(-1),
            -np.inf: lambda x: np.abs(x).sum(-1).min(-1),
        }.items()
    ),
]  # fmt: skip


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("operation", TABLE, ids=str)
def test_operation(operation, check):
    check(operation)


def test_no_operation_is_missing():
    assert {operation.public_name for operation in TABLE} == set(mt.linalg.__all__) - {"LinAlgError"}


# -- where values coincide, or are zero ---------------------------------------------------------------------------


@pytest.mark.parametrize("values", [mt.linalg.eigvalsh, mt.linalg.svdvals])
def test_values_that_coincide_have_first_derivatives(values):
    g = mt.grad(lambda a: mt.sum(values(a)))(np.eye(3))
    np.testing.assert_allclose(g.data, np.eye(3), atol=1e-14)


@pytest.mark.parametrize(
    "differentiated",
    [lambda f, a: mt.vjp(f, a)[1](np.ones(f(a).shape)), lambda f, a: mt.jvp(f, (a,), (np.ones(a.shape),))],
    ids=["vjp", "jvp"],
)
@pytest.mark.parametrize(
    ("function", "matrix", "message"),
    [
        (lambda a: mt.linalg.eigh(a)[1], np.eye(3), ("eigh: two values coincide, so their vectors have no derivative; "
         "differentiate the values alone (eigvalsh) or separate them")),
        (lambda a: mt.linalg.eigh(a)[1], np.diag([1e6, 1e6 + 1e-9]), "eigh: two values coincide"),
        (lambda a: mt.linalg.svd(a)[0], np.eye(3), ("svd: two values coincide, so their vectors have no derivative; "
         "differentiate the values alone (svdvals) or separate them")),
        (lambda a: mt.linalg.svd(a)[2], np.diag([2.0, 0.0])[:, [0, 1, 1]],
         "svd: a singular value is zero, so its vectors have no derivative; use svdvals"),
    ],
)  # fmt: skip
def test_vectors_of_values_that_coincide_have_none(function, matrix, message, differentiated):
    with pytest.raises(np.linalg.LinAlgError, match=re.escape(message)):
        differentiated(function, matrix)


def test_eigenvalues_of_eigh_keep_their_derivative_where_they_coincide():
    g = mt.grad(lambda a: mt.sum(mt.linalg.eigh(a)[0]))(np.eye(3))
    np.testing.assert_allclose(g.data, np.eye(3), atol=1e-14)


def test_a_loss_that_depends_on_phases_is_refused():
    a = np.array([[2.0, 1j], [0.5, 1.0]])
    with pytest.raises(np.linalg.LinAlgError, match="depends on the phases of the singular vectors"):
        mt.grad(lambda a: mt.sum(mt.real(mt.linalg.svd(a)[0])))(a)


@pytest.mark.parametrize("p", [None, 0.5, 1, 1.5, 2, 3, np.inf])
def test_the_derivative_of_a_norm_at_zero_is_zero(p):
    assert not mt.grad(lambda x: norm(x, p))(np.zeros(3)).data.any()
    g = mt.grad(lambda x: norm(x, p))(np.array([0.0, -2.0])).data
    np.testing.assert_allclose(g, [0.0, -1.0])


def test_a_norm_of_negative_order_is_zero_beside_a_zero():
    value, g = mt.value_and_grad(lambda x: norm(x, -1))(np.array([0.0, 2.0]))
    assert value.item() == 0
    np.testing.assert_array_equal(g.data, [0.0, 0.0])


def test_the_unread_triangle_is_not_read():
    a, b = np.array([[2.0, np.nan], [1.0, 4.0]]), np.ones(2)
    np.testing.assert_allclose(solve_triangular(a, b).data, [0.5, 0.125])
    assert mt.grad(lambda a: mt.sum(solve_triangular(a, b)))(a)[0, 1].item() == 0
    with_ones = solve_triangular(np.array([[np.nan, 1.0], [3.0, 0.0]]), b, lower=False, unit_diagonal=True)
    np.testing.assert_allclose(with_ones.data, [0.0, 1.0])


def test_a_singular_matrix_has_a_determinant_but_no_inverse():
    a = np.ones((2, 2))
    assert mt.linalg.det(a).item() == 0
    sign, log = mt.linalg.slogdet(a)
    assert (sign.item(), log.item()) == (0, -np.inf)


# -- what is refused ----------------------------------------------------------------------------------------------

I2, R23 = np.eye(2), np.ones((2, 3))
SINGULAR = np.ones((2, 2))
RIGHT = "matrices (2, 2) need a vector (2,) or matrices (..., 2, K) on the right, got shape"
ORD = "norm: a matrix's ord is 'fro', 'nuc', 2, -2, 1, -1, inf or -inf, got"

ERRORS = [
    (lambda: mt.linalg.inv(R23), mt.ShapeError, "inv: needs square matrices (..., N, N), got shape (2, 3)"),
    (lambda: mt.linalg.det([1.0]), mt.ShapeError, "det: needs square matrices (..., N, N), got shape (1,)"),
    (lambda: mt.linalg.slogdet(2.0), mt.ShapeError, "slogdet: needs square matrices (..., N, N), got shape ()"),
    (lambda: mt.linalg.cholesky(R23), mt.ShapeError, "cholesky: needs square matrices (..., N, N), got shape (2, 3)"),
    (lambda: mt.linalg.eigh(R23), mt.ShapeError, "eigh: needs square matrices (..., N, N), got shape (2, 3)"),
    (lambda: mt.linalg.eigvalsh(R23), mt.ShapeError, "eigvalsh: needs square matrices (..., N, N), got shape (2, 3)"),
    (lambda: mt.linalg.svd(np.ones(3)), mt.ShapeError, "svd: needs matrices (..., N, M), got shape (3,)"),
    (lambda: mt.linalg.svdvals(np.ones(3)), mt.ShapeError, "svdvals: needs matrices (..., N, M), got shape (3,)"),
    (lambda: mt.linalg.solve(R23, I2), mt.ShapeError, "solve: needs square matrices (..., N, N), got shape (2, 3)"),
    (lambda: mt.linalg.solve(I2, np.ones(3)), mt.ShapeError, f"solve: {RIGHT} (3,)"),
    (lambda: mt.linalg.solve(I2, 1.0), mt.ShapeError, f"solve: {RIGHT} ()"),
    (lambda: solve_triangular(I2, np.ones((3, 2))), mt.ShapeError, f"solve_triangular: {RIGHT} (3, 2)"),
    (lambda: mt.linalg.solve(np.ones((2, 2, 2)), np.ones((3, 2, 1))), mt.ShapeError,
     ("solve: the leading shapes (2,) and (3,) do not broadcast: axis -1 has sizes [2, 3]; "
     "aligned from the right, sizes must be equal or 1 (arguments: (2, 2, 2), (3, 2, 1))")),
    (lambda: mt.linalg.solve(SINGULAR, np.ones(2)), np.linalg.LinAlgError,
     "solve: the matrix is singular, so the system has no unique solution (arguments: float64 (2, 2), float64 (2, 1))"),
    (lambda: solve_triangular(np.diag([1.0, 0.0]), np.ones(2)), np.linalg.LinAlgError,
     "solve_triangular: the matrix is singular: it has a zero on its diagonal (arguments: float64 (2, 2), float64 (2, 1))"),
    (lambda: mt.linalg.inv(SINGULAR), np.linalg.LinAlgError,
     "inv: the matrix is singular and has no inverse (arguments: float64 (2, 2))"),
    (lambda: mt.linalg.cholesky(np.diag([1.0, -2.0])), np.linalg.LinAlgError,
     ("cholesky: the matrix is not positive definite, its smallest eigenvalue is -2; add a multiple of the identity "
     "(arguments: float64 (2, 2))")),
    (lambda: mt.linalg.cholesky(np.diag([np.inf, -1.0])), np.linalg.LinAlgError,
     "cholesky: the matrix is not finite (arguments: float64 (2, 2))"),
    (lambda: mt.linalg.inv(I2.astype(np.longdouble)), TypeError,
     "mt.linalg has no float128: LAPACK computes in float32, float64, complex64 and complex128"),
    (lambda: norm(np.ones((2, 2, 2)), 1), mt.ShapeError,
     "norm: ord=1 needs an axis or a pair of axes for an array of shape (2, 2, 2)"),
    (lambda: norm(np.ones((2, 2, 2)), 1, (0, 1, 2)), mt.ShapeError,
     "norm: a norm is over one axis or two, got axis=(0, 1, 2) for shape (2, 2, 2)"),
    (lambda: norm(np.ones(2), 2, 1), mt.ShapeError, "norm: axis 1 is out of range for an array of 1 dimensions"),
    (lambda: norm(I2, 2, (0, -2)), mt.ShapeError, "norm: axis (0, -2) names an axis twice"),
    (lambda: norm(np.ones(2), "fro"), ValueError, "norm: a vector's ord is a real number, inf or -inf, got 'fro'"),
    (lambda: norm(I2, 3), ValueError, f"{ORD} 3"),
    (lambda: norm(I2, "two"), ValueError, f"{ORD} 'two'"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=[message for _, _, message in ERRORS])
def test_refuses(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
