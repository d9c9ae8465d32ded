"""The selective scan of Mamba: a linear recurrence whose step size, input and output maps depend on the token.

    h_t[p,n] = exp(dt_t[p] A[p,n]) h_{t-1}[p,n] + dt_t[p] B_t[n] u_t[p]        N numbers of state a channel
    y_t[p]   = sum_n C_t[n] h_t[p,n] + D[p] u_t[p]

With A < 0 a small step dt keeps the state and ignores the token, a large one forgets the state and writes the token:
that choice is what makes the scan selective. (Exact exponential for A, the Euler rule for B.) The state is all that is
kept of the past: T tokens cost 7 T P N + T P FLOPs (and 2 T P for D), and the next one costs the same whatever T is.

Written out, y = M u + D u with a matrix for every channel, the attention that the scan performs:

    M[p,t,s] = sum_n C_t[n] exp(sum_{r=s+1..t} dt_r[p] A[p,n]) dt_s[p] B_s[n]         s <= t, else 0

Forms, all with the same result up to rounding:

    scan          step by step in a compiled kernel (``minitf.kernels.scan``), which never stores T states: for the
                  backward sweep only the arguments are kept
    sequential    step by step in array operations
    associative   all states at once in log2(T) rounds, see ``minitf.recurrent.linear_recurrence``
    matrix        M, which takes T² P N
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.checked import checked
from minitf.autodiff.dispatch import compiled
from minitf.autodiff.ops.shape import unstack
from minitf.autodiff.rules import defcost, defvjp_all
from minitf.autodiff.tensor import Primitive, Tensor, bind
from minitf.kernels import scan as kernels
from minitf.recurrent.linear_recurrence import SMALL, associative_states, operands
from minitf.registry import reference

if TYPE_CHECKING:
    from jaxtyping import Float

# -- the forms: u, dt (B, T, P), A (P, N), B, C (B, T, N), h0 (B, P, N), D (P,) or left out -> y, last state --------------


def _sequential(u: Any, dt: Any, A: Any, B: Any, C: Any, h: Any, D: Any = None) -> tuple[Tensor, Tensor]:
    y = []
    for u_t, dt_t, B_t, C_t in zip(*(unstack(x, 1) for x in (u, dt, B, C)), strict=True):
        h = mt.exp(dt_t[:, :, None] * A) * h + (dt_t * u_t)[:, :, None] * B_t[:, None]
        y.append(mt.matmul(h, C_t[:, :, None])[:, :, 0])
    return _with_skip(mt.stack(y, 1) if y else mt.zeros_like(u), u, D), h


def _with_skip(y: Tensor, u: Any, D: Any) -> Tensor:
    return y if D is None else y + D * u


def _associative(u: Any, dt: Any, A: Any, B: Any, C: Any, h0: Any, D: Any = None) -> tuple[Tensor, Tensor]:
    decay, drive = mt.exp(dt[..., None] * A), (dt * u)[..., None] * B[:, :, None]
    h = associative_states(decay, drive, h0)
    return _with_skip(mt.einsum("btpn,btn->btp", h[:, 1:], C), u, D), h[:, -1]


def _matrix(u: Any, dt: Any, A: Any, B: Any, C: Any, h0: Any, D: Any = None) -> tuple[Tensor, Tensor]:
    from_start = mt.exp(mt.cumsum(dt[..., None] * A, 1))
    y = mt.einsum("bpts,bsp->btp", selective_scan_matrix(dt, A, B, C), u)
    y = y + mt.einsum("btn,btpn,bpn->btp", C, from_start, h0)
    to_end = mt.exp(mt.flip(mt.cumsum(mt.flip(dt, 1), 1, exclusive=True), 1)[..., None] * A)
    last = mt.exp(mt.sum(dt, 1)[..., None] * A) * h0 + mt.einsum("bspn,bsp,bsn->bpn", to_end, dt * u, B)
    return _with_skip(y, u, D), last


scan_p = Primitive(
    "selective_scan",
    compiled(kernels.selective_scan, kernels.selective_scan_twin, small=SMALL),
    outputs="many",
    decomposition=_sequential,
)
scan_vjp_p = Primitive(
    "selective_scan_vjp",
    compiled(kernels.selective_scan_vjp, kernels.selective_scan_vjp_twin, small=SMALL),
    outputs="many",
    decomposition=lambda gy, gh, *arrays: mt.vjp(_sequential, *arrays)[1]((gy, gh)),
)
defvjp_all(scan_p, lambda g, out, *arrays: bind(scan_vjp_p, *g, *arrays), saves=tuple(range(7)))


# What the kernels do. Sums over N or P are products of matrices; what is added to an accumulator counts twice.


def _scan_cost(out: Any, u: np.ndarray, dt: Any, A: np.ndarray, B: Any, C: Any, h0: Any, *D: Any) -> tuple[int, int]:
    updates = u.size * A.shape[1]
    return 7 * updates + (1 + 2 * len(D)) * u.size, updates


def _scan_vjp_cost(out: Any, gy: Any, gh: Any, u: np.ndarray, dt: Any, A: np.ndarray, *rest: Any) -> tuple[int, int]:
    B, T, P = u.shape
    N, skip = A.shape[1], len(rest) == 4
    back = B * T * P * (14 * N + 4 + 4 * skip)
    return back + B * kernels.steps_repeated(T) * P * (5 * N + 1), 5 * u.size * N


defcost(scan_p, _scan_cost)
defcost(scan_vjp_p, _scan_vjp_cost)


FORMS = {
    "scan": lambda *arrays: bind(scan_p, *arrays),
    "sequential": _sequential,
    "associative": _associative,
    "matrix": _matrix,
}


@checked
def selective_scan(
    u: Float[Tensor, "*B T P"],
    dt: Float[Tensor, "*B T P"],
    A: Float[Tensor, "P N"],
    B: Float[Tensor, "*B T N"],
    C: Float[Tensor, "*B T N"],
    D: Float[Tensor, "P"] | None = None,
    *,
    state: Float[Tensor, "*B P N"] | None = None,
    form: str = "scan",
    return_state: bool = False,
) -> Any:
    """y (*, T, P): u filtered by a diagonal state space whose step dt, input map B and output map C change with time.

    u, dt: (*, T, P), with dt positive. A: (P, N), negative. B, C: (*, T, N). D: (P,), adds D u; None for none.
    state: (*, P, N), in front of the first step, zeros by default.
    form: "scan", "sequential", "associative" or "matrix"; see the module.
    return_state: return (y, state after the last step).

    Raises ShapeError when shapes disagree, ValueError for another form.
    """
    if form not in FORMS:
        raise ValueError(f"selective_scan: form must be one of {', '.join(FORMS)}, got {form!r}")
    u, dt, A, B, C, D, h0 = operands(u, dt, A, B, C, D, state)
    *lead, T, P = u.shape
    N, samples = A.shape[1], math.prod(lead)
    u, dt, B, C = (mt.reshape(x, (samples, T, x.shape[-1])) for x in (mt.store(u), dt, mt.store(B), mt.store(C)))
    h0 = mt.zeros((samples, P, N), u.dtype) if h0 is None else mt.reshape(h0, (samples, P, N))
    y, last = FORMS[form](u, dt, A, B, C, h0, *(() if D is None else (D,)))
    y = mt.store(mt.reshape(y, (*lead, T, P)))
    return (y, mt.reshape(last, (*lead, P, N))) if return_state else y


@checked
def selective_scan_matrix(
    dt: Float[Tensor, "*B T P"], A: Float[Tensor, "P N"], B: Float[Tensor, "*B T N"], C: Float[Tensor, "*B T N"]
) -> Tensor:
    """M (*, P, T, T), for which y = M u (without D and from the zero state); arguments as in ``selective_scan``.

    The exponents are sums of steps, not differences of running sums, which would lose digits where much is forgotten.
    """
    dt, A, B, C = operands(dt, A, B, C)
    T = dt.shape[-2]
    later = np.tri(T, k=-1, dtype=bool)[:, :, None]  # t > s
    between = mt.cumsum(mt.where(later, dt[..., :, None, :], 0.0), -3)
    decay = mt.exp(between[..., None] * A)
    M = mt.einsum("...tspn,...tn,...sp,...sn->...pts", decay, C, dt, B)
    return mt.tril(M)


# -- what the oracle asks --------------------------------------------------------------------------------------------


def selective_scan_with_state(u: Any, dt: Any, A: Any, B: Any, C: Any, D: Any, state: Any) -> tuple[Tensor, Tensor]:
    """(y, state after the last step): ``selective_scan`` from a given state."""
    return selective_scan(u, dt, A, B, C, D, state=state, return_state=True)


def _example(draw: Any, size: str, *, slow: bool = False) -> Any:
    samples, T, P, N = {"tiny": (1, 3, 2, 2), "small": (2, 21, 6, 4), "medium": (2, 258, 16, 16)}[size]
    shape = (samples, T, P)
    inputs = {"u": draw.normal(shape), "dt": draw.uniform(shape, 0.001, 0.01 if slow else 0.5)}
    inputs["A"] = -draw.uniform((P, N), 0.2, N)
    inputs |= {"B": draw.normal((samples, T, N)), "C": draw.normal((samples, T, N)), "D": draw.normal(P)}
    return inputs | {"state": draw.normal((samples, P, N))}, {}


reference(
    "recurrent.selective_scan",
    selective_scan_with_state,
    example=_example,
    differentiable=("u", "dt", "A", "B", "C", "D", "state"),
    outputs=("out", "state"),
    options=({}, {"slow": True}),
    axes={"u": "BTP", "dt": "BTP", "A": "PN", "B": "BTN", "C": "BTN", "D": "P", "state": "BPN", "out": "BTP"},
)
