"""``torch.utils.hooks``: handles of registered hooks."""
from __future__ import annotations

from fusetorch.nn.hooks import RemovableHandle

__all__ = ["RemovableHandle"]
