"""Optimizers and learning-rate schedulers, with the names and semantics of ``torch.optim``."""
from __future__ import annotations

from fusetorch.optim import lr_scheduler, swa_utils
from fusetorch.optim.adadelta import Adadelta
from fusetorch.optim.adafactor import Adafactor
from fusetorch.optim.adagrad import Adagrad
from fusetorch.optim.adam import Adam
from fusetorch.optim.adamax import Adamax
from fusetorch.optim.adamw import AdamW
from fusetorch.optim.asgd import ASGD
from fusetorch.optim.lbfgs import LBFGS
from fusetorch.optim.muon import Muon
from fusetorch.optim.nadam import NAdam
from fusetorch.optim.optimizer import Optimizer
from fusetorch.optim.radam import RAdam
from fusetorch.optim.rmsprop import RMSprop
from fusetorch.optim.rprop import Rprop
from fusetorch.optim.sgd import SGD
from fusetorch.optim.sparse_adam import SparseAdam

__all__ = ["ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "LBFGS", "Muon", "NAdam", "Optimizer", "RAdam",
           "RMSprop", "Rprop", "SGD", "SparseAdam", "lr_scheduler", "swa_utils"]
