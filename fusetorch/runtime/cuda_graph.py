"""CUDA graphs: record what a step launches once, then repeat it with one driver call.

What a graph demands, and what is done about it here: its memory must not move or be reused, so the step allocates from
a private pool that lives as long as the graph; nothing may be compiled, loaded or allocated from the driver while
recording, so the step runs a few times before, in the same pool; recording needs a stream of its own. What remains for
the caller: inputs are read from the same arrays at each replay (copy new values in), and values that change between
replays (learning rate, step count, random offset) live in device memory.
"""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from fusetorch import config
from fusetorch.errors import FusetorchError
from fusetorch.runtime import launch, memory
from fusetorch.runtime.device import require_cuda

__all__ = ["CudaGraph"]


class CudaGraph:
    """A recorded step.

    ``step()`` takes no arguments, launches kernels on the current stream and returns whatever holds its output arrays;
    it must neither synchronise nor copy to the host. ``state`` lists the contiguous arrays that it changes (parameters,
    optimizer moments, counters): they get back the values they had before recording, so that the first :meth:`replay`
    is the first step that counts.

    Simulated, :meth:`replay` calls ``step`` again.

    Example:
        >>> graph = CudaGraph(step, state=parameters)       # doctest: +SKIP
        >>> graph.capture()                                 # doctest: +SKIP
        >>> for batch in data:                              # doctest: +SKIP
        ...     copy_to_device(x, batch)
        ...     loss = graph.replay()
    """

    def __init__(self, step: Callable[[], Any], *, state: Sequence[memory.DeviceArray] = (), warmup: int = 2) -> None:
        if warmup < 1:
            raise ValueError(f"warmup must be at least 1 (it compiles and allocates), got {warmup}")
        self.step = step
        self.state = tuple(state)
        self.warmup = warmup
        #: kernels in the graph
        self.kernel_count = 0
        self._outputs: Any = None
        self._captured = False
        self._graph: Any = None
        self._pool: Any = None

    @property
    def captured(self) -> bool:
        return self._captured

    @property
    def pool_bytes(self) -> int:
        """Bytes of the graph's private memory pool (0 when simulated)."""
        return 0 if self._pool is None else self._pool.total_bytes()

    def capture(self) -> None:
        """Runs the step ``warmup`` times, then records it; ``FusetorchError`` if it does what a graph cannot hold."""
        saved = []
        for array in self.state:
            copy = memory.empty(array.shape, array.dtype, array.device_index)
            memory.copy_device(copy, array)
            saved.append((array, copy))
        if config.simulate_cuda:
            for _ in range(self.warmup):
                before = launch.launch_count()
                self.step()
                self.kernel_count = launch.launch_count() - before
        else:
            self._record()
        for array, copy in saved:
            memory.copy_device(array, copy)
        self._captured = True

    def _record(self) -> None:
        require_cuda()
        import cupy
        runtime = cupy.cuda.runtime
        caller = cupy.cuda.get_current_stream()
        stream = cupy.cuda.Stream(non_blocking=True)  # the default streams cannot be recorded
        self._pool = cupy.cuda.MemoryPool()
        arrived = cupy.cuda.Event(disable_timing=True)
        arrived.record(caller)
        stream.wait_event(arrived)
        with stream, cupy.cuda.using_allocator(self._pool.malloc):  # both hold for this thread only
            for _ in range(self.warmup):
                self.step()
            stream.synchronize()
            before = launch.launch_count()
            stream.begin_capture(runtime.streamCaptureModeThreadLocal)
            try:
                self._outputs = self.step()
            except BaseException:
                with contextlib.suppress(runtime.CUDARuntimeError):
                    stream.end_capture()  # the stream leaves recording mode; the step's own error is the one to show
                raise
            try:
                self._graph = stream.end_capture()
            except runtime.CUDARuntimeError as error:
                raise FusetorchError(f"the step cannot be recorded as a CUDA graph: {error}. It must not synchronise, "
                                     "copy to the host or call a library that does") from error
            self.kernel_count = launch.launch_count() - before
            launch.discount(self.kernel_count)  # they were recorded, not launched
        self._graph.upload(stream)
        stream.synchronize()

    def replay(self) -> Any:
        """Repeats the step on the current stream; returns its outputs, which the next replay overwrites."""
        if not self._captured:
            raise FusetorchError("replay() needs capture() first")
        if self._graph is None:
            self._outputs = self.step()
        else:
            import cupy
            self._graph.launch(stream=cupy.cuda.get_current_stream())
        return self._outputs
