"""What libraries take from PyTorch's module of this name."""
from __future__ import annotations

import contextlib

__all__ = ["TransformGetItemToIndex"]


class TransformGetItemToIndex(contextlib.nullcontext):
    """A block in which functions under ``vmap`` may index with 0-d tensors; here they may anywhere."""
