"""Device memory: storages, strided arrays over them, copies to and from the host, and statistics.

Memory comes from CuPy's caching pool, or, when the device is simulated, from NumPy. A :class:`DeviceArray` is what
kernels take: shape, strides, dtype and an address; it knows nothing of gradients or operators.
"""
from __future__ import annotations

import threading
from math import prod
from typing import Any

import numpy as np

from fusetorch import config, dtypes
from fusetorch.errors import FusetorchError
from fusetorch.runtime import device as _device
from fusetorch.runtime.strided import StridedArray
from fusetorch.shapes import contiguous_strides

__all__ = ["Storage", "DeviceArray", "OutOfMemoryError", "empty", "from_numpy", "to_numpy", "copy_to_device",
           "copy_device", "as_numpy", "memory_allocated", "max_memory_allocated", "memory_reserved",
           "reset_peak_memory_stats", "empty_cache"]

ALIGNMENT = 256  # of simulated storages, as CUDA's allocator guarantees at least


class OutOfMemoryError(FusetorchError):
    """The device has no room for an array."""


class _Stats:
    """Bytes of live storages on one device, and the most there were. Plain integer arithmetic without calls: the
    interpreter does not switch threads inside such a line."""

    __slots__ = ("allocated", "peak")

    def __init__(self) -> None:
        self.allocated = 0
        self.peak = 0


_stats: dict[tuple[bool, int], _Stats] = {}
_stats_lock = threading.Lock()


def _stats_of(simulated: bool, index: int) -> _Stats:
    try:
        return _stats[simulated, index]
    except KeyError:
        with _stats_lock:
            return _stats.setdefault((simulated, index), _Stats())


class Storage:
    """``nbytes`` bytes of memory on ``cuda:device_index`` from address ``ptr``, freed with this object.

    ``owner`` keeps the memory alive: CuPy's ``MemoryPointer``, or a NumPy ``uint8`` array when ``simulated``.
    """

    __slots__ = ("ptr", "nbytes", "device_index", "owner", "simulated", "_stats", "__weakref__")

    def __init__(self, nbytes: int, device_index: int = 0) -> None:
        self._stats = None  # nothing to subtract if the allocation fails
        self.nbytes = nbytes
        self.device_index = device_index
        simulated = self.simulated = config.simulate_cuda
        owner = self.owner = _host_alloc(nbytes, device_index) if simulated else _cuda_alloc(nbytes, device_index)
        self.ptr: int = owner.__array_interface__["data"][0] if simulated else owner.ptr
        try:
            stats = _stats[simulated, device_index]
        except KeyError:
            stats = _stats_of(simulated, device_index)
        self._stats = stats
        stats.allocated += nbytes
        if stats.allocated > stats.peak:
            stats.peak = stats.allocated

    @property
    def device(self) -> _device.device:
        """``cuda:<index>``."""
        return _device.device("cuda", self.device_index)

    def __del__(self) -> None:
        if self._stats is not None:
            self._stats.allocated -= self.nbytes

    def __repr__(self) -> str:
        return f"Storage({self.nbytes} bytes on cuda:{self.device_index}{', simulated' if self.simulated else ''})"


def _host_alloc(nbytes: int, device_index: int) -> np.ndarray:
    if device_index:
        _device.require_cuda(device_index)
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -raw.__array_interface__["data"][0] % ALIGNMENT
    raw.fill(0xFF)  # fresh memory reads as NaN or -1, so that a kernel that reads it is found out
    return raw[start:start + nbytes]


_cupy_alloc: Any = None


def _cuda_alloc(nbytes: int, device_index: int) -> Any:
    try:
        if _cupy_alloc is not None and not device_index and _device.device_count() == 1:
            return _cupy_alloc(nbytes)
        return _first_or_other(nbytes, device_index)
    except MemoryError as error:
        raise OutOfMemoryError(f"CUDA out of memory. Tried to allocate {nbytes} bytes on cuda:{device_index}, where "
                               f"{memory_allocated(device_index)} bytes are in use by arrays: {error}. Free arrays, or "
                               "use smaller ones") from error


def _first_or_other(nbytes: int, device_index: int) -> Any:
    """Allocates for the first time, or where there are several devices."""
    global _cupy_alloc
    _device.require_cuda(device_index)
    from cupy.cuda import Device, alloc
    _cupy_alloc = alloc
    with Device(device_index):
        return alloc(nbytes)


class DeviceArray(StridedArray):
    """A strided array in device memory. ``strides`` and ``offset`` count elements; ``ptr`` is the address of element 0.

    Example:
        >>> a = empty((2, 3), dtypes.float32)
        >>> a.view((3, 2), (1, 3), 0).strides
        (1, 3)
    """

    __slots__ = ("storage", "shape", "strides", "offset", "dtype", "ptr", "__weakref__")

    def __init__(self, storage: Storage, shape: tuple[int, ...], strides: tuple[int, ...], offset: int,
                 dtype: dtypes.dtype) -> None:
        self.storage = storage
        self.shape = shape
        self.strides = strides
        self.offset = offset
        self.dtype = dtype
        self.ptr = storage.ptr + offset * dtype.itemsize

    def view(self, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> DeviceArray:
        """Other shape, strides and (absolute) offset over the same storage."""
        return DeviceArray(self.storage, shape, strides, offset, self.dtype)

    def part(self, k: int | None) -> DeviceArray:
        """The real (0) or imaginary (1) parts of a complex array, over the same storage; ``None``: a real array itself."""
        if k is None:
            return self
        return DeviceArray(self.storage, self.shape, tuple([2 * s for s in self.strides]), 2 * self.offset + k, self.dtype.to_real())

    def reals(self) -> DeviceArray:
        """A complex array as real numbers over the same storage, with a last dimension of two parts."""
        return DeviceArray(self.storage, (*self.shape, 2), (*[2 * s for s in self.strides], 1), 2 * self.offset, self.dtype.to_real())

    @property
    def nbytes(self) -> int:
        """Bytes of all elements (``size * itemsize``), whatever the strides."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def device_index(self) -> int:
        return self.storage.device_index

    @property
    def device(self) -> _device.device:
        """``cuda:<index>``."""
        return _device.device("cuda", self.storage.device_index)

    def __repr__(self) -> str:
        return (f"DeviceArray(shape={tuple(self.shape)}, strides={tuple(self.strides)}, dtype={self.dtype.name}, "
                f"device=cuda:{self.device_index})")


def empty(shape: tuple[int, ...], dtype: dtypes.dtype, device_index: int = 0) -> DeviceArray:
    """Uninitialised row-major memory for ``shape`` elements of ``dtype``.

    Raises ``CudaUnavailableError`` without a usable device, :class:`OutOfMemoryError` when memory runs out.
    """
    return DeviceArray(Storage(prod(shape) * dtype.itemsize, device_index), shape, contiguous_strides(shape), 0, dtype)


def from_numpy(values: np.ndarray, device_index: int = 0) -> DeviceArray:
    """A contiguous copy of ``values`` on the device; ``TypeError`` for a NumPy dtype that has no fusetorch dtype."""
    values = np.asarray(values)
    out = empty(tuple(values.shape), dtypes.from_numpy(values.dtype), device_index)
    copy_to_device(out, values)
    return out


def _copy(dst: int, src: int, nbytes: int, device_index: int, wait: bool = False) -> None:
    """Queues a copy on the current stream; the driver tells host from device addresses."""
    from cupy.cuda import Device, get_current_stream, runtime
    with Device(device_index):
        stream = get_current_stream().ptr
        runtime.memcpyAsync(dst, src, nbytes, runtime.memcpyDefault, stream)
        if wait:
            runtime.streamSynchronize(stream)


def copy_to_device(dst: DeviceArray, values: np.ndarray) -> None:
    """Copies ``values`` (same shape, same dtype) into the contiguous ``dst``, in order with the current stream."""
    values = np.asarray(values)
    if tuple(values.shape) != tuple(dst.shape) or values.dtype != dst.dtype.np:
        raise RuntimeError(f"copy_to_device: host array of shape {tuple(values.shape)}, dtype {values.dtype} does not "
                           f"fit device array of shape {tuple(dst.shape)}, dtype {dst.dtype.name}")
    if not dst.is_contiguous:
        raise RuntimeError(f"copy_to_device: destination of shape {tuple(dst.shape)}, strides {tuple(dst.strides)} is "
                           "not contiguous; copy into a contiguous array and then on the device")
    if not values.size:
        return
    if dst.storage.simulated:
        as_numpy(dst)[...] = values
        return
    host = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    # pageable host memory: the call returns when the bytes are staged, so `host` may go
    _copy(dst.ptr, host.ctypes.data, host.nbytes, dst.device_index)


def copy_device(dst: DeviceArray, src: DeviceArray) -> None:
    """Copies between contiguous device arrays of equal shape and dtype (across devices too), on the current stream."""
    if dst.shape != src.shape or dst.dtype is not src.dtype or not (dst.is_contiguous and src.is_contiguous):
        raise RuntimeError(f"copy_device: needs contiguous arrays of equal shape and dtype, got {dst} and {src}")
    if not dst.size:
        return
    if dst.storage.simulated:
        as_numpy(dst)[...] = as_numpy(src)
        return
    _copy(dst.ptr, src.ptr, dst.nbytes, dst.device_index)


def _span(a: DeviceArray) -> tuple[int, int]:
    """First and last element of the storage that ``a`` (not empty) reaches, relative to its element 0."""
    steps = [s * (n - 1) for n, s in zip(a.shape, a.strides)]
    return sum(s for s in steps if s < 0), sum(s for s in steps if s > 0)


def to_numpy(a: DeviceArray) -> np.ndarray:
    """A C-contiguous host copy of ``a``; waits until the work queued before it on the current stream is done."""
    if not a.size:
        return np.empty(a.shape, a.dtype.np)
    if a.storage.simulated:
        return np.array(as_numpy(a), order="C")  # always a copy, as from a real device
    first, last = _span(a)
    size = a.dtype.itemsize
    host = np.empty(last - first + 1, a.dtype.np)
    _copy(host.ctypes.data, a.ptr + first * size, host.nbytes, a.device_index, wait=True)
    strides = tuple(s * size for s in a.strides)
    return np.ascontiguousarray(np.ndarray(a.shape, a.dtype.np, host, -first * size, strides)).reshape(a.shape)


def as_numpy(a: DeviceArray) -> np.ndarray:
    """A simulated device array as a NumPy view (no copy, writes go through); ``RuntimeError`` for GPU memory."""
    if not a.storage.simulated:
        raise RuntimeError(f"as_numpy: {a} lives in GPU memory; use to_numpy for a copy")
    size = a.dtype.itemsize
    return np.ndarray(a.shape, a.dtype.np, a.storage.owner, a.offset * size, tuple(s * size for s in a.strides))


def as_cupy(a: DeviceArray) -> Any:
    """GPU memory as a CuPy array (no copy); ``BufferError`` for a dtype that CuPy does not have."""
    import cupy
    if a.dtype is dtypes.bfloat16:
        raise BufferError("CuPy has no bfloat16; use .view(torch.int16)")
    size = a.dtype.itemsize
    return cupy.ndarray(tuple(a.shape), a.dtype.np, a.storage.owner + a.offset * size, tuple([s * size for s in a.strides]))


def adopt(array: Any) -> Storage:
    """The memory of a CuPy array as a storage that keeps the array alive; it does not count in the statistics."""
    s = Storage.__new__(Storage)
    s._stats, s.simulated, s.owner = None, False, array.data
    s.ptr, s.device_index = array.data.ptr, array.device.id
    s.nbytes = array.itemsize * (1 + sum((n - 1) * st // array.itemsize for n, st in zip(array.shape, array.strides))) if array.size else 0
    return s


def _index(device_index: int | None) -> int:
    if device_index is not None:
        return device_index
    return _device.current_device() if _device.cuda_available() else 0


def memory_allocated(device_index: int | None = None) -> int:
    """Bytes of live storages on the device."""
    return _stats_of(config.simulate_cuda, _index(device_index)).allocated


def max_memory_allocated(device_index: int | None = None) -> int:
    """The most bytes of storages that lived at once since the start or :func:`reset_peak_memory_stats`."""
    return _stats_of(config.simulate_cuda, _index(device_index)).peak


def reset_peak_memory_stats(device_index: int | None = None) -> None:
    """Starts :func:`max_memory_allocated` anew from what is allocated now."""
    stats = _stats_of(config.simulate_cuda, _index(device_index))
    stats.peak = stats.allocated


def memory_reserved(device_index: int | None = None) -> int:
    """Bytes that the caching pool holds from the driver, used or not (simulated: the allocated bytes)."""
    if config.simulate_cuda or not _device.cuda_available():
        return memory_allocated(device_index)
    import cupy
    with cupy.cuda.Device(_index(device_index)):
        return cupy.get_default_memory_pool().total_bytes()


def empty_cache() -> None:
    """Gives the pool's unused blocks back to the driver."""
    if not config.simulate_cuda and _device.cuda_available():
        import cupy
        cupy.get_default_memory_pool().free_all_blocks()
