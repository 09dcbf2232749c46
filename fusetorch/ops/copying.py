"""Copies: in another dtype, in another layout."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import dtype
from .expr import cast
from .opdef import As, compute_dtype, elementwise


@elementwise(name="convert", function=False, method=False, promote="none", oracle=lambda a, dtype: a.astype(dtype.np))
def convert(input, dtype: dtype):
    """``input`` in another dtype: what ``.to(dtype)`` runs."""
    return As(cast(input, compute_dtype(dtype)), dtype)


@elementwise(oracle=np.copy, promote="none")
def clone(input, *, memory_format: str = None):
    """A copy that gradients flow through; laid out like ``input`` unless ``memory_format`` says otherwise."""
    return input


@clone.instead
def _(input: Any, memory_format: Any) -> Any:
    if memory_format is None:
        return None
    from .memory import in_format
    return in_format(input, memory_format, copy=True)


@elementwise(name="clone_contiguous", function=False, method=False, promote="none", row_major=True, oracle=np.copy)
def clone_contiguous(input):
    """A row-major copy."""
    return input
