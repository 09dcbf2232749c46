"""Utilities: ``fusetorch.utils.data``."""
from __future__ import annotations

from fusetorch.utils import data

__all__ = ["data"]
