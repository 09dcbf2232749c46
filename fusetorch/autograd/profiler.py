"""``torch.autograd.profiler``: the older names of :mod:`fusetorch.profiler`."""
from __future__ import annotations

import contextlib
from typing import Any

__all__ = ["emit_itt", "emit_nvtx", "profile"]


def profile(enabled: bool = True, *, use_cuda: bool = False, use_device: str | None = None, record_shapes: bool = False,
            **options: Any) -> Any:
    """Times the operations of a block; see ``torch.profiler.profile``."""
    from .. import profiler
    if not enabled:
        return contextlib.nullcontext()
    kinds = [profiler.ProfilerActivity.CPU] + ([profiler.ProfilerActivity.CUDA] if use_cuda or use_device == "cuda" else [])
    return profiler.profile(activities=kinds, record_shapes=record_shapes)


def emit_nvtx(enabled: bool = True, record_shapes: bool = False) -> Any:
    """Accepted; operations emit no NVTX ranges."""
    return contextlib.nullcontext()


emit_itt = emit_nvtx


def __getattr__(name: str) -> Any:
    from .. import profiler
    if name in ("record_function", "FunctionEventAvg", "EventList"):
        return getattr(profiler, name)
    raise AttributeError(f"module 'fusetorch.autograd.profiler' has no attribute {name!r}")
