"""Reading and writing at positions given by index tensors: gather, scatter (with reductions), take, indexing, masked fill.

Additions at repeated positions are atomic: in floating point the order, and so the last bits, may differ from run to run. So
are plain writes: one of several values for a position wins. All else is deterministic. A number out of range never touches
memory outside the array: a read gives NaN (0 for integers and bool), a write does nothing.
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
from fusetorch.shapes import broadcast_shapes
from fusetorch.triton_kernels import scalar
from fusetorch.triton_kernels.layout import (
    TRITON_TYPES,
    cdiv,
    collapse,
    common_factor,
    expand,
    pow2,
    span,
    tile,
)
from fusetorch.triton_kernels.pointwise import (
    BLOCK,
    MAX_OUTER,
    _row_offset,
    contiguous,
    contiguous_kernel,
    copy,
    full,
    pointwise,
    pointwise_into,
)

NOWHERE = tl.constexpr(-(2**63))  # the offset of a position that is out of range


@triton.jit
def _or_missing(value, inside):
    """``value``, and where not ``inside`` NaN or 0."""
    if value.dtype.is_floating():
        return tl.where(inside, value, float("nan")).to(value.dtype)
    else:
        return tl.where(inside, value, value ^ value)


@triton.jit
def _number_in_range(index, size):
    """(the index as int64, counted from the front; whether it is in range)."""
    index = index.to(tl.int64)
    index = tl.where(index < 0, index + size, index)
    return index, (index >= 0) & (index < size)


# ---- gather and scatter: element i of the index's space, up to five merged dimensions (sizes n1.. from the innermost)


@triton.jit(do_not_specialize=["count", "size", "step", "n1", "n2", "n3", "n4", "i1", "i2", "i3", "i4", "i5",
                               "x1", "x2", "x3", "x4", "x5"])
def _gather(x, index, out, count, size, step, n1, n2, n3, n4, i1, i2, i3, i4, i5, x1, x2, x3, x4, x5,
            OUTER: tl.constexpr, INDEX: tl.constexpr, BLOCK: tl.constexpr):
    start = tl.program_id(0).to(INDEX) * BLOCK
    i = start + tl.arange(0, BLOCK)
    mask = i < count
    at, inside = _number_in_range(tl.load(index + _row_offset(i, n1, n2, n3, n4, i1, i2, i3, i4, i5, OUTER), mask, other=0), size)
    offset = _row_offset(i, n1, n2, n3, n4, x1, x2, x3, x4, x5, OUTER)
    value = _or_missing(tl.load(x + offset + at * step, mask & inside), inside)
    if start + BLOCK <= count:
        tl.store(out + i, value)
    else:
        tl.store(out + i, value, mask)


@triton.jit
def _write(at, value, mask, MODE: tl.constexpr):
    if MODE == "store":
        tl.store(at, value, mask)
    elif MODE == "add":
        tl.atomic_add(at, value, mask, sem="relaxed")
    elif MODE == "max":
        tl.atomic_max(at, value, mask, sem="relaxed")
    else:
        tl.atomic_min(at, value, mask, sem="relaxed")


@triton.jit(do_not_specialize=["count", "size", "step", "n1", "n2", "n3", "n4", "i1", "i2", "i3", "i4", "i5",
                               "x1", "x2", "x3", "x4", "x5", "s1", "s2", "s3", "s4", "s5"])
def _scatter(x, index, src, count, size, step, n1, n2, n3, n4, i1, i2, i3, i4, i5, x1, x2, x3, x4, x5, s1, s2, s3, s4, s5,
             MODE: tl.constexpr, OUTER: tl.constexpr, INDEX: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    mask = i < count
    at, inside = _number_in_range(tl.load(index + _row_offset(i, n1, n2, n3, n4, i1, i2, i3, i4, i5, OUTER), mask, other=0), size)
    offset = _row_offset(i, n1, n2, n3, n4, x1, x2, x3, x4, x5, OUTER)
    value = tl.load(src + _row_offset(i, n1, n2, n3, n4, s1, s2, s3, s4, s5, OUTER), mask, other=0)
    _write(x + offset + at * step, scalar.cast(value, x.dtype.element_ty), mask & inside, MODE)


@triton.jit
def _times(bits, value):
    """The product of ``value`` and what the integer ``bits`` stand for in its type, as bits."""
    if value.dtype.is_floating():
        return (bits.to(value.dtype, bitcast=True) * value).to(bits.dtype, bitcast=True)
    else:
        return bits * value


@triton.jit(do_not_specialize=["count", "size", "step", "n1", "n2", "n3", "n4", "i1", "i2", "i3", "i4", "i5",
                               "x1", "x2", "x3", "x4", "x5", "s1", "s2", "s3", "s4", "s5"])
def _scatter_product(x, nowhere, index, src, count, size, step, n1, n2, n3, n4, i1, i2, i3, i4, i5, x1, x2, x3, x4, x5,
                     s1, s2, s3, s4, s5, TYPE: tl.constexpr, OUTER: tl.constexpr, INDEX: tl.constexpr, BLOCK: tl.constexpr):
    """``x`` holds the bits of TYPE as integers. Each lane tries compare-and-swap until its product is in; those that are done
    compare ``nowhere`` (one element, 0) with 1."""
    i = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    mask = i < count
    at, inside = _number_in_range(tl.load(index + _row_offset(i, n1, n2, n3, n4, i1, i2, i3, i4, i5, OUTER), mask, other=0), size)
    value = scalar.cast(tl.load(src + _row_offset(i, n1, n2, n3, n4, s1, s2, s3, s4, s5, OUTER), mask, other=0), TYPE)
    pending = mask & inside
    where = tl.where(pending, x + (_row_offset(i, n1, n2, n3, n4, x1, x2, x3, x4, x5, OUTER) + at * step), nowhere)
    old = tl.load(where)
    while tl.max(pending.to(tl.int32), 0) > 0:
        found = tl.atomic_cas(tl.where(pending, where, nowhere), tl.where(pending, old, 1).to(old.dtype),
                              tl.where(pending, _times(old, value), 0).to(old.dtype), sem="relaxed")
        pending = pending & (found != old)
        old = tl.where(pending, found, old)


# ---- indexing: rows are positions (offsets in ``where``), columns the dimensions that are not indexed


@triton.jit(do_not_specialize=["count", "size", "step"])
def _offsets(index, where, count, size, step, FIRST: tl.constexpr, BLOCK: tl.constexpr):
    """Adds index * step to the offsets."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    at, inside = _number_in_range(tl.load(index + i, i < count, other=0), size)
    offset = at * step
    if not FIRST:
        before = tl.load(where + i, i < count, other=0)
        inside = inside & (before != NOWHERE)
        offset += before
    tl.store(where + i, tl.where(inside, offset, NOWHERE), i < count)


@triton.jit
def _column_offset(c, n1, n2, n3, n4, s1, s2, s3, s4, s5, OUTER: tl.constexpr):
    """OUTER 0: the columns are adjacent."""
    if OUTER == 0:
        return c
    else:
        return _row_offset(c, n1, n2, n3, n4, s1, s2, s3, s4, s5, OUTER)


@triton.jit(do_not_specialize=["count", "n", "n1", "n2", "n3", "n4", "s1", "s2", "s3", "s4", "s5"])
def _take(x, where, out, count, n, n1, n2, n3, n4, s1, s2, s3, s4, s5, OUTER: tl.constexpr, VEC: tl.constexpr,
          BM: tl.constexpr, BN: tl.constexpr):
    """n comes divided by VEC."""
    n = n * VEC
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    c = tl.program_id(1).to(tl.int64) * BN + tl.arange(0, BN)
    row = tl.load(where + m, m < count, other=0)[:, None]
    mask = (m < count)[:, None] & (c < n)[None, :]
    if OUTER == 0:
        row = tl.multiple_of(row, [1, VEC])
    offset = row + _column_offset(c, n1, n2, n3, n4, s1, s2, s3, s4, s5, OUTER)[None, :]
    value = tl.load(x + offset, mask & (row != NOWHERE))
    tl.store(out + m[:, None].to(tl.int64) * n + c[None, :], _or_missing(value, row != NOWHERE), mask)


@triton.jit(do_not_specialize=["count", "n", "n1", "n2", "n3", "n4", "s1", "s2", "s3", "s4", "s5"])
def _put(x, where, src, count, n, n1, n2, n3, n4, s1, s2, s3, s4, s5, MODE: tl.constexpr, OUTER: tl.constexpr,
         BM: tl.constexpr, BN: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    c = tl.program_id(1).to(tl.int64) * BN + tl.arange(0, BN)
    row = tl.load(where + m, m < count, other=0)[:, None]
    mask = (m < count)[:, None] & (c < n)[None, :]
    offset = row + _column_offset(c, n1, n2, n3, n4, s1, s2, s3, s4, s5, OUTER)[None, :]
    value = tl.load(src + m[:, None].to(tl.int64) * n + c[None, :], mask, other=0)
    _write(x + offset, scalar.cast(value, x.dtype.element_ty), mask & (row != NOWHERE), MODE)


# ---- floats as integers of the same order, for atomic extremes: NaN is the largest for max, the smallest for min


@triton.jit
def _key(x):
    if x.dtype == tl.float64:
        bits = x.to(tl.int64, bitcast=True)
        return tl.where(bits < 0, bits ^ 0x7FFFFFFFFFFFFFFF, bits)
    else:
        bits = x.to(tl.int32, bitcast=True)
        return tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


@triton.jit
def _key_for_max(x):
    k = _key(x)
    return tl.where(x == x, k, 0x7FFFFFFFFFFFFFFF if x.dtype == tl.float64 else 0x7FFFFFFF).to(k.dtype)


@triton.jit
def _key_for_min(x):
    k = _key(x)
    return tl.where(x == x, k, -0x7FFFFFFFFFFFFFFF - 1 if x.dtype == tl.float64 else -0x7FFFFFFF - 1).to(k.dtype)


@triton.jit
def _float_of_key(k):
    if k.dtype == tl.int64:
        return tl.where(k < 0, k ^ 0x7FFFFFFFFFFFFFFF, k).to(tl.float64, bitcast=True)
    else:
        return tl.where(k < 0, k ^ 0x7FFFFFFF, k).to(tl.float32, bitcast=True)


gather_kernel = Kernel(_gather, num_warps=4, fp_fusion=False)
product_kernel = Kernel(_scatter_product, num_warps=4, fp_fusion=False)
scatter_kernel = Kernel(_scatter, num_warps=4, fp_fusion=False)
offsets_kernel = Kernel(_offsets, num_warps=4, fp_fusion=False)
take_kernel = Kernel(_take, num_warps=4, fp_fusion=False)
put_kernel = Kernel(_put, num_warps=4, fp_fusion=False)


# ---- host side


def _check_index(op: str, x: DeviceArray, dim: int, index: DeviceArray) -> None:
    if index.dtype not in (dtypes.int32, dtypes.int64):
        raise RuntimeError(f"{op}(): Expected dtype int64 for index, got {index.dtype.name}")
    if len(index.shape) != len(x.shape):
        raise RuntimeError(f"{op}(): Index tensor must have the same number of dimensions as input tensor, got "
                           f"{list(index.shape)} and {list(x.shape)}")
    for d, (n, have) in enumerate(zip(index.shape, x.shape)):
        if d != dim and n > have:
            raise RuntimeError(f"{op}(): Size does not match at dimension {d} expected index {list(index.shape)} to be no larger "
                               f"than self {list(x.shape)} apart from dimension {dim}")


def _spread(sizes: list[int], *tables: list[int]) -> tuple[list[int], list[list[int]]]:
    """Sizes and strides as the kernels take them: from the innermost, four and five of them."""
    return (sizes[::-1] + [1] * MAX_OUTER)[:MAX_OUTER - 1], [(list(reversed(t)) + [0] * MAX_OUTER)[:MAX_OUTER] for t in tables]


def _elementwise(x: DeviceArray, dim: int, index: DeviceArray, other: DeviceArray, mode: str | None) -> None:
    """Gathers into ``other``, or (with a ``mode``) scatters ``other`` into ``x``, over the index's space."""
    step, size = (x.strides[dim], x.shape[dim]) if x.shape else (1, 1)
    x_strides = [0 if d == dim else s for d, s in enumerate(x.strides)]
    sizes, (si, sx, so) = collapse(index.shape, index.strides, x_strides, other.strides)
    sizes, si, sx, so = sizes or [1], si or [0], sx or [0], so or [1]
    if len(sizes) > MAX_OUTER:
        # too many dimensions for one launch: one launch per index of the slowest. What was x[dim] stays a step of its own.
        for k in range(sizes[0]):
            part = [a.view(tuple(sizes[1:]), tuple(s[1:]), a.offset + k * s[0]) for a, s in ((index, si), (other, so))]
            base = x.view((*sizes[1:], size), (*sx[1:], step), x.offset + k * sx[0])
            wide = [a.view((*a.shape, 1), (*a.strides, 0), a.offset) for a in part]
            _elementwise(base, len(sizes) - 1, wide[0], wide[1], mode)
        return
    count = prod(sizes)
    ns, (ti, tx, to) = _spread(sizes, si, sx, so)
    large = max(count, span(sizes, si), span(sizes, sx), span(sizes, so)) >= 2**31
    block = tile(count, BLOCK)
    index_type = tl.int64 if large else tl.int32
    if mode is None:
        gather_kernel((cdiv(count, block),), x, index, other, count, size, step, *ns, *ti, *tx, OUTER=len(sizes),
                      INDEX=index_type, BLOCK=block)
    elif mode == "prod":
        bits = dtypes.int64 if x.itemsize == 8 else dtypes.int32
        raw = DeviceArray(x.storage, x.shape, x.strides, x.offset, bits)
        product_kernel((cdiv(count, block),), raw, full((1,), 0, bits, x.storage.device_index), index, other, count, size, step,
                       *ns, *ti, *tx, *to, TYPE=TRITON_TYPES[x.dtype], OUTER=len(sizes), INDEX=index_type, BLOCK=block)
    else:
        scatter_kernel((cdiv(count, block),), x, index, other, count, size, step, *ns, *ti, *tx, *to, MODE=mode,
                       OUTER=len(sizes), INDEX=index_type, BLOCK=block)


def gather(x: DeviceArray, dim: int, index: DeviceArray) -> DeviceArray:
    """``out[i][j][k] = x[index[i][j][k]][j][k]`` (for dim 0), of the index's shape."""
    _check_index("gather", x, dim, index)
    out = empty(index.shape, x.dtype, x.storage.device_index)
    if out.size:
        _elementwise(x, dim, index, out, None)
    return out


#: dtypes that atomics work on, and what the others are widened to
_ATOMIC = {dtypes.float32: dtypes.float32, dtypes.float64: dtypes.float64, dtypes.int32: dtypes.int32,
           dtypes.int64: dtypes.int64, dtypes.float16: dtypes.float32, dtypes.bfloat16: dtypes.float32,
           dtypes.int8: dtypes.int32, dtypes.int16: dtypes.int32, dtypes.uint8: dtypes.int32, dtypes.bool_: dtypes.int32}


def _source(src: DeviceArray | bool | int | float, shape: tuple[int, ...], dt: dtype, at: int) -> DeviceArray:
    """``src`` cut or repeated to ``shape``."""
    if isinstance(src, DeviceArray):
        return src.view(shape, src.strides, src.offset) if len(src.shape) == len(shape) else expand(src, shape)
    one = full((1,), src, dt, at)
    return one.view(shape, (0,) * len(shape), 0)


def scatter(x: DeviceArray, dim: int, index: DeviceArray, src: DeviceArray | bool | int | float, reduce: str = "", *,
            include_self: bool = True) -> None:
    """``x[index[i][j][k]][j][k] = src[i][j][k]`` (for dim 0), in place.

    Args:
        src: an array at least as large as the index in every dimension, or a number.
        reduce: ``""`` (store), ``"sum"``, ``"prod"``, ``"mean"``, ``"amax"`` or ``"amin"``: how to combine with what is there.
        include_self: whether what was in ``x`` takes part in the reduction.
    """
    _check_index("scatter", x, dim, index)
    if isinstance(src, DeviceArray) and (len(src.shape) != len(index.shape)
                                         or any(n > have for n, have in zip(index.shape, src.shape))):
        raise RuntimeError(f"scatter(): Expected index {list(index.shape)} to be no larger than src {list(src.shape)}")
    if reduce not in ("", "sum", "prod", "mean", "amax", "amin"):
        raise ValueError(f"scatter: reduce must be one of sum, prod, mean, amax, amin, got {reduce!r}")
    if not index.size or not x.size:
        return
    at = x.storage.device_index
    source = _source(src, index.shape, x.dtype, at)
    if not reduce:
        _elementwise(x, dim, index, source, "store")
        return
    floating = x.dtype.is_floating_point
    if not include_self:
        worst: int | float = int(reduce == "prod")
        if reduce in ("amax", "amin"):
            sign = -1 if reduce == "amax" else 1
            limits = None if floating or x.dtype is dtypes.bool_ else dtypes.iinfo(x.dtype)
            worst = sign * float("inf") if floating else int(sign > 0) if limits is None else (
                limits.min if sign < 0 else limits.max)
        _elementwise(x, dim, index, _source(worst, index.shape, x.dtype, at), "store")
    wide = _ATOMIC[x.dtype]
    if reduce in ("sum", "mean", "prod"):
        buffer = x if wide is x.dtype else pointwise("identity", [x], wide, wide)
        _elementwise(buffer, dim, index, source, "prod" if reduce == "prod" else "add")
        if reduce == "mean":
            counts = full(x.shape, int(include_self), dtypes.int32, at)
            _elementwise(counts, dim, index, _source(1, index.shape, dtypes.int32, at), "add")
            pointwise_into("maximum", [counts, 1], counts, dtypes.int32)
            pointwise_into("div" if floating else "floor_divide", [buffer, counts], buffer, wide)
        if buffer is not x:
            copy(buffer, x)
        return
    mode = reduce[1:]
    if not floating:
        buffer = x if wide is x.dtype else pointwise("identity", [x], wide, wide)
        _elementwise(buffer, dim, index, source, mode)
        if buffer is not x:
            copy(buffer, x)
        return
    key = _key_for_max if mode == "max" else _key_for_min
    keys = _apply(key, x, wide, dtypes.int64 if wide is dtypes.float64 else dtypes.int32)
    _elementwise(keys, dim, index, _apply(key, source, wide, keys.dtype), mode)
    copy(_apply(_float_of_key, keys, keys.dtype, wide), x)


def _apply(fn: object, x: DeviceArray, compute: dtype, out_dtype: dtype) -> DeviceArray:
    """A device function of this file over the elements of ``x``."""
    x = contiguous(x)
    out = empty(x.shape, out_dtype, x.storage.device_index)
    block = tile(out.size, BLOCK)
    contiguous_kernel((cdiv(out.size, block),), x, None, None, out, out.size, FN=fn, ARITY=1, A="array", B="", C="",
                      COMPUTE=TRITON_TYPES[compute], FIRST=TRITON_TYPES[compute], BLOCK=block)
    return out


# ---- indexing by several index tensors


def take(x: DeviceArray, positions: DeviceArray) -> DeviceArray:
    """``x[positions]`` along the first dimension, of shape (*positions shape, *rest); negative numbers count from the end."""
    return index(x, [positions])


class _Plan:
    """Where index tensors point: offsets of the indexed positions, and the layout of the rest."""

    def __init__(self, op: str, x: DeviceArray, indices: Sequence[DeviceArray | None]) -> None:
        if len(indices) > len(x.shape):
            raise IndexError(f"too many indices for tensor of dimension {len(x.shape)}: {len(indices)}")
        given = [(d, i) for d, i in enumerate(indices) if i is not None]
        for _, i in given:
            if i.dtype not in (dtypes.int32, dtypes.int64, dtypes.int8, dtypes.int16, dtypes.uint8):
                raise IndexError(f"{op}: tensors used as indices must be integer tensors (masks by nonzero), got {i.dtype.name}")
        dims = [d for d, _ in given]
        self.batch = tuple(broadcast_shapes(*(i.shape for _, i in given)))
        self.rest = [d for d in range(len(x.shape)) if d not in dims]
        self.rest_shape = tuple(x.shape[d] for d in self.rest)
        # NumPy's rule: neighbouring index tensors put their dimensions where they stood, others in front
        adjacent = dims == list(range(dims[0], dims[0] + len(dims)))
        self.front = dims[0] if adjacent else 0
        self.count, self.n = prod(self.batch), prod(self.rest_shape)
        self.shape = self.rest_shape[:self.front] + self.batch + self.rest_shape[self.front:]
        if not self.count or not self.n:
            return
        if any(not x.shape[d] for d in dims):
            raise IndexError(f"{op}: index of shape {list(self.batch)} is out of bounds for shape {list(x.shape)}, which has a "
                             "dimension of size 0")
        self.where = empty((self.count,), dtypes.int64, x.storage.device_index)
        block = tile(self.count, BLOCK)
        for k, (d, i) in enumerate(given):
            offsets_kernel((cdiv(self.count, block),), contiguous(expand(i, self.batch)), self.where, self.count, x.shape[d],
                           x.strides[d], FIRST=not k, BLOCK=block)
        sizes, (strides,) = collapse(self.rest_shape, [x.strides[d] for d in self.rest])
        if len(sizes) > MAX_OUTER:
            raise NotImplementedError(f"{op}: more than {MAX_OUTER} dimensions of {x} remain that do not merge; make it "
                                      "contiguous first")
        self.adjacent_columns = strides in ([], [1])
        self.vec = common_factor(self.n, *(x.strides[d] for d in dims)) if self.adjacent_columns else 1
        ns, (steps,) = _spread(sizes or [1], strides or [0])
        self.layout = (*ns, *steps)
        self.outer = 0 if self.adjacent_columns else len(sizes)
        self.bn = min(pow2(self.n), 1024)
        self.bm = min(pow2(self.count), max(1, tile(self.count * self.bn, 1024) // self.bn))
        self.grid = (cdiv(self.count, self.bm), cdiv(self.n, self.bn))

    def placed(self, out: DeviceArray) -> DeviceArray:
        """The contiguous (batch, rest) array seen with the index's dimensions where they belong."""
        lead, rank = len(self.batch), len(self.shape)
        order = [*range(lead, lead + self.front), *range(lead), *range(lead + self.front, rank)]
        return out.view(tuple(out.shape[d] for d in order), tuple(out.strides[d] for d in order), out.offset)


def index(x: DeviceArray, indices: Sequence[DeviceArray | None]) -> DeviceArray:
    """``x[i0, :, i2, ...]``: integer tensors (broadcast together) in some dimensions, ``None`` for all of a dimension.

    The shape is NumPy's: the tensors' dimensions stand where the tensors stood if those are neighbours, else in front; the
    strides may not be row-major. Masks are to be given as coordinates (``scan.nonzero``).
    """
    if all(i is None for i in indices):
        raise IndexError("index: no index tensor given")
    plan = _Plan("index", x, indices)
    out = empty((*plan.batch, *plan.rest_shape), x.dtype, x.storage.device_index)
    if out.size:
        take_kernel(plan.grid, x, plan.where, out, plan.count, plan.n // plan.vec, *plan.layout, OUTER=plan.outer, VEC=plan.vec,
                    BM=plan.bm, BN=plan.bn)
    return plan.placed(out)


def index_put(x: DeviceArray, indices: Sequence[DeviceArray | None], values: DeviceArray | bool | int | float, *,
              accumulate: bool = False) -> None:
    """``x[i0, :, i2, ...] = values`` in place (broadcast); with ``accumulate`` ``+=``, where repeated positions add up."""
    if all(i is None for i in indices):
        raise IndexError("index_put: no index tensor given")
    at = x.storage.device_index
    wide = _ATOMIC[x.dtype]
    target = x
    if accumulate and wide is not x.dtype:
        target = pointwise("identity", [x], wide, wide)
    plan = _Plan("index_put", target, indices)
    if not plan.count or not plan.n:
        return
    source = empty((*plan.batch, *plan.rest_shape), target.dtype, at)
    pointwise_into("identity", [values], plan.placed(source), target.dtype)
    put_kernel(plan.grid, target, plan.where, source, plan.count, plan.n, *plan.layout, MODE="add" if accumulate else "store",
               OUTER=plan.outer, BM=plan.bm, BN=plan.bn)
    if target is not x:
        copy(target, x)
