"""What the host side of every kernel family shares: Triton's dtypes, tile sizes, and layouts with merged dimensions."""
from __future__ import annotations

import struct
from collections.abc import Sequence
from math import prod

import triton.language as tl

from fusetorch import dtypes
from fusetorch.dtypes import dtype
from fusetorch.errors import NoTritonType
from fusetorch.runtime import device
from fusetorch.runtime.memory import DeviceArray
from fusetorch.shapes import broadcast_shapes


class _Types(dict):
    def __missing__(self, d: dtype) -> tl.dtype:
        raise NoTritonType(f"not implemented for {d} on device 'cuda' yet")


TRITON_TYPES: dict[dtype, tl.dtype] = _Types({
    dtypes.bool_: tl.int1, dtypes.uint8: tl.uint8, dtypes.int8: tl.int8, dtypes.int16: tl.int16, dtypes.int32: tl.int32,
    dtypes.int64: tl.int64, dtypes.float16: tl.float16, dtypes.bfloat16: tl.bfloat16, dtypes.float32: tl.float32,
    dtypes.float64: tl.float64})


def cdiv(a: int, b: int) -> int:
    """a / b rounded up."""
    return -(-a // b)


def pow2(n: int) -> int:
    """The smallest power of two >= n (1 for n < 1)."""
    return 1 << (n - 1).bit_length() if n > 1 else 1


def tile(elements: int, limit: int) -> int:
    """Block size for ``elements``: a power of two up to ``limit``. On the simulated device, where a program costs the same
    whatever its size, up to 16 times as much."""
    return min(pow2(elements), limit * 16 if device.simulated() else limit)


def accumulator(dt: dtype) -> dtype:
    """What sums of ``dt`` are kept in: float32 for half types, int64 for integers and bool."""
    if dt in dtypes.HALVES:
        return dtypes.float32
    return dt if dt.is_floating_point else dtypes.int64


def float_bits(value: float) -> int:
    """The bits of a float64, as int64: how a kernel gets one, since floats are passed as float32."""
    return struct.unpack("<q", struct.pack("<d", value))[0]


def broadcast_strides(x: DeviceArray, shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of ``x`` seen as ``shape`` (0 where it is repeated)."""
    pad = len(shape) - len(x.shape)
    return (0,) * pad + tuple(0 if n == 1 else s for n, s in zip(x.shape, x.strides))


def expand(x: DeviceArray, shape: tuple[int, ...]) -> DeviceArray:
    """``x`` broadcast to ``shape``, without a copy."""
    return x if x.shape == shape else x.view(shape, broadcast_strides(x, shape), x.offset)


def collapse(shape: Sequence[int], *strides: Sequence[int]) -> tuple[list[int], list[list[int]]]:
    """Drops dimensions of size 1 and merges neighbours that are contiguous in every operand.

    Returns the sizes and, per operand, the strides that remain; the order of dimensions stays.

    Example:
        >>> collapse((2, 3, 4), (12, 4, 1), (0, 4, 1))
        ([2, 12], [[12, 1], [0, 1]])
    """
    sizes: list[int] = []
    rows: list[list[int]] = []  # per dimension, one stride per operand
    for d, n in enumerate(shape):
        if n == 1:
            continue
        here = [s[d] for s in strides]
        if sizes and all(before == now * n for before, now in zip(rows[-1], here)):
            sizes[-1] *= n
            rows[-1] = here
        else:
            sizes.append(n)
            rows.append(here)
    return sizes, [[row[k] for row in rows] for k in range(len(strides))]


def span(shape: Sequence[int], strides: Sequence[int]) -> int:
    """Distance in elements between the first and the last element that a layout reaches."""
    return sum((n - 1) * abs(s) for n, s in zip(shape, strides)) if prod(shape) else 0


def common_factor(*numbers: int) -> int:
    """The largest of 16, 8, 4, 1 that divides all ``numbers``: a promise that keeps loads wide."""
    for f in (16, 8, 4):
        if all(n % f == 0 for n in numbers):
            return f
    return 1


def broadcast_shape(arrays: Sequence[DeviceArray]) -> tuple[int, ...]:
    """The shape that all ``arrays`` broadcast to."""
    return tuple(broadcast_shapes(*(a.shape for a in arrays)))
