"""Training loops."""

from minitf.training.fit import History, fit, next_token_loss

__all__ = ["History", "fit", "next_token_loss"]
