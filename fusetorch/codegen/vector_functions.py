"""Functions in explicit vectors (:mod:`fusetorch.codegen.llvm_vectors`), compiled once for each variant, and what tiles may count on."""
from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Hashable

from ..runtime import cpu_jit

_functions: dict[tuple[Callable, Hashable], int] = {}
_lock = threading.Lock()


def function(emit: Callable[..., str], variant: Hashable) -> int:
    """The address of the function in ``emit(variant, name, bits of a vector)``."""
    found = _functions.get((emit, variant))
    if found is None:
        with _lock:
            name = f"f{hashlib.sha256(f'{emit.__module__} {variant!r}'.encode()).hexdigest()[:16]}"
            found = _functions[emit, variant] = cpu_jit.compile_ir(emit(variant, name, cpu_jit.vector_bits()), [name])[name]
    return found


@functools.cache
def lane_count(double: bool) -> int:
    """Numbers in a vector."""
    return cpu_jit.vector_bits() // (64 if double else 32)


@functools.cache
def registers() -> int:
    """Vector registers for accumulators and operands; one is left for a number in all lanes."""
    return 31 if cpu_jit.vector_bits() == 512 or not cpu_jit.is_x86() else 15
