"""``torch.cpu.amp``: the former place of :mod:`fusetorch.amp`, for ``cpu``."""
from __future__ import annotations

from typing import Any

import fusetorch as torch
from fusetorch import amp

__all__ = ["GradScaler", "autocast"]


class autocast(amp.autocast):
    """``torch.autocast("cpu", ...)``."""

    def __init__(self, enabled: bool = True, dtype: Any = torch.bfloat16, cache_enabled: bool = True) -> None:
        super().__init__("cpu", enabled=enabled, dtype=dtype, cache_enabled=cache_enabled)


class GradScaler(amp.GradScaler):
    """``torch.amp.GradScaler("cpu", ...)``."""

    def __init__(self, init_scale: float = 2.0**16, growth_factor: float = 2.0, backoff_factor: float = 0.5,
                 growth_interval: int = 2000, enabled: bool = True) -> None:
        super().__init__("cpu", init_scale, growth_factor, backoff_factor, growth_interval, enabled)
