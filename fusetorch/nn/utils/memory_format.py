"""Changing the memory format of convolutions' weights."""
from __future__ import annotations

from typing import Any, TypeVar

from fusetorch.nn.module import Module

M = TypeVar("M", bound=Module)


def convert_conv2d_weight_memory_format(module: M, memory_format: Any) -> M:
    """``module`` itself: fusetorch keeps weights row-major, which changes no result."""
    return module


def convert_conv3d_weight_memory_format(module: M, memory_format: Any) -> M:
    """``module`` itself: fusetorch keeps weights row-major, which changes no result."""
    return module
