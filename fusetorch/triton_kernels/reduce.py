"""Reductions over any dimensions: sum, mean, prod, max, min, any, all, argmax, argmin.

Every reduction is brought to one picture: two kept dimensions [a, b] and one reduced dimension r, each with its stride. A
program owns one a, a block of b, and one split of r; its tile [r, b] is read along whichever of the two is contiguous, so rows
(last axis), columns (first or middle axis) and whole arrays are the same kernel. Where there are too few programs to fill
a GPU, r is split and a second pass combines the parts. No atomics: results do not vary between runs.

Sums of half types are kept in float32, of integers in int64. NaN is the largest and the smallest value of all, as in PyTorch.
"""
from __future__ import annotations

from collections.abc import Sequence
from math import prod

import triton
import triton.language as tl

from fusetorch import dtypes
from fusetorch.dtypes import dtype
from fusetorch.runtime.launch import Kernel
from fusetorch.runtime.memory import DeviceArray, empty
from fusetorch.triton_kernels import scalar
from fusetorch.triton_kernels.layout import TRITON_TYPES, accumulator, cdiv, collapse, common_factor, pow2, tile
from fusetorch.triton_kernels.pointwise import contiguous, fill

KINDS = ("sum", "mean", "prod", "max", "min", "any", "all", "argmax", "argmin")
COMBINE = {"sum": "add", "mean": "add", "prod": "mul", "max": "maximum", "min": "minimum", "any": "maximum", "all": "minimum"}
TILE = 2048  # elements of a tile
ENOUGH = 512  # programs that fill a GPU; fewer are split


@triton.jit
def _load(x, offsets, mask, TRUTH: tl.constexpr, ACC: tl.constexpr, IDENTITY: tl.constexpr):
    value = tl.load(x + offsets, mask)
    if TRUTH:
        value = scalar.cast(value, tl.int1)
    value = scalar.cast(value, ACC)
    if mask is not None:
        value = tl.where(mask, value, tl.full((1, 1), IDENTITY, ACC))
    return value


@triton.jit
def _combine(x, y, COMBINE: tl.constexpr):
    if COMBINE == "add":
        return scalar.add(x, y)
    elif COMBINE == "mul":
        return scalar.mul(x, y)
    elif COMBINE == "maximum":
        return scalar.maximum(x, y)
    else:
        return scalar.minimum(x, y)


@triton.jit
def _fold(x, COMBINE: tl.constexpr):
    """``x`` [r, b] combined along r. tl.reduce takes no function that came as a constexpr."""
    if COMBINE == "add":
        return tl.reduce(x, 0, scalar.add)
    elif COMBINE == "mul":
        return tl.reduce(x, 0, scalar.mul)
    elif COMBINE == "maximum":
        return tl.reduce(x, 0, scalar.maximum)
    else:
        return tl.reduce(x, 0, scalar.minimum)


@triton.jit(do_not_specialize=["n_b", "n_r", "stride_a", "stride_b", "stride_r", "chunk", "out_a", "out_split", "count"])
def _reduce(x, out, n_b, n_r, stride_a, stride_b, stride_r, chunk, out_a, out_split, count,
            COMBINE: tl.constexpr, MEAN: tl.constexpr, TRUTH: tl.constexpr, ACC: tl.constexpr, IDENTITY: tl.constexpr,
            LAYOUT: tl.constexpr, VEC: tl.constexpr, BR: tl.constexpr, BB: tl.constexpr):
    """LAYOUT: "r" if stride_r is 1, "b" if stride_b is 1, else "s". With "r" and "b" the other strides (with "b" also n_b)
    come divided by VEC. A split is ``chunk`` tiles long."""
    if LAYOUT == "b":
        n_b = n_b * VEC
    blocks = tl.cdiv(n_b, BB)
    a = (tl.program_id(0) // blocks).to(tl.int64)
    b = (tl.program_id(0) % blocks) * BB + tl.arange(0, BB)
    start = tl.program_id(1).to(tl.int64) * chunk * BR
    stop = tl.minimum(start + chunk * BR, n_r)
    r = tl.arange(0, BR)[:, None]
    if LAYOUT == "r":
        base = a * (stride_a * VEC) + b[None, :].to(tl.int64) * (stride_b * VEC)
        step = r
    elif LAYOUT == "b":
        base = a * (stride_a * VEC) + b[None, :]
        stride_r = stride_r * VEC
        step = r.to(tl.int64) * stride_r
    else:
        base = a * stride_a + b[None, :].to(tl.int64) * stride_b
        step = r.to(tl.int64) * stride_r
    x = x + base
    in_b = (b < n_b)[None, :]
    acc = tl.full((BR, BB), IDENTITY, ACC)
    full = start + (stop - start) // BR * BR
    for i in range(start, full, BR):
        if LAYOUT == "r":
            value = _load(x, i + step, in_b, TRUTH, ACC, IDENTITY)
        else:
            value = _load(x, i * stride_r + step, in_b, TRUTH, ACC, IDENTITY)
        acc = _combine(acc, value, COMBINE)
    if full < stop:
        mask = in_b & (full + r < stop)
        if LAYOUT == "r":
            value = _load(x, full + step, mask, TRUTH, ACC, IDENTITY)
        else:
            value = _load(x, full * stride_r + step, mask, TRUTH, ACC, IDENTITY)
        acc = _combine(acc, value, COMBINE)
    y = _fold(acc, COMBINE)
    if MEAN:
        y = scalar.div(y, tl.full((BB,), count, ACC))
    where = a * out_a + tl.program_id(1).to(tl.int64) * out_split + b
    tl.store(out + where, scalar.cast(y, out.dtype.element_ty), b < n_b)


@triton.jit
def _better(value, index, other, other_index, LARGEST: tl.constexpr):
    """Whether (other, other_index) comes before (value, index): NaN first, then the extreme, then the lower index."""
    if LARGEST:
        beats = other > value
    else:
        beats = other < value
    if value.dtype.is_floating():
        beats = (beats & (value == value)) | ((other != other) & (value == value))
        same = (other == value) | ((other != other) & (value != value))
    else:
        same = other == value
    return beats | (same & (other_index < index))


@triton.jit
def _first_largest(value, index, other, other_index):
    take = _better(value, index, other, other_index, True)
    return tl.where(take, other, value), tl.where(take, other_index, index)


@triton.jit
def _first_smallest(value, index, other, other_index):
    take = _better(value, index, other, other_index, False)
    return tl.where(take, other, value), tl.where(take, other_index, index)


@triton.jit(do_not_specialize=["n_b", "n_r", "stride_a", "stride_b", "stride_r", "chunk", "out_a", "out_split"])
def _arg_reduce(x, positions, values_out, out, n_b, n_r, stride_a, stride_b, stride_r, chunk, out_a, out_split,
                LARGEST: tl.constexpr, ACC: tl.constexpr, WORST: tl.constexpr, BR: tl.constexpr, BB: tl.constexpr):
    """As :func:`_reduce`; ``positions`` (or None: the place along r) is read where ``x`` is. Writes values and positions."""
    blocks = tl.cdiv(n_b, BB)
    a = (tl.program_id(0) // blocks).to(tl.int64)
    b = (tl.program_id(0) % blocks) * BB + tl.arange(0, BB)
    start = tl.program_id(1).to(tl.int64) * chunk * BR
    stop = tl.minimum(start + chunk * BR, n_r)
    base = a * stride_a + b[None, :].to(tl.int64) * stride_b
    in_b = (b < n_b)[None, :]
    value = tl.full((BR, BB), WORST, ACC)
    index = tl.full((BR, BB), 0x7FFFFFFFFFFFFFFF, tl.int64)
    for i in range(start, stop, BR):
        r = i + tl.arange(0, BR)[:, None].to(tl.int64)
        mask = in_b & (r < stop)
        offsets = base + r * stride_r
        other = scalar.cast(tl.load(x + offsets, mask, other=0), ACC)
        if positions is None:
            other_index = tl.broadcast_to(r, (BR, BB))
        else:
            other_index = tl.load(positions + offsets, mask, other=0)
        other = tl.where(mask, other, tl.full((1, 1), WORST, ACC))
        other_index = tl.where(mask, other_index, tl.full((1, 1), 0x7FFFFFFFFFFFFFFF, tl.int64))
        if LARGEST:
            value, index = _first_largest(value, index, other, other_index)
        else:
            value, index = _first_smallest(value, index, other, other_index)
    if LARGEST:
        best, at = tl.reduce((value, index), 0, _first_largest)
    else:
        best, at = tl.reduce((value, index), 0, _first_smallest)
    where = a * out_a + tl.program_id(1).to(tl.int64) * out_split + b
    if values_out is not None:
        tl.store(values_out + where, scalar.cast(best, values_out.dtype.element_ty), b < n_b)
    tl.store(out + where, at, b < n_b)


reduce_kernel = Kernel(_reduce, num_warps=4, fp_fusion=False)
arg_reduce_kernel = Kernel(_arg_reduce, num_warps=4, fp_fusion=False)


# ---- host side


def reduce(kind: str, x: DeviceArray, dims: Sequence[int], out_dtype: dtype) -> DeviceArray:
    """``x`` reduced over ``dims`` (distinct, not negative); they are absent from the result's shape.

    Args:
        kind: one of :data:`KINDS`. ``any`` and ``all`` test ``x != 0``; ``arg*`` give the row-major position among ``dims``.
        out_dtype: what the result is rounded to (``arg*``: int64).

    Raises ``IndexError`` for max, min, argmax or argmin over no elements.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown reduction {kind!r}; one of {', '.join(KINDS)}")
    out = empty(tuple(n for d, n in enumerate(x.shape) if d not in dims), out_dtype, x.storage.device_index)
    reduce_into(kind, x, dims, out)
    return out


def reduce_into(kind: str, x: DeviceArray, dims: Sequence[int], out: DeviceArray) -> None:
    """As :func:`reduce`, written into the contiguous ``out``, which has the size of the kept dimensions."""
    dims = sorted(dims)
    kept = [d for d in range(len(x.shape)) if d not in dims]
    count = prod(x.shape[d] for d in dims)
    if not out.size:
        return
    acc = _accumulator(kind, x.dtype)
    if not count:
        if kind in ("max", "min", "argmax", "argmin"):
            raise IndexError(f"{kind}(): Expected reduction over a non-empty dimension, got shape {list(x.shape)}, dims {dims}")
        fill(out, float("nan") if kind == "mean" else _identity(kind, acc))
        return
    sizes, (strides,) = collapse([x.shape[d] for d in kept], [x.strides[d] for d in kept])
    r_sizes, (r_strides,) = collapse([x.shape[d] for d in dims], [x.strides[d] for d in dims])
    if kind.startswith("arg"):
        if len(sizes) > 2 or len(r_sizes) > 1:
            return reduce_into(kind, _kept_first(x, kept, dims), range(len(kept), len(x.shape)), out)
        _arg(kind, x, out, sizes, strides, r_sizes, r_strides)
        return
    if len(sizes) > 2:
        return reduce_into(kind, _kept_first(x, kept, dims), range(len(kept), len(x.shape)), out)
    truth = kind in ("any", "all") and x.dtype is not dtypes.bool_
    while len(r_sizes) > 1:
        # a reduced dimension that does not merge with the others is a reduction of its own, fastest first
        others = sizes + r_sizes[:-1]
        part_sizes, (part_strides,) = collapse(others, strides + r_strides[:-1])
        if len(part_sizes) > 2:
            return reduce_into(kind, _kept_first(x, kept, dims), range(len(kept), len(x.shape)), out)
        part = empty(tuple(others), acc, x.storage.device_index)
        _run(kind, x, part, part_sizes, part_strides, r_sizes[-1:], r_strides[-1:], 0, truth, acc)
        x, truth = part, False
        sizes, (strides,) = collapse(part.shape[:len(sizes)], part.strides[:len(sizes)])
        r_sizes, (r_strides,) = collapse(part.shape[len(others) - len(r_sizes) + 1:],
                                         part.strides[len(others) - len(r_sizes) + 1:])
    _run(kind, x, out, sizes, strides, r_sizes, r_strides, count if kind == "mean" else 0, truth, acc)


def max_with_indices(kind: str, x: DeviceArray, dim: int) -> tuple[DeviceArray, DeviceArray]:
    """Values and int64 positions of the extremes along ``dim``; ``kind`` is ``"max"`` or ``"min"``. The first of equals wins."""
    kept = [d for d in range(len(x.shape)) if d != dim]
    shape = tuple(x.shape[d] for d in kept)
    out, values = (empty(shape, dt, x.storage.device_index) for dt in (dtypes.int64, x.dtype))
    if out.size:
        if not x.shape[dim]:
            raise IndexError(f"{kind}(): Expected reduction dim {dim} to have non-zero size, got shape {list(x.shape)}")
        sizes, (strides,) = collapse([x.shape[d] for d in kept], [x.strides[d] for d in kept])
        if len(sizes) > 2:
            return max_with_indices(kind, _kept_first(x, kept, [dim]), len(kept))
        _arg("arg" + kind, x, out, sizes, strides, [x.shape[dim]], [x.strides[dim]], values)
    return values, out


def _kept_first(x: DeviceArray, kept: Sequence[int], dims: Sequence[int]) -> DeviceArray:
    """A row-major copy with the reduced dimensions last."""
    order = [*kept, *dims]
    view = x.view(tuple(x.shape[d] for d in order), tuple(x.strides[d] for d in order), x.offset)
    if view.is_contiguous:
        raise AssertionError(f"a contiguous layout {view} did not collapse")
    return contiguous(view)


def _accumulator(kind: str, dt: dtype) -> dtype:
    if kind in ("any", "all"):
        return dtypes.int32
    if kind in ("max", "min", "argmax", "argmin"):
        return dtypes.float32 if dt in dtypes.HALVES else dtypes.int32 if dt is dtypes.bool_ else dt
    acc = accumulator(dt)
    return dtypes.float32 if kind == "mean" and not acc.is_floating_point else acc


def _identity(kind: str, acc: dtype) -> int | float:
    """The value that changes nothing: for max (and argmax) the smallest, for min the largest."""
    kind = kind.removeprefix("arg")
    if kind in ("max", "min"):
        if acc.is_floating_point:
            return float("-inf") if kind == "max" else float("inf")
        limits = dtypes.iinfo(acc)
        return limits.min if kind == "max" else limits.max
    return {"sum": 0, "mean": 0, "prod": 1, "any": 0, "all": 1}[kind]


def split(programs: int, n_r: int, br: int) -> tuple[int, int]:
    """(number of splits, tiles in each): enough programs to fill the device, at least eight tiles each."""
    tiles = cdiv(n_r, br)
    splits = min(max(1, ENOUGH // programs), max(1, tiles // 8))
    chunk = cdiv(tiles, splits)
    return cdiv(tiles, chunk), chunk


def _geometry(sizes: Sequence[int], strides: Sequence[int]) -> tuple[int, int, int, int]:
    """n_a, n_b and their strides; b is the last kept dimension."""
    ns, ss = [1, 1, *sizes][-2:], [0, 0, *strides][-2:]
    return ns[0], ns[1], ss[0], ss[1]


def _tile_shape(n_b: int, n_r: int, along_r: bool) -> tuple[int, int]:
    """(BR, BB): long along the contiguous axis."""
    limit = tile(n_b * n_r, TILE)
    if along_r:
        br = min(pow2(n_r), limit)
        return br, min(pow2(n_b), max(1, limit // br))
    bb = min(pow2(n_b), 128)
    return min(pow2(n_r), max(1, limit // bb)), bb


def _run(kind: str, x: DeviceArray, out: DeviceArray, sizes: list[int], strides: list[int], r_sizes: list[int],
         r_strides: list[int], count: int, truth: bool, acc: dtype) -> None:
    n_a, n_b, s_a, s_b = _geometry(sizes, strides)
    n_r, s_r = (r_sizes or [1])[0], (r_strides or [1])[0]
    along_r = s_r == 1 and (s_b != 1 or n_b == 1 or n_r > n_b)
    if along_r:
        how, vec = "r", common_factor(s_a if n_a > 1 else 0, s_b if n_b > 1 else 0)
        s_a, s_b = s_a // vec if n_a > 1 else 0, s_b // vec if n_b > 1 else 0
        given_b = n_b
    elif s_b == 1:
        how, vec = "b", common_factor(s_a if n_a > 1 else 0, s_r, n_b)
        s_a, s_r, given_b = s_a // vec if n_a > 1 else 0, s_r // vec, n_b // vec
    else:
        how, vec, given_b = "s", 1, n_b
    br, bb = _tile_shape(n_b, n_r, how == "r" or (how == "s" and s_r < s_b))
    programs = n_a * cdiv(n_b, bb)
    splits, chunk = split(programs, n_r, br)
    first = out if splits == 1 else empty((n_a, splits, n_b), acc, x.storage.device_index)
    reduce_kernel((programs, splits), x, first, given_b, n_r, s_a, s_b, s_r, chunk, splits * n_b, n_b,
                  count if splits == 1 else 0, COMBINE=COMBINE[kind], MEAN=bool(count) and splits == 1, TRUTH=truth,
                  ACC=TRITON_TYPES[acc], IDENTITY=_identity(kind, acc), LAYOUT=how, VEC=vec, BR=br, BB=bb)
    if splits > 1:
        _run(kind, first, out, [n_a, n_b], [splits * n_b, 1], [splits], [n_b], count, False, acc)


def _arg(kind: str, x: DeviceArray, out: DeviceArray, sizes: list[int], strides: list[int], r_sizes: list[int],
         r_strides: list[int], values: DeviceArray | None = None, positions: DeviceArray | None = None) -> None:
    n_a, n_b, s_a, s_b = _geometry(sizes, strides)
    n_r, s_r = (r_sizes or [1])[0], (r_strides or [1])[0]
    acc = _accumulator(kind, x.dtype)
    br, bb = _tile_shape(n_b, n_r, s_r == 1 and (s_b != 1 or n_b == 1 or n_r > n_b))
    programs = n_a * cdiv(n_b, bb)
    splits, chunk = split(programs, n_r, br)
    first, first_values = out, values
    if splits > 1:
        first, first_values = (empty((n_a, splits, n_b), dt, x.storage.device_index) for dt in (dtypes.int64, acc))
    arg_reduce_kernel((programs, splits), x, positions, first_values, first, n_b, n_r, s_a, s_b, s_r, chunk, splits * n_b,
                      n_b, LARGEST=kind == "argmax", ACC=TRITON_TYPES[acc],
                      WORST=_identity(kind, acc), BR=br, BB=bb)
    if splits > 1:
        _arg(kind, first_values, out, [n_a, n_b], [splits * n_b, 1], [splits], [n_b], values, first)


