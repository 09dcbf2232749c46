"""``torch.cuda.nvtx``: marks for NVIDIA's profilers, given through CuPy; without a GPU they go nowhere."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from .. import config
from ..runtime import device as _device

__all__ = ["mark", "range", "range_end", "range_pop", "range_push", "range_start"]

_depth = [0]


def _nvtx() -> Any:
    if not _device.cuda_available() or config.simulate_cuda:
        return None
    from cupy.cuda import nvtx
    return nvtx if getattr(nvtx, "available", True) else None


def range_push(msg: str) -> int:
    """Starts a nested range; how deep it lies."""
    nvtx = _nvtx()
    if nvtx is not None:
        nvtx.RangePush(msg)
    _depth[0] += 1
    return _depth[0] - 1


def range_pop() -> int:
    """Ends the innermost range; how deep it lay."""
    nvtx = _nvtx()
    if nvtx is not None:
        nvtx.RangePop()
    _depth[0] = max(0, _depth[0] - 1)
    return _depth[0]


def range_start(msg: str) -> int:
    """As :func:`range_push`."""
    return range_push(msg)


def range_end(range_id: int) -> None:
    """As :func:`range_pop`."""
    range_pop()


def mark(msg: str) -> None:
    """Marks a moment."""
    nvtx = _nvtx()
    if nvtx is not None:
        nvtx.Mark(msg)


@contextlib.contextmanager
def range(msg: str, *args: Any, **kwargs: Any) -> Iterator[None]:  # noqa: A001 - PyTorch's name
    """A range for the length of a block."""
    range_push(msg.format(*args, **kwargs))
    try:
        yield
    finally:
        range_pop()
