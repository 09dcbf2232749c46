"""Attention in one kernel, forward and backward (Dao, "FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning",
2023): scores stay in registers. Deterministic: every sum has one program.

``query`` (B, H, L, E), ``key`` (B, G, S, E), ``value`` (B, G, S, Ev), any strides; head h reads head h // (H / G) of the keys. Half types
multiply on the tensor cores, sums are float32. Exponentials are powers of two: scores and masks come times log2(e). Of the forward,
blocks that lie wholly below the diagonal and within the keys need no comparison and come first; the others follow in a second loop.
"""
from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl

from fusetorch import dtypes
from fusetorch.dtypes import dtype
from fusetorch.runtime import device
from fusetorch.runtime.launch import Kernel
from fusetorch.runtime.memory import DeviceArray, empty
from fusetorch.triton_kernels import scalar
from fusetorch.triton_kernels.layout import cdiv, common_factor, expand, pow2
from fusetorch.triton_kernels.pointwise import pointwise_into

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _place(heads, group, blocks, REVERSED: tl.constexpr):
    """(batch, head, head of the keys, block) of this program; with REVERSED the last blocks, which under a causal mask have most to do,
    start first."""
    block = tl.program_id(0) % blocks
    at = tl.program_id(0) // blocks
    if REVERSED:
        block = blocks - 1 - block
    head = at % heads
    return (at // heads).to(tl.int64), head.to(tl.int64), (head // group).to(tl.int64), block


@triton.jit
def _tile(x, lines, count, width, line_step, VEC: tl.constexpr, BLOCK: tl.constexpr, EVEN: tl.constexpr, ALL: tl.constexpr):
    """Rows ``lines`` of a matrix, zeros beyond ``count`` rows (unless ALL exist) and ``width`` columns (unless EVEN)."""
    columns = tl.arange(0, BLOCK)
    p = x + lines[:, None].to(tl.int64) * (line_step * VEC) + columns[None, :]
    if EVEN and ALL:
        return tl.load(p)
    elif EVEN:
        return tl.load(p, (lines < count)[:, None], other=0.0)
    elif ALL:
        return tl.load(p, (columns < width)[None, :], other=0.0)
    else:
        return tl.load(p, (lines < count)[:, None] & (columns < width)[None, :], other=0.0)


@triton.jit
def _masked(s, mask, rows, columns, count, keys, m_row, m_column, CAUSAL: tl.constexpr, EDGE: tl.constexpr):
    """Scores, already times log2(e), with the mask added; -inf where a row does not see a key. ``rows`` and ``columns`` broadcast."""
    if mask is not None:
        offsets = rows.to(tl.int64) * m_row + columns.to(tl.int64) * m_column
        s += tl.load(mask + offsets, (rows < count) & (columns < keys), other=0.0).to(tl.float32) * LOG2E
    if EDGE:
        seen = columns < keys
        if CAUSAL:
            seen = seen & (rows >= columns)
        s = tl.where(seen, s, float("-inf"))
    return s


@triton.jit
def _forward_step(acc, largest, total, q, k, v, mask, rows, at, count, keys, width, v_width, k_line, v_line, m_row, m_column, scale,
                  CAUSAL: tl.constexpr, EDGE: tl.constexpr, PRECISION: tl.constexpr, VEC_K: tl.constexpr, VEC_V: tl.constexpr,
                  BN: tl.constexpr, BD: tl.constexpr, BE: tl.constexpr, EVEN_D: tl.constexpr, EVEN_E: tl.constexpr):
    """A block of keys."""
    columns = at + tl.arange(0, BN)
    x = _tile(k, columns, keys, width, k_line, VEC_K, BD, EVEN_D, not EDGE)
    s = tl.dot(q, tl.trans(x), input_precision=PRECISION) * scale
    s = _masked(s, mask, rows[:, None], columns[None, :], count, keys, m_row, m_column, CAUSAL, EDGE)
    new = tl.maximum(largest, tl.max(s, 1))
    shift = tl.where(new == float("-inf"), 0.0, new)
    weights = tl.exp2(s - shift[:, None])
    keep = tl.exp2(largest - shift)
    total = total * keep + tl.sum(weights, 1)
    y = _tile(v, columns, keys, v_width, v_line, VEC_V, BE, EVEN_E, not EDGE)
    acc = tl.dot(scalar.cast(weights, y.dtype), y, acc * keep[:, None], input_precision=PRECISION)
    return acc, new, total


@triton.jit(do_not_specialize=["heads", "group", "count", "keys", "width", "v_width", "q_batch", "q_head", "q_line", "k_batch", "k_head",
                               "k_line", "v_batch", "v_head", "v_line", "m_batch", "m_head", "m_row", "m_column", "scale"])
def _attention(q, k, v, mask, out, lse, heads, group, count, keys, width, v_width, q_batch, q_head, q_line, k_batch, k_head, k_line,
               v_batch, v_head, v_line, m_batch, m_head, m_row, m_column, scale, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
               VEC_Q: tl.constexpr, VEC_K: tl.constexpr, VEC_V: tl.constexpr, VEC_E: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
               BD: tl.constexpr, BE: tl.constexpr, EVEN_D: tl.constexpr, EVEN_E: tl.constexpr):
    """A block of query rows of a head. Strides come divided by the VECs, ``v_width`` by VEC_E."""
    v_width = v_width * VEC_E
    batch, head, shared, block = _place(heads, group, tl.cdiv(count, BM), CAUSAL)
    scale = scale * LOG2E
    rows = block * BM + tl.arange(0, BM)
    x = _tile(q + (batch * q_batch + head * q_head) * VEC_Q, rows, count, width, q_line, VEC_Q, BD, EVEN_D, False)
    k += (batch * k_batch + shared * k_head) * VEC_K
    v += (batch * v_batch + shared * v_head) * VEC_V
    if mask is not None:
        mask += batch * m_batch + head * m_head
    acc = tl.zeros((BM, BE), tl.float32)
    largest = tl.full((BM,), float("-inf"), tl.float32)
    total = tl.zeros((BM,), tl.float32)
    last = keys
    whole = keys // BN * BN
    if CAUSAL:
        last = tl.minimum(keys, block * BM + BM)
        whole = tl.minimum(keys, block * BM + 1) // BN * BN
    for at in range(0, whole, BN):
        acc, largest, total = _forward_step(acc, largest, total, x, k, v, mask, rows, at, count, keys, width, v_width, k_line, v_line,
                                            m_row, m_column, scale, CAUSAL, False, PRECISION, VEC_K, VEC_V, BN, BD, BE, EVEN_D, EVEN_E)
    for at in range(whole, last, BN):
        acc, largest, total = _forward_step(acc, largest, total, x, k, v, mask, rows, at, count, keys, width, v_width, k_line, v_line,
                                            m_row, m_column, scale, CAUSAL, True, PRECISION, VEC_K, VEC_V, BN, BD, BE, EVEN_D, EVEN_E)
    nothing = largest == float("-inf")
    acc = acc / tl.where(nothing, 1.0, total)[:, None]
    line = (batch * heads + head) * count + rows
    columns = tl.arange(0, BE)
    tl.store(out + line[:, None] * v_width + columns[None, :], scalar.cast(acc, out.dtype.element_ty),
             (rows < count)[:, None] & (columns < v_width)[None, :])
    tl.store(lse + line, tl.where(nothing, float("inf"), largest * LN2 + tl.log(total)), rows < count)


@triton.jit(do_not_specialize=["heads", "count", "v_width", "g_batch", "g_head", "g_line"])
def _delta(grad, out, delta, heads, count, v_width, g_batch, g_head, g_line, VEC_G: tl.constexpr, VEC_E: tl.constexpr, BM: tl.constexpr,
           BE: tl.constexpr):
    """For each row the sum of ``grad * out``."""
    v_width = v_width * VEC_E
    batch, head, _, block = _place(heads, 1, tl.cdiv(count, BM), False)
    rows = block * BM + tl.arange(0, BM)
    g = _tile(grad + (batch * g_batch + head * g_head) * VEC_G, rows, count, v_width, g_line, VEC_G, BE, False, False)
    o = _tile(out + (batch * heads + head) * count * v_width, rows, count, v_width, v_width, 1, BE, False, False)
    line = (batch * heads + head) * count + rows
    tl.store(delta + line, tl.sum(g.to(tl.float32) * o.to(tl.float32), 1), rows < count)


@triton.jit
def _query_step(acc, q, g, k, v, mask, log, delta, rows, at, count, keys, width, v_width, k_line, v_line, m_row, m_column, scale,
                CAUSAL: tl.constexpr, PRECISION: tl.constexpr, VEC_K: tl.constexpr, VEC_V: tl.constexpr,
                BN: tl.constexpr, BD: tl.constexpr, BE: tl.constexpr, EVEN_D: tl.constexpr, EVEN_E: tl.constexpr):
    """What a block of keys adds to the gradient of a block of query rows."""
    columns = at + tl.arange(0, BN)
    x = _tile(k, columns, keys, width, k_line, VEC_K, BD, EVEN_D, False)
    s = tl.dot(q, tl.trans(x), input_precision=PRECISION) * scale
    s = _masked(s, mask, rows[:, None], columns[None, :], count, keys, m_row, m_column, CAUSAL, True)
    weights = tl.exp2(s - log[:, None])
    y = _tile(v, columns, keys, v_width, v_line, VEC_V, BE, EVEN_E, False)
    ds = weights * (tl.dot(g, tl.trans(y), input_precision=PRECISION) - delta[:, None])
    return tl.dot(scalar.cast(ds, x.dtype), x, acc, input_precision=PRECISION)


@triton.jit(do_not_specialize=["heads", "group", "count", "keys", "width", "v_width", "q_batch", "q_head", "q_line", "k_batch", "k_head",
                               "k_line", "v_batch", "v_head", "v_line", "g_batch", "g_head", "g_line", "m_batch", "m_head", "m_row",
                               "m_column", "scale"])
def _query_grad(q, k, v, grad, mask, lse, delta, out, heads, group, count, keys, width, v_width, q_batch, q_head, q_line, k_batch, k_head,
                k_line, v_batch, v_head, v_line, g_batch, g_head, g_line, m_batch, m_head, m_row, m_column, scale, CAUSAL: tl.constexpr,
                PRECISION: tl.constexpr, VEC_Q: tl.constexpr, VEC_K: tl.constexpr, VEC_V: tl.constexpr, VEC_G: tl.constexpr,
                VEC_D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, BE: tl.constexpr, EVEN_D: tl.constexpr,
                EVEN_E: tl.constexpr):
    """The gradient of a block of query rows of a head."""
    width = width * VEC_D
    batch, head, shared, block = _place(heads, group, tl.cdiv(count, BM), CAUSAL)
    rows = block * BM + tl.arange(0, BM)
    x = _tile(q + (batch * q_batch + head * q_head) * VEC_Q, rows, count, width, q_line, VEC_Q, BD, EVEN_D, False)
    g = _tile(grad + (batch * g_batch + head * g_head) * VEC_G, rows, count, v_width, g_line, VEC_G, BE, EVEN_E, False)
    k += (batch * k_batch + shared * k_head) * VEC_K
    v += (batch * v_batch + shared * v_head) * VEC_V
    if mask is not None:
        mask += batch * m_batch + head * m_head
    line = (batch * heads + head) * count + rows
    log = tl.load(lse + line, rows < count, other=float("inf")).to(tl.float32) * LOG2E
    d = tl.load(delta + line, rows < count, other=0.0)
    acc = tl.zeros((BM, BD), tl.float32)
    last = keys
    if CAUSAL:
        last = tl.minimum(keys, block * BM + BM)
    for at in range(0, last, BN):  # one loop here and below: registers are short
        acc = _query_step(acc, x, g, k, v, mask, log, d, rows, at, count, keys, width, v_width, k_line, v_line, m_row, m_column,
                          scale * LOG2E, CAUSAL, PRECISION, VEC_K, VEC_V, BN, BD, BE, EVEN_D, EVEN_E)
    columns = tl.arange(0, BD)
    tl.store(out + line[:, None] * width + columns[None, :], scalar.cast(acc * scale, out.dtype.element_ty),
             (rows < count)[:, None] & (columns < width)[None, :])


@triton.jit
def _key_step(dk, dv, k, v, q, grad, mask, lse, delta, columns, at, count, keys, width, v_width, q_line, g_line, m_row, m_column, scale,
              CAUSAL: tl.constexpr, PRECISION: tl.constexpr, VEC_Q: tl.constexpr, VEC_G: tl.constexpr, BM: tl.constexpr,
              BD: tl.constexpr, BE: tl.constexpr, EVEN_D: tl.constexpr, EVEN_E: tl.constexpr):
    """What a block of query rows adds to the gradients of a block of keys and values; scores are transposed here."""
    rows = at + tl.arange(0, BM)
    x = _tile(q, rows, count, width, q_line, VEC_Q, BD, EVEN_D, False)
    g = _tile(grad, rows, count, v_width, g_line, VEC_G, BE, EVEN_E, False)
    log = tl.load(lse + rows, rows < count, other=float("inf")).to(tl.float32) * LOG2E
    d = tl.load(delta + rows, rows < count, other=0.0)
    s = tl.dot(k, tl.trans(x), input_precision=PRECISION) * scale
    s = _masked(s, mask, rows[None, :], columns[:, None], count, keys, m_row, m_column, CAUSAL, True)
    weights = tl.exp2(s - log[None, :])
    dv = tl.dot(scalar.cast(weights, g.dtype), g, dv, input_precision=PRECISION)
    ds = weights * (tl.dot(v, tl.trans(g), input_precision=PRECISION) - d[None, :])
    dk = tl.dot(scalar.cast(ds, x.dtype), x, dk, input_precision=PRECISION)
    return dk, dv


@triton.jit(do_not_specialize=["heads", "group", "count", "keys", "width", "v_width", "q_batch", "q_head", "q_line", "k_batch", "k_head",
                               "k_line", "v_batch", "v_head", "v_line", "g_batch", "g_head", "g_line", "m_batch", "m_head", "m_row",
                               "m_column", "scale"])
def _key_grad(q, k, v, grad, mask, lse, delta, out_k, out_v, heads, group, count, keys, width, v_width, q_batch, q_head, q_line, k_batch,
              k_head, k_line, v_batch, v_head, v_line, g_batch, g_head, g_line, m_batch, m_head, m_row, m_column, scale,
              CAUSAL: tl.constexpr, PRECISION: tl.constexpr, VEC_Q: tl.constexpr, VEC_K: tl.constexpr, VEC_V: tl.constexpr,
              VEC_G: tl.constexpr, VEC_D: tl.constexpr, VEC_E: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
              BE: tl.constexpr, EVEN_D: tl.constexpr, EVEN_E: tl.constexpr):
    """The gradients of a block of keys and values of a head, over all query heads that it serves."""
    width = width * VEC_D
    v_width = v_width * VEC_E
    batch, shared, _, block = _place(heads // group, 1, tl.cdiv(keys, BN), False)
    columns = block * BN + tl.arange(0, BN)
    x = _tile(k + (batch * k_batch + shared * k_head) * VEC_K, columns, keys, width, k_line, VEC_K, BD, EVEN_D, False)
    y = _tile(v + (batch * v_batch + shared * v_head) * VEC_V, columns, keys, v_width, v_line, VEC_V, BE, EVEN_E, False)
    dk = tl.zeros((BN, BD), tl.float32)
    dv = tl.zeros((BN, BE), tl.float32)
    first = 0
    if CAUSAL:
        first = block * BN // BM * BM
    for h in range(0, group):
        head = shared * group + h
        xq = q + (batch * q_batch + head * q_head) * VEC_Q
        xg = grad + (batch * g_batch + head * g_head) * VEC_G
        xm = mask
        if mask is not None:
            xm += batch * m_batch + head * m_head
        line = (batch * heads + head) * count
        for at in range(first, count, BM):
            dk, dv = _key_step(dk, dv, x, y, xq, xg, xm, lse + line, delta + line, columns, at, count, keys, width, v_width, q_line, g_line,
                               m_row, m_column, scale * LOG2E, CAUSAL, PRECISION, VEC_Q, VEC_G, BM, BD, BE, EVEN_D, EVEN_E)
    line = ((batch * (heads // group) + shared) * keys + columns)[:, None]
    inside = (columns < keys)[:, None]
    d = tl.arange(0, BD)[None, :]
    e = tl.arange(0, BE)[None, :]
    tl.store(out_k + line * width + d, scalar.cast(dk * scale, out_k.dtype.element_ty), inside & (d < width))
    tl.store(out_v + line * v_width + e, scalar.cast(dv, out_v.dtype.element_ty), inside & (e < v_width))


attention_kernel = Kernel(_attention, fp_fusion=True)
delta_kernel = Kernel(_delta, fp_fusion=True)
query_grad_kernel = Kernel(_query_grad, fp_fusion=True)
key_grad_kernel = Kernel(_key_grad, fp_fusion=True)


# ---- host side


@dataclass(frozen=True)
class Config:
    """Rows and keys of a tile, and how a program runs."""

    bm: int
    bn: int
    num_warps: int
    num_stages: int


def config(kind: str, dt: dtype, width: int, rows: int, keys: int, capability: int) -> Config:
    """Tiles for ``kind`` (forward, query or key: the gradients) and rows of ``width`` numbers, a power of two, on ``sm_<capability>``."""
    if device.simulated():  # the interpreter's time is in the number of programs
        return Config(min(max(pow2(rows), 16), 128), min(max(pow2(keys), 16), 128), 4, 1)
    if dt is dtypes.float32:  # without tensor cores: what a thread holds decides
        if kind == "forward":
            return Config(32, 32, 4, 2) if width <= 64 else Config(32, 32, 8, 1) if width <= 128 else Config(16, 16, 8, 1)
        return Config(32, 32, 8, 1) if width <= 64 else Config(16, 16, 8, 1 if kind == "key" else 2)
    if kind == "forward":
        if width <= 128:
            return Config(128, 64, 8, 3 if capability in (80, 90, 100, 103) else 2)
        return Config(64, 32, 4, 2)
    if width <= 64:
        return Config(64, 64, 4, 2) if kind == "query" or capability == 90 else Config(32, 64, 4, 2)
    return Config(64, 64, 8, 2) if width <= 128 else Config(32, 32, 4, 1)


def attention(query: DeviceArray, key: DeviceArray, value: DeviceArray, mask: DeviceArray | None, scale: float,
              causal: bool) -> tuple[DeviceArray, DeviceArray]:
    """``softmax(query @ key.T * scale + mask) @ value``, and the logarithms of the rows' sums of exponentials (float32).

    Args:
        query, key, value: (B, H, L, E), (B, G, S, E), (B, G, S, Ev) in float16, bfloat16 or float32; H a multiple of G; E, Ev up to 256.
        mask: of four dimensions that broadcast to (B, H, L, S), floating; added to the scores.
        causal: row i sees keys 0 .. i.

    Raises ``NotImplementedError`` for other dtypes or widths.

    Example:
        >>> attention(q, k, v, None, q.shape[-1] ** -0.5, True)[0].shape                                    # doctest: +SKIP
        (2, 8, 512, 64)
    """
    _check(query, value)
    b, h, rows, _ = query.shape
    v_width, place = value.shape[-1], query.storage.device_index
    out, lse = empty((b, h, rows, v_width), query.dtype, place), empty((b, h, rows), dtypes.float32, place)
    if out.size:
        c, same, numbers = _common("forward", query, key, value, causal)
        (q, k, v), strides, vecs = _strided(query, key, value)
        vec = common_factor(v_width)
        attention_kernel((b * h * cdiv(rows, c.bm),), q, k, v, mask, out, lse, *numbers, v_width // vec, *strides,
                         *_mask_strides(mask, query, key), float(scale), VEC_Q=vecs[0], VEC_K=vecs[1], VEC_V=vecs[2], VEC_E=vec, **same)
    return out, lse


def attention_backward(grad: DeviceArray, query: DeviceArray, key: DeviceArray, value: DeviceArray, mask: DeviceArray | None,
                       out: DeviceArray, lse: DeviceArray, scale: float, causal: bool) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
    """The gradients of query, key and value from that of :func:`attention`'s first result; ``out`` and ``lse`` are its results."""
    _check(query, value)
    b, h, rows, width = query.shape
    keys, v_width, place = key.shape[2], value.shape[-1], query.storage.device_index
    dq, dk, dv = (empty(x.shape, x.dtype, place) for x in (query, key, value))
    delta = empty((b, h, rows), dtypes.float32, place)
    (q, k, v, g), strides, vecs = _strided(query, key, value, grad)
    if not out.is_contiguous:
        out = _dense(out)
    vec_d, vec_e = common_factor(width), common_factor(v_width)
    bm = 128 if device.simulated() else 32
    delta_kernel((b * h * cdiv(rows, bm),), g, out, delta, h, rows, v_width // vec_e, *strides[9:], VEC_G=vecs[3], VEC_E=vec_e, BM=bm,
                 BE=max(16, pow2(v_width)), num_warps=4)
    masks = _mask_strides(mask, query, key)
    vec = {"VEC_Q": vecs[0], "VEC_K": vecs[1], "VEC_V": vecs[2], "VEC_G": vecs[3], "VEC_D": vec_d}
    c, same, (*numbers, _) = _common("query", query, key, value, causal)
    query_grad_kernel((b * h * cdiv(rows, c.bm),), q, k, v, g, mask, lse, delta, dq, *numbers, width // vec_d, v_width, *strides, *masks,
                      float(scale), **vec, **same)
    c, same, _ = _common("key", query, key, value, causal)
    key_grad_kernel((b * key.shape[1] * cdiv(keys, c.bn),), q, k, v, g, mask, lse, delta, dk, dv, *numbers, width // vec_d,
                    v_width // vec_e, *strides, *masks, float(scale), **vec, VEC_E=vec_e, **same)
    return dq, dk, dv


def _check(query: DeviceArray, value: DeviceArray) -> None:
    if query.dtype not in (*dtypes.HALVES, dtypes.float32) or max(query.shape[-1], value.shape[-1]) > 256:
        raise NotImplementedError(f"flash_attention: not implemented on 'cuda' for {query.dtype} and rows of {query.shape[-1]} and "
                                  f"{value.shape[-1]} numbers; it takes float16, bfloat16 and float32 and up to 256")


def _common(kind: str, query: DeviceArray, key: DeviceArray, value: DeviceArray, causal: bool) -> tuple[Config, dict, tuple]:
    """The tiles, the constants and the sizes that all kernels take."""
    width, v_width = query.shape[-1], value.shape[-1]
    bd, be = max(16, pow2(width)), max(16, pow2(v_width))
    c = config(kind, query.dtype, max(bd, be), query.shape[2], key.shape[2], device.compute_capability(query.storage.device_index))
    constants = {"CAUSAL": bool(causal), "PRECISION": "ieee", "BM": c.bm, "BN": c.bn, "BD": bd, "BE": be, "EVEN_D": bd == width,
                 "EVEN_E": be == v_width, "num_warps": c.num_warps, "num_stages": c.num_stages}
    h = query.shape[1]
    return c, constants, (h, h // key.shape[1], query.shape[2], key.shape[2], width)


def _strided(*arrays: DeviceArray) -> tuple[list[DeviceArray], list[int], list[int]]:
    """Arrays whose neighbours of the last dimension are adjacent (copies where they were not), their other strides divided by the factors
    that these have in common, and the factors."""
    out, strides, factors = [], [], []
    for x in arrays:
        if x.strides[-1] != 1 and x.shape[-1] > 1:
            x = _dense(x)
        s = [0 if n == 1 else s for n, s in zip(x.shape[:3], x.strides[:3])]
        factor = common_factor(*s)
        out.append(x)
        strides += [n // factor for n in s]
        factors.append(factor)
    return out, strides, factors


def _mask_strides(mask: DeviceArray | None, query: DeviceArray, key: DeviceArray) -> tuple[int, ...]:
    return (0,) * 4 if mask is None else expand(mask, (*query.shape[:3], key.shape[2])).strides


def _dense(x: DeviceArray) -> DeviceArray:
    out = empty(x.shape, x.dtype, x.storage.device_index)
    pointwise_into("identity", [x], out, x.dtype)
    return out
