"""``torch.cuda.memory``: what the caching pool holds."""
from __future__ import annotations

from collections import OrderedDict
from typing import Any

from . import (
    empty_cache,
    is_available,
    max_memory_allocated,
    mem_get_info,
    memory_allocated,
    memory_reserved,
    reset_peak_memory_stats,
)

__all__ = ["empty_cache", "max_memory_allocated", "max_memory_cached", "max_memory_reserved", "mem_get_info", "memory_allocated",
           "memory_cached", "memory_reserved", "memory_snapshot", "memory_stats", "memory_stats_as_nested_dict", "memory_summary",
           "reset_accumulated_memory_stats", "reset_max_memory_allocated", "reset_max_memory_cached",
           "reset_peak_memory_stats", "set_per_process_memory_fraction"]

memory_cached = memory_reserved
reset_max_memory_allocated = reset_max_memory_cached = reset_peak_memory_stats


def max_memory_reserved(device: Any = None) -> int:
    """Bytes that the pool holds; it shrinks only in :func:`empty_cache`, and what it held before is not remembered."""
    return memory_reserved(device)


max_memory_cached = max_memory_reserved


def memory_stats(device: Any = None) -> OrderedDict[str, int]:
    """The numbers that are known, under PyTorch's names; empty without a GPU."""
    if not is_available():
        return OrderedDict()
    return OrderedDict([("allocated_bytes.all.current", memory_allocated(device)),
                        ("allocated_bytes.all.peak", max_memory_allocated(device)),
                        ("reserved_bytes.all.current", memory_reserved(device)), ("reserved_bytes.all.peak", max_memory_reserved(device))])


def memory_summary(device: Any = None, abbreviated: bool = False) -> str:
    """:func:`memory_stats` as text."""
    return "\n".join(f"{name:<30} {value:>16} B" for name, value in memory_stats(device).items())


def set_per_process_memory_fraction(fraction: float, device: Any = None) -> None:
    """Limits the pool to a fraction of the device's memory."""
    if not 0 <= fraction <= 1:
        raise ValueError(f"Invalid fraction value: {fraction}. Allowed range: 0~1")
    import cupy
    cupy.get_default_memory_pool().set_limit(size=int(mem_get_info(device)[1] * fraction))


def memory_stats_as_nested_dict(device: Any = None) -> dict[str, Any]:
    """:func:`memory_stats`, one level for each dot."""
    nested: dict[str, Any] = {}
    for name, value in memory_stats(device).items():
        *path, last = name.split(".")
        at = nested
        for part in path:
            at = at.setdefault(part, {})
        at[last] = value
    return nested


def memory_snapshot(*args: Any, **kwargs: Any) -> list[dict]:
    """An empty list: the pool does not tell its blocks."""
    return []


def reset_accumulated_memory_stats(device: Any = None) -> None:
    """Nothing is accumulated but the peak, which :func:`reset_peak_memory_stats` forgets."""
