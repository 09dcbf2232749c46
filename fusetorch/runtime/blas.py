"""Matrix products on the CPU: NumPy's, with threads of our own.

OpenBLAS splits even middling products over all cores, and its threads wait for each other in a spin: on a busy machine a product of
microseconds then takes milliseconds. So each call into it runs on one thread, and large products are cut, along the batch, the rows or
the columns, into parts that Python threads run (NumPy releases the GIL). The library's own setting is put back after each call. Where NumPy
uses another BLAS, or the system does not show the mapped files of a process, its threads are left alone.
"""
from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..shapes import broadcast_shapes
from .cpu_memory import SMALL, empty
from .cpu_pool import get_num_threads

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

#: Multiply-adds up to which OpenBLAS itself uses one thread (interface/gemm.c).
SINGLE_UP_TO = 262_144
#: Multiply-adds from which parts on several threads pay for their start: about a millisecond of one thread, for two threads may share
#: a core.
PARALLEL_FROM = 64_000_000

_library: tuple[Callable[[int], None], Callable[[], int]] | None = None
_looked = False
_pool: ThreadPoolExecutor | None = None


def _find() -> tuple[Callable[[int], None], Callable[[], int]] | None:
    try:
        with open("/proc/self/maps") as f:
            paths = set(re.findall(r"\S*openblas\S*\.so\S*", f.read()))
    except OSError:
        return None
    for path in sorted(paths):
        lib = ctypes.CDLL(path)
        for form in ("scipy_openblas_{}_num_threads64_", "scipy_openblas_{}_num_threads", "openblas_{}_num_threads64_",
                     "openblas_{}_num_threads"):
            setter, getter = getattr(lib, form.format("set"), None), getattr(lib, form.format("get"), None)
            if setter is not None and getter is not None:
                setter.argtypes, setter.restype, getter.restype = [ctypes.c_int], None, ctypes.c_int
                return setter, getter
    return None


def _forget_pool() -> None:
    global _pool
    _pool = None  # a forked child has none of its threads


os.register_at_fork(after_in_child=_forget_pool)


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``np.matmul(a, b)`` for operands of two or more dimensions."""
    global _library, _looked, _pool
    if a.ndim == b.ndim == 2 and a.shape[0] * b.shape[1] <= 4096 and a.size * b.shape[1] <= SINGLE_UP_TO:
        return np.dot(a, b)  # quicker to start
    each = a.shape[-2] * a.shape[-1] * b.shape[-1]
    total = max(a.size * b.shape[-1], b.size * a.shape[-2])
    if each <= SINGLE_UP_TO and total < PARALLEL_FROM:
        return _product(a, b)
    if not _looked:
        _looked, _library = True, _find()
    if _library is None:
        return _product(a, b)
    set_threads, get_threads = _library
    n, before = get_num_threads(), get_threads()
    set_threads(1)
    try:
        parts = _cut(a, b, n) if n > 1 and total >= PARALLEL_FROM else []
        if len(parts) < 2:
            return _product(a, b)
        out = empty(_shape(a, b), a.dtype)
        if _pool is None:
            from concurrent.futures import ThreadPoolExecutor
            _pool = ThreadPoolExecutor(max(n - 1, 1), "fusetorch-blas")
        jobs = [_pool.submit(np.matmul, x, y, out[where]) for x, y, where in parts[1:]]
        x, y, where = parts[0]
        np.matmul(x, y, out[where])
        for j in jobs:
            j.result()
        return out
    finally:
        set_threads(before)


def product_address(kind: str) -> tuple[int, int] | None:
    """The address of ``cblas_<kind>gemm`` of NumPy's OpenBLAS and the bits of its integers; ``None`` where there is none."""
    try:
        with open("/proc/self/maps") as f:
            paths = set(re.findall(r"\S*openblas\S*\.so\S*", f.read()))
    except OSError:
        return None
    for path in sorted(paths):
        lib = ctypes.CDLL(path)
        for name, bits in ((f"scipy_cblas_{kind}gemm64_", 64), (f"cblas_{kind}gemm64_", 64), (f"scipy_cblas_{kind}gemm", 32)):
            found = getattr(lib, name, None)
            if found is not None:
                return ctypes.cast(found, ctypes.c_void_p).value or 0, bits
    return None


def _shape(a: np.ndarray, b: np.ndarray) -> tuple[int, ...]:
    batch = a.shape[:-2] if a.ndim == b.ndim == 2 else tuple(broadcast_shapes(a.shape[:-2], b.shape[:-2]))
    return (*batch, a.shape[-2], b.shape[-1])


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The product in one call. A large result goes to recycled memory: the first touch of fresh pages can take as long as the product."""
    shape = _shape(a, b)
    if a.dtype is not b.dtype or prod(shape) * a.itemsize < SMALL:
        return np.matmul(a, b)
    return np.matmul(a, b, empty(shape, a.dtype))


@contextmanager
def one_thread() -> Iterator[None]:
    """While the block runs, the library's products stay on the thread that calls them: for many small ones in a row."""
    global _library, _looked
    if not _looked:
        _looked, _library = True, _find()
    if _library is None:
        yield
        return
    set_threads, get_threads = _library
    before = get_threads()
    set_threads(1)
    try:
        yield
    finally:
        set_threads(before)


def _cut(a: np.ndarray, b: np.ndarray, n: int) -> list[tuple[np.ndarray, np.ndarray, Any]]:
    """Parts of a product: operands and the index of the result."""
    batch = broadcast_shapes(a.shape[:-2], b.shape[:-2])
    for d, size in enumerate(batch):
        if size >= n:
            return [(_along(a, d - len(batch) - 2, s), _along(b, d - len(batch) - 2, s), (slice(None),) * d + (s,))
                    for s in _slices(size, n)]
    if a.shape[-2] >= b.shape[-1]:
        return [(a[..., s, :], b, (..., s, slice(None))) for s in _slices(a.shape[-2], n)]
    return [(a, b[..., s], (..., s)) for s in _slices(b.shape[-1], n)]


def _along(x: np.ndarray, axis: int, s: slice) -> np.ndarray:
    if x.ndim < -axis or x.shape[axis] == 1:
        return x
    return x[(slice(None),) * (x.ndim + axis) + (s,)]


def _slices(size: int, n: int) -> list[slice]:
    step = -(-size // n)
    return [slice(i, min(i + step, size)) for i in range(0, size, step)]
