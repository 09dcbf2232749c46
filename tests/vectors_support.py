"""Native functions for machines with narrower vectors than this one's."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from fusetorch.codegen import attention, convolution, product, vector_functions

CACHES = (vector_functions.lane_count, vector_functions.registers, convolution._forward_plan, convolution._input_plan,
          convolution._weight_plan, product._plan, attention._plan)


@contextlib.contextmanager
def vectors(bits: int) -> Iterator[None]:
    """For a while, functions are made for vectors of ``bits`` bits."""
    def forget() -> None:
        for cache in CACHES:
            cache.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_functions.cpu_jit, "vector_bits", lambda: bits)
        patch.setattr(vector_functions, "_functions", {})
        forget()
        try:
            yield
        finally:
            forget()
