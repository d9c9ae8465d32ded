"""AdamW: see README.md for the task."""

import numpy as np


def adamw_step(
    p: np.ndarray,
    g: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    t: int,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The new p, m and v after step t, which counts from 1."""
    raise NotImplementedError


def adamw(
    p: np.ndarray,
    gradients: np.ndarray,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> np.ndarray:
    """The parameters after each of n steps, (n, ...), from p (...) and gradients (n, ...)."""
    raise NotImplementedError
