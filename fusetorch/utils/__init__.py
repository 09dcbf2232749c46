"""Utilities: ``fusetorch.utils.data``."""
from __future__ import annotations

from fusetorch.utils import data

__all__ = ["data"]


def __getattr__(name: str) -> object:
    import importlib
    import importlib.util
    if not name.startswith("__") and importlib.util.find_spec(f"{__name__}.{name}") is not None:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'fusetorch.utils' has no attribute {name!r}")
