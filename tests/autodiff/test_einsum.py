"""``einsum``: any pattern that NumPy takes, against ``np.einsum``, with its derivatives; and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from operation_table import CHECKS, Operation, normal

import minitf as mt


def line(pattern, *shapes, complex=False):
    return Operation(f"einsum {pattern}", lambda *xs: mt.einsum(pattern, *xs), lambda *xs: np.einsum(pattern, *xs),
                     *(normal,) * len(shapes), shapes=[shapes], complex=complex)  # fmt: skip


TABLE = [
    line("", ()),
    line("i", (3,)),
    line("ba", (2, 3)),
    line("ij->", (2, 3), complex=True),
    line("ii", (3, 3)),
    line("ii->i", (3, 3), complex=True),
    line("iij->ji", (2, 2, 3)),
    line("iii->i", (2, 2, 2)),
    line("...ii->...", (2, 3, 3)),
    line("i,i", (3,), (3,), complex=True),
    line("i,->i", (3,), ()),
    line("i,j->ji", (2,), (3,)),
    line("i,j->", (2,), (3,)),
    line("bhte,bhse->bhts", (2, 1, 3, 2), (2, 1, 4, 2), complex=True),
    line("bi,bi->bi", (2, 3), (2, 3)),
    line("bi,bi->b", (2, 3), (2, 3)),
    line("ij,jk,kl->il", (2, 3), (3, 2), (2, 4), complex=True),
    line("i,j,k->kij", (2,), (1,), (3,)),
    line("ab,bc,ca,a->", (2, 3), (3, 2), (2, 2), (2,)),
    line("...ij,...jk->...ik", (2, 1, 2, 3), (4, 3, 2)),
    line("i...,...j->j...i", (2, 3), (3, 4)),
    line("...,...->...", (2, 3), (1, 3)),
    line("...i,...i->...", (3,), (2, 3)),
    line(" i j , j -> i ", (2, 3), (3,)),
    line("Ba,aB", (2, 3), (3, 2)),
    line("ij,jk->ik", (0, 3), (3, 2)),
    line("ij,jk->ik", (2, 0), (0, 2)),
    line("...ij->...ji", (0, 2, 3)),
    line("i->...i", (3,)),
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("operation", TABLE, ids=str)
def test_pattern(operation, check):
    check(operation)


# -- patterns that nobody thought of ------------------------------------------------------------------------------


@st.composite
def patterns(draw):
    """A pattern, and the shapes of its operands: repeated labels, broadcasting ellipses, sizes 0 to 3."""
    sizes = {label: draw(st.integers(0, 3)) for label in "abcdE"}
    dots = draw(st.lists(st.integers(0, 3), max_size=2))
    terms, shapes, dotted = [], [], False
    for _ in range(draw(st.integers(1, 4))):
        labels = draw(st.lists(st.sampled_from(sorted(sizes)), max_size=3))
        term, shape = list(labels), [sizes[label] for label in labels]
        if draw(st.booleans()):
            own = dots[draw(st.integers(0, len(dots))) :]
            own = [1 if draw(st.booleans()) else n for n in own]
            at = draw(st.integers(0, len(labels)))
            term.insert(at, "...")
            shape[at:at] = own
            dotted = True
        terms.append("".join(term))
        shapes.append(tuple(shape))
    pattern = ",".join(terms)
    if draw(st.booleans()):
        used = sorted({label for term in terms for label in term.replace(".", "")})
        kept = draw(st.permutations(used))[: draw(st.integers(0, len(used)))]
        if dotted or draw(st.booleans()):
            kept.insert(draw(st.integers(0, len(kept))), "...")
        pattern += "->" + "".join(kept)
    return pattern, shapes


@given(patterns(), st.integers(0, 2**32 - 1))
def test_any_pattern(drawn, seed):
    pattern, shapes = drawn
    rng = np.random.default_rng(seed)
    xs = [np.asarray(rng.standard_normal(shape)) for shape in shapes]
    want = np.einsum(pattern, *xs)
    out, pullback = mt.vjp(lambda *xs: mt.einsum(pattern, *xs), *xs)
    assert (out.shape, out.dtype) == (want.shape, want.dtype)
    np.testing.assert_allclose(out.data, want, rtol=1e-12, atol=1e-12)
    g = np.asarray(rng.standard_normal(want.shape))
    for i, pulled in enumerate(pullback(g)):  # linear in every operand: <g, f(t)> = <pulled, t>
        t = np.asarray(rng.standard_normal(shapes[i]))
        moved = np.einsum(pattern, *xs[:i], t, *xs[i + 1 :])
        assert pulled.shape == shapes[i]
        np.testing.assert_allclose(np.sum(pulled.data * t), np.sum(g * moved), rtol=1e-11, atol=1e-11)
        _, pushed = mt.jvp(lambda x, i=i: mt.einsum(pattern, *xs[:i], x, *xs[i + 1 :]), (xs[i],), (t,))
        np.testing.assert_allclose(pushed.data, moved, rtol=1e-12, atol=1e-12)


# -- what is refused ----------------------------------------------------------------------------------------------

ERRORS = [
    (("ij,jk->ik", (2, 3)), "einsum: 'ij,jk->ik' names 2 operands, 1 were given"),
    (("ij", (2,)), "einsum: 'ij' in 'ij' names 2 axes, the operand has shape (2,)"),
    (("ij", (2, 3, 4)), "einsum: 'ij' in 'ij' names 2 axes, the operand has shape (2, 3, 4)"),
    (("i.j", (2, 3)), "einsum: 'i.j' in 'i.j' is not made of letters and at most one '...'"),
    (("i1", (2, 3)), "einsum: 'i1' in 'i1' is not made of letters and at most one '...'"),
    (("a...b...", (3, 4)), "einsum: 'a...b...' in 'a...b...' is not made of letters and at most one '...'"),
    (("é", (3,)), "einsum: 'é' in 'é' is not made of letters and at most one '...'"),
    (("i->j", (2,)), "einsum: output label 'j' of 'i->j' must occur in an input, and once in the output"),
    (("i->ii", (2,)), "einsum: output label 'i' of 'i->ii' must occur in an input, and once in the output"),
    (("i->->", (2,)), "einsum: output label '-' of 'i->->' must occur in an input, and once in the output"),
    (("...i->i", (2, 3)), "einsum: '...i->i' has '...' in the inputs but not in the output"),
    (("ij,jk->ik", (2, 3), (4, 2)), "einsum: label 'j' of 'ij,jk->ik' has sizes 3 and 4 (ij (2, 3), jk (4, 2))"),
    (("ii", (2, 3)), "einsum: label 'i' of 'ii' has sizes 2 and 3 (ii (2, 3))"),
    (("i,i", (1,), (3,)), "einsum: label 'i' of 'i,i' has sizes 1 and 3 (i (1,), i (3,))"),
    (("...,...", (2,), (3,)), "einsum: label '...' of '...,...' has sizes 2 and 3 (... (2,), ... (3,))"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=[message for _, message in ERRORS])
def test_refuses(call, message):
    pattern, *shapes = call
    with pytest.raises(mt.ShapeError) as caught:
        mt.einsum(pattern, *map(np.ones, shapes))
    assert str(caught.value) == message


def test_refuses_a_first_argument_that_is_no_pattern():
    with pytest.raises(TypeError, match="einsum: the first argument is the pattern, such as"):
        mt.einsum(np.ones(2), "i")
