"""``torch.backends.opt_einsum``: einsum contracts from left to right; the switches keep what they are given."""
from __future__ import annotations

from typing import Any

enabled = False
strategy: str | None = None


def is_available() -> bool:
    """False: opt_einsum is not used."""
    return False


def get_opt_einsum() -> Any:
    """``None``."""
    return None
