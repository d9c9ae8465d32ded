"""A mixture of experts: many feed-forward layers, of which every token goes through k.

    p = softmax(x W_router)                                   over the E experts
    e_1, ..., e_k = the k largest of p                        ties to the lowest index
    g_i = p[e_i] / sum of p[e_1], ..., p[e_k]                 or p[e_i] itself, ``normalize=False`` (Switch)
    y = g_1 FFN_{e_1}(x) + ... + g_k FFN_{e_k}(x)

A token costs k feed-forward layers and the router's D E multiply-adds, however many experts there are. The choice has no
gradient; the weights of the chosen have. So that all experts are used, training adds ``load_balancing_loss``.

Sources: Shazeer and others, Outrageously Large Neural Networks (2017), with the softmax before the choice as in GShard;
Fedus and others, Switch Transformers (2021), eq. 4, for the loss; Zoph and others, ST-MoE (2022), eq. 5, for the other one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.checked import checked
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import ArrayLike, Tensor, as_tensor
from minitf.feedforward.mlp import Activation, activation, feed_forward, gated_feed_forward
from minitf.feedforward.routing import Routes, assign, combine, dispatch
from minitf.nn.functional import softmax
from minitf.nn.layers import Linear
from minitf.nn.module import Module, Parameter
from minitf.registry import Decision, reference

if TYPE_CHECKING:
    from jaxtyping import Float, Int


@checked
def top_k_gate(
    logits: Float[Tensor, "*B E"], *, k: int, normalize: bool = True, experts: Int[Tensor, "*B k"] | None = None
) -> tuple[Tensor, Tensor]:
    """(weights, experts), (*, k) each, of the router's logits (*, E): the likeliest k, the likeliest first.

    normalize: the weights of a token add up to 1. experts: the choice, if somebody else has made it.

    Raises ValueError unless k is from 1 to E, or for experts out of that range.
    """
    logits = as_tensor(logits)
    E = logits.shape[-1]
    if not 1 <= k <= E:
        raise ValueError(f"top_k_gate: k must be from 1 to the {E} experts, got {k!r}")
    if experts is None:
        chosen = mt.top_k(mt.stop_gradient(logits), k)[1].data
    else:
        chosen = as_tensor(experts).data
        if chosen.shape != (*logits.shape[:-1], k):
            raise ShapeError(f"top_k_gate: experts need the shape {(*logits.shape[:-1], k)}, got {chosen.shape}")
        if chosen.size and not (chosen.min() >= 0 and chosen.max() < E):
            raise ValueError(f"top_k_gate: experts are from 0 to {E - 1}, got {chosen.min()} to {chosen.max()}")
    if normalize:  # the softmax of the chosen logits alone: the sum over the others cancels
        return softmax(mt.take_along_axis(logits, chosen, -1)), as_tensor(chosen)
    return mt.take_along_axis(softmax(logits), chosen, -1), as_tensor(chosen)


@checked
def mixture_of_experts(
    x: Float[Tensor, "*B D"],
    router: Float[Tensor, "D E"],
    w_up: Float[Tensor, "E D F"],
    w_down: Float[Tensor, "E F D"],
    w_gate: Float[Tensor, "E D F"] | None = None,
    *,
    k: int = 2,
    normalize: bool = True,
    act: Activation = "silu",
    capacity: int | None = None,
    experts: Int[Tensor, "*B k"] | None = None,
    return_experts: bool = False,
) -> Any:
    """y (*, D): every token x through its k experts.

    x: (*, D). router: (D, E). w_up: (E, D, F), w_down: (E, F, D), w_gate: (E, D, F), or None for experts without gates.
    normalize: see ``top_k_gate``. act: of the experts. capacity: the most tokens that an expert takes; what comes too late
    is dropped. experts: (*, k), the choice, if somebody else has made it. return_experts: return (y, experts (*, k)).

    Raises ShapeError when shapes disagree, ValueError for k or experts that do not exist.
    """
    x = as_tensor(x)
    *lead, D = x.shape
    E = as_tensor(router).shape[-1]
    logits = mt.store(x @ router)
    weights, chosen = top_k_gate(logits, k=k, normalize=normalize, experts=experts)
    N = math.prod(lead)
    routes = assign(chosen.data.reshape(N, k), E, capacity=capacity)
    tokens = as_tensor(routes.tokens)
    rows = dispatch(mt.reshape(x, (N, D)), tokens)
    y = mt.store(through_experts(rows, routes, w_up, w_down, w_gate, act=act))
    out = combine(y, tokens, routes.of_rows(mt.reshape(mt.store(weights), (N, k))), N)
    out = mt.reshape(out, (*lead, D))
    return (out, chosen) if return_experts else out


def through_experts(
    rows: Tensor, routes: Routes, w_up: Any, w_down: Any, w_gate: Any = None, *, act: Activation = "silu"
) -> Tensor:
    """rows (M, D), grouped by expert as ``routes`` says -> (M, D), each through its expert. Weights as in the mixture."""
    w_up, w_down, w_gate = as_tensor(w_up), as_tensor(w_down), None if w_gate is None else as_tensor(w_gate)
    outs = []
    for e in np.flatnonzero(routes.counts):
        mine = rows[routes.offsets[e] : routes.offsets[e + 1]]
        if w_gate is None:
            outs.append(feed_forward(mine, w_up[e], w_down[e], act=act, dropout=mt.store))
        else:
            outs.append(gated_feed_forward(mine, w_gate[e], w_up[e], w_down[e], act=act, dropout=mt.store))
    return mt.concatenate(outs, 0) if outs else rows @ w_up[0] @ w_down[0]  # no row at all


@checked
def load_balancing_loss(logits: Float[Tensor, "*B E"], experts: Int[Tensor, "*B k"]) -> Tensor:
    """E times the sum over experts of (choices of it per token) (mean probability of it); a scalar.

    k if all experts are chosen and likely alike, up to E k if all tokens go to the same k. Only the probabilities have a
    gradient. experts: -1 where a token makes no such choice. NaN for no tokens.
    """
    logits, chosen = as_tensor(logits), as_tensor(experts).data
    E = logits.shape[-1]
    tokens = math.prod(logits.shape[:-1])
    choices = np.bincount(chosen[chosen >= 0].reshape(-1), minlength=E) / tokens if tokens else np.full(E, np.nan)
    return E * mt.sum(mt.mean(mt.reshape(softmax(logits), (tokens, E)), 0) * choices.astype(logits.dtype))


@checked
def router_z_loss(logits: Float[Tensor, "*B E"]) -> Tensor:
    """The mean over tokens of (ln sum exp logits)^2, a scalar: keeps a router's logits where rounding does little."""
    return mt.mean(mt.logsumexp(logits, -1) ** 2)


class MixtureOfExperts(Module):
    """``mixture_of_experts`` with its weights: E experts D -> F -> D, with gates unless ``gated`` is False.

    ``forward`` keeps the router's ``logits`` (*, E) and the ``experts`` (*, k) of its last call, for the losses.
    """

    def __init__(
        self,
        D: int,
        F: int,
        experts: int,
        k: int = 2,
        *,
        act: Activation = "silu",
        gated: bool = True,
        normalize: bool = True,
        capacity_factor: float | None = None,
        rng: np.random.Generator,
    ):
        super().__init__()
        if not 1 <= k <= experts:
            raise ValueError(f"MixtureOfExperts: k must be from 1 to the {experts} experts, got {k!r}")
        if capacity_factor is not None and not capacity_factor > 0:
            raise ValueError(f"MixtureOfExperts: capacity_factor must be positive or None, got {capacity_factor!r}")

        def weights(rows: int, columns: int) -> Parameter:
            return Parameter(np.stack([Linear(rows, columns, bias=False, rng=rng).weight.data for _ in range(experts)]))

        self.router = Linear(D, experts, bias=False, rng=rng)
        self.w_up, self.w_down = weights(D, F), weights(F, D)
        self.w_gate = weights(D, F) if gated else None
        self.k, self.act, self.normalize, self.capacity_factor = k, activation(act), normalize, capacity_factor
        self.logits: Tensor | None = None
        self.experts: np.ndarray | None = None

    def forward(self, x: ArrayLike) -> Tensor:
        """x (*, D) -> (*, D)."""
        x = as_tensor(x)
        E, capacity = self.router.weight.shape[1], None
        if self.capacity_factor is not None:
            capacity = math.ceil(self.capacity_factor * self.k * math.prod(x.shape[:-1]) / E)
        self.logits = x @ self.router.weight
        y, chosen = mixture_of_experts(
            x, self.router.weight, self.w_up, self.w_down, self.w_gate, k=self.k, normalize=self.normalize,
            act=self.act, capacity=capacity, return_experts=True,
        )  # fmt: skip
        self.experts = chosen.data
        return y


# -- what the oracle asks --------------------------------------------------------------------------------------------

#: the least distance of the last chosen logit to the next in a case, far above what bfloat16 makes of logits near 1
MARGIN = 0.15


def _example(draw: Any, size: str, *, k: int = 2, normalize: bool = True) -> Any:
    N, D, F, E = {"tiny": (3, 4, 5, 3), "small": (24, 16, 20, 8), "medium": (130, 64, 96, 16)}[size]
    router = draw.normal((D, E)) * D**-0.5
    tokens = draw.normal((40 * N, D))
    ordered = np.sort(tokens @ router, axis=-1)[:, ::-1]
    gaps = ordered[:, : min(k, E - 1)] - ordered[:, 1 : min(k, E - 1) + 1]  # of the chosen among themselves too
    x = tokens[(gaps > MARGIN).all(-1)][:N]
    inputs = {"x": x, "router": router, "w_up": draw.normal((E, D, F)) * D**-0.5}
    inputs["w_down"] = draw.normal((E, F, D)) * F**-0.5
    inputs["w_gate"] = draw.normal((E, D, F)) * D**-0.5
    return inputs, {"k": k, "normalize": normalize}


def gated_mixture_with_choice(
    x: Any, router: Any, w_up: Any, w_down: Any, w_gate: Any, **options: Any
) -> tuple[Tensor, Tensor]:
    """(y, experts): ``mixture_of_experts`` with gates and SiLU, and the choice (*, k), the likeliest expert first."""
    return mixture_of_experts(x, router, w_up, w_down, w_gate, return_experts=True, **options)


reference(
    "feedforward.mixture_of_experts",
    gated_mixture_with_choice,
    example=_example,
    differentiable=("x", "router", "w_up", "w_down", "w_gate"),
    outputs=("out", "experts"),
    options=({}, {"k": 1, "normalize": False}),
    decisions={"experts": Decision("experts", lambda x, router, *rest, **options: mt.store(as_tensor(x) @ router))},
)
