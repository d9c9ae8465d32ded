"""Routing: every expert gets the rows of the tokens that chose it, and every token the weighted sum of what comes back.

    routes = assign(experts, E)                      experts (N, k): the k experts of each token
    rows = dispatch(x, routes.tokens)                x (N, D) -> (M, D), expert after expert
    y = rows of expert e through expert e            rows[routes.offsets[e] : routes.offsets[e + 1]]
    out = combine(y, routes.tokens, routes.of_rows(weights), N)

No expert's buffer is padded: it costs M D moves, where the one-hot products of GShard cost N E C D multiply-adds (C: the
capacity), and gives the same. Gradients go through rows and weights, none through the choice of experts.

Capacity (GShard, Switch): an expert takes ``capacity`` choices at most. All first choices come before all second ones, and
among equals earlier tokens before later ones; what comes too late is dropped: it has no row, and adds nothing to its token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.checked import checked
from minitf.autodiff.dispatch import compiled, widened
from minitf.autodiff.dtypes import common_dtype
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.broadcast import conj
from minitf.autodiff.rules import defcost, defjvp, defvjp
from minitf.autodiff.tensor import ArrayLike, Primitive, Tensor, as_tensor, bind
from minitf.kernels import routing as kernels

if TYPE_CHECKING:
    from jaxtyping import Int, Num

# -- who gets which row -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Routes:
    """Which choice of which token became which row; M rows, grouped by expert, in order of tokens.

    slots: (N, k), the row of each choice, -1 for one that was dropped or never made.
    origins: (M,), the choice of each row, as a position in the flattened (N, k).
    offsets: (E + 1,), where the rows of each expert begin, and where the last one's end.
    """

    slots: np.ndarray
    origins: np.ndarray
    offsets: np.ndarray

    @property
    def tokens(self) -> np.ndarray:
        """(M,): the token of each row."""
        return self.origins // self.slots.shape[1]

    @property
    def counts(self) -> np.ndarray:
        """(E,): the rows of each expert."""
        return np.diff(self.offsets)

    def of_rows(self, weights: ArrayLike) -> Tensor:
        """weights (N, k) -> (M,), the weight of each row."""
        weights = as_tensor(weights)
        if weights.shape != self.slots.shape:
            raise ShapeError(
                f"of_rows: weights need the shape {self.slots.shape} of the routed choices, got {weights.shape}"
            )
        return mt.reshape(weights, -1)[self.origins]


_assigned = compiled(kernels.assign, kernels.assign_twin, small=1)


def assign(experts: ArrayLike, n_experts: int, *, capacity: int | None = None) -> Routes:
    """Gives every choice of an expert a row.

    experts: integers (N, k), from 0 to n_experts - 1, or -1 where a token makes no such choice. capacity: the most rows
    that an expert takes; None takes all.

    Raises ShapeError when there are not two axes, k is 0 or no expert is there, ValueError for experts out of range.
    """
    experts = as_tensor(experts).data
    if experts.dtype.kind not in "iu":
        raise TypeError(f"assign: experts must be integers, got {experts.dtype} {experts.shape}")
    if experts.ndim != 2 or experts.shape[1] == 0:
        raise ShapeError(f"assign: experts need the shape (N, k), k choices for each token, got {experts.shape}")
    if n_experts < 1:
        raise ValueError(f"assign: n_experts must be at least 1, got {n_experts}")
    if experts.size and not (experts.min() >= -1 and experts.max() < n_experts):
        raise ValueError(
            f"assign: experts must be from 0 to {n_experts - 1}, or -1 for none, got {experts.min()} to {experts.max()}"
        )
    if capacity is not None and capacity < 0:
        raise ValueError(f"assign: capacity must be None or at least 0, got {capacity}")
    return Routes(*_assigned(experts, E=n_experts, capacity=experts.size if capacity is None else capacity))


# -- the sums -----------------------------------------------------------------------------------------------------

combine_p = Primitive(
    "combine",
    widened(compiled(kernels.combine, kernels.combine_twin)),
    decomposition=lambda y, w, *, tokens, N: mt.index_add(np.zeros((N, y.shape[1]), y.dtype), tokens, w[:, None] * y),
)
share_p = Primitive(
    "combine_share",
    widened(compiled(kernels.share, kernels.share_twin)),
    decomposition=lambda g, w, *, tokens: w[:, None] * g[tokens],
)
meet_p = Primitive(
    "combine_meet",
    widened(compiled(kernels.meet, kernels.meet_twin)),
    decomposition=lambda y, g, *, tokens: mt.sum(y * g[tokens], axis=-1),
)

defvjp(
    combine_p,
    lambda g, out, y, w, tokens, N: bind(share_p, g, conj(w), tokens=tokens),
    lambda g, out, y, w, tokens, N: bind(meet_p, conj(y), g, tokens=tokens),
    saves=((1,), (0,)),
)
defvjp(
    share_p,
    lambda g, out, x, w, tokens: bind(combine_p, g, conj(w), tokens=tokens, N=x.shape[0]),
    lambda g, out, x, w, tokens: bind(meet_p, g, conj(x), tokens=tokens),
    saves=((1,), (0,)),
)
defvjp(
    meet_p,
    lambda g, out, y, x, tokens: bind(share_p, conj(x), g, tokens=tokens),
    lambda g, out, y, x, tokens: bind(combine_p, conj(y), g, tokens=tokens, N=x.shape[0]),
    saves=((1,), (0,)),
)
for _primitive in (combine_p, share_p, meet_p):
    defjvp(_primitive, "linear", "linear")

defcost(combine_p, lambda out, y, w, tokens, N: (2 * y.size, 0))
defcost(share_p, lambda out, g, w, tokens: (out.size, 0))
defcost(meet_p, lambda out, y, g, tokens: (max(2 * y.size - len(y), 0), 0))


@checked
def dispatch(x: Num[Tensor, "*B T D"], index: Int[Tensor, "*B M"]) -> Tensor:
    """x (*, T, D), index (*, M) -> (*, M, D): the tokens of the rows.

    Raises IndexError when a token is not from 0 to T - 1.
    """
    x, index = as_tensor(x), as_tensor(index)
    *lead, T, D = x.shape
    rows = mt.reshape(x, (math.prod(lead) * T, D))[_flat("dispatch", index.data, T)]
    return mt.reshape(rows, (*index.shape, D))


@checked
def combine(
    y: Num[Tensor, "*B M D"], index: Int[Tensor, "*B M"], weight: Num[Tensor, "*B M"], length: int
) -> Tensor:  # fmt: skip
    """out[..., n, :] = sum of weight[..., m] y[..., m, :] over all m with index[..., m] = n, in order of m.

    y: (*, M, D), index: (*, M), weight: (*, M). length: tokens. Returns (*, length, D); a token without rows gets zeros.

    Raises IndexError when a token is not from 0 to length - 1.
    """
    y, weight = as_tensor(y), as_tensor(weight)
    *lead, M, D = y.shape
    dtype, rows = common_dtype(y.dtype, weight.dtype), math.prod(lead) * M
    y, weight = mt.astype(mt.reshape(y, (rows, D)), dtype), mt.astype(mt.reshape(weight, rows), dtype)
    tokens = _flat("combine", as_tensor(index).data, length)
    out = bind(combine_p, y, weight, tokens=tokens, N=math.prod(lead) * length)
    return mt.store(mt.reshape(out, (*lead, length, D)))


def _flat(what: str, index: np.ndarray, T: int) -> np.ndarray:
    """index (*, M) into T tokens each as (B M,) into all B T tokens."""
    if index.size and not (index.min() >= 0 and index.max() < T):
        raise IndexError(f"{what}: tokens must be from 0 to {T - 1}, got {index.min()} to {index.max()}")
    sequences = np.arange(math.prod(index.shape[:-1])).reshape(*index.shape[:-1], 1)
    return (index.astype(np.int64) + T * sequences).reshape(-1)
