"""cross_entropy from logits and class numbers: loss and logsumexp of each row in one read, and the gradient in another.

No row of probabilities is stored. The loss of a row with target t, class weights w and smoothing e over C classes is
``(1 - e) * w[t] * (lse - x[t]) + e / C * sum(w[c] * (lse - x[c]))`` (C. Szegedy et al., "Rethinking the Inception Architecture",
2016, for e). A row whose target is ``ignore_index`` counts nothing; any other target outside [0, C) gives NaN.
"""
from __future__ import annotations

import triton
import triton.language as tl

from fusetorch import dtypes
from fusetorch.runtime.launch import Kernel
from fusetorch.runtime.memory import DeviceArray, empty
from fusetorch.triton_kernels import scalar
from fusetorch.triton_kernels.layout import (
    TRITON_TYPES,
    broadcast_strides,
    cdiv,
    common_factor,
    float_bits,
    pow2,
    tile,
)
from fusetorch.triton_kernels.pointwise import as_rows, contiguous
from fusetorch.triton_kernels.reduce import reduce
from fusetorch.triton_kernels.softmax import _combine_lanes, _load, _online, compute_type


@triton.jit
def _target(target, weight, m, in_m, n, ignore_index, COMPUTE: tl.constexpr):
    """(target, its weight: 0 where ignored, NaN where it is no class; whether to read it)."""
    t = tl.load(target + m, in_m, other=0)
    valid = in_m & (t >= 0) & (t < n) & (t != ignore_index)
    if weight is not None:
        w = scalar.cast(tl.load(weight + t, valid, other=0), COMPUTE)
    else:
        w = tl.where(valid, 1.0, 0.0).to(COMPUTE)
    return t, tl.where(valid | (t == ignore_index), w, float("nan")).to(COMPUTE), valid


@triton.jit
def _weights(weight, c, in_c, COMPUTE: tl.constexpr):
    return scalar.cast(tl.load(weight + c, in_c, other=0), COMPUTE)


@triton.jit(do_not_specialize=["rows", "n", "stride", "ignore_index", "smoothing"])
def _forward(x, target, weight, weight_sum, loss_out, weight_out, lse_out, rows, n, stride, ignore_index, smoothing,
             SMOOTH: tl.constexpr, COMPUTE: tl.constexpr, VEC: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """n and stride come divided by VEC, smoothing as the bits of a float64."""
    n = n * VEC
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    in_m = m < rows
    row = x + m.to(tl.int64) * (stride * VEC)
    c = tl.arange(0, BN)[None, :]
    running = tl.full((BM, BN), float("-inf"), COMPUTE)
    total = tl.zeros((BM, BN), COMPUTE)
    weighted = tl.zeros((BM, BN), COMPUTE)
    for at in range(0, n, BN):
        mask = in_m[:, None] & (at + c < n)
        value = _load(row[:, None] + at + c, mask, COMPUTE, float("-inf"))
        running, total = _online(running, total, value)
        if SMOOTH:
            seen = tl.where(mask, value, 0.0).to(COMPUTE)
            if weight is not None:
                seen = seen * _weights(weight, at + c, at + c < n, COMPUTE)
            weighted += seen
    largest, sum = _combine_lanes(running, total)
    lse = tl.sum(largest + scalar.log(sum), 1)  # [BM, 1] to [BM]
    t, w, valid = _target(target, weight, m, in_m, n, ignore_index, COMPUTE)
    picked = scalar.cast(tl.load(row + t, valid, other=0), COMPUTE)
    loss = w * (lse - picked)
    if SMOOTH:
        e = tl.full((BM,), smoothing, tl.int64).to(tl.float64, bitcast=True).to(COMPUTE)
        classes = tl.full((BM,), n, COMPUTE)
        if weight is not None:
            all_weights = scalar.cast(tl.load(weight_sum), COMPUTE)
        else:
            all_weights = classes
        loss = loss * (1 - e) + (lse * all_weights - tl.sum(weighted, 1)) * scalar.div(e, classes)
    loss = tl.where(t == ignore_index, 0.0, loss).to(COMPUTE)
    tl.store(loss_out + m, tl.where(valid | (t == ignore_index), loss, float("nan")).to(COMPUTE), in_m)
    tl.store(weight_out + m, w, in_m)
    tl.store(lse_out + m, lse, in_m)


@triton.jit(do_not_specialize=["rows", "n", "stride", "g_stride", "ignore_index", "smoothing"])
def _backward(x, target, weight, weight_sum, lse_in, g, out, rows, n, stride, g_stride, ignore_index, smoothing,
              SMOOTH: tl.constexpr, COMPUTE: tl.constexpr, VEC: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    n = n * VEC
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    in_m = m < rows
    c = tl.program_id(1) * BN + tl.arange(0, BN)[None, :]
    mask = in_m[:, None] & (c < n)
    value = _load(x + m[:, None].to(tl.int64) * (stride * VEC) + c, mask, COMPUTE, float("-inf"))
    lse = tl.load(lse_in + m, in_m, other=0)[:, None]
    scale = scalar.cast(tl.load(g + m.to(tl.int64) * g_stride, in_m, other=0), COMPUTE)[:, None]
    t, w, valid = _target(target, weight, m, in_m, n, ignore_index, COMPUTE)
    p = scalar.exp(value - lse)
    r = w[:, None] * (p - tl.where(c == t[:, None], 1.0, 0.0).to(COMPUTE))
    if SMOOTH:
        e = tl.full((1, 1), smoothing, tl.int64).to(tl.float64, bitcast=True).to(COMPUTE)
        share = scalar.div(e, tl.full((1, 1), n, COMPUTE))
        if weight is not None:
            smooth = p * scalar.cast(tl.load(weight_sum), COMPUTE) - _weights(weight, c, c < n, COMPUTE)
        else:
            smooth = p * tl.full((1, 1), n, COMPUTE) - 1.0
        r = r * (1 - e) + smooth * share
    r = tl.where((t == ignore_index)[:, None], 0.0, r * scale).to(COMPUTE)
    tl.store(out + m[:, None].to(tl.int64) * n + c, scalar.cast(r, out.dtype.element_ty), mask)


forward_kernel = Kernel(_forward, fp_fusion=False)
backward_kernel = Kernel(_backward, num_warps=4, fp_fusion=False)


# ---- host side


def _check(logits: DeviceArray, target: DeviceArray, weight: DeviceArray | None) -> None:
    if len(logits.shape) != 2 or target.shape != logits.shape[:1]:
        raise RuntimeError(f"cross_entropy: expected logits (rows, classes) and target (rows,), got {list(logits.shape)} and "
                           f"{list(target.shape)}")
    if target.dtype is not dtypes.int64:
        raise RuntimeError(f"cross_entropy: expected target of dtype int64, got {target.dtype.name}")
    if weight is not None and weight.shape != logits.shape[1:]:
        raise RuntimeError(f"cross_entropy: weight tensor should be defined either for all {logits.shape[1]} classes or no "
                           f"classes but got weight tensor of shape: {list(weight.shape)}")


def cross_entropy(logits: DeviceArray, target: DeviceArray, weight: DeviceArray | None = None, *, ignore_index: int = -100,
                  label_smoothing: float = 0.0) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
    """Cross entropy of each row of ``logits`` (rows, classes) with class numbers ``target`` (rows,), int64.

    Returns (loss, weight of the target's class, logsumexp), each (rows,) and float32 (float64 for float64). An ignored row has
    loss and weight 0. The mean that PyTorch takes is ``sum(loss) / sum(weight)``.
    """
    _check(logits, target, weight)
    rows, n = logits.shape
    compute = compute_type(logits.dtype)
    outs = tuple(empty((rows,), compute, logits.storage.device_index) for _ in range(3))
    if rows:
        x = as_rows(logits)
        bn = min(pow2(n), 2048)
        bm = min(pow2(rows), max(1, tile(rows * bn, 2048) // bn))
        vec = common_factor(n, x.strides[0] if rows > 1 else 0)
        weight = None if weight is None else contiguous(weight)
        total = reduce("sum", weight, [0], compute) if weight is not None and label_smoothing else None
        forward_kernel((cdiv(rows, bm),), x, contiguous(target), weight, total, *outs, rows, n // vec, x.strides[0] // vec,
                       ignore_index, float_bits(float(label_smoothing)), SMOOTH=label_smoothing != 0,
                       COMPUTE=TRITON_TYPES[compute], VEC=vec, BM=bm, BN=bn, num_warps=8 if n > 2048 else 4)
    return outs


def cross_entropy_backward(g: DeviceArray, logits: DeviceArray, target: DeviceArray, lse: DeviceArray,
                           weight: DeviceArray | None = None, *, ignore_index: int = -100,
                           label_smoothing: float = 0.0) -> DeviceArray:
    """Gradient of ``logits``, in their dtype. ``g`` is the gradient of each row's loss: (rows,), or a single element for all."""
    _check(logits, target, weight)
    rows, n = logits.shape
    out = empty(logits.shape, logits.dtype, logits.storage.device_index)
    if out.size:
        x = as_rows(logits)
        compute = compute_type(logits.dtype)
        bn = min(pow2(n), 1024)
        bm = min(pow2(rows), max(1, tile(rows * bn, 1024) // bn))
        vec = common_factor(n, x.strides[0] if rows > 1 else 0)
        weight = None if weight is None else contiguous(weight)
        total = reduce("sum", weight, [0], compute) if weight is not None and label_smoothing else None
        g_stride = broadcast_strides(g, (rows,))[0] if g.size != 1 else 0
        backward_kernel((cdiv(rows, bm), cdiv(n, bn)), x, contiguous(target), weight, total, lse, g, out, rows, n // vec,
                        x.strides[0] // vec, g_stride, ignore_index, float_bits(float(label_smoothing)),
                        SMOOTH=label_smoothing != 0, COMPUTE=TRITON_TYPES[compute], VEC=vec, BM=bm, BN=bn)
    return out
