"""``torch._custom_ops``: the name under which older programs look for :mod:`fusetorch.library`."""
from __future__ import annotations

from fusetorch.library import define, impl, infer_schema

__all__ = ["define", "impl", "infer_schema"]
