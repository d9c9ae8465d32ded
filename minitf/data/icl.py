"""In-context regression: a function is to be learned from the examples in the prompt.

x, y = SlidingWindowFunctionClass(5).sample(B, T, rng=rng)              # (B, T, d), (B, T)
tokens = interleave(x, y)                                               # (B, 2T, d): x_1, (y_1, 0, ..), x_2, ...
predictions = model(tokens)[:, ::2]                                     # y_t is predicted at the token of x_t
"""

from __future__ import annotations

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.nn.init import generator

Prompts = tuple[np.ndarray, np.ndarray]


def interleave(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Tokens ``(B, 2T, d)`` of x ``(B, T, d)`` and y ``(B, T)``, which stands in coordinate 0, zeros behind it."""
    if x.ndim != 3 or x.shape[:2] != y.shape:
        raise ShapeError(f"interleave: needs x (B, T, d) and y (B, T), got {x.shape} and {y.shape}")
    B, T, d = x.shape
    tokens = np.zeros((B, T, 2, d), np.result_type(x, y))
    tokens[:, :, 0], tokens[:, :, 1, 0] = x, y
    return tokens.reshape(B, 2 * T, d)


def randomize_labels(
    y: np.ndarray, rate: float = 1.0, *, permute: bool = False, rng: np.random.Generator
) -> np.ndarray:
    """y ``(B, T)`` where each label but the last of a prompt, the query's, is replaced with probability ``rate`` by a label
    of another prompt, uniformly; or, with ``permute``, all labels but the last of each prompt are permuted.

    Raises ValueError for a single prompt, which has no other, unless labels are permuted.
    """
    B, T = y.shape
    context = y[:, :-1]
    if permute:
        context = generator(rng).permuted(context, axis=1)
    else:
        if not 0 <= rate <= 1 or B < 2:
            raise ValueError(f"randomize_labels: needs a rate from 0 to 1 and at least 2 prompts, got {rate} and {B}")
        other = (np.arange(B)[:, None] + generator(rng).integers(1, B, (B, T - 1))) % B
        context = np.where(rng.random((B, T - 1)) < rate, y[other, rng.integers(0, T, (B, T - 1))], context)
    return np.concatenate([context, y[:, -1:]], axis=1)


class SlidingWindowFunctionClass:
    """y_t is a function of the last k inputs: sum over j < k of w_j . x_{t-j}, inputs before the first being zero. (choice)

    x ~ N(0, I_d) and w_j ~ N(0, I_d / k); k = 1 is linear regression. noise: standard deviation of what is added to y.
    hidden: instead, a network of one layer of so many ReLUs on the k inputs, weights N(0, 1 / fan-in). (choice)
    """

    def __init__(self, d: int, k: int = 1, *, noise: float = 0.0, hidden: int | None = None):
        if d < 1 or k < 1 or noise < 0:
            raise ValueError(f"SlidingWindowFunctionClass: needs d, k >= 1 and noise >= 0, got {d}, {k}, {noise}")
        self.d, self.k, self.noise, self.hidden = d, k, noise, hidden

    def windows(self, x: np.ndarray) -> np.ndarray:
        """[x_t, x_{t-1}, ..., x_{t-k+1}] at each t: ``(B, T, k d)``."""
        T = x.shape[1]
        padded = np.concatenate([np.zeros((len(x), self.k - 1, self.d)), x], axis=1)
        return np.concatenate([padded[:, self.k - 1 - j : self.k - 1 - j + T] for j in range(self.k)], axis=-1)

    def sample(self, B: int, T: int, *, rng: np.random.Generator) -> Prompts:
        """x ``(B, T, d)`` and y ``(B, T)``, another function for each prompt."""
        x = generator(rng).normal(size=(B, T, self.d))
        features, n = self.windows(x), self.k * self.d
        if self.hidden is None:
            y = features @ rng.normal(0, self.k**-0.5, (B, n, 1))
        else:
            up = rng.normal(0, n**-0.5, (B, n, self.hidden))
            y = np.maximum(features @ up, 0) @ rng.normal(0, self.hidden**-0.5, (B, self.hidden, 1))
        return x, y[..., 0] + self.noise * rng.normal(size=(B, T))


class HeteroLinearTasks:
    """Linear regression whose noise differs between prompts: y_t = w . x_t + sigma e_t.

    w ~ N(0, tau2 I_d), or for a ``pool`` one of so many that are drawn once from ``rng``; sigma: the levels, uniformly.
    scale: factor of x ~ N(0, I_d).
    """

    def __init__(
        self,
        d: int,
        sigma: tuple[float, ...] = (0.1, 0.4, 0.7, 1.0),
        *,
        tau2: float | None = None,
        scale: float = 1.0,
        pool: int | None = None,
        rng: np.random.Generator | None = None,
    ):
        self.d, self.sigma, self.scale = d, sigma, scale
        self.tau2 = 1 / d if tau2 is None else tau2
        self.pool = None if pool is None else self._weights(pool, generator(rng))

    def _weights(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return rng.normal(0, self.tau2**0.5, (n, self.d))

    def sample(self, B: int, T: int, *, rng: np.random.Generator) -> Prompts:
        """x ``(B, T, d)`` and y ``(B, T)``."""
        x = self.scale * generator(rng).normal(size=(B, T, self.d))
        w = self._weights(B, rng) if self.pool is None else self.pool[rng.integers(0, len(self.pool), B)]
        sigma = rng.choice(self.sigma, (B, 1))
        return x, np.einsum("btd,bd->bt", x, w) + sigma * rng.normal(size=(B, T))


class LogisticRegressionTasks:
    """y ~ Bernoulli(sigmoid(w . x)) in {0, 1} with w ~ ``weight`` N(0, I_d), x ~ N(0, I_d).

    active: coordinates of x from there on are 0 (a curriculum raises it up to d).
    """

    def __init__(self, d: int = 16, *, weight: float = 10.0, active: int | None = None):
        self.d, self.weight, self.active = d, weight, d if active is None else active

    def sample(self, B: int, T: int, *, rng: np.random.Generator) -> Prompts:
        """x ``(B, T, d)`` and y ``(B, T)``."""
        x = generator(rng).normal(size=(B, T, self.d))
        x[..., self.active :] = 0
        logits = np.einsum("btd,bd->bt", x, self.weight * rng.normal(size=(B, self.d)))
        # P(logistic noise < logit) is the sigmoid
        return x, (rng.logistic(size=(B, T)) < logits).astype(float)
