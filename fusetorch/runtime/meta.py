"""Arrays without memory: shape, strides and dtype of a tensor on the ``meta`` device."""
from __future__ import annotations

from math import prod

from fusetorch import dtypes
from fusetorch.runtime.device import device
from fusetorch.runtime.strided import StridedArray
from fusetorch.shapes import contiguous_strides

__all__ = ["MetaStorage", "MetaArray", "empty"]

NO_DATA = "Cannot copy out of meta tensor; no data!"


class MetaStorage:
    """What stands for ``nbytes`` bytes that are nowhere."""

    __slots__ = ("nbytes", "__weakref__")

    ptr = 0
    simulated = False

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes

    @property
    def device(self) -> device:
        """``meta``."""
        return device("meta")


class MetaArray(StridedArray):
    """A strided array without elements, with the attributes that arrays of every backend have."""

    __slots__ = ("storage", "shape", "strides", "offset", "dtype", "__weakref__")

    ptr = 0

    def __init__(self, storage: MetaStorage, shape: tuple[int, ...], strides: tuple[int, ...], offset: int, dtype: dtypes.dtype) -> None:
        self.storage, self.shape, self.strides, self.offset, self.dtype = storage, shape, strides, offset, dtype

    @property
    def device(self) -> device:
        """``meta``."""
        return device("meta")

    def __repr__(self) -> str:
        return f"MetaArray(shape={self.shape}, strides={self.strides}, dtype={self.dtype.name})"


def empty(shape: tuple[int, ...], d: dtypes.dtype, strides: tuple[int, ...] | None = None) -> MetaArray:
    """A dense array; row-major unless the strides of another dense order are given."""
    return MetaArray(MetaStorage(prod(shape) * d.itemsize), shape, contiguous_strides(shape) if strides is None else strides, 0, d)
