"""The compiler: ``torch.compiler``'s names, and behind them trace -> IR -> fusion -> plan (see ``docs/architecture.md``)."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any


def is_compiling() -> bool:
    """Whether this code is being traced by ``fusetorch.compile``."""
    from ..dispatch import active_tracer
    return active_tracer() is not None


def disable(fn: Callable | None = None, recursive: bool = True) -> Any:
    """Returns ``fn`` as it is: outside a compiled function it runs eagerly. Inside one it is traced like the rest, which changes no
    result."""
    return disable if fn is None else fn


def reset() -> None:
    """Present for PyTorch's programs; each compiled function owns its plans, so there is nothing global to forget."""
