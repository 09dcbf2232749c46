"""``torch.mps``: there is no device for Apple's GPUs."""
from __future__ import annotations

from typing import Any


def is_available() -> bool:
    """False."""
    return False


def device_count() -> int:
    """0."""
    return 0


def manual_seed(seed: int) -> None:
    """Does nothing: there is no device."""


def seed() -> None:
    """Does nothing: there is no device."""


def empty_cache() -> None:
    """Raises ``RuntimeError``: there is no device."""
    synchronize()


def synchronize(*args: Any) -> None:
    """Raises ``RuntimeError``: there is no device."""
    raise RuntimeError("torch.mps: fusetorch has no device 'mps'; it has 'cpu' and 'cuda'")
