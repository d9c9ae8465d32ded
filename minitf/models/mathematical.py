"""The transformer in the notation of its textbook derivation: tokens are the columns of a matrix X (D, N).

    Y = X A                                       mixing across tokens; A (N, N) >= 0, every column sums to 1
    A[n', n] = exp(k_n' . q_n) / sum over n'' of exp(k_n'' . q_n)        k_n = U_k x_n,  q_n = U_q x_n
    MHSA(X) = sum over h of V_h X A_h             V_h = W_out_h W_val_h (D, D), of rank E
    Y = X + MHSA(LN(X));  X' = Y + MLP(LN(Y))     a block: first across tokens, then across features

Column n of A says which tokens the output y_n listens to. There is no 1 / sqrt(K) in the exponents: the scale is part
of U_q and U_k, and ``from_row_convention`` puts it there when it translates the weights of ``MultiHeadAttention``,
which has tokens as rows.

Paper: introduction-to-transformers, "An Introduction to Transformers" (2023). (choice): one hidden layer of 4D units
with GELU and biases as the MLP; a norm before the output matrix, as every pre-norm transformer has; the class column
comes first. Cost of a block with H heads of widths K and E: H (K + E) N (2D + N) + 2 D F N multiply-adds, which for
H K = H E = D and F = 4D is 12 D² N + 2 D N²: quadratic in tokens where it mixes them, linear where it does not. The
factors of all V_h hold 2 D H E numbers, the V_h themselves would be H D². Memory: H matrices A of N² numbers.
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
from minitf.autodiff.precision import store
from minitf.autodiff.tensor import Tensor, as_tensor
from minitf.nn.activations import gelu
from minitf.nn.functional import embedding
from minitf.nn.module import Buffer, Module, Parameter
from minitf.registry import implements, reference

if TYPE_CHECKING:
    from jaxtyping import Float

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

    Raises ShapeError when shapes disagree, ValueError for U_k without U_q.
    """
    X = as_tensor(X)
    if U_q is None and U_k is not None:
        raise ValueError("attention_columns: U_k without U_q; give one map as U_q, or both")
    queries = X if U_q is None else store(matmul(U_q, X))
    keys = queries if U_k is None else store(matmul(U_k, X))
    e = matmul(swapaxes(keys, -1, -2), queries)
    heard = where(np.tri(X.shape[-1], dtype=np.bool_).T, e, -np.inf) if causal else e
    # What is subtracted from a whole column drops out of A, so this is a constant; exp cannot overflow after it.
    largest = np.max(heard.data, axis=-2, keepdims=True, initial=-np.inf)
    weights = exp(heard - largest)
    A = weights / sum_(weights, axis=-2, keepdims=True)
    return (A, e) if return_logits else A


@implements("introduction-to-transformers")
@checked
def multi_head_columns(
    X: Float[Tensor, "*#B D N"],
    A: Float[Tensor, "... N N"],
    W_val: Float[Tensor, "H E D"],
    W_out: Float[Tensor, "H D E"],
) -> Tensor:
    """sum over h of V_h X A_h with V_h = W_out_h W_val_h.

    X: (*, D, N). A: (*, H, N, N), or (N, N) for all heads. W_val: (H, E, D). W_out: (H, D, E). Returns (*, D, N).
    Raises ShapeError when shapes disagree.
    """
    values = store(matmul(W_val, expand_dims(as_tensor(X), -3)))
    return sum_(matmul(W_out, store(matmul(values, A))), axis=-3)


def layer_norm_columns(X: Any, gamma: Any, beta: Any, eps: float = 1e-5) -> Tensor:
    """Every column of X (*, D, N) with mean 0 and variance 1, times gamma (D,), plus beta (D,)."""
    centered = as_tensor(X) - mean(X, axis=-2, keepdims=True)
    scale = rsqrt(mean(centered * centered, axis=-2, keepdims=True) + eps)
    return _column(gamma) * (centered * scale) + _column(beta)


def mlp_columns(X: Any, W_1: Any, b_1: Any, W_2: Any, b_2: Any) -> Tensor:
    """W_2 gelu(W_1 x_n + b_1) + b_2 for every column x_n of X (*, D, N)."""
    return matmul(W_2, gelu(matmul(W_1, X) + _column(b_1))) + _column(b_2)


@implements("introduction-to-transformers")
@checked
def transformer_block_columns(
    X: Float[Tensor, "*B D N"],
    weights: BlockWeights,
    *,
    A: Float[Tensor, "... N N"] | None = None,
    causal: bool = False,
    eps: float = 1e-5,
) -> Tensor:
    """Y = X + MHSA(LN(X)), then Y + MLP(LN(Y)).

    X: (*, D, N). A: token mixing that is given instead of computed, (*, H, N, N), or (N, N) for all heads: the identity
        makes the block a network of single tokens, a Toeplitz matrix a convolution, an adjacency matrix with columns
        that sum to 1 an average over neighbors.
    causal: as in ``attention_columns``; a given A says itself who listens to whom.

    Returns (*, D, N). Raises ShapeError when shapes disagree, ValueError for ``causal`` with a given A.
    """
    if A is not None and causal:
        raise ValueError("transformer_block_columns: causal is for computed weights; let the given A be triangular")
    w = weights
    tokens = layer_norm_columns(X, w.gamma_1, w.beta_1, eps)
    mixing = attention_columns(expand_dims(tokens, -3), w.U_q, w.U_k, causal=causal) if A is None else A
    Y = X + multi_head_columns(tokens, mixing, w.W_val, w.W_out)
    return Y + mlp_columns(layer_norm_columns(Y, w.gamma_2, w.beta_2, eps), w.W_1, w.b_1, w.W_2, w.b_2)


@implements("introduction-to-transformers")
def from_row_convention(W_q: Any, W_k: Any, W_v: Any, W_o: Any, E: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(U_q, U_k, W_val, W_out) of the heads whose row-convention weights these are; biases have no counterpart.

    W_q, W_k, W_v: (D, H E), heads contiguous. W_o: (H E, D). U_q = E^(-1/4) W_qᵀ and U_k = E^(-1/4) W_kᵀ share the
    scale 1 / sqrt(E) of the exponents; W_out_h W_val_h = (W_v_h W_o_h)ᵀ. Raises ShapeError when shapes disagree.
    """
    maps = [as_tensor(W) for W in (W_q, W_k, W_v)]
    last = as_tensor(W_o)
    D, width = last.shape[::-1] if last.ndim == 2 else (0, 0)
    if E < 1 or width < 1 or width % E or any(W.shape != (D, width) for W in maps):
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

    V, D, L, H: vocabulary, width, blocks, heads of width E = D / H. F: hidden units of the MLP, default 4D.
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
        super().__init__()
        name = type(self).__name__
        if H < 1 or D % H or not 0 <= concatenated < D:
            raise ShapeError(f"{name}: needs H = {H} to divide D = {D} and 0 <= concatenated = {concatenated} < D")
        if pool not in POOLS:
            raise ValueError(f"{name}: pool must be one of {', '.join(POOLS)}, got {pool!r}")
        if pool == "class" and causal:
            raise ValueError(f"{name}: a causal model's first column sees only itself; pool='class' needs causal=False")
        draw = lambda std, *shape: Parameter(rng.normal(0, std, shape))
        zeros, ones = (lambda n, value=value: Parameter(np.full(n, value)) for value in (0.0, 1.0))
        P = concatenated or D
        self.W = draw(0.02, D - concatenated, V)
        if not isinstance(positions, str):
            self.p: Any = Buffer(positions, dtype=self.W.dtype)
            if self.p.ndim != 2 or self.p.shape[0] != P:
                raise ShapeError(f"{name}: positions must be an array (P, max_length) with P = {P}, got {self.p.shape}")
        elif positions == "learned" and max_length:
            self.p = draw(0.02, P, max_length)
        elif positions == "none" and not concatenated:
            self.p = None
        else:
            allowed = '"learned" (with max_length), an array (P, max_length), or "none" (with nothing concatenated)'
            raise ValueError(
                f"{name}: positions must be {allowed}, got {positions!r}, max_length {max_length}, "
                f"concatenated {concatenated}"
            )
        self.x_class = draw(0.02, D) if pool == "class" else None
        E, F = D // H, 4 * D if F is None else F
        keeps = D**-0.5  # the standard deviation of a matrix that leaves the size of its D inputs as it is
        self.blocks = [
            dict(
                U_q=draw(keeps * E**-0.25, H, E, D), U_k=draw(keeps * E**-0.25, H, E, D),
                W_val=draw(keeps, H, E, D), W_out=draw(keeps, H, D, E),
                W_1=draw(keeps, F, D), b_1=zeros(F), W_2=draw(F**-0.5, D, F), b_2=zeros(D),
                gamma_1=ones(D), beta_1=zeros(D), gamma_2=ones(D), beta_2=zeros(D),
            )
            for _ in range(L)
        ]  # fmt: skip
        self.gamma, self.beta = ones(D), zeros(D)
        self.W_head = draw(keeps, V if C is None else C, D)
        self.causal, self.pool, self.eps, self.concatenated = causal, pool, eps, concatenated

    def forward(self, ids: Any) -> Tensor:
        """ids (B, N) -> scores (B, C, N), or (B, C) when pooled. Raises ShapeError for more ids than positions."""
        ids = as_tensor(ids)
        if ids.ndim != 2 or not ids.shape[1]:
            raise ShapeError(f"MathematicalTransformer: ids must be (B, N) with N >= 1, got shape {ids.shape}")
        B, N = ids.shape
        X = swapaxes(embedding(ids, self.W.T), -1, -2)  # W e_n is column ids[n] of W
        if self.p is not None:
            if self.p.shape[1] < N:
                raise ShapeError(f"MathematicalTransformer: {N} tokens, but positions for {self.p.shape[1]}")
            p = broadcast_to(self.p[:, :N], (B, len(self.p), N))
            X = concatenate([X, p], axis=-2) if self.concatenated else X + p
        if self.x_class is not None:
            X = concatenate([broadcast_to(_column(self.x_class), (B, len(self.x_class), 1)), X], axis=-1)
        for weights in self.blocks:
            X = transformer_block_columns(X, BlockWeights(**weights), causal=self.causal, eps=self.eps)
        X = layer_norm_columns(X, self.gamma, self.beta, self.eps)
        if self.pool == "none":
            return matmul(self.W_head, X)
        return matmul(mean(X, axis=-1) if self.pool == "mean" else X[..., 0], self.W_head.T)


def _column(b: Any) -> Tensor:
    """A vector (D,) as the column (D, 1)."""
    return expand_dims(as_tensor(b), -1)


#: D, N, H and the width K = E of the oracle's cases
SIZES = {"tiny": (3, 3, 2, 2), "small": (16, 23, 3, 8), "medium": (64, 129, 4, 32)}


def _attention_example(draw: Any, size: str, *, causal: bool = False) -> Any:
    D, N, _, K = SIZES[size]
    inputs = {"X": draw.normal((2, D, N)) / D**0.25}
    for name in ("U_q", "U_k"):
        inputs[name] = draw.normal((K, D)) / K**0.25
    return inputs, {"causal": True} if causal else {}


def _multi_head_example(draw: Any, size: str) -> Any:
    D, N, H, E = SIZES[size]
    A = draw.uniform((2, H, N, N))
    inputs = {"X": draw.normal((2, D, N)), "A": A / A.sum(axis=-2, keepdims=True)}
    return inputs | {"W_val": draw.normal((H, E, D)) / D**0.5, "W_out": draw.normal((H, D, E)) / (H * E) ** 0.5}, {}


reference(
    "models.mathematical.attention_columns",
    attention_columns,
    example=_attention_example,
    differentiable=("X", "U_q", "U_k"),
    options=({}, {"causal": True}),
)
reference(
    "models.mathematical.multi_head_columns",
    multi_head_columns,
    example=_multi_head_example,
    differentiable=("X", "A", "W_val", "W_out"),
)
