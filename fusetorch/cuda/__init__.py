"""``fusetorch.cuda``: the GPU as ``torch.cuda`` shows it: devices, memory, streams and events.

Importing it loads neither CuPy nor Triton. Functions that need a device raise :class:`CudaUnavailableError` (a ``RuntimeError``)
saying what is missing; with ``FUSETORCH_SIMULATE_CUDA=1`` they speak of the simulated device.
"""
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from .. import config
from ..runtime import device as _device
from ..runtime import memory as _memory
from ..runtime.device import current_device, device_count
from ..runtime.memory import OutOfMemoryError
from ..runtime.streams import Event, Stream, current_stream, default_stream, stream

__all__ = ["is_available", "is_initialized", "init", "device_count", "current_device", "set_device", "device", "get_device_name",
           "get_device_capability", "get_device_properties", "get_arch_list", "is_bf16_supported", "synchronize", "memory_allocated",
           "max_memory_allocated", "memory_reserved", "reset_peak_memory_stats", "empty_cache", "mem_get_info", "Stream", "Event",
           "stream", "current_stream", "default_stream", "OutOfMemoryError", "StreamContext", "device_of"]


def _index(device: Any) -> int | None:
    """A device number from what PyTorch takes for one: number, string, device or ``None`` (the current device)."""
    if device is None or (isinstance(device, int) and not isinstance(device, bool)):
        return device
    d = _device.device(device)
    if d.type != "cuda":
        raise ValueError(f"Expected a cuda device, but got: {d}")
    return d.index


def is_available() -> bool:
    """Whether ``cuda`` tensors can be made, really or simulated."""
    return _device.cuda_available()


def is_initialized() -> bool:
    """Whether a device can be used; there is no separate step of initialisation."""
    return _device.cuda_available()


def init() -> None:
    """Checks that a device can be used; :class:`CudaUnavailableError` says what is missing."""
    _device.require_cuda()


def set_device(device: Any) -> None:
    """Makes ``device`` the calling thread's current device."""
    index = _index(device)
    if index is not None and index >= 0:
        _device.set_device(index)


@contextlib.contextmanager
def device(device: Any) -> Iterator[None]:
    """Makes ``device`` current inside the ``with`` block; ``None`` and negative numbers change nothing."""
    index = _index(device)
    if index is None or index < 0:
        yield
        return
    before = _device.current_device()
    _device.set_device(index)
    try:
        yield
    finally:
        _device.set_device(before)


def get_device_name(device: Any = None) -> str:
    """The GPU's name, such as ``"NVIDIA H100 80GB HBM3"``."""
    return _device.device_name(_index(device))


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """The compute capability, ``(9, 0)`` for an H100."""
    return divmod(_device.compute_capability(_index(device)), 10)


def get_device_properties(device: Any = None) -> SimpleNamespace:
    """``name``, ``major``, ``minor``, ``total_memory`` (bytes; simulated: 0) and ``multi_processor_count`` (simulated: 0)."""
    major, minor = get_device_capability(device)
    found = {"totalGlobalMem": 0, "multiProcessorCount": 0}
    if not config.simulate_cuda:
        index = _index(device)
        found = _device._properties(current_device() if index is None else index)
    return SimpleNamespace(name=get_device_name(device), major=major, minor=minor, total_memory=found["totalGlobalMem"],
                           multi_processor_count=found["multiProcessorCount"])


def get_arch_list() -> list[str]:
    """The architectures that kernels are compiled for: that of each device, since all are compiled at first use."""
    return sorted({f"sm_{_device.compute_capability(i)}" for i in range(device_count())})


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether bfloat16 works (from compute capability 8.0 in hardware)."""
    return is_available() and _device.compute_capability() >= 80


def synchronize(device: Any = None) -> None:
    """Waits until everything queued on the device has finished."""
    _device.synchronize(_index(device))


def memory_allocated(device: Any = None) -> int:
    """Bytes of live arrays on the device."""
    return _memory.memory_allocated(_index(device))


def max_memory_allocated(device: Any = None) -> int:
    """The most bytes of arrays that lived at once since the start or :func:`reset_peak_memory_stats`."""
    return _memory.max_memory_allocated(_index(device))


def memory_reserved(device: Any = None) -> int:
    """Bytes that the caching pool holds, used or not."""
    return _memory.memory_reserved(_index(device))


def reset_peak_memory_stats(device: Any = None) -> None:
    """Starts :func:`max_memory_allocated` anew from what is allocated now."""
    _memory.reset_peak_memory_stats(_index(device))


def empty_cache() -> None:
    """Gives the pool's unused blocks back to the driver."""
    _memory.empty_cache()


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """(free, total) bytes of the device's memory."""
    if config.simulate_cuda:
        raise NotImplementedError("cuda.mem_get_info: the simulated device has no memory of its own; see memory_allocated()")
    _device.require_cuda()
    from cupy.cuda import Device, runtime
    index = _index(device)
    with Device(current_device() if index is None else index):
        return runtime.memGetInfo()


# ---- what else programs ask


class StreamContext:
    """``with torch.cuda.StreamContext(s)``: :func:`stream` as a class; ``None`` changes nothing."""

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream
        self._entered: Any = None

    def __enter__(self) -> None:
        if self.stream is not None:
            self._entered = stream(self.stream)
            self._entered.__enter__()

    def __exit__(self, *exc: Any) -> None:
        if self._entered is not None:
            self._entered.__exit__(*exc)


@contextlib.contextmanager
def device_of(obj: Any) -> Iterator[None]:
    """Makes the device of a tensor current inside the block; a CPU tensor changes nothing."""
    with device(obj.device if obj.is_cuda else None):
        yield


def can_device_access_peer(device: Any, peer_device: Any) -> bool:
    """Whether one GPU reads the memory of another directly."""
    _device.require_cuda()
    if config.simulate_cuda:
        return False
    from cupy.cuda import runtime
    return bool(runtime.deviceCanAccessPeer(_index(device), _index(peer_device)))


def is_current_stream_capturing() -> bool:
    """Whether a CUDA graph is being captured; without a GPU, no."""
    if not is_available() or config.simulate_cuda:
        return False
    import cupy
    return bool(cupy.cuda.get_current_stream().is_capturing())


def is_tf32_supported() -> bool:
    """Whether tensor cores multiply in TF32 (from compute capability 8.0)."""
    return is_bf16_supported()


def ipc_collect() -> None:
    """Nothing to collect: memory is not shared between processes."""


def set_stream(stream: Stream) -> None:
    """Makes a stream the current one of its device, for this thread."""
    if stream is not None and stream._cupy is not None:
        import cupy
        with cupy.cuda.Device(stream.device_index):
            stream._cupy.use()


def get_sync_debug_mode() -> int:
    """0: waits for the device are not reported."""
    return 0


def set_sync_debug_mode(debug_mode: int | str) -> None:
    """Takes 0 or ``"default"``; others raise ``NotImplementedError``."""
    if debug_mode not in (0, "default"):
        raise NotImplementedError("torch.cuda.set_sync_debug_mode: fusetorch does not report waits for the device; use 0 or 'default'")


_ELSEWHERE = {
    "graphs": "CUDAGraph graph make_graphed_callables graph_pool_handle",
    "random": "manual_seed manual_seed_all seed seed_all initial_seed get_rng_state get_rng_state_all set_rng_state set_rng_state_all",
    "memory": "max_memory_cached max_memory_reserved memory_cached memory_snapshot memory_stats memory_stats_as_nested_dict memory_summary "
              "reset_accumulated_memory_stats reset_max_memory_allocated reset_max_memory_cached set_per_process_memory_fraction",
    "usage": "clock_rate list_gpu_processes memory_usage power_draw temperature utilization",
}


def __getattr__(name: str) -> Any:
    import importlib
    if name in ("amp", "nvtx", "random", "memory", "graphs", "comm", "nccl", "profiler", "streams"):
        return importlib.import_module(f"{__name__}.{name}")
    for module, names in _ELSEWHERE.items():
        if name in names.split():
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    if name == "default_generators":
        from ..ops.random import default_generator
        return (default_generator,) * device_count()
    if name.endswith("Tensor"):
        from ..legacy import CUDA
        if name in CUDA:
            return CUDA[name]
    raise AttributeError(f"module 'fusetorch.cuda' has no attribute {name!r}: fusetorch does not have torch.cuda.{name}"
                         if not name.startswith("__") else name)
