"""softmax and log_softmax over the last dimension, forward and backward.

A row that fits in a block (16384 elements) is read once and stays in registers, several short rows to a program; a longer one
is read twice, the first time with a running maximum and sum per lane (M. Milakov, N. Gimelshein, "Online normalizer calculation
for softmax", 2018). Half types compute in float32. A row of -inf gives NaN, as in PyTorch.
"""
from __future__ import annotations

import triton
import triton.language as tl

from fusetorch import dtypes
from fusetorch.dtypes import dtype
from fusetorch.runtime.launch import Kernel
from fusetorch.runtime.memory import DeviceArray, empty
from fusetorch.triton_kernels import scalar
from fusetorch.triton_kernels.layout import TRITON_TYPES, cdiv, common_factor, pow2, tile
from fusetorch.triton_kernels.pointwise import as_rows

ONE_BLOCK = 16384  # columns up to which a row stays in registers
LOOP_BLOCK = 2048
TILE = 2048


@triton.jit
def _rows(m, stride, VEC: tl.constexpr):
    return m[:, None].to(tl.int64) * (stride * VEC)


@triton.jit
def _load(x, mask, COMPUTE: tl.constexpr, FILL: tl.constexpr):
    value = scalar.cast(tl.load(x, mask), COMPUTE)
    return tl.where(mask, value, tl.full((1, 1), FILL, COMPUTE))


@triton.jit
def _online(running, total, value):
    """Running maximum and sum of exp(value - maximum), lane by lane."""
    largest = scalar.maximum(running, value)
    shift = tl.where(largest == float("-inf"), 0.0, largest).to(value.dtype)
    return largest, total * scalar.exp(running - shift) + scalar.exp(value - shift)


@triton.jit
def _combine_lanes(running, total):
    """(maximum, sum) of a row from those of its lanes."""
    largest = tl.max(running, 1)[:, None]
    shift = tl.where(largest == float("-inf"), 0.0, largest).to(running.dtype)
    return largest, tl.sum(total * scalar.exp(running - shift), 1)[:, None]


@triton.jit(do_not_specialize=["rows", "n", "x_stride"])
def _softmax(x, out, rows, n, x_stride, LOG: tl.constexpr, COMPUTE: tl.constexpr, ONE: tl.constexpr, VEC: tl.constexpr,
             BM: tl.constexpr, BN: tl.constexpr):
    """n and x_stride come divided by VEC; ``out`` is contiguous."""
    n = n * VEC
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    c = tl.arange(0, BN)[None, :]
    in_m = (m < rows)[:, None]
    x += _rows(m, x_stride, VEC) + c
    out += m[:, None].to(tl.int64) * n + c
    if ONE:
        mask = in_m & (c < n)
        value = _load(x, mask, COMPUTE, float("-inf"))
        value = value - tl.max(value, 1)[:, None]
        e = scalar.exp(value)
        total = tl.sum(tl.where(mask, e, 0.0).to(COMPUTE), 1)[:, None]
        y = value - scalar.log(total) if LOG else scalar.div(e, total)
        tl.store(out, scalar.cast(y, out.dtype.element_ty), mask)
    else:
        running = tl.full((BM, BN), float("-inf"), COMPUTE)
        total = tl.zeros((BM, BN), COMPUTE)
        for at in range(0, n, BN):
            running, total = _online(running, total, _load(x + at, in_m & (at + c < n), COMPUTE, float("-inf")))
        largest, sum = _combine_lanes(running, total)
        log_sum = scalar.log(sum)
        for at in range(0, n, BN):
            mask = in_m & (at + c < n)
            value = _load(x + at, mask, COMPUTE, 0.0) - largest
            y = value - log_sum if LOG else scalar.div(scalar.exp(value), sum)
            tl.store(out + at, scalar.cast(y, out.dtype.element_ty), mask)


@triton.jit
def _gradient(y, g, total, LOG: tl.constexpr):
    if LOG:
        return g - scalar.exp(y) * total
    else:
        return y * (g - total)


@triton.jit(do_not_specialize=["rows", "n", "y_stride", "g_stride"])
def _softmax_backward(y, g, out, rows, n, y_stride, g_stride, LOG: tl.constexpr, COMPUTE: tl.constexpr, ONE: tl.constexpr,
                      VEC: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    n = n * VEC
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    c = tl.arange(0, BN)[None, :]
    in_m = (m < rows)[:, None]
    y += _rows(m, y_stride, VEC) + c
    g += _rows(m, g_stride, VEC) + c
    out += m[:, None].to(tl.int64) * n + c
    if ONE:
        mask = in_m & (c < n)
        yv = _load(y, mask, COMPUTE, 0.0)
        gv = _load(g, mask, COMPUTE, 0.0)
        total = tl.sum(gv if LOG else gv * yv, 1)[:, None]
        tl.store(out, scalar.cast(_gradient(yv, gv, total, LOG), out.dtype.element_ty), mask)
    else:
        acc = tl.zeros((BM, BN), COMPUTE)
        for at in range(0, n, BN):
            mask = in_m & (at + c < n)
            gv = _load(g + at, mask, COMPUTE, 0.0)
            if LOG:
                acc += gv
            else:
                acc += gv * _load(y + at, mask, COMPUTE, 0.0)
        total = tl.sum(acc, 1)[:, None]
        for at in range(0, n, BN):
            mask = in_m & (at + c < n)
            r = _gradient(_load(y + at, mask, COMPUTE, 0.0), _load(g + at, mask, COMPUTE, 0.0), total, LOG)
            tl.store(out + at, scalar.cast(r, out.dtype.element_ty), mask)


softmax_kernel = Kernel(_softmax, fp_fusion=False)
softmax_backward_kernel = Kernel(_softmax_backward, fp_fusion=False)


# ---- host side


def row_tiles(rows: int, n: int, one_block: int = ONE_BLOCK) -> tuple[bool, int, int, int]:
    """(whether a row is one block, rows and columns of a tile, warps)."""
    one = n <= one_block
    bn = pow2(n) if one else LOOP_BLOCK
    bm = min(pow2(rows), max(1, tile(rows * bn, TILE) // bn))
    return one, bm, bn, (4 if bn <= 2048 else 8 if bn <= 8192 else 16) if one else 8


def compute_type(dt: dtype) -> dtype:
    """float64 for float64, else float32."""
    return dtypes.float64 if dt is dtypes.float64 else dtypes.float32


def softmax(x: DeviceArray, *, log: bool = False, out_dtype: dtype | None = None) -> DeviceArray:
    """softmax (``log``: its logarithm) of ``x`` over the last dimension, in ``out_dtype`` (``x``'s unless given)."""
    out = empty(x.shape, out_dtype or x.dtype, x.storage.device_index)
    if out.size:
        r = as_rows(x if x.shape else x.view((1,), (1,), x.offset))
        rows, n = r.shape
        one, bm, bn, warps = row_tiles(rows, n)
        vec = common_factor(n, r.strides[0] if rows > 1 else 0)
        softmax_kernel((cdiv(rows, bm),), r, out, rows, n // vec, r.strides[0] // vec, LOG=log,
                       COMPUTE=TRITON_TYPES[compute_type(out.dtype)], ONE=one, VEC=vec, BM=bm, BN=bn, num_warps=warps)
    return out


def softmax_backward(y: DeviceArray, g: DeviceArray, *, log: bool = False, out_dtype: dtype | None = None) -> DeviceArray:
    """Gradient of the input, from the output ``y`` and its gradient ``g`` (same shape), in ``out_dtype`` (``g``'s)."""
    if y.shape != g.shape:
        raise RuntimeError(f"softmax_backward: output of shape {list(y.shape)} and gradient of shape {list(g.shape)} differ")
    out = empty(y.shape, out_dtype or g.dtype, y.storage.device_index)
    if out.size:
        ry, rg = (as_rows(a if a.shape else a.view((1,), (1,), a.offset)) for a in (y, g))
        rows, n = ry.shape
        one, bm, bn, warps = row_tiles(rows, n, ONE_BLOCK // 2)
        vec = common_factor(n, *(r.strides[0] if rows > 1 else 0 for r in (ry, rg)))
        softmax_backward_kernel((cdiv(rows, bm),), ry, rg, out, rows, n // vec, ry.strides[0] // vec, rg.strides[0] // vec,
                                LOG=log, COMPUTE=TRITON_TYPES[compute_type(y.dtype)], ONE=one, VEC=vec, BM=bm, BN=bn,
                                num_warps=warps)
    return out
