"""Training loops."""

from minitf.training.fit import fit, fit_classifier, next_token_loss, subject, trained
from minitf.training.trainer import History, Trainer

__all__ = ["History", "Trainer", "fit", "fit_classifier", "next_token_loss", "subject", "trained"]
