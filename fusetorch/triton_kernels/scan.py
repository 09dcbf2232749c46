"""Cumulative sums and products along a dimension, and what needs a prefix sum: nonzero."""
from __future__ import annotations

from math import prod

import triton
import triton.language as tl

from fusetorch import dtypes
from fusetorch.dtypes import dtype
from fusetorch.runtime.launch import Kernel
from fusetorch.runtime.memory import DeviceArray, empty, to_numpy
from fusetorch.triton_kernels import scalar
from fusetorch.triton_kernels.layout import (
    TRITON_TYPES,
    accumulator,
    cdiv,
    common_factor,
    pow2,
    tile,
)
from fusetorch.triton_kernels.pointwise import contiguous, pointwise_into
from fusetorch.triton_kernels.reduce import split

COUNT_BLOCK = 2048


@triton.jit
def _combine(x, y, PRODUCT: tl.constexpr):
    if PRODUCT:
        return scalar.mul(x, y)
    else:
        return scalar.add(x, y)


@triton.jit(do_not_specialize=["n_r", "n_b", "chunk"])
def _scan(x, out, totals, n_r, n_b, chunk, MODE: tl.constexpr, PRODUCT: tl.constexpr, ACC: tl.constexpr,
          ROWS: tl.constexpr, VEC: tl.constexpr, BR: tl.constexpr, BB: tl.constexpr):
    """The scan of contiguous [a, r, b] runs along r, carried from tile to tile. ROWS: of [b, r] instead. The length of the
    contiguous dimension comes divided by VEC. Program axis 1 is the part of r, ``chunk`` tiles long. MODE "scan" writes the scan
    of each part, which starts where ``totals`` [a, parts, b] (or [b, parts]; None: nowhere) say that the one before it ended;
    "total" writes each part's total there."""
    if ROWS:
        n_r = n_r * VEC
    else:
        n_b = n_b * VEC
    blocks = tl.cdiv(n_b, BB)
    a = (tl.program_id(0) // blocks).to(tl.int64)
    b = ((tl.program_id(0) % blocks) * BB + tl.arange(0, BB))[None, :]
    part = tl.program_id(1)
    parts = tl.num_programs(1)
    if ROWS:
        x += b.to(tl.int64) * n_r
        start_of = b.to(tl.int64) * parts + part
    else:
        x += a * n_r * n_b + b
        start_of = (a * parts + part) * n_b + b
    identity = tl.full((1, 1), 1 if PRODUCT else 0, ACC)
    carry = tl.broadcast_to(identity, (1, BB))
    if MODE == "scan" and totals is not None:
        before = start_of - 1 if ROWS else start_of - n_b
        inside = b < n_b * tl.minimum(part, 1)  # none for the first part
        carry = tl.where(inside, tl.load(totals + before, inside, other=0), identity)
    last = (tl.arange(0, BR) == BR - 1)[:, None]
    running = tl.broadcast_to(identity, (BR, BB))
    first = part * chunk * BR
    for at in range(first, tl.minimum(first + chunk * BR, n_r), BR):
        r = at + tl.arange(0, BR)[:, None]
        mask = (r < n_r) & (b < n_b)
        if ROWS:
            offset = r
        else:
            offset = r.to(tl.int64) * n_b
        value = tl.where(mask, scalar.cast(tl.load(x + offset, mask, other=0), ACC), identity)
        if MODE == "total":
            running = _combine(running, value, PRODUCT)
        else:
            if PRODUCT:
                value = tl.associative_scan(value, 0, scalar.mul) * carry
            else:
                value = tl.associative_scan(value, 0, scalar.add) + carry
            if ROWS:
                tl.store(out + b.to(tl.int64) * n_r + offset, scalar.cast(value, out.dtype.element_ty), mask)
            else:
                tl.store(out + a * n_r * n_b + b + offset, scalar.cast(value, out.dtype.element_ty), mask)
            carry = tl.sum(tl.where(last, value, 0).to(ACC), 0)[None, :]
    if MODE == "total":
        if PRODUCT:
            total = tl.reduce(running, 0, scalar.mul)[None, :]
        else:
            total = tl.reduce(running, 0, scalar.add)[None, :]
        tl.store(totals + start_of, total, b < n_b)


@triton.jit
def _found(x, start, n, BLOCK: tl.constexpr):
    """1 where an element is not zero, int32."""
    i = start + tl.arange(0, BLOCK)
    if start + BLOCK <= n:
        value = tl.load(x + i)
    else:
        value = tl.load(x + i, i < n, other=0)
    return scalar.cast(scalar.cast(value, tl.int1), tl.int32)


@triton.jit(do_not_specialize=["n"])
def _count(x, counts, n, BLOCK: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * BLOCK
    tl.store(counts + tl.program_id(0), tl.sum(_found(x, start, n, BLOCK), 0))


@triton.jit(do_not_specialize=["n"])
def _positions(x, ends, out, n, BLOCK: tl.constexpr):
    """Writes the numbers of the elements that are not zero; ``ends`` is the cumulative count at the end of each block."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    found = _found(x, start, n, BLOCK)
    before = tl.load(ends + tl.program_id(0)) - tl.sum(found, 0)
    tl.store(out + before + tl.cumsum(found, 0) - 1, start + tl.arange(0, BLOCK), found != 0)


scan_kernel = Kernel(_scan, num_warps=4, fp_fusion=False)
count_kernel = Kernel(_count, num_warps=4, fp_fusion=False)
positions_kernel = Kernel(_positions, num_warps=4, fp_fusion=False)


# ---- host side


def cumulative(kind: str, x: DeviceArray, dim: int, out_dtype: dtype) -> DeviceArray:
    """Cumulative ``"sum"`` or ``"prod"`` of ``x`` along ``dim``, in ``out_dtype``; summed in float32, float64 or int64."""
    out = empty(x.shape, out_dtype, x.storage.device_index)
    if out.size:
        x = contiguous(x)
        n_r = x.shape[dim] if x.shape else 1
        n_a, n_b = prod(x.shape[:dim]), prod(x.shape[dim + 1:])
        acc = accumulator(out_dtype if out_dtype.category >= x.dtype.category else x.dtype)
        rows = n_b == 1
        elements = tile(x.size, 4096 // acc.itemsize)
        if rows:
            n_a, n_b = 1, n_a
            br = min(pow2(n_r), elements)
            bb = min(pow2(n_b), elements // br)
        else:
            bb = min(pow2(n_b), 64, elements)
            br = min(pow2(n_r), elements // bb)
        vec = common_factor(n_r if rows else n_b)
        programs = n_a * cdiv(n_b, bb)
        parts, chunk = split(programs, n_r, br)
        sizes = (n_r // vec if rows else n_r, n_b if rows else n_b // vec, chunk)
        options = {"PRODUCT": kind == "prod", "ACC": TRITON_TYPES[acc], "ROWS": rows, "VEC": vec, "BR": br, "BB": bb}
        totals = None
        if parts > 1:
            # too few programs: each part's total, their scan, and the scan of each part from where the one before it ended
            totals = empty((n_b, parts) if rows else (n_a, parts, n_b), acc, x.storage.device_index)
            scan_kernel((programs, parts), x, out, totals, *sizes, MODE="total", **options)
            totals = cumulative(kind, totals, 1, acc)
        scan_kernel((programs, parts), x, out, totals, *sizes, MODE="scan", **options)
    return out


def flat_nonzero(x: DeviceArray) -> DeviceArray:
    """Row-major positions (int64, ascending) of the elements that are not zero. Waits for the device, to learn how many."""
    at, n = x.storage.device_index, x.size
    if not n:
        return empty((0,), dtypes.int64, at)
    x = contiguous(x)
    block = tile(n, COUNT_BLOCK)
    counts = empty((cdiv(n, block),), dtypes.int64, at)
    count_kernel((counts.size,), x, counts, n, BLOCK=block)
    ends = cumulative("sum", counts, 0, dtypes.int64)
    total = int(to_numpy(ends.view((1,), (1,), counts.size - 1))[0])
    out = empty((total,), dtypes.int64, at)
    if total:
        positions_kernel((counts.size,), x, ends, out, n, BLOCK=block)
    return out


def nonzero(x: DeviceArray) -> DeviceArray:
    """Coordinates (count, dimensions), int64, of the elements that are not zero, in row-major order."""
    at = flat_nonzero(x)
    count, rank = at.size, len(x.shape)
    out = empty((count, rank), dtypes.int64, x.storage.device_index)
    if count:
        for d in reversed(range(rank)):
            column = out.view((count,), (rank,), d)
            if d:
                pointwise_into("remainder", [at, x.shape[d]], column, dtypes.int64)
                pointwise_into("floor_divide", [at, x.shape[d]], at, dtypes.int64)
            else:
                pointwise_into("identity", [at], column, dtypes.int64)
    return out
