"""Optimizers and learning-rate schedulers, with the names and semantics of ``torch.optim``."""
from __future__ import annotations

from fusetorch.optim import lr_scheduler
from fusetorch.optim.adagrad import Adagrad
from fusetorch.optim.adam import Adam, AdamW
from fusetorch.optim.optimizer import Optimizer
from fusetorch.optim.rmsprop import RMSprop
from fusetorch.optim.sgd import SGD

__all__ = ["Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "SGD", "lr_scheduler"]
