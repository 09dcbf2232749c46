"""Memory of CPU tensors: large arrays come from recycled blocks, because the first touch of fresh pages costs more than the work.

A block goes back when the last array that views it is gone. Blocks that are not in use are kept up to a limit, oldest given up
first.
"""
from __future__ import annotations

import ctypes
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

#: Arrays below this many bytes are plain ``np.empty``, which has its own cache.
SMALL = 64 << 10
_ALIGN = 64
# where CPython on 64-bit machines keeps an ndarray's data pointer: right after the object header
DATA = object.__basicsize__
_probe = np.empty(1)
DIRECT = ctypes.sizeof(ctypes.c_void_p) == 8 and ctypes.c_size_t.from_address(id(_probe) + DATA).value == _probe.ctypes.data
_read = ctypes.c_size_t.from_address


def address(a: np.ndarray) -> int:
    """The address of ``a``'s first element (logical index 0)."""
    return _read(id(a) + DATA).value if DIRECT else a.__array_interface__["data"][0]


def _default_limit() -> int:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        total = 4 << 30
    return total // 4


class _Blocks:
    """Free blocks by size, and how much is in use."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a finaliser may run anywhere, so also inside a call of ours
        self.free: dict[int, list[tuple[int, ctypes.Array]]] = {}
        self.ages: OrderedDict[int, int] = OrderedDict()  # number of a free block -> its size, oldest first
        self.limit = _default_limit()
        self.cached = self.current = self.peak = self.number = 0

    def take(self, size: int) -> ctypes.Array:
        with self.lock:
            self.current += size
            self.peak = max(self.peak, self.current)
            stack = self.free.get(size)
            if stack:
                number, raw = stack.pop()
                del self.ages[number]
                self.cached -= size
                return raw
        try:
            return _allocate(size)
        except MemoryError:
            self.clear()
            try:
                return _allocate(size)
            except MemoryError:
                with self.lock:
                    self.current -= size
                raise

    def give(self, raw: ctypes.Array) -> None:
        size = len(raw)
        with self.lock:
            self.current -= size
            if size > self.limit:
                return
            self.number += 1
            self.free.setdefault(size, []).append((self.number, raw))
            self.ages[self.number] = size
            self.cached += size
            while self.cached > self.limit:
                number, old = self.ages.popitem(last=False)
                stack = self.free[old]
                stack.pop(next(i for i, (n, _) in enumerate(stack) if n == number))
                self.cached -= old

    def clear(self) -> None:
        with self.lock:
            self.free.clear()
            self.ages.clear()
            self.cached = 0


def _allocate(size: int) -> ctypes.Array:
    raw = np.empty(size + _ALIGN, np.uint8)
    at = -address(raw) % _ALIGN
    # not an array, because NumPy would make a view of a lease of an array a view of that array
    return (ctypes.c_char * size).from_buffer(raw, at)


_blocks = _Blocks()


class Lease(np.ndarray):
    """The base of every array in one block: its end gives the block back."""

    def __del__(self) -> None:
        if _blocks is not None:  # None while the interpreter shuts down
            _blocks.give(self.base)


def _size_class(nbytes: int) -> int:
    """``nbytes`` rounded up to a multiple of an eighth of its power of two: at most 12.5% is wasted."""
    step = 1 << max(12, nbytes.bit_length() - 4)
    return (nbytes + step - 1) // step * step


def empty(shape: Sequence[int], np_dtype: Any) -> np.ndarray:
    """An uninitialised C-contiguous array; from :data:`SMALL` bytes on, 64-byte aligned and from a recycled block.

    Example:
        >>> empty((512, 512), np.float32).shape
        (512, 512)
    """
    dt = np.dtype(np_dtype)
    nbytes = prod(shape) * dt.itemsize
    if nbytes < SMALL:
        return np.empty(shape, dt)
    raw = _blocks.take(_size_class(nbytes))
    return np.ndarray(shape, dt, Lease(len(raw), np.uint8, raw))


def memory_stats() -> dict[str, int]:
    """Bytes of CPU memory from :func:`empty` in arrays of at least :data:`SMALL` bytes: ``current`` and ``peak`` in use, and ``cached``
    for later use."""
    b = _blocks
    return {"current": b.current, "peak": b.peak, "cached": b.cached}


def reset_peak() -> None:
    """Makes the present use the peak."""
    with _blocks.lock:
        _blocks.peak = _blocks.current


def empty_cache() -> None:
    """Gives unused blocks back to the system."""
    _blocks.clear()


def _after_fork() -> None:
    _blocks.lock = threading.RLock()  # another thread may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
