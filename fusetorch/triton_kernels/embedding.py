"""embedding: rows of a table by number, and the gradient of the table.

The gradient is added up by atomics in float32 (float64 for a float64 table) and then converted. With a row number that occurs
more than twice the order of additions, and so the last bits, may differ from run to run; all else is deterministic.
"""
from __future__ import annotations

import triton
import triton.language as tl

from fusetorch import dtypes
from fusetorch.dtypes import dtype
from fusetorch.runtime.launch import Kernel
from fusetorch.runtime.memory import DeviceArray, empty
from fusetorch.triton_kernels import scalar
from fusetorch.triton_kernels.layout import cdiv, common_factor, pow2, tile
from fusetorch.triton_kernels.pointwise import as_rows, contiguous, copy, full
from fusetorch.triton_kernels.softmax import compute_type


@triton.jit(do_not_specialize=["count", "size", "n", "stride"])
def _embedding(table, index, out, count, size, n, stride, VEC: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """n and stride come divided by VEC."""
    n = n * VEC
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    c = tl.program_id(1) * BN + tl.arange(0, BN)[None, :]
    row = tl.load(index + m, m < count, other=0).to(tl.int64)
    inside = (row >= 0) & (row < size)
    mask = (m < count)[:, None] & (c < n)
    value = tl.load(table + row[:, None] * (stride * VEC) + c, mask & inside[:, None])
    value = tl.where(inside[:, None], value, float("nan")).to(out.dtype.element_ty)
    tl.store(out + m[:, None].to(tl.int64) * n + c, value, mask)


@triton.jit(do_not_specialize=["count", "size", "n", "stride", "padding"])
def _embedding_backward(g, index, out, count, size, n, stride, padding, VEC: tl.constexpr, BM: tl.constexpr,
                        BN: tl.constexpr):
    n = n * VEC
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    c = tl.program_id(1) * BN + tl.arange(0, BN)[None, :]
    row = tl.load(index + m, m < count, other=-1).to(tl.int64)
    mask = ((row >= 0) & (row < size) & (row != padding))[:, None] & (c < n)
    value = scalar.cast(tl.load(g + m[:, None].to(tl.int64) * (stride * VEC) + c, mask), out.dtype.element_ty)
    tl.atomic_add(out + row[:, None] * n + c, value, mask, sem="relaxed")


embedding_kernel = Kernel(_embedding, num_warps=4, fp_fusion=False)
embedding_backward_kernel = Kernel(_embedding_backward, num_warps=4, fp_fusion=False)


def _tiles(count: int, n: int) -> tuple[int, int]:
    bn = min(pow2(n), 1024)
    return min(pow2(count), max(1, tile(count * bn, 1024) // bn)), bn


def embedding(table: DeviceArray, index: DeviceArray) -> DeviceArray:
    """Rows of ``table`` (rows, n; floating) at ``index`` (int32 or int64, any shape), as (*index shape, n).

    A number outside [0, rows) gives a row of NaN, and no memory outside the table is read.
    """
    if len(table.shape) != 2 or not table.dtype.is_floating_point:
        raise RuntimeError(f"embedding: 'weight' must be a 2-D floating-point tensor, got {table}")
    if index.dtype not in (dtypes.int32, dtypes.int64):
        raise RuntimeError(f"Expected tensor for argument 'indices' to have one of the scalar types Long, Int; got "
                           f"{index.dtype.name} (while checking arguments for embedding)")
    size, n = table.shape
    out = empty((*index.shape, n), table.dtype, table.storage.device_index)
    if out.size:
        if not size:
            raise IndexError(f"embedding: index of shape {list(index.shape)} into an empty table of shape {list(table.shape)}")
        rows = as_rows(table)
        count = index.size
        bm, bn = _tiles(count, n)
        vec = common_factor(n, rows.strides[0])
        embedding_kernel((cdiv(count, bm), cdiv(n, bn)), rows, contiguous(index), out, count, size, n // vec,
                         rows.strides[0] // vec, VEC=vec, BM=bm, BN=bn)
    return out


def embedding_backward(g: DeviceArray, index: DeviceArray, size: int, *, padding_idx: int = -1,
                       out_dtype: dtype | None = None) -> DeviceArray:
    """Gradient of a table of ``size`` rows from the gradient ``g`` (*index shape, n) of :func:`embedding`'s result.

    Occurrences of row ``padding_idx`` (-1: none) add nothing. Not deterministic in the last bits (see the module).
    """
    n = g.shape[-1]
    compute = compute_type(g.dtype)
    total = full((size, n), 0, compute, g.storage.device_index)
    if g.size and size:
        rows = as_rows(g)
        count = index.size
        bm, bn = _tiles(count, n)
        vec = common_factor(n, rows.strides[0] if count > 1 else 0)
        embedding_backward_kernel((cdiv(count, bm), cdiv(n, bn)), rows, contiguous(index), total, count, size, n // vec,
                                  rows.strides[0] // vec, padding_idx, VEC=vec, BM=bm, BN=bn)
    if (out_dtype or g.dtype) is compute:
        return total
    out = empty((size, n), out_dtype or g.dtype, g.storage.device_index)
    copy(total, out)
    return out
