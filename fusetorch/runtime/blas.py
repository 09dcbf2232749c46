"""How many threads NumPy's BLAS uses.

OpenBLAS splits even small products over all cores, and its threads wait for each other in a spin: on a busy machine a product of
microseconds then takes milliseconds. So products below a size run on one thread. The library that NumPy loaded is found among the
mapped files of this process; where it is another BLAS, or the system shows no maps, nothing is changed.
"""
from __future__ import annotations

import ctypes
import re
from collections.abc import Callable

from .cpu_pool import get_num_threads

#: Multiply-adds from which several threads pay.
PARALLEL_FROM = 4_000_000

_set: Callable[[int], None] | None = None
_found = False
_now = 0


def _find() -> Callable[[int], None] | None:
    try:
        with open("/proc/self/maps") as f:
            paths = set(re.findall(r"\S*openblas\S*\.so\S*", f.read()))
    except OSError:
        return None
    for path in sorted(paths):
        lib = ctypes.CDLL(path)
        for name in ("scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads", "openblas_set_num_threads64_",
                     "openblas_set_num_threads"):
            f = getattr(lib, name, None)
            if f is not None:
                f.argtypes, f.restype = [ctypes.c_int], None
                return f
    return None


def prepare(multiply_adds: int) -> None:
    """Sets the number of BLAS threads for a product of this size, if it is not set already."""
    global _set, _found, _now
    if not _found:
        _found, _set = True, _find()
    if _set is None:
        return
    n = get_num_threads() if multiply_adds >= PARALLEL_FROM else 1
    if n != _now:
        _set(n)
        _now = n
