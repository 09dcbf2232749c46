"""The arrays of a trace: symbolic memory, strided looks at it, and real arrays seen in the same way."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..dtypes import dtype
from ..runtime.memory import DeviceArray
from ..runtime.strided import StridedArray
from ..shapes import contiguous_strides, numel
from ..tensor import Tensor
from .alias import overlap
from .ir import Value, same_strides

if TYPE_CHECKING:
    from .trace import Tracer


class Storage:
    """Memory during a trace: ``value`` is its contents now, ``initial`` what it held when it was lifted (``None`` if made here)."""

    __slots__ = ("value", "initial", "real", "source", "extent")

    def __init__(self, value: Value, initial: Value | None = None) -> None:
        self.value = value
        self.initial = initial
        self.real: Any = None       # the array itself, for lifted memory; or what a finished run produced
        self.source: Any = None     # for lifted memory: the Source it is re-read from
        self.extent = (0, 0)        # and the addresses it lies between

    def meets(self, other: Storage) -> bool:
        """Whether two lifted storages have memory in common."""
        return self.extent[0] < other.extent[1] and other.extent[0] < self.extent[1] and overlap(self.real, other.real)


class TracedArray(StridedArray):
    """A strided view of a storage, with the attributes that arrays of every backend have.

    ``dtype`` may differ from the storage's: its memory as parts of complex numbers, or the other way around. Strides and offset are in
    elements of it.
    """

    __slots__ = ("tracer", "storage", "shape", "strides", "offset", "dtype", "device", "__weakref__")

    def __init__(self, tracer: Tracer, storage: Storage, shape: tuple[int, ...], strides: tuple[int, ...], offset: int,
                 dtype: dtype | None = None) -> None:
        self.tracer, self.storage = tracer, storage
        self.shape, self.strides, self.offset = shape, strides, offset
        self.dtype: dtype = storage.value.dtype if dtype is None else dtype
        self.device = storage.value.device

    @property
    def whole(self) -> bool:
        """Whether this covers its storage in order."""
        held = self.storage.value
        return self.offset == 0 and numel(self.shape) == held.size and self.dtype is held.dtype and same_strides(
            self.shape, self.strides, contiguous_strides(self.shape))


class Source:
    """Where a lifted tensor comes from at each call: an argument, or an object that holds it."""

    __slots__ = ("kind", "where", "tensor", "owner")

    def __init__(self, kind: str, where: Any, tensor: Tensor | None) -> None:
        self.kind = kind        # "arg" (where: position among the flattened arguments), "object", "number", "rng", "span"
        self.where = where
        self.tensor = tensor    # the tensor object (kinds "arg" while tracing, and "object")
        self.owner: Source | None = None  # set if it is this one's .grad


def permuted(a: TracedArray, rank: int, order: Sequence[int]) -> TracedArray:
    """A symbolic array, with ``rank`` dimensions, in another order of dimensions."""
    lead = rank - len(a.shape)
    shape, strides = (1,) * lead + tuple(a.shape), (0,) * lead + tuple(a.strides)
    return TracedArray(a.tracer, a.storage, tuple([shape[d] for d in order]), tuple([strides[d] for d in order]), a.offset, a.dtype)


def layouts_of(arrays: Sequence[TracedArray]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Shape and strides of each."""
    return [(tuple(a.shape), tuple(a.strides)) for a in arrays]


def order_of(shape: Sequence[int], strides: Sequence[int] | None) -> list[int] | None:
    """The dimensions from the slowest to the fastest; ``None`` where that is row-major."""
    if strides is None or same_strides(shape, strides, contiguous_strides(shape)):
        return None
    return sorted(range(len(shape)), key=lambda d: -strides[d])


def inverse(order: Sequence[int]) -> list[int]:
    """The permutation that undoes ``order``."""
    return sorted(range(len(order)), key=order.__getitem__)


def memory_layout(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """``(base shape, strides)``: an array's memory as row-major memory plus a view of it.

    A permuted dense array becomes its memory in order; anything else the one-dimensional span that it touches.
    """
    if same_strides(shape, strides, contiguous_strides(shape)) or 0 in shape:
        return shape, contiguous_strides(shape)
    order = sorted(range(len(shape)), key=lambda d: -strides[d])
    inner = tuple(shape[d] for d in order)
    if same_strides(inner, [strides[d] for d in order], contiguous_strides(inner)):
        return inner, strides
    return (1 + sum((n - 1) * s for n, s in zip(shape, strides)),), strides


def span_array(a: Any, base_shape: tuple[int, ...]) -> Any:
    """The memory of a real array as the row-major base that :func:`memory_layout` describes."""
    if tuple(a.shape) == base_shape and (a.flags.c_contiguous if isinstance(a, np.ndarray) else a.is_contiguous):
        return a
    if isinstance(a, np.ndarray):
        return np.lib.stride_tricks.as_strided(a, base_shape, [s * a.itemsize for s in contiguous_strides(base_shape)])
    return a.view(base_shape, contiguous_strides(base_shape), a.offset)


def other_dtype(a: TracedArray) -> dtype | None:
    """The dtype of a symbolic array where it is not that of its storage."""
    return None if a.dtype is a.storage.value.dtype else a.dtype


def real_view(a: Any, shape: tuple[int, ...], strides: tuple[int, ...], offset: int, d: dtype | None = None) -> Any:
    """A strided view of a real row-major array, with ``d`` of its memory as that dtype."""
    if d is not None and isinstance(a, np.ndarray):
        a = a.reshape(-1)
        a = a[:a.size // 2 * 2].view(d.np) if d.is_complex else a.view(d.np)
    elif d is not None:
        start = a.offset * a.dtype.itemsize // d.itemsize
        return DeviceArray(a.storage, tuple(shape), tuple(strides), start + offset, d)
    if isinstance(a, np.ndarray):
        from ..ops.views import strided
        if tuple(a.shape) == tuple(shape) and offset == 0 and same_strides(shape, strides, contiguous_strides(shape)):
            return a
        return strided(a, tuple(shape), tuple(s * a.itemsize for s in strides), offset * a.itemsize)
    return a.view(tuple(shape), tuple(strides), a.offset + offset)
