"""layer_norm over the last dimension (J. Ba, J. Kiros, G. Hinton, "Layer Normalization", 2016), forward and backward.

The variance is taken around the mean, in a second pass over the row (which is in registers up to 16384 columns). Half types
compute in float32. The gradients of weight and bias are reductions like any other.
"""
from __future__ import annotations

from math import prod

import triton
import triton.language as tl

from fusetorch.runtime.launch import Kernel
from fusetorch.runtime.memory import DeviceArray, empty
from fusetorch.triton_kernels import scalar
from fusetorch.triton_kernels.layout import TRITON_TYPES, cdiv, common_factor, float_bits
from fusetorch.triton_kernels.pointwise import as_rows, contiguous, fill
from fusetorch.triton_kernels.softmax import compute_type, row_tiles


@triton.jit
def _load(x, mask, COMPUTE: tl.constexpr):
    return scalar.cast(tl.load(x, mask, other=0), COMPUTE)


@triton.jit
def _finish(x, mean, rstd, weight, bias, c, in_c, COMPUTE: tl.constexpr):
    y = (x - mean) * rstd
    if weight is not None:
        y = y * _load(weight + c, in_c, COMPUTE)
    if bias is not None:
        y = y + _load(bias + c, in_c, COMPUTE)
    return y


@triton.jit(do_not_specialize=["eps", "rows", "n", "stride"])
def _forward(x, weight, bias, eps, out, mean_out, rstd_out, rows, n, stride, COMPUTE: tl.constexpr, ONE: tl.constexpr,
             VEC: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """n and stride come divided by VEC, eps as the bits of a float64; ``out`` is contiguous."""
    n = n * VEC
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    c = tl.arange(0, BN)[None, :]
    in_m = (m < rows)[:, None]
    x += m[:, None].to(tl.int64) * (stride * VEC) + c
    out += m[:, None].to(tl.int64) * n + c
    count = tl.full((BM, 1), n, COMPUTE)
    offset = tl.full((BM, 1), eps, tl.int64).to(tl.float64, bitcast=True).to(COMPUTE)
    if ONE:
        mask = in_m & (c < n)
        value = _load(x, mask, COMPUTE)
        mean = scalar.div(tl.sum(value, 1)[:, None], count)
        centred = tl.where(mask, value - mean, 0.0).to(COMPUTE)
        variance = scalar.div(tl.sum(centred * centred, 1)[:, None], count)
        rstd = scalar.rsqrt(variance + offset)
        y = _finish(value, mean, rstd, weight, bias, c, c < n, COMPUTE)
        tl.store(out, scalar.cast(y, out.dtype.element_ty), mask)
    else:
        acc = tl.zeros((BM, BN), COMPUTE)
        for at in range(0, n, BN):
            acc += _load(x + at, in_m & (at + c < n), COMPUTE)
        mean = scalar.div(tl.sum(acc, 1)[:, None], count)
        acc = tl.zeros((BM, BN), COMPUTE)
        for at in range(0, n, BN):
            mask = in_m & (at + c < n)
            centred = tl.where(mask, _load(x + at, mask, COMPUTE) - mean, 0.0).to(COMPUTE)
            acc += centred * centred
        rstd = scalar.rsqrt(scalar.div(tl.sum(acc, 1)[:, None], count) + offset)
        for at in range(0, n, BN):
            mask = in_m & (at + c < n)
            y = _finish(_load(x + at, mask, COMPUTE), mean, rstd, weight, bias, at + c, at + c < n, COMPUTE)
            tl.store(out + at, scalar.cast(y, out.dtype.element_ty), mask)
    tl.store(mean_out + m[:, None], mean, in_m)
    tl.store(rstd_out + m[:, None], rstd, in_m)


@triton.jit
def _normal_and_scaled(x, g, weight, mean, rstd, c, mask, in_c, COMPUTE: tl.constexpr):
    """(normalised x, g * weight), zero outside the row."""
    normal = tl.where(mask, (_load(x, mask, COMPUTE) - mean) * rstd, 0.0).to(COMPUTE)
    scaled = _load(g, mask, COMPUTE)
    if weight is not None:
        scaled = scaled * _load(weight + c, in_c, COMPUTE)
    return normal, scaled


@triton.jit(do_not_specialize=["rows", "n", "x_stride", "g_stride"])
def _backward(x, g, weight, mean_in, rstd_in, out, rows, n, x_stride, g_stride, COMPUTE: tl.constexpr, ONE: tl.constexpr,
              VEC: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    n = n * VEC
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    c = tl.arange(0, BN)[None, :]
    in_m = (m < rows)[:, None]
    x += m[:, None].to(tl.int64) * (x_stride * VEC) + c
    g += m[:, None].to(tl.int64) * (g_stride * VEC) + c
    out += m[:, None].to(tl.int64) * n + c
    mean = _load(mean_in + m[:, None], in_m, COMPUTE)
    rstd = _load(rstd_in + m[:, None], in_m, COMPUTE)
    count = tl.full((BM, 1), n, COMPUTE)
    if ONE:
        mask = in_m & (c < n)
        normal, scaled = _normal_and_scaled(x, g, weight, mean, rstd, c, mask, c < n, COMPUTE)
        a = scalar.div(tl.sum(normal * scaled, 1)[:, None], count)
        b = scalar.div(tl.sum(scaled, 1)[:, None], count)
        tl.store(out, scalar.cast((scaled - normal * a - b) * rstd, out.dtype.element_ty), mask)
    else:
        a_acc = tl.zeros((BM, BN), COMPUTE)
        b_acc = tl.zeros((BM, BN), COMPUTE)
        for at in range(0, n, BN):
            normal, scaled = _normal_and_scaled(x + at, g + at, weight, mean, rstd, at + c, in_m & (at + c < n), at + c < n,
                                                COMPUTE)
            a_acc += normal * scaled
            b_acc += scaled
        a = scalar.div(tl.sum(a_acc, 1)[:, None], count)
        b = scalar.div(tl.sum(b_acc, 1)[:, None], count)
        for at in range(0, n, BN):
            mask = in_m & (at + c < n)
            normal, scaled = _normal_and_scaled(x + at, g + at, weight, mean, rstd, at + c, mask, at + c < n, COMPUTE)
            tl.store(out + at, scalar.cast((scaled - normal * a - b) * rstd, out.dtype.element_ty), mask)


forward_kernel = Kernel(_forward, fp_fusion=False)
backward_kernel = Kernel(_backward, fp_fusion=False)


# ---- host side


def _flat(x: DeviceArray, shape: tuple[int, ...]) -> DeviceArray:
    """``x`` with its last ``len(shape)`` dimensions as one."""
    if x.shape[len(x.shape) - len(shape):] != shape:
        raise RuntimeError(f"layer_norm: given normalized_shape={list(shape)}, expected input with shape [*, "
                           f"{str(list(shape))[1:-1]}], but got input of size {list(x.shape)}")
    if len(shape) != 1:
        x = contiguous(x)
        lead = x.shape[:len(x.shape) - len(shape)]
        n = prod(shape)
        x = x.view((prod(lead), n), (n, 1), x.offset)
    return as_rows(x)


def _vector(w: DeviceArray | None, n: int, name: str) -> DeviceArray | None:
    if w is not None and w.size != n:
        raise RuntimeError(f"layer_norm: {name} of shape {list(w.shape)} does not have {n} elements")
    return None if w is None else contiguous(w)


def layer_norm(x: DeviceArray, shape: tuple[int, ...], weight: DeviceArray | None = None, bias: DeviceArray | None = None,
               eps: float = 1e-5) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
    """``(x - mean) / sqrt(variance + eps) * weight + bias`` over the last dimensions, whose sizes are ``shape``.

    Returns (result of ``x``'s shape and dtype, mean, 1 / sqrt(variance + eps)); the last two are float32 (float64 for float64),
    of shape (rows,).
    """
    compute = compute_type(x.dtype)
    n = prod(shape)
    rows = prod(x.shape[:len(x.shape) - len(shape)])
    at = x.storage.device_index
    out, mean, rstd = empty(x.shape, x.dtype, at), empty((rows,), compute, at), empty((rows,), compute, at)
    weight, bias = _vector(weight, n, "weight"), _vector(bias, n, "bias")
    if not n:
        fill(mean, float("nan"))
        fill(rstd, float("nan"))
    elif rows:
        r = _flat(x, shape)
        one, bm, bn, warps = row_tiles(rows, n)
        vec = common_factor(n, r.strides[0] if rows > 1 else 0)
        forward_kernel((cdiv(rows, bm),), r, weight, bias, float_bits(float(eps)), out, mean, rstd, rows, n // vec, r.strides[0] // vec,
                       COMPUTE=TRITON_TYPES[compute], ONE=one, VEC=vec, BM=bm, BN=bn, num_warps=warps)
    return out, mean, rstd


def layer_norm_backward(g: DeviceArray, x: DeviceArray, shape: tuple[int, ...], mean: DeviceArray, rstd: DeviceArray,
                        weight: DeviceArray | None = None) -> DeviceArray:
    """Gradient of ``x``, from the result's gradient ``g`` and what :func:`layer_norm` saved; in ``x``'s dtype."""
    out = empty(x.shape, x.dtype, x.storage.device_index)
    if out.size:
        n = prod(shape)
        rx, rg, weight = _flat(x, shape), _flat(g, shape), _vector(weight, n, "weight")
        rows = rx.shape[0]
        one, bm, bn, warps = row_tiles(rows, n, 8192)
        vec = common_factor(n, *(r.strides[0] if rows > 1 else 0 for r in (rx, rg)))
        backward_kernel((cdiv(rows, bm),), rx, rg, weight, mean, rstd, out, rows, n // vec, rx.strides[0] // vec,
                        rg.strides[0] // vec, COMPUTE=TRITON_TYPES[compute_type(x.dtype)], ONE=one, VEC=vec, BM=bm, BN=bn,
                        num_warps=warps)
    return out
