"""Automatic mixed precision: ``torch.amp``. What autocast does to an operation is part of the operation's definition."""
from __future__ import annotations

from fusetorch.amp.autocast_mode import autocast, custom_bwd, custom_fwd, is_autocast_available
from fusetorch.amp.grad_scaler import GradScaler, OptState

__all__ = ["GradScaler", "OptState", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]
