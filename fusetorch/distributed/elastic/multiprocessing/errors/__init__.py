"""Errors of processes that a launcher started."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

__all__ = ["record"]


def record(fn: Callable[..., T], error_handler: Any = None) -> Callable[..., T]:
    """Marks a program's entry point, so that a launcher hears of its errors: there is none, and errors are raised as they are."""
    return fn
