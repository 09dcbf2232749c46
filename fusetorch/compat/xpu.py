"""``torch.xpu``: there is no device for Intel's GPUs."""
from __future__ import annotations

from typing import Any


def is_available() -> bool:
    """False."""
    return False


def device_count() -> int:
    """0."""
    return 0


def is_initialized() -> bool:
    """False."""
    return False


def manual_seed(seed: int) -> None:
    """Does nothing: there is no device."""


def manual_seed_all(seed: int) -> None:
    """Does nothing: there is no device."""


def empty_cache() -> None:
    """Does nothing: there is no device."""


def synchronize(device: Any = None) -> None:
    """Raises ``RuntimeError``: there is no device."""
    raise RuntimeError("torch.xpu: fusetorch has no device 'xpu'; it has 'cpu' and 'cuda'")
