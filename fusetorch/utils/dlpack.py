"""``torch.utils.dlpack``: sharing memory with other libraries."""
from __future__ import annotations

import fusetorch as torch

__all__ = ["from_dlpack", "to_dlpack"]

from_dlpack, to_dlpack = torch.from_dlpack, torch.to_dlpack
