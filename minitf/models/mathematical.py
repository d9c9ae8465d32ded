"""The transformer in the notation of its textbook derivation: tokens are the columns of a matrix X (D, N).

    Y = X A                                       mixing across tokens; A (N, N) >= 0, every column sums to 1
    A[n', n] = exp(k_n' . q_n) / sum over n'' of exp(k_n'' . q_n)        k_n = U_k x_n,  q_n = U_q x_n
    MHSA(X) = sum over h of V_h X A_h             V_h = W_out_h W_val_h (D, D), of rank E
    Y = X + MHSA(LN(X));  X' = Y + MLP(LN(Y))     a block: first across tokens, then across features

Column n of A says which tokens the output y_n listens to. A, and with it the block, has no 1 / sqrt(E): the scale is
part of U_q and U_k. ``from_row_convention`` translates the weights of ``MultiHeadAttention``, which has tokens as rows.

Paper: introduction-to-transformers, "An Introduction to Transformers" (2023). (choice): one hidden layer of 4D units
with GELU and biases as the MLP, and a norm before the output matrix, as every pre-norm transformer has. Cost for H
heads and N tokens: 2 H K N² FLOPs for the exponents and 2 H E N² for X A, as in rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minitf.autodiff.checked import checked
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.broadcast import broadcast_to
from minitf.autodiff.ops.broadcast import sum as sum_
from minitf.autodiff.ops.contract import matmul
from minitf.autodiff.ops.elementwise import exp, rsqrt, where
from minitf.autodiff.ops.reduce import mean
from minitf.autodiff.ops.shape import concatenate, expand_dims, swapaxes
from minitf.autodiff.tensor import Tensor, as_tensor
from minitf.nn.activations import gelu
from minitf.nn.module import Buffer, Module, Parameter
from minitf.registry import implements, reference

if TYPE_CHECKING:
    from jaxtyping import Float

POSITIONS = ("none", "learned")
POOLS = ("none", "mean", "class")


class BlockWeights(NamedTuple):
    """What one block learns, in columns; H heads, K and E the widths of keys and values, F hidden units."""

    U_q: Any  #: (H, K, D)
    U_k: Any  #: (H, K, D)
    W_val: Any  #: (H, E, D)
    W_out: Any  #: (H, D, E)
    W_1: Any  #: (F, D)
    b_1: Any  #: (F,)
    W_2: Any  #: (D, F)
    b_2: Any  #: (D,)
    gamma_1: Any  #: (D,), of the norm before MHSA
    beta_1: Any  #: (D,)
    gamma_2: Any  #: (D,), of the norm before the MLP
    beta_2: Any  #: (D,)


@implements("introduction-to-transformers")
@checked
def attention_columns(
    X: Float[Tensor, "*#B D N"],
    U_q: Float[Tensor, "*#B K D"] | None = None,
    U_k: Float[Tensor, "*#B K D"] | None = None,
    *,
    causal: bool = False,
    return_logits: bool = False,
) -> Any:
    """A (*, N, N) with columns that sum to 1; A[n', n] is proportional to exp of the exponent e[n', n].

    Without maps e = XᵀX: tokens listen to those they resemble. With one map U it is (UX)ᵀ(UX): resemblance in K
    features, still symmetric. With two it is (U_k X)ᵀ(U_q X): a token may listen to one that does not listen to it.

    X: (*, D, N). U_q, U_k: (*, K, D); U_k defaults to U_q. Maps (H, K, D) with X (1, D, N) give all heads at once.
    causal: A[n', n] = 0 for n' > n, the columns normalized over what is left.
    return_logits: return (A, e).
    """
    X = as_tensor(X)
    if U_q is None and U_k is not None:
        raise ValueError("attention_columns: U_k without U_q; give one map as U_q, or both")
    queries = X if U_q is None else matmul(U_q, X)
    keys = queries if U_k is None else matmul(U_k, X)
    e = matmul(swapaxes(keys, -1, -2), queries)
    N = X.shape[-1]
    allowed = np.triu(np.ones((N, N), np.bool_)) if causal else np.ones((1, 1), np.bool_)
    largest = np.max(e.data, axis=-2, keepdims=True, where=allowed, initial=-np.inf)
    weights = exp(where(allowed, e - largest, -np.inf))
    A = weights / sum_(weights, axis=-2, keepdims=True)
    return (A, e) if return_logits else A


@implements("introduction-to-transformers")
@checked
def multi_head_columns(
    X: Float[Tensor, "*#B D N"],
    A: Float[Tensor, "*#B H N N"],
    W_val: Float[Tensor, "H E D"],
    W_out: Float[Tensor, "H D E"],
) -> Tensor:
    """sum over h of V_h X A_h with V_h = W_out_h W_val_h.

    X: (*, D, N). A: (*, H, N, N). W_val: (H, E, D). W_out: (H, D, E). Returns (*, D, N).
    """
    values = matmul(W_val, expand_dims(as_tensor(X), -3))
    return sum_(matmul(W_out, matmul(values, A)), axis=-3)


def layer_norm_columns(X: Any, gamma: Any, beta: Any, eps: float = 1e-5) -> Tensor:
    """Every column of X (*, D, N) with mean 0 and variance 1, times gamma (D,), plus beta (D,)."""
    centered = as_tensor(X) - mean(X, axis=-2, keepdims=True)
    scale = rsqrt(mean(centered * centered, axis=-2, keepdims=True) + eps)
    return _column(gamma) * (centered * scale) + _column(beta)


def mlp_columns(X: Any, W_1: Any, b_1: Any, W_2: Any, b_2: Any) -> Tensor:
    """W_2 gelu(W_1 x_n + b_1) + b_2 for every column x_n of X (*, D, N)."""
    return matmul(W_2, gelu(matmul(W_1, X) + _column(b_1))) + _column(b_2)


@implements("introduction-to-transformers")
def transformer_block_columns(
    X: Float[Tensor, "*B D N"],
    weights: BlockWeights,
    *,
    A: Float[Tensor, "*#B #H N N"] | None = None,
    causal: bool = False,
    eps: float = 1e-5,
) -> Tensor:
    """Y = X + MHSA(LN(X)), then Y + MLP(LN(Y)).

    X: (*, D, N). A: token mixing that is given instead of computed, (*, H, N, N), or (N, N) for all heads: the identity
        makes the block a network of single tokens, a Toeplitz matrix a convolution, an adjacency matrix with columns
        that sum to 1 an average over neighbours.
    causal: for computed A, see ``attention_columns``. Returns (*, D, N).
    """
    w, X = weights, as_tensor(X)
    H, N = len(w.W_val), X.shape[-1]
    tokens = layer_norm_columns(X, w.gamma_1, w.beta_1, eps)
    if A is None:
        mixing = attention_columns(expand_dims(tokens, -3), w.U_q, w.U_k, causal=causal)
    else:
        mixing = as_tensor(A)
        if mixing.shape[-2:] != (N, N):
            raise ShapeError(
                f"transformer_block_columns: A must be (*, {N}, {N}) for X of shape {X.shape}, got {mixing.shape}"
            )
        mixing = broadcast_to(mixing, (*mixing.shape[:-3], H, N, N))
    Y = X + multi_head_columns(tokens, mixing, w.W_val, w.W_out)
    return Y + mlp_columns(layer_norm_columns(Y, w.gamma_2, w.beta_2, eps), w.W_1, w.b_1, w.W_2, w.b_2)


@implements("introduction-to-transformers")
def from_row_convention(W_q: Any, W_k: Any, W_v: Any, W_o: Any, E: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(U_q, U_k, W_val, W_out) of the heads whose row-convention weights these are; biases have no counterpart.

    W_q, W_k, W_v: (D, H E), heads contiguous. W_o: (H E, D). U_q = E^(-1/4) W_qᵀ and U_k = E^(-1/4) W_kᵀ share the
    scale 1 / sqrt(E) of the exponents; W_out_h W_val_h = (W_v_h W_o_h)ᵀ.
    """
    maps = [as_tensor(W) for W in (W_q, W_k, W_v)]
    last = as_tensor(W_o)
    D, width = maps[0].shape
    if any(W.shape != (D, width) for W in maps) or last.shape != (width, D) or width % E:
        shapes = ", ".join(str(W.shape) for W in (*maps, last))
        raise ShapeError(
            f"from_row_convention: needs W_q, W_k, W_v (D, H E) and W_o (H E, D) with E = {E}, got {shapes}"
        )
    U_q, U_k, W_val = (W.T.reshape(width // E, E, D) for W in maps)
    W_out = swapaxes(last.reshape(width // E, E, D), -1, -2)
    return U_q * E**-0.25, U_k * E**-0.25, W_val, W_out


@implements("introduction-to-transformers")
class MathematicalTransformer(Module):
    """Token ids (B, N) to scores in columns, (B, C, N): x_n = W e_n + p_n, L blocks, a norm, W_head.

    V, D, L, H: vocabulary, width, blocks, heads of width E = D // H. F: hidden units of the MLP, default 4D.
    C: number of scores, default V; with ``causal`` column n predicts token n + 1.
    positions: the p_n: "learned" (max_length of them), an array (P, max_length) of fixed columns, or "none".
    concatenated: x_n = [W e_n; p_n] with that many rows P < D of positions; 0: x_n = W e_n + p_n, P = D.
    pool: "none"; "mean" over columns, or "class", an extra first column, for scores (B, C) of the whole sequence.
    """

    def __init__(
        self,
        V: int,
        D: int,
        L: int,
        H: int,
        F: int | None = None,
        *,
        C: int | None = None,
        positions: Any = "learned",
        concatenated: int = 0,
        max_length: int | None = None,
        causal: bool = True,
        pool: str = "none",
        eps: float = 1e-5,
        rng: np.random.Generator,
    ):
        name = type(self).__name__
        if pool not in POOLS:
            raise ValueError(f"{name}: pool must be one of {', '.join(POOLS)}, got {pool!r}")
        if D % H or not 0 <= concatenated < D:
            raise ShapeError(f"{name}: needs H = {H} to divide D = {D} and 0 <= concatenated = {concatenated} < D")
        E, P = D // H, concatenated or D
        F = 4 * D if F is None else F
        if isinstance(positions, str):
            size = (P, max_length or 0)
            if positions not in POSITIONS or (positions == "learned" and not max_length):
                allowed = '"learned" (with max_length), "none", or an array (P, max_length)'
                raise ValueError(f"{name}: positions must be {allowed}, got {positions!r} and max_length {max_length}")
            self.p: Any = Parameter(rng.normal(0, 0.02, size)) if positions == "learned" else None
        else:
            self.p = Buffer(positions)
            if self.p.ndim != 2 or self.p.shape[0] != P:
                raise ShapeError(f"{name}: positions must be an array (P, max_length) with P = {P}, got {self.p.shape}")
        draw = lambda *shape: Parameter(rng.normal(0, shape[-1] ** -0.5, shape))  # keeps the size of its input
        zeros, ones = (lambda n, value=value: Parameter(np.full(n, value)) for value in (0.0, 1.0))
        self.causal, self.pool, self.eps, self.concatenated = causal, pool, eps, concatenated
        self.W = Parameter(rng.normal(0, 0.02, (D - concatenated, V)))
        self.x_class = Parameter(rng.normal(0, 0.02, D)) if pool == "class" else None
        self.blocks = [
            BlockWeights(
                U_q=draw(H, E, D), U_k=draw(H, E, D), W_val=draw(H, E, D), W_out=draw(H, D, E),
                W_1=draw(F, D), b_1=zeros(F), W_2=draw(D, F), b_2=zeros(D),
                gamma_1=ones(D), beta_1=zeros(D), gamma_2=ones(D), beta_2=zeros(D),
            )
            for _ in range(L)
        ]  # fmt: skip
        self.gamma, self.beta = ones(D), zeros(D)
        self.W_head = draw(V if C is None else C, D)

    def forward(self, ids: Any) -> Tensor:
        """ids (B, N) -> scores (B, C, N), or (B, C) when pooled."""
        ids = as_tensor(ids)
        if ids.ndim != 2:
            raise ShapeError(f"MathematicalTransformer: ids must be (B, N), got shape {ids.shape}")
        B, N = ids.shape
        X = swapaxes(self.W.T[ids], -1, -2)  # W e_n is column ids[n] of W
        if self.p is not None:
            if self.p.shape[1] < N:
                raise ShapeError(f"MathematicalTransformer: {N} tokens, but positions for {self.p.shape[1]}")
            p = broadcast_to(self.p[:, :N], (B, len(self.p), N))
            X = concatenate([X, p], axis=-2) if self.concatenated else X + p
        if self.x_class is not None:
            X = concatenate([broadcast_to(_column(self.x_class), (B, X.shape[-2], 1)), X], axis=-1)
        for weights in self.blocks:
            X = transformer_block_columns(X, weights, causal=self.causal, eps=self.eps)
        X = layer_norm_columns(X, self.gamma, self.beta, self.eps)
        if self.pool == "mean":
            X = mean(X, axis=-1, keepdims=True)
        elif self.pool == "class":
            X = X[..., :1]
        scores = matmul(self.W_head, X)
        return scores if self.pool == "none" else scores[..., 0]


def _column(b: Any) -> Tensor:
    """A vector (D,) as the column (D, 1)."""
    return expand_dims(as_tensor(b), -1)


def _example(draw: Any, size: str, *, causal: bool = False, maps: int = 2) -> Any:
    D, N, K = {"tiny": (3, 3, 2), "small": (16, 23, 8), "medium": (64, 129, 32)}[size]
    inputs = {"X": draw.normal((2, D, N)) / D**0.25}
    for name in ("U_q", "U_k")[:maps]:
        inputs[name] = draw.normal((K, D)) / K**0.25
    return inputs, {"causal": True} if causal else {}


reference(
    "models.mathematical.attention_columns",
    attention_columns,
    example=_example,
    differentiable=("X", "U_q", "U_k"),
    options=({}, {"causal": True}),
)
