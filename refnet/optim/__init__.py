"""Optimizers under torch.optim's names, arguments and defaults."""

from refnet.optim.adam import Adam
from refnet.optim.sgd import SGD

__all__ = ["SGD", "Adam"]
