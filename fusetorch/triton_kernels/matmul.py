"""Matrix multiplication from pointers: any strides (so transposed operands need no copy), batches, an optional bias.

``C[batch, M, N] = A[batch, M, K] @ B[batch, K, N] (+ bias[N])``. Half types multiply on the tensor cores with float32
accumulation; float32 multiplies in full precision unless TF32 is allowed; float64 in float64; integers without tensor cores.
Programs are numbered in groups of rows so that neighbours share operands in L2 (the ordering of Triton's matmul tutorial).
Edges: rows and columns past the end are read modulo the size (and not stored), so only K needs a mask.
"""
from __future__ import annotations

from dataclasses import dataclass
from math import prod

import triton
import triton.language as tl

from fusetorch import dtypes
from fusetorch.dtypes import dtype
from fusetorch.runtime import device
from fusetorch.runtime.launch import Kernel
from fusetorch.runtime.memory import DeviceArray, empty
from fusetorch.shapes import broadcast_shapes
from fusetorch.triton_kernels import scalar
from fusetorch.triton_kernels.layout import TRITON_TYPES, cdiv, collapse, common_factor, expand, pow2
from fusetorch.triton_kernels.pointwise import fill, pointwise_into
from fusetorch.triton_kernels.reduce import reduce, reduce_into


@triton.jit
def _program(m, n, batch_inner, BM: tl.constexpr, BN: tl.constexpr, GROUP: tl.constexpr):
    """(outer batch, inner batch, row block, column block) of this program."""
    blocks_m = tl.cdiv(m, BM)
    blocks_n = tl.cdiv(n, BN)
    batch = (tl.program_id(0) // (blocks_m * blocks_n)).to(tl.int64)
    at = tl.program_id(0) % (blocks_m * blocks_n)
    group = at // (GROUP * blocks_n)
    height = tl.minimum(blocks_m - group * GROUP, GROUP)
    within = at % (GROUP * blocks_n)
    return batch // batch_inner, batch % batch_inner, group * GROUP + within % height, within // height


@triton.jit
def _store(out, bias, acc, rows, columns, m, n):
    if bias is not None:
        acc += tl.load(bias + columns, columns < n, other=0).to(acc.dtype)[None, :]
    offsets = rows[:, None].to(tl.int64) * n + columns[None, :]
    tl.store(out + offsets, scalar.cast(acc, out.dtype.element_ty), (rows[:, None] < m) & (columns[None, :] < n))


@triton.jit
def _wrapped(at, size, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """Row or column numbers taken modulo ``size``. WIDE: no load of 16 bytes straddles the end."""
    if WIDE:
        return tl.max_contiguous(tl.multiple_of(at % size, BLOCK), BLOCK).to(tl.int64)
    else:
        return (at % size).to(tl.int64)


@triton.jit
def _offsets(lines, ks, line_step, k_step, ORDER: tl.constexpr, VEC: tl.constexpr):
    """Offsets of a tile, and from one k to the next. ``lines``: rows of A or columns of B, already a row or column of the tile.
    ORDER: "k" if neighbours along k are adjacent in memory, "line" if neighbouring lines are, "any"; with the first two the
    other step comes divided by VEC."""
    if ORDER == "k":
        return lines * (line_step * VEC) + ks, tl.full((), 1, tl.int64)
    elif ORDER == "line":
        return lines + ks.to(tl.int64) * (k_step * VEC), tl.full((), VEC, tl.int64) * k_step
    else:
        return lines * line_step + ks.to(tl.int64) * k_step, tl.full((), 1, tl.int64) * k_step


@triton.jit(do_not_specialize=["m", "n", "k", "batches", "batch_inner", "a_outer", "a_inner", "b_outer", "b_inner", "a_m", "a_k",
                               "b_k", "b_n", "k_tiles"])
def _matmul(a, b, bias, out, m, n, k, batches, batch_inner, a_outer, a_inner, b_outer, b_inner, a_m, a_k, b_k, b_n, k_tiles,
            ACC: tl.constexpr, PRECISION: tl.constexpr, ORDER_A: tl.constexpr, ORDER_B: tl.constexpr, VEC_A: tl.constexpr,
            VEC_B: tl.constexpr, VEC_N: tl.constexpr, VEC_K: tl.constexpr, WIDE_A: tl.constexpr, WIDE_B: tl.constexpr,
            EVEN_K: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr):
    """n, k and batch strides come divided by VEC_N, VEC_K, VEC_A and VEC_B, so that the compiler knows these factors. Program
    axis 1 is the part of k, ``k_tiles`` tiles long; each part stores matrices of its own."""
    n = n * VEC_N
    k = k * VEC_K
    batch0, batch1, block_m, block_n = _program(m, n, batch_inner, BM, BN, GROUP)
    part = tl.program_id(1)
    rows = block_m * BM + tl.arange(0, BM)
    columns = block_n * BN + tl.arange(0, BN)
    ks = tl.arange(0, BK)
    a_offsets, a_step = _offsets(_wrapped(rows, m, WIDE_A, BM)[:, None], ks[None, :], a_m, a_k, ORDER_A, VEC_A)
    b_offsets, b_step = _offsets(_wrapped(columns, n, WIDE_B, BN)[None, :], ks[:, None], b_n, b_k, ORDER_B, VEC_B)
    first = part * k_tiles * BK
    last = tl.minimum(first + k_tiles * BK, k)
    a += (batch0 * a_outer + batch1 * a_inner) * VEC_A + a_step * BK * (part * k_tiles) + a_offsets
    b += (batch0 * b_outer + batch1 * b_inner) * VEC_B + b_step * BK * (part * k_tiles) + b_offsets
    acc = tl.zeros((BM, BN), ACC)
    for at in range(first, last, BK):
        if EVEN_K:
            x = tl.load(a)
            y = tl.load(b)
        else:
            x = tl.load(a, ks[None, :] < k - at, other=0)
            y = tl.load(b, ks[:, None] < k - at, other=0)
        acc = tl.dot(x, y, acc, input_precision=PRECISION, out_dtype=ACC)
        a += a_step * BK
        b += b_step * BK
    matrix = part.to(tl.int64) * batches + batch0 * batch_inner + batch1
    _store(out + matrix * m * n, bias, acc, rows, columns, m, n)


@triton.jit
def _matmul_integer(a, b, bias, out, m, n, k, batch_inner, a_outer, a_inner, b_outer, b_inner, a_m, a_k, b_k, b_n,
                    ACC: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """Products of [rows, k, columns] summed over k, without tl.dot; wraps around as integers do."""
    batch0, batch1, block_m, block_n = _program(m, n, batch_inner, BM, BN, 8)
    rows = block_m * BM + tl.arange(0, BM)
    columns = block_n * BN + tl.arange(0, BN)
    a += batch0 * a_outer + batch1 * a_inner
    b += batch0 * b_outer + batch1 * b_inner
    acc = tl.zeros((BM, BN), ACC)
    for at in range(0, k, BK):
        ks = (at + tl.arange(0, BK)).to(tl.int64)
        x = tl.load(a + rows[:, None].to(tl.int64) * a_m + ks[None, :] * a_k, (rows[:, None] < m) & (ks[None, :] < k), other=0)
        y = tl.load(b + ks[:, None] * b_k + columns[None, :].to(tl.int64) * b_n, (ks[:, None] < k) & (columns[None, :] < n),
                    other=0)
        acc += tl.sum(scalar.cast(x, ACC)[:, :, None] * scalar.cast(y, ACC)[None, :, :], 1)
    _store(out + (batch0 * batch_inner + batch1) * m * n, bias, acc, rows, columns, m, n)


matmul_kernel = Kernel(_matmul, num_warps=4, num_stages=3, fp_fusion=True)
integer_kernel = Kernel(_matmul_integer, num_warps=4, fp_fusion=False)


# ---- host side


@dataclass(frozen=True)
class Config:
    """Tile sizes and how a program runs."""

    bm: int
    bn: int
    bk: int
    num_warps: int
    num_stages: int


FULL = 132  # programs that fill the device (an H100's multiprocessors); with fewer: smaller tiles, or k in parts


def config(m: int, n: int, k: int, batches: int, dt: dtype, tf32: bool, aligned: bool, capability: int) -> Config:
    """Tiles for a product of ``batches`` times [m, k] @ [k, n] on ``sm_<capability>``. ``aligned``: both operands can be read
    16 bytes at a time (else each thread holds its loads in registers, and tiles must be small)."""
    def fills(bm: int, bn: int) -> bool:
        return batches * cdiv(m, bm) * cdiv(n, bn) >= FULL

    if device.simulated():  # the interpreter's time is in the number of programs
        return Config(*(min(max(pow2(s), 16), 512) for s in (m, n, k)), 4, 1)
    if dt is dtypes.float64:
        return Config(64, 64, 16, 4, 3) if fills(64, 64) else Config(32, 32, 16, 4, 3)
    if dt is dtypes.float32 and not tf32:
        if fills(128, 64) and aligned:
            return Config(128, 64, 16, 8, 3)
        return Config(64, 64, 16, 4, 2) if fills(64, 64) else Config(32, 32, 32, 4, 2)
    if not aligned:
        return Config(128, 64, 32, 8, 2) if fills(128, 64) else Config(64, 64, 32, 4, 2)
    if dt is dtypes.float32:
        return Config(128, 128, 32, 8, 3) if fills(128, 128) else Config(64, 64, 32, 4, 3)
    if capability in (90, 100, 103) and fills(128, 256) and m >= 128 and n >= 256:
        return Config(128, 256, 64, 8, 3)
    if fills(128, 128) and m >= 128 and n >= 128:
        # consumer GPUs have 99 KB of shared memory a block
        return Config(128, 128, 64 if capability in (80, 90, 100, 103) else 32, 8, 3)
    if m <= 16:
        return Config(16, 64, 128, 4, 3)
    if n <= 16:
        return Config(64, 16, 128, 4, 3)
    return Config(64, 64, 64, 4, 3)


def matmul(a: DeviceArray, b: DeviceArray, out_dtype: dtype | None = None, *, bias: DeviceArray | None = None,
           allow_tf32: bool = False) -> DeviceArray:
    """``a @ b (+ bias)`` in a new contiguous array.

    Args:
        a, b: shapes (..., M, K) and (..., K, N), one dtype; leading dimensions broadcast. Any strides: a transposed operand
            costs no copy, a repeated one (stride 0) no memory.
        out_dtype: of the result; ``a``'s unless given. Accumulation: float32 for half types and float32, float64, int32
            (int64 for int64).
        bias: shape (N,), added before rounding to ``out_dtype``.
        allow_tf32: let float32 be multiplied with 10 bits of mantissa on the tensor cores.

    Raises ``RuntimeError`` where the shapes or dtypes do not fit.

    Example:
        >>> matmul(x, w.view((64, 10), (1, 64), w.offset), bias=bias).shape  # x @ w.T + bias        # doctest: +SKIP
        (32, 10)
    """
    if len(a.shape) < 2 or len(b.shape) < 2 or a.shape[-1] != b.shape[-2]:
        raise RuntimeError(f"matmul: mat1 and mat2 shapes cannot be multiplied ({list(a.shape)} and {list(b.shape)})")
    if a.dtype is not b.dtype:
        raise RuntimeError(f"expected m1 and m2 to have the same dtype, but got: {a.dtype.name} != {b.dtype.name}")
    if a.dtype is dtypes.bool_:
        raise NotImplementedError("matmul: not implemented for torch.bool on cuda; convert to an integer dtype first")
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    if bias is not None and bias.shape != (n,):
        raise RuntimeError(f"matmul: a bias of shape {list(bias.shape)} does not fit a product of {n} columns")
    batch = tuple(broadcast_shapes(a.shape[:-2], b.shape[:-2]))
    out = empty((*batch, m, n), out_dtype or a.dtype, a.storage.device_index)
    if out.size:
        if bias is not None and not bias.is_contiguous:
            bias = _dense(bias)
        _product(expand(a, (*batch, m, k)), expand(b, (*batch, k, n)), bias, out, allow_tf32)
    return out


def matmul_into(a: DeviceArray, b: DeviceArray, out: DeviceArray) -> None:
    """Writes ``a @ b`` of two floating matrices into row-major ``out``."""
    if out.size:
        _product(a, b, None, out, False)


def _dense(x: DeviceArray) -> DeviceArray:
    out = empty(x.shape, x.dtype, x.storage.device_index)
    pointwise_into("identity", [x], out, x.dtype)
    return out


def _product(a: DeviceArray, b: DeviceArray, bias: DeviceArray | None, out: DeviceArray, tf32: bool) -> None:
    """``out`` = a @ b + bias, all three with the same batch dimensions."""
    if not a.shape[-1]:
        fill(out, 0)
        if bias is not None:
            pointwise_into("add", [out, bias], out, out.dtype)
        return
    rank = len(out.shape) - 2
    folded, (folded_strides,) = collapse(a.shape[:-1], a.strides[:-1])
    if rank and len(folded) <= 1 and not any(s for d, s in zip(b.shape[:-2], b.strides[:-2]) if d != 1):
        # one matrix for all batches of a: their rows are the rows of one product
        rows = prod(a.shape[:-1])
        a = a.view((rows, a.shape[-1]), ((folded_strides or [0])[0], a.strides[-1]), a.offset)
        b = b.view(b.shape[-2:], b.strides[-2:], b.offset)
        out = out.view((rows, out.shape[-1]), (out.shape[-1], 1), out.offset)
        rank = 0
    sizes, (sa, sb, so) = collapse(out.shape[:rank], a.strides[:rank], b.strides[:rank], out.strides[:rank])
    if len(sizes) > 2:
        for i in range(sizes[0]):
            _product(*(x.view((*sizes[1:], *x.shape[-2:]), (*s[1:], *x.strides[-2:]), x.offset + i * s[0])
                       for x, s in ((a, sa), (b, sb))), bias,
                     out.view((*sizes[1:], *out.shape[-2:]), (*so[1:], *out.strides[-2:]), out.offset + i * so[0]), tf32)
        return
    outer, inner = ([1, 1] + sizes)[-2:]
    (a_outer, a_inner), (b_outer, b_inner) = ([0, 0] + sa)[-2:], ([0, 0] + sb)[-2:]
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    (a_m, a_k), (b_k, b_n) = _steps(a), _steps(b)
    batches = outer * inner
    if not a.dtype.is_floating_point:
        size = 64 if device.simulated() else 32
        bm, bn, bk = min(pow2(m), size), min(pow2(n), size), min(pow2(k), 64 if device.simulated() else 8)
        integer_kernel((batches * cdiv(m, bm) * cdiv(n, bn),), a, b, bias, out, m, n, k, inner, a_outer, a_inner, b_outer,
                       b_inner, a_m, a_k, b_k, b_n, ACC=tl.int64 if a.dtype is dtypes.int64 else tl.int32, BM=bm, BN=bn, BK=bk)
        return
    acc = dtypes.float64 if a.dtype is dtypes.float64 else dtypes.float32
    order_a = "k" if a_k == 1 else "line" if a_m == 1 else "any"
    order_b = "line" if b_n == 1 else "k" if b_k == 1 else "any"
    vec_a = common_factor(a_outer, a_inner, {"k": a_m, "line": a_k, "any": 1}[order_a])
    vec_b = common_factor(b_outer, b_inner, {"k": b_n, "line": b_k, "any": 1}[order_b])
    lanes = 16 // a.itemsize
    aligned = "any" not in (order_a, order_b) and min(vec_a, vec_b) >= lanes and not (a.ptr | b.ptr) & 15
    c = config(m, n, k, batches, a.dtype, tf32, aligned, device.compute_capability(a.storage.device_index))
    tiles = batches * cdiv(m, c.bm) * cdiv(n, c.bn)
    # a long k and few tiles: k in parts of at least 512, added up afterwards in a fixed order
    parts = 1 if device.simulated() else max(1, min(FULL // tiles, k // 512))
    k_tiles = cdiv(cdiv(k, c.bk), parts)
    parts = cdiv(cdiv(k, c.bk), k_tiles)
    target = out if parts == 1 else empty((parts, *out.shape), acc, out.storage.device_index)
    vec_n, vec_k = common_factor(n), common_factor(k)
    matmul_kernel((tiles, parts), a, b, bias if parts == 1 else None, target, m, n // vec_n, k // vec_k, batches, inner,
                  a_outer // vec_a, a_inner // vec_a, b_outer // vec_b, b_inner // vec_b, a_m // vec_a if order_a == "k" else a_m,
                  a_k // vec_a if order_a == "line" else a_k, b_k // vec_b if order_b == "line" else b_k,
                  b_n // vec_b if order_b == "k" else b_n, k_tiles, ACC=TRITON_TYPES[acc],
                  PRECISION="tf32" if tf32 else "ieee", ORDER_A=order_a, ORDER_B=order_b, VEC_A=vec_a, VEC_B=vec_b,
                  VEC_N=vec_n, VEC_K=vec_k, WIDE_A=order_a == "line" and m % lanes == 0,
                  WIDE_B=order_b == "line" and n % lanes == 0, EVEN_K=k % c.bk == 0, BM=c.bm, BN=c.bn, BK=c.bk, GROUP=8,
                  num_warps=c.num_warps, num_stages=c.num_stages)
    if parts > 1:
        if bias is None:
            reduce_into("sum", target, [0], out)
        else:
            pointwise_into("add", [reduce("sum", target, [0], acc), bias], out, acc)


def _steps(x: DeviceArray) -> tuple[int, int]:
    """The strides of rows and columns. That of a dimension of size 1 is never used: it is given as best serves alignment."""
    rows, columns = x.strides[-2:]
    if x.shape[-2] == 1:
        rows = 1 if columns != 1 else 16
    elif x.shape[-1] == 1:
        columns = 1 if rows != 1 else 16
    return rows, columns
