"""Matrix products by NumPy, on the thread that calls.

OpenBLAS splits even middling products over all cores, and its threads wait for each other in a spin: on a busy machine a product of
microseconds then takes milliseconds. So each call into it runs on one thread, and the library's own setting is put back afterwards. Where
NumPy uses another BLAS, or the system does not show the mapped files of a process, its threads are left alone. Large products are not
NumPy's but those of :mod:`fusetorch.codegen.product`.
"""
from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod

import numpy as np

from ..shapes import broadcast_shapes
from .cpu_memory import SMALL, empty

#: Multiply-adds up to which OpenBLAS itself uses one thread (interface/gemm.c).
SINGLE_UP_TO = 262_144
_library: tuple[Callable[[int], None], Callable[[], int]] | None = None
_looked = False


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


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``np.matmul(a, b)`` for operands of two or more dimensions."""
    if a.ndim == b.ndim == 2 and a.shape[0] * b.shape[1] <= 4096 and a.size * b.shape[1] <= SINGLE_UP_TO:
        return np.dot(a, b)  # quicker to start
    if a.shape[-2] * a.shape[-1] * b.shape[-1] <= SINGLE_UP_TO:
        return _product(a, b)
    with one_thread():
        return _product(a, b)


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
