"""Optimizers, learning-rate schedules, gradient clipping and averages of weights."""

from minitf.optim import schedules
from minitf.optim.adafactor import Adafactor
from minitf.optim.adam import Adam
from minitf.optim.adamw import AdamW
from minitf.optim.adamw_8bit import AdamW8bit
from minitf.optim.ema import EMA, ema_update
from minitf.optim.groups import decoupled_groups, layerwise_learning_rates
from minitf.optim.lamb import LAMB
from minitf.optim.lion import Lion
from minitf.optim.optimizer import Optimizer, clip_grad_norm, grad_norm
from minitf.optim.sgd import SGD

__all__ = [
    "EMA",
    "LAMB",
    "SGD",
    "Adafactor",
    "Adam",
    "AdamW",
    "AdamW8bit",
    "Lion",
    "Optimizer",
    "clip_grad_norm",
    "decoupled_groups",
    "ema_update",
    "grad_norm",
    "layerwise_learning_rates",
    "schedules",
]
