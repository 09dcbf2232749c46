"""Elementwise kernels: one primitive over one to three operands, copies with conversion, fill and arange.

Same-shape contiguous operands go through :func:`_contiguous`; everything else (broadcasting, strides, transposition)
through :func:`_strided`, which sees a 2-D space: the innermost merged dimension as columns, up to five outer ones as rows.
Both branch on full blocks, because a mask ``i < n`` with n not a multiple of 16 would make every load scalar.
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
from fusetorch.triton_kernels.layout import (
    TRITON_TYPES,
    broadcast_shape,
    broadcast_strides,
    cdiv,
    collapse,
    common_factor,
    float_bits,
    pow2,
    span,
    tile,
)

Operand = DeviceArray | bool | int | float

BLOCK = 1024
MAX_OUTER = 5


@triton.jit
def identity(x):
    return x


@triton.jit
def _apply(FN: tl.constexpr, ARITY: tl.constexpr, a, b, c):
    if ARITY == 1:
        return FN(a)
    elif ARITY == 2:
        return FN(a, b)
    else:
        return FN(a, b, c)


# ---- contiguous. How an operand is given (KIND): "array", "number", "bits" (a float64's bits as an int), "" (absent).


@triton.jit
def _operand(x, i, mask, KIND: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr):
    if KIND == "array":
        return scalar.cast(tl.load(x + i, mask), COMPUTE)
    elif KIND == "number":
        return tl.full((BLOCK,), x, COMPUTE)
    elif KIND == "bits":
        return tl.full((BLOCK,), x, tl.int64).to(tl.float64, bitcast=True)
    else:
        return 0  # a device function may not return None


@triton.jit
def _block(a, b, c, out, i, mask, FN: tl.constexpr, ARITY: tl.constexpr, A: tl.constexpr, B: tl.constexpr, C: tl.constexpr,
           COMPUTE: tl.constexpr, FIRST: tl.constexpr, BLOCK: tl.constexpr):
    y = _apply(FN, ARITY, _operand(a, i, mask, A, FIRST, BLOCK), _operand(b, i, mask, B, COMPUTE, BLOCK),
               _operand(c, i, mask, C, COMPUTE, BLOCK))
    tl.store(out + i, scalar.cast(y, out.dtype.element_ty), mask)


@triton.jit
def _contiguous(a, b, c, out, n, FN: tl.constexpr, ARITY: tl.constexpr, A: tl.constexpr, B: tl.constexpr, C: tl.constexpr,
                COMPUTE: tl.constexpr, FIRST: tl.constexpr, BLOCK: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * BLOCK
    i = start + tl.arange(0, BLOCK)
    if start + BLOCK <= n:
        _block(a, b, c, out, i, None, FN, ARITY, A, B, C, COMPUTE, FIRST, BLOCK)
    else:
        _block(a, b, c, out, i, i < n, FN, ARITY, A, B, C, COMPUTE, FIRST, BLOCK)


# ---- strided. KIND of an array is two letters. Rows: "0" the same for all, "1" one step apart, "r" by strides.
# Columns: "0", "1", or "s" for a stride given at run time.


@triton.jit
def _row_offset(m, n1, n2, n3, n4, s1, s2, s3, s4, s5, OUTER: tl.constexpr):
    """Offset of row ``m`` among OUTER dimensions, counted from the innermost: sizes n1.., strides s1.. ."""
    if OUTER <= 1:
        return m * s1
    else:
        offset = (m % n1) * s1
        m = m // n1
        if OUTER == 2:
            return offset + m * s2
        else:
            offset += (m % n2) * s2
            m = m // n2
            if OUTER == 3:
                return offset + m * s3
            else:
                offset += (m % n3) * s3
                m = m // n3
                if OUTER == 4:
                    return offset + m * s4
                else:
                    return offset + (m % n4) * s4 + (m // n4) * s5


@triton.jit
def _offsets(m, n, n1, n2, n3, n4, s0, s1, s2, s3, s4, s5, KIND: tl.constexpr, OUTER: tl.constexpr, VEC: tl.constexpr,
             VEC_ROWS: tl.constexpr):
    """Offsets of a tile as [rows, 1], [1, columns] or [rows, columns], as far as the operand varies."""
    if KIND[1] == "0":
        columns = n * 0
    elif KIND[1] == "1":
        columns = n
    elif KIND[0] == "1":
        columns = n * (s0 * VEC_ROWS)
    else:
        columns = n * s0
    if KIND[0] == "0":
        if KIND[1] == "0":
            return tl.zeros((1, 1), tl.int32)
        else:
            return columns[None, :]
    else:
        if KIND[0] == "1":
            rows = m
        else:
            rows = _row_offset(m, n1, n2, n3, n4, s1, s2, s3, s4, s5, OUTER)
            if KIND[1] == "1":
                rows = rows * VEC
        if KIND[1] == "0":
            return rows[:, None]
        else:
            return rows[:, None] + columns[None, :]


@triton.jit
def _load(x, row_mask, column_mask, KIND: tl.constexpr):
    if row_mask is None or KIND == "00":
        return tl.load(x)
    elif KIND[0] == "0":
        return tl.load(x, column_mask)
    elif KIND[1] == "0":
        return tl.load(x, row_mask)
    else:
        return tl.load(x, row_mask & column_mask)


@triton.jit
def _tile_operand(x, m, n, row_mask, column_mask, n1, n2, n3, n4, s0, s1, s2, s3, s4, s5, KIND: tl.constexpr,
                  COMPUTE: tl.constexpr, OUTER: tl.constexpr, VEC: tl.constexpr, VEC_ROWS: tl.constexpr, BM: tl.constexpr,
                  BN: tl.constexpr):
    if KIND == "number":
        return tl.full((BM, BN), x, COMPUTE)
    elif KIND == "bits":
        return tl.full((BM, BN), x, tl.int64).to(tl.float64, bitcast=True)
    elif KIND == "":
        return 0
    else:
        offsets = _offsets(m, n, n1, n2, n3, n4, s0, s1, s2, s3, s4, s5, KIND, OUTER, VEC, VEC_ROWS)
        value = scalar.cast(_load(x + offsets, row_mask, column_mask, KIND), COMPUTE)
        return tl.broadcast_to(value, (BM, BN))


@triton.jit
def _tile(a, b, c, out, m, n, row_mask, column_mask, n1, n2, n3, n4, a0, a1, a2, a3, a4, a5, b0, b1, b2, b3, b4, b5,
          c0, c1, c2, c3, c4, c5, o0, o1, o2, o3, o4, o5, FN: tl.constexpr, ARITY: tl.constexpr, A: tl.constexpr,
          B: tl.constexpr, C: tl.constexpr, O: tl.constexpr, COMPUTE: tl.constexpr, FIRST: tl.constexpr,
          OUTER: tl.constexpr, VEC: tl.constexpr, VEC_ROWS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    x = _tile_operand(a, m, n, row_mask, column_mask, n1, n2, n3, n4, a0, a1, a2, a3, a4, a5, A, FIRST, OUTER, VEC,
                      VEC_ROWS, BM, BN)
    y = _tile_operand(b, m, n, row_mask, column_mask, n1, n2, n3, n4, b0, b1, b2, b3, b4, b5, B, COMPUTE, OUTER, VEC,
                      VEC_ROWS, BM, BN)
    z = _tile_operand(c, m, n, row_mask, column_mask, n1, n2, n3, n4, c0, c1, c2, c3, c4, c5, C, COMPUTE, OUTER, VEC,
                      VEC_ROWS, BM, BN)
    r = scalar.cast(_apply(FN, ARITY, x, y, z), out.dtype.element_ty)
    offsets = _offsets(m, n, n1, n2, n3, n4, o0, o1, o2, o3, o4, o5, O, OUTER, VEC, VEC_ROWS)
    if row_mask is None:
        tl.store(out + tl.broadcast_to(offsets, (BM, BN)), r)
    else:
        tl.store(out + tl.broadcast_to(offsets, (BM, BN)), r, row_mask & column_mask)


@triton.jit(do_not_specialize=["rows", "columns", "n1", "n2", "n3", "n4", "a0", "a1", "a2", "a3", "a4", "a5", "b0", "b1", "b2",
                               "b3", "b4", "b5", "c0", "c1", "c2", "c3", "c4", "c5", "o0", "o1", "o2", "o3", "o4", "o5"])
def _strided(a, b, c, out, rows, columns, n1, n2, n3, n4, a0, a1, a2, a3, a4, a5, b0, b1, b2, b3, b4, b5,
             c0, c1, c2, c3, c4, c5, o0, o1, o2, o3, o4, o5, FN: tl.constexpr, ARITY: tl.constexpr, A: tl.constexpr,
             B: tl.constexpr, C: tl.constexpr, O: tl.constexpr, COMPUTE: tl.constexpr, FIRST: tl.constexpr,
             OUTER: tl.constexpr, VEC: tl.constexpr, VEC_ROWS: tl.constexpr, INDEX: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    # `columns`, and the row strides of operands with column stride 1, come divided by VEC: so the compiler knows a factor.
    # `rows`, and the column strides of operands with row stride 1, come divided by VEC_ROWS.
    columns = columns * VEC
    rows = rows * VEC_ROWS
    column_blocks = tl.cdiv(columns, BN)
    m0 = (tl.program_id(0) // column_blocks).to(INDEX) * BM
    n0 = (tl.program_id(0) % column_blocks).to(INDEX) * BN
    m = m0 + tl.arange(0, BM)
    n = n0 + tl.arange(0, BN)
    if (m0 + BM <= rows) & (n0 + BN <= columns):
        _tile(a, b, c, out, m, n, None, None, n1, n2, n3, n4, a0, a1, a2, a3, a4, a5, b0, b1, b2, b3, b4, b5,
              c0, c1, c2, c3, c4, c5, o0, o1, o2, o3, o4, o5, FN, ARITY, A, B, C, O, COMPUTE, FIRST, OUTER, VEC, VEC_ROWS,
              BM, BN)
    else:
        _tile(a, b, c, out, m, n, (m < rows)[:, None], (n < columns)[None, :], n1, n2, n3, n4, a0, a1, a2, a3, a4, a5,
              b0, b1, b2, b3, b4, b5, c0, c1, c2, c3, c4, c5, o0, o1, o2, o3, o4, o5, FN, ARITY, A, B, C, O, COMPUTE, FIRST,
              OUTER, VEC, VEC_ROWS, BM, BN)


contiguous_kernel = Kernel(_contiguous, num_warps=4, fp_fusion=False)
strided_kernel = Kernel(_strided, num_warps=4, fp_fusion=False)


# ---- host side


def pointwise(fn_name: str, inputs: Sequence[Operand], out_dtype: dtype, compute_dtype: dtype) -> DeviceArray:
    """``fn_name(*inputs)`` elementwise, broadcast, in a new contiguous array.

    Args:
        fn_name: a primitive's name (:data:`fusetorch.triton_kernels.scalar.SCALARS`); ``"cast"`` converts to ``out_dtype``.
        inputs: arrays (at least one, all on one device) and Python numbers.
        out_dtype: what the result is rounded to.
        compute_dtype: what operands are converted to first (``where``: not its condition). Half types mean float32.

    Example:
        >>> pointwise("add", [from_numpy(a), from_numpy(b)], dtypes.float16, dtypes.float32)  # doctest: +SKIP
    """
    arrays = [x for x in inputs if isinstance(x, DeviceArray)]
    if not arrays:
        raise ValueError(f"pointwise {fn_name}: needs at least one array among its operands to know the device")
    first = arrays[0]
    shape = first.shape
    for x in arrays[1:]:
        if x.shape != shape:
            shape = broadcast_shape(arrays)
            break
    out = empty(shape, out_dtype, first.storage.device_index)
    pointwise_into(fn_name, inputs, out, compute_dtype)
    return out


def pointwise_into(fn_name: str, inputs: Sequence[Operand], out: DeviceArray, compute_dtype: dtype) -> None:
    """As :func:`pointwise`, written into ``out`` (any strides; the inputs broadcast to its shape, and may be ``out`` itself)."""
    size = out.size
    if not size:
        return
    fn = identity if fn_name in ("cast", "identity") else scalar.SCALARS[fn_name]
    compute = tl.float32 if compute_dtype in dtypes.HALVES else TRITON_TYPES[compute_dtype]
    first = tl.int1 if fn_name == "where" else compute
    if fn is identity and isinstance(inputs[0], DeviceArray):
        first = TRITON_TYPES[inputs[0].dtype]  # converted once, from what is stored to what is stored
    values: list[DeviceArray | int | float | None] = []
    kinds: list[str] = []
    for k, x in enumerate(inputs):
        if isinstance(x, DeviceArray):
            values.append(x)
            kinds.append("array")
        else:
            value, kind = _number(x, compute if k else first)
            values.append(value)
            kinds.append(kind)
    arity = len(values)
    while len(values) < 3:
        values.append(None)
        kinds.append("")
    if out.is_contiguous and all(not isinstance(x, DeviceArray) or (x.shape == out.shape and x.is_contiguous) for x in values):
        block = tile(size, BLOCK)
        contiguous_kernel((cdiv(size, block),), *values, out, size, FN=fn, ARITY=arity, A=kinds[0], B=kinds[1], C=kinds[2],
                          COMPUTE=compute, FIRST=first, BLOCK=block)
    else:
        _launch_strided(fn, arity, values, kinds, out, compute, first)


def _number(x: bool | float, compute: tl.dtype) -> tuple[int | float, str]:
    """How a Python number is passed to a kernel that computes in ``compute``."""
    if compute == tl.float64:
        return float_bits(float(x)), "bits"
    return (float(x), "number") if compute.is_floating() else (int(x), "number")


def _launch_strided(fn: object, arity: int, values: list, kinds: list[str], out: DeviceArray, compute: tl.dtype,
                    first: tl.dtype) -> None:
    arrays = [x for x in values if isinstance(x, DeviceArray)]
    strides = [out.strides] + [broadcast_strides(x, out.shape) for x in arrays]
    # fastest dimension of the output last, whatever its order
    order = sorted(range(len(out.shape)), key=lambda d: (-abs(out.strides[d]), d))
    sizes, table = collapse([out.shape[d] for d in order], *[[s[d] for d in order] for s in strides])
    sizes, table = sizes or [1], [t or [0] for t in table]
    if len(sizes) > MAX_OUTER + 1:
        # too many dimensions for one launch: one launch per index of the slowest
        for i in range(sizes[0]):
            parts = [x.view(tuple(sizes[1:]), tuple(t[1:]), x.offset + i * t[0]) for x, t in zip([out, *arrays], table)]
            rest = iter(parts[1:])
            _launch_strided(fn, arity, [next(rest) if isinstance(x, DeviceArray) else x for x in values], kinds, parts[0],
                            compute, first)
        return
    outer, columns = sizes[:-1], sizes[-1]
    rows = prod(outer)
    vec = common_factor(columns, *(s for t in table if t[-1] == 1 for s in t[:-1]))
    if len(outer) == 1 and any(t[0] == 1 and t[1] not in (0, 1) for t in table):  # a transposition: square tiles
        bn, bm = min(pow2(columns), 64), min(pow2(rows), 32)
    else:
        bn = tile(columns, BLOCK)
        bm = min(pow2(rows), max(1, tile(rows * columns, BLOCK) // bn))
    letters = [("0" if not any(t[:-1]) else "1" if len(outer) == 1 and t[0] == 1 and t[1] != 1 else "r")
               + (str(t[-1]) if t[-1] in (0, 1) else "s") for t in table]
    upright = [letter[0] == "1" and letter[1] == "s" for letter in letters]
    vec_rows = common_factor(rows, *(t[-1] for t, u in zip(table, upright) if u)) if any(upright) else 1
    flat = [[t[-1] // vec_rows if u else t[-1], *(s // vec if t[-1] == 1 else s for s in reversed(t[:-1])),
             *[0] * (MAX_OUTER - len(outer))] for t, u in zip(table, upright)]
    ns = (list(reversed(outer)) + [1] * MAX_OUTER)[:MAX_OUTER - 1]
    kinds, args, k = list(kinds), [], 1
    for position, x in enumerate(values):
        if isinstance(x, DeviceArray):
            kinds[position] = letters[k]
            args += flat[k]
            k += 1
        else:
            args += [0] * (MAX_OUTER + 1)
    index = tl.int64 if rows * columns >= 2**31 or max(span(sizes, t) for t in table) >= 2**31 else tl.int32
    strided_kernel((cdiv(rows, bm) * cdiv(columns, bn),), *values, out, rows // vec_rows, columns // vec, *ns, *args, *flat[0],
                   FN=fn, ARITY=arity, A=kinds[0], B=kinds[1], C=kinds[2], O=letters[0], COMPUTE=compute, FIRST=first,
                   OUTER=len(outer), VEC=vec, VEC_ROWS=vec_rows, INDEX=index, BM=bm, BN=bn)


def copy(src: DeviceArray, dst: DeviceArray) -> None:
    """Copies ``src``, broadcast to ``dst``'s shape and converted to its dtype, into ``dst``; any strides on both sides."""
    if src.dtype.is_complex or dst.dtype.is_complex:
        _copy_complex(src, dst)
        return
    pointwise_into("identity", [src], dst, dst.dtype)


def _copy_complex(src: DeviceArray, dst: DeviceArray) -> None:
    if src.dtype.is_complex and dst.dtype.is_complex:
        copy(src.view(dst.shape, broadcast_strides(src, dst.shape), src.offset).reals(), dst.reals())
    elif dst.dtype.is_complex:
        copy(src, dst.part(0))
        fill(dst.part(1), 0.0)
    elif dst.dtype is dtypes.bool_:
        parts = [pointwise("ne", [src.part(k), 0.0], dtypes.bool_, src.dtype.to_real()) for k in (0, 1)]
        pointwise_into("bitwise_or", parts, dst, dst.dtype)
    else:
        copy(src.part(0), dst)


def contiguous(x: DeviceArray) -> DeviceArray:
    """``x`` itself where it is row-major, else a copy that is."""
    if x.is_contiguous:
        return x
    out = empty(x.shape, x.dtype, x.storage.device_index)
    copy(x, out)
    return out


def as_rows(x: DeviceArray) -> DeviceArray:
    """``x`` (at least 1-D) as a matrix of its last dimension's rows, with column stride 1; a copy only where that takes one."""
    n = x.shape[-1]
    sizes, (strides,) = collapse(x.shape[:-1], x.strides[:-1])
    if not x.size or len(sizes) > 1 or (n != 1 and x.strides[-1] != 1):
        x = contiguous(x)
        sizes, strides = [prod(x.shape[:-1])], [n]
    return x.view(((sizes or [1])[0], n), ((strides or [n])[0], 1), x.offset)


def fill(dst: DeviceArray, value: bool | float) -> None:
    """Writes ``value``, converted to ``dst``'s dtype, to every element of ``dst``."""
    if dst.dtype.is_complex:
        fill(dst.part(0), complex(value).real)
        fill(dst.part(1), complex(value).imag)
        return
    pointwise_into("identity", [value], dst, dst.dtype)


def full(shape: tuple[int, ...], value: bool | float, dt: dtype, device_index: int = 0) -> DeviceArray:
    """A new array of ``shape`` filled with ``value``."""
    out = empty(shape, dt, device_index)
    fill(out, value)
    return out
