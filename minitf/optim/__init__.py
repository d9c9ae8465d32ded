"""Optimizers, learning-rate schedules and gradient clipping."""

from minitf.optim import schedules
from minitf.optim.adamw import AdamW
from minitf.optim.lion import Lion
from minitf.optim.optimizer import Optimizer, clip_grad_norm, grad_norm
from minitf.optim.sgd import SGD

__all__ = ["SGD", "AdamW", "Lion", "Optimizer", "clip_grad_norm", "grad_norm", "schedules"]
