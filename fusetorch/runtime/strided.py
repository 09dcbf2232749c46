"""What the arrays of a device, those without memory and those of a trace have in common."""
from __future__ import annotations

from math import prod

from fusetorch.dtypes import dtype
from fusetorch.shapes import is_contiguous


class StridedArray:
    """A shape, strides in elements, and a dtype, with the attributes that follow from them."""

    __slots__ = ()

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: dtype

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements lie in row-major order without gaps."""
        return is_contiguous(self.shape, self.strides)
