"""Sizes of layers: one for each dimension."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def each(value: Any, n: int) -> tuple[Any, ...]:
    """An iterable as a tuple, anything else ``n`` times.

    Example:
        >>> each(3, 2), each([1, 2], 2)
        ((3, 3), (1, 2))
    """
    return tuple(value) if isinstance(value, Iterable) else (value,) * n
