"""``torch.version``."""
from __future__ import annotations

from . import __version__

__all__ = ["__version__", "debug", "git_version", "hip", "xpu"]

debug = False
git_version: str | None = None
hip: str | None = None
xpu: str | None = None


def __getattr__(name: str) -> str | None:
    if name == "cuda":  # the driver's version: it decides what runs
        from .runtime import device
        driver = device._driver_version() if device.cuda_available() and not device.simulated() else None
        return None if driver is None else f"{driver // 1000}.{driver % 1000 // 10}"
    raise AttributeError(f"module 'fusetorch.version' has no attribute {name!r}")
