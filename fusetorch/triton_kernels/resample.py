"""Linear maps along one dimension by a table of taps: interpolation, averages over windows, and their gradients.

The table gives for every result the positions it reads (-1: none) and their weights. The gradient is the same kernel with the
transposed table, so nothing is added atomically and results do not depend on the order of programs.
"""
from __future__ import annotations

from math import prod

import triton
import triton.language as tl

from fusetorch.runtime.launch import Kernel
from fusetorch.runtime.memory import DeviceArray, empty
from fusetorch.triton_kernels import scalar
from fusetorch.triton_kernels.layout import TRITON_TYPES, accumulator, cdiv, tile
from fusetorch.triton_kernels.pointwise import BLOCK, contiguous


@triton.jit(do_not_specialize=["count", "n_in", "n_out", "inner", "taps"])
def _resample(x, index, weight, out, count, n_in, n_out, inner, taps, WEIGHTED: tl.constexpr, TYPE: tl.constexpr,
              INDEX: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    mask = i < count
    row = i // inner
    result = row % n_out
    base = (row // n_out) * n_in * inner + i % inner
    total = tl.zeros((BLOCK,), TYPE)
    for t in range(taps):
        at = tl.load(index + result * taps + t, mask, other=-1)
        live = at >= 0
        value = scalar.cast(tl.load(x + base + at.to(INDEX) * inner, live, other=0), TYPE)
        if WEIGHTED:
            value *= tl.load(weight + result * taps + t, live, other=0)
        total += value
    tl.store(out + i, scalar.cast(total, out.dtype.element_ty), mask)


@triton.jit(do_not_specialize=["count", "n_in", "n_out", "inner", "taps", "shift"])
def _resample_bytes(x, index, weight, out, count, n_in, n_out, inner, taps, shift, INDEX: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    mask = i < count
    row = i // inner
    result = row % n_out
    base = (row // n_out) * n_in * inner + i % inner
    total = tl.zeros((BLOCK,), tl.int32) + (1 << (shift - 1))
    for t in range(taps):
        at = tl.load(index + result * taps + t, mask, other=-1)
        live = at >= 0
        value = tl.load(x + base + at.to(INDEX) * inner, live, other=0).to(tl.int32)
        total += value * tl.load(weight + result * taps + t, live, other=0)
    total = tl.minimum(tl.maximum(total >> shift, 0), 255)
    tl.store(out + i, total.to(tl.uint8), mask)


resample_bytes_kernel = Kernel(_resample_bytes, num_warps=4, fp_fusion=False)
resample_kernel = Kernel(_resample, num_warps=4, fp_fusion=False)


def resample(x: DeviceArray, dim: int, index: DeviceArray, weight: DeviceArray | None) -> DeviceArray:
    """``out[i] = sum over t of weight[i, t] * x[index[i, t]]`` along ``dim``.

    Args:
        index: int32 (results, taps); -1 is no tap.
        weight: as ``index``, in float32 (float64 for float64 ``x``), or ``None`` for ones.
    """
    x = contiguous(x)
    n_out, taps = index.shape
    out = empty((*x.shape[:dim], n_out, *x.shape[dim + 1:]), x.dtype, x.storage.device_index)
    if out.size:
        block = tile(out.size, BLOCK // 4)
        resample_kernel((cdiv(out.size, block),), x, index, index if weight is None else weight, out, out.size, x.shape[dim], n_out,
                        prod(x.shape[dim + 1:]), taps, WEIGHTED=weight is not None, TYPE=TRITON_TYPES[accumulator(x.dtype)],
                        INDEX=tl.int64 if max(x.size, out.size) >= 2**31 else tl.int32, BLOCK=block)
    return out


def resample_bytes(x: DeviceArray, dim: int, index: DeviceArray, weight: DeviceArray, shift: int) -> DeviceArray:
    """:func:`resample` of uint8 in fixed point: int32 weights, times ``2 ** shift``; the result is rounded and cut to 0 .. 255."""
    x = contiguous(x)
    n_out, taps = index.shape
    out = empty((*x.shape[:dim], n_out, *x.shape[dim + 1:]), x.dtype, x.storage.device_index)
    if out.size:
        block = tile(out.size, BLOCK // 4)
        resample_bytes_kernel((cdiv(out.size, block),), x, index, weight, out, out.size, x.shape[dim], n_out, prod(x.shape[dim + 1:]),
                              taps, shift, INDEX=tl.int64 if max(x.size, out.size) >= 2**31 else tl.int32, BLOCK=block)
    return out
