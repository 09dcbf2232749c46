"""``torch._inductor``: settings of PyTorch's code generator, accepted and without effect."""
from __future__ import annotations

from . import config

__all__ = ["config", "list_mode_options"]


def list_mode_options(mode: str | None = None, dynamic: bool | None = None) -> dict:
    """Empty: ``torch.compile``'s modes set no options here."""
    return {}
