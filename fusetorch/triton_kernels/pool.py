"""The largest element of each window, with its position, and the gradient.

One to three spatial dimensions; fewer are seen as three, the first of size 1. The gradient is gathered, not scattered: each element looks
at the windows that cover it, so there are no atomics and the bits do not depend on the order of programs.
"""
from __future__ import annotations

from collections.abc import Sequence
from math import prod

import triton
import triton.language as tl

from fusetorch import dtypes
from fusetorch.runtime.launch import Kernel
from fusetorch.runtime.memory import DeviceArray, empty
from fusetorch.triton_kernels import scalar
from fusetorch.triton_kernels.layout import TRITON_TYPES, accumulator, cdiv, tile
from fusetorch.triton_kernels.pointwise import BLOCK, contiguous

_GEOMETRY = ["count", "n0", "n1", "n2", "m0", "m1", "m2", "k0", "k1", "k2", "s0", "s1", "s2", "p0", "p1", "p2", "d0", "d1", "d2"]


@triton.jit(do_not_specialize=_GEOMETRY)
def _max_windows(x, values, indices, count, n0, n1, n2, m0, m1, m2, k0, k1, k2, s0, s1, s2, p0, p1, p2, d0, d1, d2,
                 TYPE: tl.constexpr, LOWEST: tl.constexpr, INDEX: tl.constexpr, BLOCK: tl.constexpr):
    """``n``: sizes of the input, ``m`` of the result, then kernel, stride, padding, dilation."""
    i = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    mask = i < count
    c2 = (i % m2) * s2 - p2
    c1 = (i // m2 % m1) * s1 - p1
    c0 = (i // m2 // m1 % m0) * s0 - p0
    plane = x + (i // m2 // m1 // m0) * (n0 * n1 * n2)
    best = tl.full((BLOCK,), LOWEST, TYPE)
    where = tl.full((BLOCK,), -1, INDEX)
    for k in range(k0 * k1 * k2):
        y2 = c2 + (k % k2) * d2
        y1 = c1 + (k // k2 % k1) * d1
        y0 = c0 + (k // k2 // k1) * d0
        live = mask & (y0 >= 0) & (y0 < n0) & (y1 >= 0) & (y1 < n1) & (y2 >= 0) & (y2 < n2)
        at = (y0 * n1 + y1) * n2 + y2
        value = tl.load(plane + at, live, other=0).to(TYPE)
        take = live & ((where < 0) | (value > best) | (value != value))
        best = tl.where(take, value, best)
        where = tl.where(take, at, where)
    tl.store(values + i, best.to(values.dtype.element_ty), mask)
    tl.store(indices + i, where.to(tl.int64), mask)


@triton.jit(do_not_specialize=_GEOMETRY)
def _max_windows_grad(g, indices, out, count, n0, n1, n2, m0, m1, m2, k0, k1, k2, s0, s1, s2, p0, p1, p2, d0, d1, d2,
                      TYPE: tl.constexpr, INDEX: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    mask = i < count
    size = n0 * n1 * n2
    here = i % size
    first = (i // size) * (m0 * m1 * m2)
    c2 = here % n2 + p2
    c1 = here // n2 % n1 + p1
    c0 = here // n2 // n1 + p0
    total = tl.zeros((BLOCK,), TYPE)
    for k in range(k0 * k1 * k2):
        # the window in which this element is number k
        y2 = c2 - (k % k2) * d2
        y1 = c1 - (k // k2 % k1) * d1
        y0 = c0 - (k // k2 // k1) * d0
        live = mask & (y0 >= 0) & (y1 >= 0) & (y2 >= 0) & (y0 % s0 == 0) & (y1 % s1 == 0) & (y2 % s2 == 0)
        y2, y1, y0 = y2 // s2, y1 // s1, y0 // s0
        live &= (y0 < m0) & (y1 < m1) & (y2 < m2)
        at = first + (y0 * m1 + y1) * m2 + y2
        live &= tl.load(indices + at, live, other=-1) == here
        total += scalar.cast(tl.load(g + at, live, other=0), TYPE)
    tl.store(out + i, scalar.cast(total, out.dtype.element_ty), mask)


max_windows_kernel = Kernel(_max_windows, num_warps=4, fp_fusion=False)
max_windows_grad_kernel = Kernel(_max_windows_grad, num_warps=4, fp_fusion=False)


def _three(values: Sequence[int], fill: int) -> list[int]:
    return [fill] * (3 - len(values)) + list(values)


def _lowest(dt: dtypes.dtype) -> float | int:
    if dt.is_floating_point:
        return float("-inf")
    return 0 if dt is dtypes.uint8 else -(2 ** (8 * dt.itemsize - 1))


def _geometry(size: Sequence[int], result: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int],
              dilation: Sequence[int]) -> list[int]:
    return [v for values, fill in ((size, 1), (result, 1), (kernel, 1), (stride, 1), (padding, 0), (dilation, 1))
            for v in _three(values, fill)]


def max_windows(x: DeviceArray, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
                result: Sequence[int]) -> tuple[DeviceArray, DeviceArray]:
    """``(values, int64 positions)``, (..., *result) each: the largest element of every window over the last ``len(kernel)`` dimensions,
    and where it is in its plane. Of equal ones the first, of NaNs the last."""
    x = contiguous(x)
    n = len(kernel)
    shape = (*x.shape[:-n], *result)
    values, indices = empty(shape, x.dtype, x.storage.device_index), empty(shape, dtypes.int64, x.storage.device_index)
    if values.size:
        block = tile(values.size, BLOCK // 4)
        compute = dtypes.float32 if x.dtype in dtypes.HALVES else x.dtype
        max_windows_kernel((cdiv(values.size, block),), x, values, indices, values.size,
                           *_geometry(x.shape[-n:], result, kernel, stride, padding, dilation), TYPE=TRITON_TYPES[compute],
                           LOWEST=_lowest(compute), INDEX=tl.int64 if max(x.size, values.size) >= 2**31 else tl.int32, BLOCK=block)
    return values, indices


def max_windows_grad(g: DeviceArray, indices: DeviceArray, size: Sequence[int], kernel: Sequence[int], stride: Sequence[int],
                     padding: Sequence[int], dilation: Sequence[int]) -> DeviceArray:
    """Gradient of the input (..., *size) of :func:`max_windows` from that of its values."""
    g, indices = contiguous(g), contiguous(indices)
    n = len(size)
    out = empty((*g.shape[:-n], *size), g.dtype, g.storage.device_index)
    if prod(out.shape):
        block = tile(out.size, BLOCK // 4)
        max_windows_grad_kernel((cdiv(out.size, block),), g, indices, out, out.size,
                                *_geometry(size, g.shape[-n:], kernel, stride, padding, dilation),
                                TYPE=TRITON_TYPES[accumulator(g.dtype)],
                                INDEX=tl.int64 if max(g.size, out.size) >= 2**31 else tl.int32, BLOCK=block)
    return out
