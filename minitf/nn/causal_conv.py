"""Causal depthwise convolution: every channel looks at its own last W inputs.

    y[t, c] = bias[c] + sum_{j < W} weight[c, j] x[t - W + 1 + j, c]

weight[c, W - 1] meets the newest input. In front of the first input lie W - 1 earlier ones, the state: zeros at the
start of a sequence, afterwards the last W - 1 inputs that were seen.

The sum is linear in x, in the weight and, going back, in the cotangent of y: three primitives
(``minitf.kernels.causal_conv``), each of which has the two others for its gradients.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.checked import checked
from minitf.autodiff.dispatch import compiled
from minitf.autodiff.dtypes import common_dtype
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.rules import defcost, defjvp, defvjp
from minitf.autodiff.tensor import Primitive, Tensor, as_tensor, bind
from minitf.kernels import causal_conv as kernels
from minitf.nn import init
from minitf.nn.module import Module, Parameter
from minitf.registry import reference

if TYPE_CHECKING:
    from jaxtyping import Float

# -- x (B, T + W - 1, C), weight (C, W), y (B, T, C) ----------------------------------------------------------------------


def _convolve(x: Any, weight: Any) -> Tensor:
    T, W = x.shape[1] - weight.shape[1] + 1, weight.shape[1]
    return mt.sum(mt.stack([weight[:, j] * x[:, j : j + T] for j in range(W)]), 0)


def _spread(y: Any, weight: Any) -> Tensor:
    W = weight.shape[1]
    terms = [mt.pad(weight[:, j] * y, ((0, 0), (j, W - 1 - j), (0, 0))) for j in range(W)]
    return mt.sum(mt.stack(terms), 0)


def _correlate(x: Any, y: Any) -> Tensor:
    T = y.shape[1]
    return mt.stack([mt.sum(x[:, j : j + T] * y, (0, 1)) for j in range(x.shape[1] - T + 1)], -1)


convolve_p = Primitive("causal_conv1d", compiled(kernels.convolve, kernels.convolve_twin), decomposition=_convolve)
spread_p = Primitive("causal_conv1d_spread", compiled(kernels.spread, kernels.spread_twin), decomposition=_spread)
correlate_p = Primitive(
    "causal_conv1d_weight", compiled(kernels.correlate, kernels.correlate_twin), decomposition=_correlate
)
defvjp(
    convolve_p,
    lambda g, y, x, weight: bind(spread_p, g, weight),
    lambda g, y, x, weight: bind(correlate_p, x, g),
    saves=((1,), (0,)),
)
defvjp(
    spread_p,
    lambda g, x, y, weight: bind(convolve_p, g, weight),
    lambda g, x, y, weight: bind(correlate_p, g, y),
    saves=((1,), (0,)),
)
defvjp(
    correlate_p,
    lambda g, weight, x, y: bind(spread_p, y, g),
    lambda g, weight, x, y: bind(convolve_p, x, g),
    saves=((1,), (0,)),
)
for _primitive in (convolve_p, spread_p, correlate_p):
    defjvp(_primitive, "linear", "linear")
defcost(convolve_p, lambda out, x, weight: (2 * out.size * weight.shape[1], out.size * weight.shape[1]))
defcost(spread_p, lambda out, y, weight: (2 * y.size * weight.shape[1], y.size * weight.shape[1]))
defcost(correlate_p, lambda out, x, y: (2 * y.size * out.shape[1], y.size * out.shape[1]))


@checked
def causal_conv1d(
    x: Float[Tensor, "*B T C"],
    weight: Float[Tensor, "C W"],
    bias: Float[Tensor, "C"] | None = None,
    *,
    state: Float[Tensor, "*B W-1 C"] | None = None,
    return_state: bool = False,
) -> Any:
    """y (*, T, C): y_t = bias + sum_j weight[:, j] x_{t-W+1+j}.

    x: (*, T, C). weight: (C, W). bias: (C,). state: (*, W - 1, C), the inputs in front of x, zeros by default.
    return_state: return (y, the last W - 1 inputs), with which the next piece of the sequence goes on.

    Raises ShapeError when shapes disagree or W is 0.
    """
    x, weight = as_tensor(x), as_tensor(weight)
    *lead, T, C = x.shape
    W, samples = weight.shape[1], math.prod(lead)
    if W == 0:
        raise ShapeError(f"causal_conv1d: weight must be (C, W) with W at least 1, got {weight.shape}")
    others = [as_tensor(extra) for extra in (bias, state) if extra is not None]
    dtype = common_dtype(x.dtype, weight.dtype, *(extra.dtype for extra in others))
    x, weight = mt.store(mt.astype(x, dtype)), mt.astype(weight, dtype)
    before = np.zeros((*lead, W - 1, C), dtype) if state is None else mt.astype(state, dtype)
    seen = mt.concatenate([before, x], -2)
    # the convolution's cotangent is in memory before that of the state is added to it
    y = bind(convolve_p, mt.reshape(mt.store(seen), (samples, T + W - 1, C)), weight)
    y = mt.reshape(y, (*lead, T, C))
    y = mt.store(y if bias is None else y + mt.astype(bias, dtype))
    return (y, seen[..., T:, :]) if return_state else y


class CausalConv1d(Module):
    """``causal_conv1d`` with weight (C, W) and bias (C,); (*, T, C) -> (*, T, C). Both start as U(±1/sqrt(W))."""

    def __init__(self, C: int, W: int, bias: bool = True, *, rng: np.random.Generator):
        if C < 1 or W < 1:
            raise ShapeError(f"CausalConv1d: C and W must be positive integers, got C = {C!r}, W = {W!r}")
        bound = 1 / math.sqrt(W)
        self.weight = Parameter(init.uniform((C, W), -bound, bound, rng=rng))
        self.bias = Parameter(init.uniform((C,), -bound, bound, rng=rng)) if bias else None

    def forward(
        self, x: Float[Tensor, "*B T C"], state: Float[Tensor, "*B W-1 C"] | None = None
    ) -> tuple[Tensor, Tensor]:
        """y and the last W - 1 inputs, the state for what comes next."""
        return causal_conv1d(x, self.weight, self.bias, state=state, return_state=True)

    def extra_repr(self) -> str:
        C, W = self.weight.shape
        return f"{C}, {W}" + ("" if self.bias is not None else ", bias=False")


# -- what the oracle asks --------------------------------------------------------------------------------------------


def convolution_with_state(x: Any, weight: Any, bias: Any, state: Any, *, bias_first: bool = False) -> tuple[Any, Any]:
    """(y, the last W - 1 inputs): ``causal_conv1d`` behind given inputs. bias_first: sums that start with the bias."""
    if not bias_first:
        return causal_conv1d(x, weight, bias, state=state, return_state=True)
    x, weight = as_tensor(x), as_tensor(weight)
    T, W = x.shape[-2], weight.shape[1]
    seen = mt.concatenate([state, x], -2)
    read = mt.store(seen)
    terms = [mt.broadcast_to(bias, x.shape), *(weight[:, j] * read[..., j : j + T, :] for j in range(W))]
    return mt.store(mt.sum(mt.stack(terms), 0)), seen[..., T:, :]


def _example(draw: Any, size: str, *, W: int = 4) -> tuple[dict[str, Any], dict[str, Any]]:
    B, T, C = {"tiny": (1, 2, 3), "small": (2, 33, 10), "medium": (2, 258, 66)}[size]
    inputs = {"x": draw.normal((B, T, C)), "weight": draw.normal((C, W)) * W**-0.5, "bias": draw.normal((C,))}
    return {**inputs, "state": draw.normal((B, W - 1, C))}, {}


reference(
    "nn.causal_conv1d",
    convolution_with_state,
    example=_example,
    differentiable=("x", "weight", "bias", "state"),
    outputs=("out", "state"),
    options=({}, {"W": 2}),
    forms=({}, {"bias_first": True}),
)
