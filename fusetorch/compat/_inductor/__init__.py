"""``torch._inductor``: settings of PyTorch's code generator, accepted and without effect."""
from __future__ import annotations

from . import config

__all__ = ["config", "list_mode_options", "list_options"]


def list_mode_options(mode: str | None = None, dynamic: bool | None = None) -> dict:
    """Empty: ``torch.compile``'s modes set no options here."""
    return {}


def list_options() -> list[str]:
    """The options that ``torch.compile`` takes."""
    from fusetorch.compiler.api import WITHOUT_EFFECT
    return sorted(WITHOUT_EFFECT | {"emulate_precision_casts"})
