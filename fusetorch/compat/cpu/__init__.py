"""``torch.cpu``: what programs ask of the CPU as a device."""
from __future__ import annotations

from typing import Any

from fusetorch.cpu import amp

__all__ = ["amp", "current_device", "device_count", "is_available", "synchronize"]


def is_available() -> bool:
    """True."""
    return True


def device_count() -> int:
    """1."""
    return 1


def current_device() -> str:
    """``"cpu"``."""
    return "cpu"


def synchronize(device: Any = None) -> None:
    """Nothing to wait for: work on the CPU is done when a function returns."""
