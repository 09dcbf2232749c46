"""Streams and events, with the names of ``torch.cuda``. On the simulated GPU each call is done when it returns."""
from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from fusetorch import config
from fusetorch.runtime import device as _device

__all__ = ["Stream", "Event", "current_stream", "default_stream", "current_stream_ptr", "stream"]


class Stream:
    """A queue of work on a GPU; work of one stream runs in order.

    Example:
        >>> s = Stream()                        # doctest: +SKIP
        >>> with stream(s):                     # doctest: +SKIP
        ...     y = x * 2
        >>> current_stream().wait_stream(s)     # doctest: +SKIP
    """

    __slots__ = ("_cupy", "device_index")

    def __init__(self, device: Any = None, priority: int = 0, *, _cupy: Any = None) -> None:
        self.device_index = _index(device)
        if _cupy is None and not config.simulate_cuda:
            _device.require_cuda(self.device_index)
            import cupy
            if priority and int(cupy.__version__.split(".")[0]) < 14:
                raise NotImplementedError(f"Stream(priority={priority}) needs CuPy 14 or later, and CuPy "
                                          f"{cupy.__version__} is installed; use priority=0")
            with cupy.cuda.Device(self.device_index):
                _cupy = cupy.cuda.Stream(non_blocking=True, **({"priority": priority} if priority else {}))
        self._cupy = _cupy

    @property
    def cuda_stream(self) -> int:
        """The driver's handle of the stream."""
        return 0 if self._cupy is None else self._cupy.ptr

    def synchronize(self) -> None:
        """Waits for all work queued so far."""
        if self._cupy is not None:
            self._cupy.synchronize()

    def query(self) -> bool:
        """Whether all work queued so far is done."""
        return self._cupy is None or self._cupy.done

    def record_event(self, event: Event | None = None) -> Event:
        """Records ``event`` (a new one by default) after the work queued so far, and returns it."""
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """Work queued later waits for ``event``."""
        if self._cupy is not None and event._cupy is not None:
            self._cupy.wait_event(event._cupy)

    def wait_stream(self, other: Stream) -> None:
        """Work queued later waits for what is queued on ``other`` now."""
        self.wait_event(other.record_event())

    def __eq__(self, other: object) -> bool:
        return (isinstance(other, Stream) and self.cuda_stream == other.cuda_stream
                and self.device_index == other.device_index)

    def __hash__(self) -> int:
        return hash((self.cuda_stream, self.device_index))

    def __repr__(self) -> str:
        return f"Stream(device=cuda:{self.device_index}, cuda_stream={self.cuda_stream:#x})"


class Event:
    """A point in a stream, to wait for or (``enable_timing=True``) to take the time of.

    Example:
        >>> start, end = Event(enable_timing=True), Event(enable_timing=True)   # doctest: +SKIP
        >>> start.record(); step(); end.record(); end.synchronize()             # doctest: +SKIP
        >>> start.elapsed_time(end)   # milliseconds                            # doctest: +SKIP
    """

    __slots__ = ("enable_timing", "_cupy", "_time")

    def __init__(self, enable_timing: bool = False) -> None:
        self.enable_timing = enable_timing
        self._time: float | None = None
        self._cupy = None
        if not config.simulate_cuda:
            _device.require_cuda()
            import cupy
            self._cupy = cupy.cuda.Event(disable_timing=not enable_timing)

    def record(self, stream: Stream | None = None) -> None:
        """Marks the end of what is queued on ``stream`` (the current one by default)."""
        self._time = time.perf_counter()
        if self._cupy is not None:
            self._cupy.record((current_stream() if stream is None else stream)._cupy)

    def wait(self, stream: Stream | None = None) -> None:
        """Makes ``stream`` wait for this event."""
        (current_stream() if stream is None else stream).wait_event(self)

    def query(self) -> bool:
        """Whether the event has happened."""
        return self._cupy is None or self._cupy.done

    def synchronize(self) -> None:
        """Waits for the event."""
        if self._cupy is not None:
            self._cupy.synchronize()

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds from this event to ``end``; both need ``enable_timing=True`` and must be recorded."""
        if not (self.enable_timing and end.enable_timing):
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        if self._time is None or end._time is None:
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        if self._cupy is None:
            return (end._time - self._time) * 1e3
        import cupy
        return cupy.cuda.get_elapsed_time(self._cupy, end._cupy)


def _index(device: Any) -> int:
    if device is None:
        return _device.current_device() if _device.cuda_available() else 0
    return device if isinstance(device, int) else (_device.device(device).index or 0)


def current_stream(device: Any = None) -> Stream:
    """The stream that the calling thread's launches go to."""
    if config.simulate_cuda:
        return Stream(0)
    _device.require_cuda()
    import cupy
    index = _index(device)
    return Stream(index, _cupy=cupy.cuda.get_current_stream(index))


def default_stream(device: Any = None) -> Stream:
    """The stream that is current unless another is chosen."""
    if config.simulate_cuda:
        return Stream(0)
    _device.require_cuda()
    import cupy
    return Stream(_index(device), _cupy=cupy.cuda.Stream.null)


def current_stream_ptr() -> int:
    """The driver's handle of the current stream (0 when simulated)."""
    if config.simulate_cuda:
        return 0
    from cupy.cuda import get_current_stream
    return get_current_stream().ptr


@contextlib.contextmanager
def stream(s: Stream | None) -> Iterator[None]:
    """Makes ``s`` the calling thread's current stream inside the ``with`` block; ``None`` changes nothing."""
    if s is None or s._cupy is None:
        yield
        return
    import cupy
    with cupy.cuda.Device(s.device_index), s._cupy:
        yield
