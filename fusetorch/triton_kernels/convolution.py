"""Convolutions as matrix products whose left operand is never written down (implicit GEMM).

``_sum``: result positions x output channels, summed over taps and input channels; a strided convolution's adjoint is one such sum for each
remainder of the position modulo the stride, over the taps that reach it. ``_weight``: output channels x (taps, input channels), summed
over positions, in parts that are added up in a fixed order. With enough channels the operands are copied to channels-last first, so
that a tile of channels is one wide load; with few, taps and channels are one dimension of the product (``FLAT``). Groups of few output
channels (depthwise) have no matrix product to speak of: ``_direct`` and ``_direct_weight`` multiply and add.

Half types multiply on the tensor cores and accumulate in float32; float32 in full precision; float64 in float64.
"""
from __future__ import annotations

from itertools import product
from math import gcd, prod

import triton
import triton.language as tl

from fusetorch.runtime import device
from fusetorch.runtime.launch import Kernel
from fusetorch.runtime.memory import DeviceArray, empty
from fusetorch.triton_kernels import scalar
from fusetorch.triton_kernels.layout import TRITON_TYPES, accumulator, cdiv, pow2
from fusetorch.triton_kernels.matmul import FULL, config
from fusetorch.triton_kernels.pointwise import contiguous, fill, pointwise_into
from fusetorch.triton_kernels.reduce import reduce_into


@triton.jit
def _position(m, nd, nh, nw):
    """(image, d, h, w) of position ``m``, counted row by row."""
    w = m % nw
    m = m // nw
    h = m % nh
    m = m // nh
    return m // nd, m % nd, h, w


@triton.jit
def _inside(d, h, w, size_d, size_h, size_w):
    return (d >= 0) & (d < size_d) & (h >= 0) & (h < size_h) & (w >= 0) & (w < size_w)


@triton.jit
def _sum(a, w, bias, out, positions, c, o, size_d, size_h, size_w, a_n, a_c, a_d, a_h, a_w, count_d, count_h, count_w, move_d, move_h,
         move_w, taps_d, taps_h, taps_w, first_d, first_h, first_w, next_d, next_h, next_w, w_group, w_c, w_o, w_d, w_h, w_w, w_first,
         out_n, out_c, out_d, out_h, out_w, out_first, blocks_o,
         ACC: tl.constexpr, FLAT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """``out[n, o, j] = sum over c, t of a[n, c, j * move + first + t * next] * w[c, t, o] + bias[o]`` for ``j < count``; program axis 1 is
    the group."""
    group = tl.program_id(1).to(tl.int64)
    at = (tl.program_id(0) // blocks_o) * BM + tl.arange(0, BM)
    os = (tl.program_id(0) % blocks_o) * BN + tl.arange(0, BN)
    image, jd, jh, jw = _position(at, count_d, count_h, count_w)
    d = jd * move_d + first_d
    h = jh * move_h + first_h
    x = jw * move_w + first_w
    a += group * c * a_c
    w += group * w_group + w_first
    rows = image.to(tl.int64) * a_n + d.to(tl.int64) * a_d + h.to(tl.int64) * a_h + x.to(tl.int64) * a_w
    there = at < positions
    columns = os < o
    acc = tl.zeros((BM, BN), ACC)
    taps = taps_d * taps_h * taps_w
    if FLAT:
        for k0 in range(0, c * taps, BK):
            k = k0 + tl.arange(0, BK)
            channel, td, th, tw = _position(k, taps_d, taps_h, taps_w)
            seen = _inside(d[:, None] + (td * next_d)[None, :], h[:, None] + (th * next_h)[None, :], x[:, None] + (tw * next_w)[None, :],
                           size_d, size_h, size_w)
            shift = channel.to(tl.int64) * a_c + td * next_d * a_d + th * next_h * a_h + tw * next_w * a_w
            p = tl.load(a + rows[:, None] + shift[None, :], seen & there[:, None] & (k < c * taps)[None, :], other=0)
            weights = channel.to(tl.int64) * w_c + td * w_d + th * w_h + tw * w_w
            q = tl.load(w + weights[:, None] + (os * w_o)[None, :], (k < c * taps)[:, None] & columns[None, :], other=0)
            acc = tl.dot(p, q, acc, input_precision="ieee", out_dtype=ACC)
    else:
        steps = tl.cdiv(c, BK)
        for i in range(0, taps * steps):
            tap = i // steps
            k = (i % steps) * BK + tl.arange(0, BK)
            tw = tap % taps_w
            th = tap // taps_w % taps_h
            td = tap // taps_w // taps_h
            seen = there & _inside(d + td * next_d, h + th * next_h, x + tw * next_w, size_d, size_h, size_w)
            shift = rows + td * next_d * a_d + th * next_h * a_h + tw * next_w * a_w
            p = tl.load(a + shift[:, None] + (k * a_c)[None, :], seen[:, None] & (k < c)[None, :], other=0)
            weights = k * w_c + td * w_d + th * w_h + tw * w_w
            q = tl.load(w + weights[:, None] + (os * w_o)[None, :], (k < c)[:, None] & columns[None, :], other=0)
            acc = tl.dot(p, q, acc, input_precision="ieee", out_dtype=ACC)
    channels = group * o + os
    if bias is not None:
        acc += tl.load(bias + channels, columns, other=0).to(ACC)[None, :]
    to = out_first + image.to(tl.int64) * out_n + jd.to(tl.int64) * out_d + jh.to(tl.int64) * out_h + jw.to(tl.int64) * out_w
    tl.store(out + to[:, None] + channels[None, :] * out_c, scalar.cast(acc, out.dtype.element_ty), there[:, None] & columns[None, :])


@triton.jit
def _direct(a, w, bias, out, positions, c, o, size_d, size_h, size_w, a_n, a_c, a_d, a_h, a_w, count_d, count_h, count_w, move_d, move_h,
            move_w, taps_d, taps_h, taps_w, first_d, first_h, first_w, next_d, next_h, next_w, w_group, w_c, w_o, w_d, w_h, w_w, w_first,
            out_n, out_c, out_d, out_h, out_w, out_first,
            ACC: tl.constexpr, BM: tl.constexpr):
    """As ``_sum``, for one output channel (program axis 1) at a time."""
    channel = tl.program_id(1).to(tl.int64)
    group = channel // o
    at = tl.program_id(0) * BM + tl.arange(0, BM)
    image, jd, jh, jw = _position(at, count_d, count_h, count_w)
    d = jd * move_d + first_d
    h = jh * move_h + first_h
    x = jw * move_w + first_w
    a += group * c * a_c
    w += group * w_group + (channel % o) * w_o + w_first
    rows = image.to(tl.int64) * a_n + d.to(tl.int64) * a_d + h.to(tl.int64) * a_h + x.to(tl.int64) * a_w
    there = at < positions
    acc = tl.zeros((BM,), ACC)
    taps = taps_d * taps_h * taps_w
    for i in range(0, c * taps):
        k = i // taps
        tw = i % taps_w
        th = i // taps_w % taps_h
        td = i // taps_w // taps_h % taps_d
        seen = there & _inside(d + td * next_d, h + th * next_h, x + tw * next_w, size_d, size_h, size_w)
        p = tl.load(a + rows + (k * a_c + td * next_d * a_d + th * next_h * a_h + tw * next_w * a_w), seen, other=0)
        acc += p.to(ACC) * tl.load(w + k * w_c + td * w_d + th * w_h + tw * w_w).to(ACC)
    if bias is not None:
        acc += tl.load(bias + channel).to(ACC)
    to = out_first + image.to(tl.int64) * out_n + jd.to(tl.int64) * out_d + jh.to(tl.int64) * out_h + jw.to(tl.int64) * out_w
    tl.store(out + to + channel * out_c, scalar.cast(acc, out.dtype.element_ty), there)


@triton.jit
def _weight(g, a, out, positions, per_part, c, o, size_d, size_h, size_w, a_n, a_c, a_d, a_h, a_w, count_d, count_h, count_w, g_n, g_o,
            g_d, g_h, g_w, move_d, move_h, move_w, taps_d, taps_h, taps_w, first_d, first_h, first_w, next_d, next_h, next_w, out_part,
            blocks_k, ACC: tl.constexpr, FLAT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """``out[part, o, c, t]``: the sum over the positions j of a part of ``g[n, o, j] * a[n, c, j * move + first + t * next]``.
    Program axis 1 is the group, axis 2 the part. FLAT: a column is a channel and tap; else a block of columns has one tap."""
    group = tl.program_id(1).to(tl.int64)
    part = tl.program_id(2)
    os = (tl.program_id(0) // blocks_k) * BM + tl.arange(0, BM)
    block = tl.program_id(0) % blocks_k
    taps = taps_d * taps_h * taps_w
    if FLAT:
        k = block * BN + tl.arange(0, BN)
        channel, td, th, tw = _position(k, taps_d, taps_h, taps_w)
        known = k < c * taps
        columns = k
        shift = channel.to(tl.int64) * a_c + td * next_d * a_d + th * next_h * a_h + tw * next_w * a_w
    else:
        tap = block % taps
        channel = (block // taps) * BN + tl.arange(0, BN)
        tw = tap % taps_w
        th = tap // taps_w % taps_h
        td = tap // taps_w // taps_h
        known = channel < c
        columns = channel * taps + tap
        shift = channel * a_c + (td * next_d * a_d + th * next_h * a_h + tw * next_w * a_w)
    a += group * c * a_c
    g += group * o * g_o
    acc = tl.zeros((BM, BN), ACC)
    last = tl.minimum((part + 1) * per_part, positions)
    for at in range(part * per_part, last, BK):
        j = at + tl.arange(0, BK)
        image, jd, jh, jw = _position(j, count_d, count_h, count_w)
        d = jd * move_d + first_d
        h = jh * move_h + first_h
        x = jw * move_w + first_w
        there = j < last
        from_g = image.to(tl.int64) * g_n + jd.to(tl.int64) * g_d + jh.to(tl.int64) * g_h + jw.to(tl.int64) * g_w
        p = tl.load(g + from_g[None, :] + (os * g_o)[:, None], there[None, :] & (os < o)[:, None], other=0)
        rows = image.to(tl.int64) * a_n + d.to(tl.int64) * a_d + h.to(tl.int64) * a_h + x.to(tl.int64) * a_w
        if FLAT:
            seen = _inside(d[:, None] + (td * next_d)[None, :], h[:, None] + (th * next_h)[None, :], x[:, None] + (tw * next_w)[None, :],
                           size_d, size_h, size_w) & there[:, None]
        else:
            seen = (there & _inside(d + td * next_d, h + th * next_h, x + tw * next_w, size_d, size_h, size_w))[:, None]
        q = tl.load(a + rows[:, None] + shift[None, :], seen & known[None, :], other=0)
        acc = tl.dot(p, q, acc, input_precision="ieee", out_dtype=ACC)
    lines = (group * o + os) * (c * taps)
    tl.store(out + part.to(tl.int64) * out_part + lines[:, None] + columns[None, :], scalar.cast(acc, out.dtype.element_ty),
             (os < o)[:, None] & known[None, :])


@triton.jit
def _direct_weight(g, a, out, positions, per_part, c, o, size_d, size_h, size_w, a_n, a_c, a_d, a_h, a_w, count_d, count_h, count_w, g_n,
                   g_o, g_d, g_h, g_w, move_d, move_h, move_w, taps_d, taps_h, taps_w, first_d, first_h, first_w, next_d, next_h, next_w,
                   out_part, ACC: tl.constexpr, BP: tl.constexpr, BT: tl.constexpr):
    """As ``_weight``, for one output channel (program axis 0) and a block of channels and taps (axis 1)."""
    channel = tl.program_id(0).to(tl.int64)
    group = channel // o
    part = tl.program_id(2)
    taps = taps_d * taps_h * taps_w
    k = tl.program_id(1) * BT + tl.arange(0, BT)
    c_of_k, td, th, tw = _position(k, taps_d, taps_h, taps_w)
    known = k < c * taps
    shift = (group * c + c_of_k) * a_c + td * next_d * a_d + th * next_h * a_h + tw * next_w * a_w
    acc = tl.zeros((BP, BT), ACC)
    last = tl.minimum((part + 1) * per_part, positions)
    for at in range(part * per_part, last, BP):
        j = at + tl.arange(0, BP)
        image, jd, jh, jw = _position(j, count_d, count_h, count_w)
        d = jd * move_d + first_d
        h = jh * move_h + first_h
        x = jw * move_w + first_w
        there = j < last
        from_g = image.to(tl.int64) * g_n + jd.to(tl.int64) * g_d + jh.to(tl.int64) * g_h + jw.to(tl.int64) * g_w
        slope = tl.load(g + from_g + channel * g_o, there, other=0).to(ACC)
        rows = image.to(tl.int64) * a_n + d.to(tl.int64) * a_d + h.to(tl.int64) * a_h + x.to(tl.int64) * a_w
        seen = _inside(d[:, None] + (td * next_d)[None, :], h[:, None] + (th * next_h)[None, :], x[:, None] + (tw * next_w)[None, :],
                       size_d, size_h, size_w)
        q = tl.load(a + rows[:, None] + shift[None, :], seen & there[:, None] & known[None, :], other=0)
        acc += slope[:, None] * q.to(ACC)
    tl.store(out + part.to(tl.int64) * out_part + channel * c * taps + k, scalar.cast(tl.sum(acc, 0), out.dtype.element_ty), known)


sum_kernel = Kernel(_sum, num_warps=4, num_stages=3, fp_fusion=True)
direct_kernel = Kernel(_direct, num_warps=4, fp_fusion=True)
weight_kernel = Kernel(_weight, num_warps=4, num_stages=3, fp_fusion=True)
direct_weight_kernel = Kernel(_direct_weight, num_warps=4, fp_fusion=True)

# ---------------------------------------------------------------------------------------------------- host side

#: Output channels of a group from which a tile of a matrix product is worth its zeros.
MATRIX = 4
#: Input channels of a group from which a tile along channels is.
DEEP = 16

Triple = tuple[int, int, int]


def _three(values: tuple, fill_with: int) -> Triple:
    return (*(fill_with,) * (3 - len(values)), *values)  # type: ignore[return-value]


def _floating(name: str, x: DeviceArray) -> None:
    if not x.dtype.is_floating_point:
        raise NotImplementedError(f"{name}: not implemented for {x.dtype} on cuda (operand of shape {list(x.shape)}); float16, bfloat16, "
                                  "float32 and float64 are. Convert with .float() first")


def _volume(x: DeviceArray) -> DeviceArray:
    """(N, C, *size) with three sizes."""
    lead = 5 - len(x.shape)
    return x.view((*x.shape[:2], *(1,) * lead, *x.shape[2:]), (*x.strides[:2], *(0,) * lead, *x.strides[2:]), x.offset)


def _channels_last(x: DeviceArray) -> DeviceArray:
    """The same (N, C, D, H, W) array with channels next to each other in memory."""
    n, c, *size = x.shape
    order = (0, 2, 3, 4, 1)
    moved = contiguous(x.view(tuple(x.shape[d] for d in order), tuple(x.strides[d] for d in order), x.offset))
    s = moved.strides
    return moved.view((n, c, *size), (s[0], s[4], *s[1:4]), moved.offset)


def _tiles(m: int, n: int, k: int, x: DeviceArray, groups: int, wide: bool) -> tuple[int, int, int, int, int]:
    """(BM, BN, BK, warps, stages)."""
    found = config(m, n, k, groups, x.dtype, False, wide, device.compute_capability(x.storage.device_index))
    if device.simulated():
        return found.bm, found.bn, found.bk, found.num_warps, found.num_stages
    bm, bn, bk = (max(16, min(size, pow2(have))) for size, have in zip((found.bm, found.bn, found.bk), (m, n, k)))
    if wide:
        return bm, bn, bk, found.num_warps, found.num_stages
    # addresses of single elements take registers
    return min(bm, 64), min(bn, 64), min(bk, 16 if x.itemsize > 2 else 32), 4, 2


def _summed(x: DeviceArray, w: DeviceArray, bias: DeviceArray | None, out: DeviceArray, groups: int, c: int, o: int, move: Triple,
            origin: Triple, step: Triple, count: Triple, taps: list[range], first: Triple, then: Triple, w_strides: tuple) -> None:
    """One dense part of ``out`` (N, groups * o, *size): see ``_sum``. ``taps``: which of the kernel's, along each dimension."""
    positions = x.shape[0] * prod(count)
    w_group, w_c, w_o, *w_taps = w_strides
    acc = TRITON_TYPES[accumulator(x.dtype)]
    s = out.strides
    arguments = (positions, c, o, *x.shape[2:], *x.strides, *count, *move, *map(len, taps), *first, *then, w_group, w_c, w_o,
                 *(a * t.step for a, t in zip(w_taps, taps)), sum(a * t.start for a, t in zip(w_taps, taps)), s[0], s[1],
                 *(a * k for a, k in zip(s[2:], step)), sum(a * r for a, r in zip(s[2:], origin)))
    if o < MATRIX:
        bm = min(pow2(positions), 4096 if device.simulated() else 512)
        direct_kernel((cdiv(positions, bm), groups * o), x, w, bias, out, *arguments, ACC=acc, BM=bm)
        return
    flat = c < DEEP
    bm, bn, bk, warps, stages = _tiles(positions, o, c * prod(map(len, taps)) if flat else c, x, groups, not flat)
    blocks = cdiv(o, bn)
    sum_kernel((cdiv(positions, bm) * blocks, groups), x, w, bias, out, *arguments, blocks, ACC=acc, FLAT=flat, BM=bm, BN=bn, BK=bk,
               num_warps=warps, num_stages=stages)


def _packed(w: DeviceArray, groups: int, flipped: bool) -> tuple[DeviceArray, tuple[int, ...]]:
    """A weight (first, second, *kernel) with the channels that are written next to each other, and its strides: group, channel read,
    channel written, kernel. ``flipped``: its first channels are those that are read."""
    first, second, *kernel = w.shape
    a, b, *taps = w.strides
    shape = (groups, *kernel, first // groups, second)
    strides = (a * (first // groups), *taps, a, b)
    if not flipped:
        shape, strides = (*shape[:4], shape[5], shape[4]), (*strides[:4], b, a)
    moved = contiguous(w.view(shape, strides, w.offset))
    g, d, h, x, read, written = moved.strides
    return moved, (g, read, written, d, h, x)


def _biased(bias: DeviceArray | None, out: DeviceArray) -> DeviceArray:
    """``out`` where nothing is summed: zeros, or the bias."""
    if bias is None:
        fill(out, 0)
    else:
        n = len(out.shape)
        shape = (1, bias.shape[0], *(1,) * (n - 2))
        pointwise_into("identity", [bias.view(shape, (0, bias.strides[0], *(0,) * (n - 2)), bias.offset)], out, out.dtype)
    return out


def forward(x: DeviceArray, w: DeviceArray, bias: DeviceArray | None, stride: tuple, padding: tuple, dilation: tuple,
            groups: int) -> DeviceArray:
    """The convolution of ``x`` (N, C, *size) with ``w`` (O, C / groups, *kernel), plus ``bias`` (O); any strides.

    Example:
        >>> forward(x, w, None, (1, 1), (1, 1), (1, 1), 1).shape  # x (8, 3, 32, 32), w (16, 3, 3, 3)        # doctest: +SKIP
        (8, 16, 32, 32)
    """
    _floating("convolution", x)
    spatial = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(x.shape[2:], w.shape[2:], stride, padding, dilation))
    out = empty((x.shape[0], w.shape[0], *spatial), x.dtype, x.storage.device_index)
    bias = None if bias is None else contiguous(bias)
    if not (out.size and w.size):
        return _biased(bias, out)
    stride, padding, dilation = _three(stride, 1), _three(padding, 0), _three(dilation, 1)
    x, w, to = _volume(x), _volume(w), _volume(out)
    c, o = w.shape[1], w.shape[0] // groups
    packed, strides = _packed(w, groups, False)
    if c >= DEEP and o >= MATRIX:
        x = _channels_last(x)
    _summed(x, packed, bias, to, groups, c, o, stride, (0, 0, 0), (1, 1, 1), to.shape[2:], [range(k) for k in w.shape[2:]],
            tuple(-p for p in padding), dilation, strides)
    return out


def input_grad(grad: DeviceArray, w: DeviceArray, bias: DeviceArray | None, size: tuple, stride: tuple, padding: tuple, dilation: tuple,
               groups: int) -> DeviceArray:
    """The adjoint of :func:`forward` with respect to ``x``, of spatial ``size``; plus ``bias`` (C)."""
    _floating("transposed convolution", grad)
    out = empty((grad.shape[0], w.shape[1] * groups, *size), grad.dtype, grad.storage.device_index)
    bias = None if bias is None else contiguous(bias)
    if not (out.size and w.size and grad.size):
        return _biased(bias, out)
    stride, padding, dilation = _three(stride, 1), _three(padding, 0), _three(dilation, 1)
    g, w, to = _volume(grad), _volume(w), _volume(out)
    c, o = w.shape[0] // groups, w.shape[1]
    packed, strides = _packed(w, groups, True)
    if c >= DEEP and o >= MATRIX:
        g = _channels_last(g)
    for origin in product(*map(range, stride)):
        count = tuple(max(0, cdiv(n - r, s)) for n, r, s in zip(to.shape[2:], origin, stride))
        if not prod(count):
            continue
        taps, first, then = [], [], []
        for k, s, p, d, r in zip(w.shape[2:], stride, padding, dilation, origin):
            period = s // gcd(s, d)
            start = next((t for t in range(min(k, period)) if (r + p - t * d) % s == 0), k)
            taps.append(range(start, k, period))
            first.append((r + p - start * d) // s)
            then.append(-d * period // s)
        _summed(g, packed, bias, to, groups, c, o, (1, 1, 1), origin, stride, count, taps, tuple(first), tuple(then), strides)
    return out


def weight_grad(grad: DeviceArray, x: DeviceArray, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple,
                groups: int) -> DeviceArray:
    """The gradient of ``w`` in :func:`forward`."""
    _floating("the weight gradient of a convolution", x)
    at = x.storage.device_index
    out = empty((grad.shape[1], x.shape[1] // groups, *kernel), x.dtype, at)
    if not (out.size and x.size and grad.size):
        fill(out, 0)
        return out
    kernel, stride, padding, dilation = _three(kernel, 1), _three(stride, 1), _three(padding, 0), _three(dilation, 1)
    g, x = _volume(grad), _volume(x)
    c, o = x.shape[1] // groups, g.shape[1] // groups
    positions, columns = g.shape[0] * prod(g.shape[2:]), c * prod(kernel)
    acc = accumulator(x.dtype)
    flat = c < DEEP
    if o < MATRIX:
        bp, bt = (1024, min(pow2(columns), 512)) if device.simulated() else (128, min(pow2(columns), 16))
        programs, grid = groups * o * cdiv(columns, bt), (groups * o, cdiv(columns, bt))
    else:
        if not flat:
            x, g = _channels_last(x), _channels_last(g)
        bm, bn, bp, warps, stages = _tiles(o, columns if flat else c, positions, x, groups, not flat)
        blocks = cdiv(columns, bn) if flat else cdiv(c, bn) * prod(kernel)
        programs, grid = cdiv(o, bm) * blocks * groups, (cdiv(o, bm) * blocks, groups)
    parts = 1 if device.simulated() else max(1, min(2 * FULL // programs, positions // 1024))
    per_part = cdiv(cdiv(positions, bp), parts) * bp
    parts = cdiv(positions, per_part)
    target = out if parts == 1 else empty((parts, out.size), acc, at)
    s = g.strides
    arguments = (positions, per_part, c, o, *x.shape[2:], *x.strides, *g.shape[2:], s[0], s[1], *s[2:], *stride, *kernel,
                 *(-p for p in padding), *dilation, out.size)
    if o < MATRIX:
        direct_weight_kernel((*grid, parts), g, x, target, *arguments, ACC=TRITON_TYPES[acc], BP=bp, BT=bt)
    else:
        weight_kernel((*grid, parts), g, x, target, *arguments, blocks, ACC=TRITON_TYPES[acc], FLAT=flat, BM=bm, BN=bn, BK=bp,
                      num_warps=warps, num_stages=stages)
    if parts > 1:
        reduce_into("sum", target, [0], out.view((out.size,), (1,), out.offset))
    return out
