"""Learning-rate schedules: each changes ``group["lr"]`` (some also momentum) of its optimizer at every ``step()``.

Call ``scheduler.step()`` after ``optimizer.step()``. Rates follow PyTorch's recurrences, so several schedulers can act on one
optimizer; with an epoch given to ``step`` the closed form is used where there is one.
"""
from __future__ import annotations

from fusetorch.optim.lr_scheduler.base import LRScheduler
from fusetorch.optim.lr_scheduler.compose import ChainedScheduler, SequentialLR
from fusetorch.optim.lr_scheduler.cyclic import CyclicLR, OneCycleLR
from fusetorch.optim.lr_scheduler.decay import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from fusetorch.optim.lr_scheduler.plateau import ReduceLROnPlateau

_LRScheduler = LRScheduler  # its former name, which programs still use

__all__ = ["ChainedScheduler", "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "ExponentialLR",
           "LRScheduler", "LambdaLR", "LinearLR", "MultiStepLR", "MultiplicativeLR", "OneCycleLR", "PolynomialLR",
           "ReduceLROnPlateau", "SequentialLR", "StepLR"]
