"""SciPy's functions as oracles: what tests compare operations with. SciPy is imported when one is called, so that only tests need it."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any


def scipy_special(name: str) -> Callable[..., Any]:
    """``scipy.special.<name>``."""
    def call(*args: Any, **kwargs: Any) -> Any:
        import scipy.special
        return getattr(scipy.special, name)(*args, **kwargs)
    return call
