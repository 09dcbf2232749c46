"""What a tensor's elements lie in: storages, other looks at the same memory, other sizes, memory formats."""
from __future__ import annotations

import mmap
import os
from typing import Any

import numpy as np

from .. import formats
from ..dtypes import dtype as dtype_class
from ..runtime.cpu_memory import address
from ..shapes import contiguous_strides, numel
from ..tensor import Meta, Tensor, active_tracer, memory_of, meta, strides_of, tracing, version_of, wrap
from .opdef import composite, fn

ndarray = np.ndarray


def real_array(t: Tensor) -> Any:
    """The tensor's array, which is no symbolic one: a trace ends here."""
    if tracing():
        active_tracer().need_value(t)
    return t._a


class _Bytes:
    """Lends memory to NumPy as bytes and keeps its owner alive."""

    def __init__(self, address: int, nbytes: int, writeable: bool, base: Any) -> None:
        self.__array_interface__ = {"data": (address, not writeable), "shape": (nbytes,), "typestr": "|u1", "version": 3}
        self.base = base


def memory_bytes(t: Tensor) -> np.ndarray:
    """The whole memory that a CPU tensor is a view of, as bytes."""
    m = memory_of(t)
    low, high = _span(m)
    return np.asarray(_Bytes(low, high - low, m.flags.writeable, m)) if high > low else np.empty(0, np.uint8)


def _span(a: np.ndarray) -> tuple[int, int]:
    start = address(a)
    if not a.size:
        return start, start
    reach = [s * (n - 1) for n, s in zip(a.shape, a.strides)]
    return start + sum(r for r in reach if r < 0), start + sum(r for r in reach if r > 0) + a.itemsize


def offset_in_memory(t: Tensor) -> int:
    """How far ``t``'s first element is from the start of its memory, in elements."""
    a = t._a
    if type(a) is not ndarray:
        return a.offset
    return (address(a) - _span(memory_of(t))[0]) // a.itemsize if a.size else 0


def room_in_memory(t: Tensor) -> int:
    """How many of ``t``'s elements fit into the memory it is a view of."""
    a = t._a
    if type(a) is ndarray:
        low, high = _span(memory_of(t))
        return (high - low) // a.itemsize
    held = getattr(a.storage, "nbytes", None)
    return numel(a.storage.value.shape) if held is None else held // a.itemsize  # the former while tracing


def from_bytes(memory: np.ndarray, d: dtype_class, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> np.ndarray:
    """A strided array over bytes; strides and offset in elements."""
    if numel(shape) == 0:
        return np.empty(shape, d.np)
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides))
    if offset < 0 or (last + 1) * d.itemsize > memory.nbytes:
        raise RuntimeError(f"setStorage: sizes {list(shape)}, strides {list(strides)}, storage offset {offset}, and itemsize {d.itemsize} "
                           f"requiring a storage size of {(last + 1) * d.itemsize} are out of bounds for storage of size {memory.nbytes}")
    return np.ndarray(shape, d.np, memory, offset * d.itemsize, tuple([s * d.itemsize for s in strides]))


# ---- storages


@composite(function=False)
def untyped_storage(input):
    """The memory that the tensor is a view of, as bytes: a :class:`fusetorch.storage.UntypedStorage`."""
    from ..storage import UntypedStorage
    return UntypedStorage.of(input)


@composite(function=False)
def storage(input):
    """The memory that the tensor is a view of, as elements: a :class:`fusetorch.storage.TypedStorage`."""
    from ..storage import TypedStorage
    return TypedStorage(wrap_storage=untyped_storage.body(input), dtype=input.dtype)


@composite(function=False)
def storage_type(input):
    """The class of :meth:`storage`."""
    return type(storage.body(input))


@composite(function=False)
def is_set_to(input, tensor):
    """Whether both have the same memory, offset, sizes and strides."""
    a, b = real_array(input), real_array(tensor)
    same = untyped_storage.body(input).data_ptr() == untyped_storage.body(tensor).data_ptr()
    return (same and a.shape == b.shape and strides_of(a) == strides_of(b)
            and offset_in_memory(input) == offset_in_memory(tensor) and input.dtype is tensor.dtype)


@composite(function=False)
def set_(input, source=None, storage_offset=0, size=None, stride=None):
    """Makes this tensor a look at other memory: a tensor's, or a storage's with offset, sizes and strides (all of it by default)."""
    real_array(input)
    if source is None:
        _take(input, wrap(np.empty((0,), input.dtype.np)).to(input.device))
        return input
    if isinstance(source, Tensor) and size is None:
        if source.dtype is not input.dtype:
            raise RuntimeError(f"Could not set tensor of type {source.dtype} to a tensor of type {input.dtype}")
        _take(input, source)
        return input
    held = untyped_storage.body(source) if isinstance(source, Tensor) else getattr(source, "_untyped_storage", source)
    size = (held.nbytes() // input.itemsize,) if size is None else tuple(size)
    _take(input, held.tensor(input.dtype, size, contiguous_strides(size) if stride is None else tuple(stride), storage_offset))
    return input


def _take(t: Tensor, other: Tensor) -> None:
    x = meta(t)
    if x.base is not None or x.node is not None:
        raise RuntimeError("set_: the tensor has a history or is a view; use it on a detached tensor")
    t._a, x.memory = other._a, memory_of(other)
    version_of(t)[0] += 1


class SharedMemory(mmap.mmap):
    """Memory of a file without a name, which other processes map too."""

    fd: int

    def __new__(cls, fd: int, size: int) -> SharedMemory:
        self = super().__new__(cls, fd, size)
        self.fd = fd
        return self

    @classmethod
    def make(cls, size: int) -> SharedMemory:
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("fusetorch")
        else:
            import tempfile
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, size)
        return cls(fd, size)

    def __del__(self) -> None:
        os.close(self.fd)


def _shared_memory_of(a: ndarray) -> mmap.mmap | None:
    """The mapped memory that an array looks at."""
    while isinstance(a, (ndarray, _Bytes, memoryview)):
        a = a.obj if isinstance(a, memoryview) else a.base
    return a if isinstance(a, mmap.mmap) else None


def _reduce_shared(t: Tensor) -> tuple:
    """How :mod:`multiprocessing` sends a tensor: shared memory as such, anything else as a copy."""
    memory = _shared_memory_of(t._a) if type(t._a) is ndarray else None
    if not isinstance(memory, SharedMemory):
        return t.__reduce_ex__(2)
    from multiprocessing.reduction import DupFd
    start = address(np.frombuffer(memory, np.uint8))
    offset = address(t._a) - start
    return _rebuild_shared, (DupFd(memory.fd), len(memory), t.dtype, t._a.shape, t._a.strides, offset, t._req)


def _rebuild_shared(handle: Any, size: int, d: dtype_class, shape: tuple, strides: tuple, offset: int, requires_grad: bool) -> Tensor:
    _send_shared()
    memory = np.frombuffer(SharedMemory(handle.detach(), size), np.uint8)
    return wrap(np.ndarray(shape, d.np, memory, offset, strides)).requires_grad_(requires_grad)


def _send_shared() -> None:
    """Makes :mod:`multiprocessing` send shared tensors as such."""
    from multiprocessing.reduction import ForkingPickler
    ForkingPickler.register(Tensor, _reduce_shared)


@composite(function=False)
def share_memory_(input):
    """Moves a CPU tensor's elements to memory that other processes share when it is sent to them; itself. CUDA memory is left where
    it is. Views made before keep the old memory."""
    a = real_array(input)
    if type(a) is ndarray and a.size and not is_shared.body(input):
        _send_shared()
        low, high = _span(a)
        memory = np.frombuffer(SharedMemory.make(high - low), np.uint8)
        first = address(a) - low
        new = np.ndarray(a.shape, a.dtype, memory, first, a.strides)
        new[...] = a
        input._a = new
        meta(input).memory = None
    return input


@composite(function=False)
def is_shared(input):
    """Whether the memory is shared between processes (always, on CUDA)."""
    a = real_array(input)
    if type(a) is not ndarray:
        return input.is_cuda
    return _shared_memory_of(a) is not None


# ---- sizes and dtypes


@composite(function=False)
def resize_(input, *size, memory_format=None):
    """Other sizes, row-major, in the same memory where they fit, else in new memory that begins with the old elements.

    New elements are uninitialised. Other views of the old memory do not follow a move to new memory.
    """
    from .creation import _sizes
    shape = _sizes(size)
    if input._req:
        raise RuntimeError("cannot resize variables that require grad")
    a = real_array(input)
    if tuple(a.shape) == shape:
        return input
    offset, n = offset_in_memory(input), numel(shape)
    if offset + n > room_in_memory(input):
        grown = fn.empty((offset + n,), dtype=input.dtype, device=input.device)
        held = room_in_memory(input)
        old = untyped_storage.body(input).tensor(input.dtype, (held,), (1,), 0)
        if held:
            grown[:held].copy_(old)
        made = grown.as_strided(shape, contiguous_strides(shape), offset)
    else:
        made = untyped_storage.body(input).tensor(input.dtype, shape, contiguous_strides(shape), offset)
    x = meta(input)
    input._a, x.memory = made._a, memory_of(made)
    x.base, x.chain = None, ()
    version_of(input)[0] += 1
    if memory_format is not None and formats.channels_order(len(shape), memory_format) is not None:
        input._a = input.as_strided(shape, fn.empty(shape, device=input.device).contiguous(memory_format=memory_format).stride())._a
    return input


@composite()
def resize_as_(input, the_template, memory_format=None):
    """``resize_`` to the sizes of another tensor."""
    return resize_.body(input, the_template.shape, memory_format=memory_format)


@composite(function=False, name="view_dtype", method=False)
def view_dtype(input, dtype):
    """The same memory read as another dtype; the last dimension grows or shrinks with the width. Not recorded for gradients."""
    a = real_array(input)
    have, want = input.dtype.itemsize, dtype.itemsize
    shape, strides, offset = list(a.shape), list(strides_of(a)), offset_in_memory(input)
    if have != want:
        if not shape:
            raise RuntimeError(f"self.dim() cannot be 0 to view {input.dtype} as {dtype} (different element sizes)")
        if strides[-1] != 1 and shape[-1] != 1:
            raise RuntimeError(f"self.stride(-1) must be 1 to view {input.dtype} as {dtype} (different element sizes), but got "
                               f"{strides[-1]}")
    if have > want:
        k = have // want
        shape[-1] *= k
        strides = [s * k for s in strides[:-1]] + [1]
        offset *= k
    elif have < want:
        k = want // have
        if shape[-1] % k:
            raise RuntimeError(f"self.size(-1) must be divisible by {k} to view {input.dtype} as {dtype} (different element sizes), but "
                               f"got {shape[-1]}")
        if offset % k:
            raise RuntimeError(f"self.storage_offset() must be divisible by {k} to view {input.dtype} as {dtype} (different element "
                               f"sizes), but got {offset}")
        for d, s in enumerate(strides[:-1]):
            if s % k:
                raise RuntimeError(f"self.stride({d}) must be divisible by {k} to view {input.dtype} as {dtype} (different element sizes), "
                                   f"but got {s}")
        shape[-1] //= k
        strides = [s // k for s in strides[:-1]] + [1]
        offset //= k
    out = untyped_storage.body(input).tensor(dtype, tuple(shape), tuple(strides), offset)
    x = out._x = Meta()
    x.version, x.memory = version_of(input), memory_of(input)
    return out


# ---- memory formats


def in_format(t: Any, format: Any, copy: bool = False) -> Any:
    """``t`` in a memory format: itself if it is laid out so already and not ``copy``."""
    if format is None or format is formats.preserve_format:
        return fn.clone(t) if copy else t
    order = formats.channels_order(t.ndim, format)
    if not copy and t.is_contiguous(memory_format=format):
        return t
    if order is None:
        return fn.clone_contiguous(t)
    back = sorted(range(len(order)), key=order.__getitem__)
    return fn.permute_dims(fn.clone_contiguous(fn.permute_dims(t, order)), tuple(back))
