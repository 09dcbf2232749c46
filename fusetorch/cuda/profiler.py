"""``torch.cuda.profiler``: tells NVIDIA's profilers when to record."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .. import config
from ..runtime import device as _device

__all__ = ["profile", "start", "stop"]


def start() -> None:
    """Starts recording."""
    _device.require_cuda()
    if not config.simulate_cuda:
        from cupy.cuda import profiler
        profiler.start()


def stop() -> None:
    """Stops recording."""
    _device.require_cuda()
    if not config.simulate_cuda:
        from cupy.cuda import profiler
        profiler.stop()


@contextmanager
def profile() -> Iterator[None]:
    """A block that is recorded."""
    start()
    try:
        yield
    finally:
        stop()
