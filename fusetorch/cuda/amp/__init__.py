"""``torch.cuda.amp``: the former place of :mod:`fusetorch.amp`, for ``cuda``."""
from __future__ import annotations

from fusetorch.cuda.amp.autocast_mode import autocast, custom_bwd, custom_fwd
from fusetorch.cuda.amp.grad_scaler import GradScaler

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd"]
