"""Weighted sums of elements of planes at given positions, and their two gradients: the core of grid sampling.

Planes are (N, C, S), positions and weights (N, K, P), results (N, C, P); a position of -1 is none. The gradient of the planes is added by
atomics in float32 (float64 for float64): its last bits may differ from run to run. All else is deterministic.
"""
from __future__ import annotations

import triton
import triton.language as tl

from fusetorch.runtime.launch import Kernel
from fusetorch.runtime.memory import DeviceArray, empty
from fusetorch.triton_kernels import scalar
from fusetorch.triton_kernels.layout import TRITON_TYPES, cdiv, tile
from fusetorch.triton_kernels.pointwise import BLOCK, contiguous, copy, full
from fusetorch.triton_kernels.softmax import compute_type


@triton.jit(do_not_specialize=["count", "channels", "size", "places", "taps"])
def _weighted_gather(planes, position, weight, out, count, channels, size, places, taps, TYPE: tl.constexpr, INDEX: tl.constexpr,
                     BLOCK: tl.constexpr):
    i = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    mask = i < count
    plane = i // places
    tap = (plane // channels) * taps * places + i % places
    total = tl.zeros((BLOCK,), TYPE)
    for _ in range(taps):
        at = tl.load(position + tap, mask, other=-1).to(INDEX)
        live = at >= 0
        value = scalar.cast(tl.load(planes + plane * size + at, live, other=0), TYPE)
        total += value * scalar.cast(tl.load(weight + tap, live, other=0), TYPE)
        tap += places
    tl.store(out + i, scalar.cast(total, out.dtype.element_ty), mask)


@triton.jit(do_not_specialize=["count", "channels", "size", "places", "taps"])
def _weighted_scatter(result, position, weight, out, count, channels, size, places, taps, TYPE: tl.constexpr, INDEX: tl.constexpr,
                      BLOCK: tl.constexpr):
    i = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    mask = i < count
    plane = i // places
    tap = (plane // channels) * taps * places + i % places
    value = scalar.cast(tl.load(result + i, mask, other=0), TYPE)
    for _ in range(taps):
        at = tl.load(position + tap, mask, other=-1).to(INDEX)
        live = at >= 0
        part = value * scalar.cast(tl.load(weight + tap, live, other=0), TYPE)
        tl.atomic_add(out + plane * size + at, part, live, sem="relaxed")
        tap += places


@triton.jit(do_not_specialize=["count", "channels", "size", "places", "taps"])
def _gathered_dot(result, planes, position, out, count, channels, size, places, taps, TYPE: tl.constexpr, INDEX: tl.constexpr,
                  BLOCK: tl.constexpr):
    i = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    mask = i < count
    image = i // places // taps
    at = tl.load(position + i, mask, other=-1).to(INDEX)
    live = at >= 0
    g = image * channels * places + i % places
    x = image * channels * size + at
    total = tl.zeros((BLOCK,), TYPE)
    for _ in range(channels):
        total += scalar.cast(tl.load(result + g, live, other=0), TYPE) * scalar.cast(tl.load(planes + x, live, other=0), TYPE)
        g += places
        x += size
    tl.store(out + i, scalar.cast(total, out.dtype.element_ty), mask)


gather_kernel = Kernel(_weighted_gather, num_warps=4, fp_fusion=False)
scatter_kernel = Kernel(_weighted_scatter, num_warps=4, fp_fusion=False)
dot_kernel = Kernel(_gathered_dot, num_warps=4, fp_fusion=False)


def _launch(kernel: Kernel, arrays: list[DeviceArray], over: DeviceArray, channels: int, size: int, position: DeviceArray) -> None:
    """One lane for each element of ``over``."""
    if not over.size:
        return
    block = tile(over.size, BLOCK // 4)
    large = max(a.size for a in arrays) >= 2**31
    kernel((cdiv(over.size, block),), *arrays, over.size, channels, size, position.shape[2], position.shape[1],
           TYPE=TRITON_TYPES[compute_type(over.dtype)], INDEX=tl.int64 if large else tl.int32, BLOCK=block)


def weighted_gather(planes: DeviceArray, position: DeviceArray, weight: DeviceArray) -> DeviceArray:
    """``out[n, c, p] = sum over k of weight[n, k, p] * planes[n, c, position[n, k, p]]``."""
    planes, position, weight = contiguous(planes), contiguous(position), contiguous(weight)
    n, channels, size = planes.shape
    out = empty((n, channels, position.shape[2]), planes.dtype, planes.storage.device_index)
    _launch(gather_kernel, [planes, position, weight, out], out, channels, size, position)
    return out


def weighted_scatter(result: DeviceArray, position: DeviceArray, weight: DeviceArray, size: int) -> DeviceArray:
    """``out[n, c, s] = sum over the (k, p) whose position is s of weight[n, k, p] * result[n, c, p]``."""
    result, position, weight = contiguous(result), contiguous(position), contiguous(weight)
    n, channels, _ = result.shape
    compute, at = compute_type(result.dtype), result.storage.device_index
    total = full((n, channels, size), 0, compute, at)
    _launch(scatter_kernel, [result, position, weight, total], result, channels, size, position)
    if compute is result.dtype:
        return total
    out = empty(total.shape, result.dtype, at)
    copy(total, out)
    return out


def gathered_dot(result: DeviceArray, planes: DeviceArray, position: DeviceArray) -> DeviceArray:
    """``out[n, k, p] = sum over c of result[n, c, p] * planes[n, c, position[n, k, p]]``."""
    result, planes, position = contiguous(result), contiguous(planes), contiguous(position)
    out = empty(position.shape, planes.dtype, planes.storage.device_index)
    _launch(dot_kernel, [result, planes, position, out], out, planes.shape[1], planes.shape[2], position)
    return out
