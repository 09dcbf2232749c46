"""``torch.accelerator``: the GPU, whatever it is: here ``cuda`` or none."""
from __future__ import annotations

from typing import Any

import fusetorch as torch


def is_available() -> bool:
    """Whether there is a GPU that can be used."""
    return torch.cuda.is_available()


def current_accelerator(check_available: bool = False) -> torch.device | None:
    """``device("cuda")`` or ``None``."""
    return torch.device("cuda") if is_available() else None


def device_count() -> int:
    """How many GPUs there are."""
    return torch.cuda.device_count()


def current_device_index() -> int:
    """The current GPU's number."""
    return torch.cuda.current_device()


def set_device_index(device: Any) -> None:
    """Makes a GPU the current one."""
    torch.cuda.set_device(device)


current_device_idx, set_device_idx = current_device_index, set_device_index


def synchronize(device: Any = None) -> None:
    """Waits for the GPU."""
    torch.cuda.synchronize(device)


def current_stream(device: Any = None) -> Any:
    """The GPU's current stream."""
    return torch.cuda.current_stream(device)


def memory_allocated(device: Any = None) -> int:
    """Bytes of live arrays."""
    return torch.cuda.memory_allocated(device)


def max_memory_allocated(device: Any = None) -> int:
    """The most bytes of arrays that lived at once."""
    return torch.cuda.max_memory_allocated(device)


def memory_reserved(device: Any = None) -> int:
    """Bytes that the pool holds."""
    return torch.cuda.memory_reserved(device)


def reset_peak_memory_stats(device: Any = None) -> None:
    """Starts :func:`max_memory_allocated` anew."""
    torch.cuda.reset_peak_memory_stats(device)


def empty_cache() -> None:
    """Gives the pool's unused blocks back."""
    torch.cuda.empty_cache()
