"""The connectionist temporal classification loss: one program for each sample walks through the times, a lane for each state.

States talk to their neighbours through global memory, with a barrier between the times. The gradient's sums over equal labels are
atomic: in the last bits they may differ from run to run.
"""
from __future__ import annotations

import triton
import triton.language as tl

from fusetorch.runtime.launch import Kernel
from fusetorch.runtime.memory import DeviceArray, empty
from fusetorch.triton_kernels import scalar
from fusetorch.triton_kernels.layout import pow2
from fusetorch.triton_kernels.pointwise import contiguous


@triton.jit
def _states(targets, n, S, L, blank, s):
    """(each state's label; whether it may be entered from the state two before; whether it exists)."""
    inside = s < L
    odd = ((s % 2) == 1) & inside
    label = tl.load(targets + n * S + s // 2, odd, other=0)
    before = tl.load(targets + n * S + s // 2 - 1, odd & (s > 1), other=0)
    return tl.where(odd, label, blank), odd & (s > 1) & (label != before), inside


@triton.jit
def _log_add(a, b, c):
    top = tl.maximum(a, tl.maximum(b, c))
    safe = tl.where(top == float("-inf"), 0.0, top).to(a.dtype)
    return scalar.log(scalar.exp(a - safe) + scalar.exp(b - safe) + scalar.exp(c - safe)) + safe


@triton.jit(do_not_specialize=["T", "N", "C", "S", "L", "blank"])
def _ctc(lp, targets, inputs, labels, loss, alpha, T, N, C, S, L, blank, BLOCK: tl.constexpr):
    n = tl.program_id(0).to(tl.int64)
    s = tl.arange(0, BLOCK)
    label, skip, inside = _states(targets, n, S, L, blank, s)
    low = float("-inf")
    there = tl.where(inside, T, 0) > 0  # unless there are no times at all
    first = tl.load(lp + n * C + label, there & (s < 2), other=low)
    tl.store(alpha + n * L + s, first, there)
    for t in range(1, T):
        tl.debug_barrier()
        row = alpha + ((t - 1) * N + n) * L + s
        stay = tl.load(row, inside, other=low)
        one = tl.load(row - 1, inside & (s > 0), other=low)
        two = tl.load(row - 2, skip, other=low)
        emitted = tl.load(lp + (t * N + n) * C + label, inside, other=low)
        tl.store(alpha + (t * N + n) * L + s, _log_add(stay, one, two) + emitted, inside)
    tl.debug_barrier()
    count = tl.load(inputs + n)
    want = tl.load(labels + n)
    last = alpha + ((count - 1) * N + n) * L + 2 * want
    end = tl.load(last, count > 0, other=low)
    before = tl.load(last - 1, (count > 0) & (want > 0), other=low)
    total = -_log_add(end, before, before + low)
    nothing = tl.where(want == 0, 0.0, float("inf")).to(total.dtype)
    tl.store(loss + n, tl.where(count > 0, total, nothing))


@triton.jit(do_not_specialize=["T", "N", "C", "S", "L", "blank"])
def _ctc_backward(grad, lp, targets, inputs, labels, loss, alpha, beta, out, T, N, C, S, L, blank, ZERO: tl.constexpr,
                  BLOCK: tl.constexpr, CLASSES: tl.constexpr):
    """``beta`` holds two times in turn: the one after, which is read, and this one, which is written."""
    n = tl.program_id(0).to(tl.int64)
    s = tl.arange(0, BLOCK)
    label, skip, inside = _states(targets, n, S, L, blank, s)
    low = float("-inf")
    count = tl.load(inputs + n).to(tl.int32)
    want = tl.load(labels + n)
    nll = tl.load(loss + n)
    g = tl.load(grad + n)
    if ZERO:
        count = tl.where(nll == float("inf"), 0, count)  # as if it had no times
    # whether the state two after may be entered from here: the next label differs
    after = tl.load(targets + n * S + s // 2 + 1, ((s % 2) == 1) & (s + 2 < L), other=0)
    ahead = ((s % 2) == 1) & (s + 2 < L) & (after != label)
    exists = inside & (s <= 2 * want)
    ends = (s == 2 * want) | ((s == 2 * want - 1) & (want > 0))
    for back in range(0, T):
        t = T - 1 - back
        for c0 in range(0, C, CLASSES):
            c = c0 + tl.arange(0, CLASSES)
            p = scalar.exp(tl.load(lp + (t * N + n) * C + c, tl.where(c < C, t, count) < count, other=low))
            tl.store(out + (t * N + n) * C + c, p * g, c < C)
        tl.debug_barrier()
        row = beta + (((t + 1) % 2) * N + n) * L + s
        here = tl.where(inside, t, count) < count
        going = tl.where(exists, t + 1, count) < count
        stay = tl.load(row, going, other=low)
        one = tl.load(row + 1, going & (s < 2 * want), other=low)
        two = tl.load(row + 2, going & (s + 1 < 2 * want) & ahead, other=low)
        emitted = tl.load(lp + (t * N + n) * C + label, here, other=low)
        start = tl.where(ends, 0.0, low).to(emitted.dtype)
        b = tl.where(t == count - 1, start, _log_add(stay, one, two)) + emitted
        tl.store(beta + ((t % 2) * N + n) * L + s, b, here)
        a = tl.load(alpha + (t * N + n) * L + s, here, other=low)
        share = scalar.exp(a + b + nll - emitted)
        tl.atomic_add(out + (t * N + n) * C + label, -share * g, exists & here, sem="relaxed")


ctc_kernel = Kernel(_ctc, num_warps=4, fp_fusion=False)
ctc_backward_kernel = Kernel(_ctc_backward, num_warps=4, fp_fusion=False)


def ctc(log_probs: DeviceArray, targets: DeviceArray, inputs: DeviceArray, labels: DeviceArray, blank: int) -> list[DeviceArray]:
    """Losses (N,) and the states' log-probabilities (T, N, 2S + 1); see ``ops/ctc.py``. Lengths and targets are int64."""
    times, n, classes = log_probs.shape
    width = targets.shape[1]
    count = 2 * width + 1
    device = log_probs.storage.device_index
    loss, alpha = empty((n,), log_probs.dtype, device), empty((times, n, count), log_probs.dtype, device)
    if n:
        ctc_kernel((n,), contiguous(log_probs), contiguous(targets), contiguous(inputs), contiguous(labels), loss, alpha, times, n, classes,
                   width, count, blank, BLOCK=pow2(count))
    return [loss, alpha]


def ctc_backward(grad: DeviceArray, log_probs: DeviceArray, targets: DeviceArray, inputs: DeviceArray, labels: DeviceArray,
                 loss: DeviceArray, alpha: DeviceArray, blank: int, zero_infinity: bool) -> DeviceArray:
    """The gradient (T, N, C) of the log-probabilities."""
    times, n, classes = log_probs.shape
    width = targets.shape[1]
    count = 2 * width + 1
    device = log_probs.storage.device_index
    out, beta = empty(log_probs.shape, log_probs.dtype, device), empty((2, n, count), log_probs.dtype, device)
    if out.size:
        ctc_backward_kernel((n,), contiguous(grad), contiguous(log_probs), contiguous(targets), contiguous(inputs), contiguous(labels),
                            contiguous(loss), contiguous(alpha), beta, out, times, n, classes, width, count, blank, ZERO=zero_infinity,
                            BLOCK=pow2(count), CLASSES=min(pow2(classes), 1024))
    return out
