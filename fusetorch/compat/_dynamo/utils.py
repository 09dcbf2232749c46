"""What libraries take from PyTorch's module of this name."""
from __future__ import annotations

from collections import Counter, defaultdict

__all__ = ["compile_times", "counters", "is_compile_supported"]

#: Empty: what was compiled and why, each compiled function's ``cache_info()`` says.
counters: defaultdict[str, Counter] = defaultdict(Counter)


def is_compile_supported(device_type: str) -> bool:
    """Whether functions on a device compile: those on ``cpu`` and ``cuda`` do."""
    return device_type in ("cpu", "cuda")


def compile_times(repr: str = "str", aggregate: bool = False) -> str:
    """A hint: each compiled function's ``cache_info()`` has the seconds spent on it."""
    return "fusetorch.compile: see cache_info() of the compiled function"
