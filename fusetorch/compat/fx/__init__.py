"""``torch.fx``: only :func:`wrap`, so that programs that mark their functions for symbolic tracing run. Graphs are made by
``fusetorch.compile``, and there is no ``symbolic_trace`` nor ``GraphModule``."""
from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", str, Callable)

__all__ = ["wrap"]


def wrap(fn_or_name: F) -> F:
    """Gives back the function (or its name), which symbolic tracing would not have looked into.

    Raises:
        RuntimeError: for what is neither callable nor a string.

    Example:
        >>> import fusetorch as torch
        >>> torch.fx.wrap(len) is len
        True
    """
    if not callable(fn_or_name) and not isinstance(fn_or_name, str):
        raise RuntimeError("Unsupported type for global function! Must be either a callable or string name")
    return fn_or_name
