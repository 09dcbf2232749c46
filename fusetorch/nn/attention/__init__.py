"""``torch.nn.attention``: which form of attention may be used."""
from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["SDPBackend", "sdpa_kernel"]


class SDPBackend(enum.IntEnum):
    """Forms of :func:`fusetorch.nn.functional.scaled_dot_product_attention`. fusetorch chooses by itself: the names are for programs
    that say which they want."""

    ERROR = -1
    MATH = 0
    FLASH_ATTENTION = 1
    EFFICIENT_ATTENTION = 2
    CUDNN_ATTENTION = 3
    OVERRIDEABLE = 4


@contextmanager
def sdpa_kernel(backends: SDPBackend | list[SDPBackend], set_priority: bool = False) -> Iterator[None]:
    """Takes PyTorch's arguments and changes nothing: all forms give the same result up to rounding.

    ``AssertionError`` for anything that is not a :class:`SDPBackend` or a list of them, as in PyTorch.
    """
    if not isinstance(backends, (list, SDPBackend)):
        raise AssertionError("Backend must be an instance of SDPBackend or a list of SDPBackend instances")
    for b in backends if isinstance(backends, list) else [backends]:
        if not isinstance(b, SDPBackend):
            raise TypeError(f"sdpa_kernel: expected members of SDPBackend, got {type(b).__name__}")
    yield
