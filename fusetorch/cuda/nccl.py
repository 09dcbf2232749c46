"""``torch.cuda.nccl``: there is one process, and NCCL is not used."""
from __future__ import annotations

from typing import Any

__all__ = ["is_available", "version"]


def is_available(tensors: Any) -> bool:
    """False."""
    return False


def version() -> tuple[int, int, int]:
    """No version: (0, 0, 0)."""
    return 0, 0, 0
