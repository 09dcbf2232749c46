"""What libraries take from PyTorch's module of this name."""
from __future__ import annotations

__all__ = ["is_compile_supported"]


def is_compile_supported(device_type: str) -> bool:
    """Whether functions on a device compile: those on ``cpu`` and ``cuda`` do."""
    return device_type in ("cpu", "cuda")
