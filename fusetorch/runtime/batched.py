"""Arrays of many slices at once: what ``vmap`` gives the function that it maps."""
from __future__ import annotations

from typing import Any

import numpy as np

from fusetorch.dtypes import FROM_NUMPY
from fusetorch.runtime.device import CPU, device
from fusetorch.runtime.strided import StridedArray

__all__ = ["BatchedArray", "values_of"]


class BatchedArray(StridedArray):
    """``memory`` has the slices in its first dimension; to all who look at this it is one slice: shape and strides (in elements) are that
    of each, dtype and device those of all."""

    __slots__ = ("memory", "shape", "strides", "dtype", "__weakref__")

    def __init__(self, memory: np.ndarray) -> None:
        self.memory = memory
        self.shape = memory.shape[1:]
        self.strides = tuple([s // memory.itemsize for s in memory.strides[1:]])
        self.dtype = FROM_NUMPY[memory.dtype]

    @property
    def device(self) -> device:
        """``cpu``."""
        return CPU

    def __repr__(self) -> str:
        return f"BatchedArray({len(self.memory)} of shape={self.shape}, dtype={self.dtype.name})"


def values_of(a: Any) -> Any:
    """The values of all slices, of an array of slices; any other array itself."""
    return a.memory if type(a) is BatchedArray else a
