"""Adam and AdamW: one parameter updated in place by one kernel.

D. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", 2015; I. Loshchilov, F. Hutter, "Decoupled Weight Decay
Regularization", 2019; S. Reddi, S. Kale, S. Kumar, "On the Convergence of Adam and Beyond", 2018 (amsgrad). The step count is read
from device memory, and the learning rate can be, so that a replayed CUDA graph follows both.
"""
from __future__ import annotations

import math

import triton
import triton.language as tl

from fusetorch import dtypes
from fusetorch.runtime.launch import Kernel
from fusetorch.runtime.memory import DeviceArray
from fusetorch.triton_kernels import scalar
from fusetorch.triton_kernels.layout import TRITON_TYPES, cdiv, float_bits, tile
from fusetorch.triton_kernels.pointwise import BLOCK
from fusetorch.triton_kernels.softmax import compute_type


@triton.jit
def _number(bits):
    """The float64 whose bits were passed as an int."""
    return tl.full((1,), bits, tl.int64).to(tl.float64, bitcast=True)


@triton.jit
def _load(x, i, mask, COMPUTE: tl.constexpr):
    return scalar.cast(tl.load(x + i, mask), COMPUTE)


@triton.jit
def _block(p, g, exp_avg, exp_avg_sq, max_sq, i, mask, step_size, decay, weight_decay, rest1, beta2, rest2, root2, eps,
           ADAMW: tl.constexpr, MAXIMIZE: tl.constexpr, COMPUTE: tl.constexpr):
    value = _load(p, i, mask, COMPUTE)
    grad = _load(g, i, mask, COMPUTE)
    if MAXIMIZE:
        grad = scalar.neg(grad)
    if ADAMW:
        value = value * decay
    else:
        grad = grad + weight_decay * value
    m = _load(exp_avg, i, mask, COMPUTE)
    m = m + (grad - m) * rest1
    v = _load(exp_avg_sq, i, mask, COMPUTE) * beta2 + rest2 * grad * grad
    tl.store(exp_avg + i, scalar.cast(m, exp_avg.dtype.element_ty), mask)
    tl.store(exp_avg_sq + i, scalar.cast(v, exp_avg_sq.dtype.element_ty), mask)
    if max_sq is not None:
        v = scalar.maximum(_load(max_sq, i, mask, COMPUTE), v)
        tl.store(max_sq + i, scalar.cast(v, max_sq.dtype.element_ty), mask)
    denominator = scalar.div(scalar.sqrt(v), root2) + eps
    value = value - step_size * scalar.div(m, denominator)
    tl.store(p + i, scalar.cast(value, p.dtype.element_ty), mask)


@triton.jit(do_not_specialize=["lr", "beta1", "beta2", "log_beta1", "log_beta2", "eps", "weight_decay", "n"])
def _adam(p, g, exp_avg, exp_avg_sq, max_sq, step, lr, beta1, beta2, log_beta1, log_beta2, eps, weight_decay, n,
          ADAMW: tl.constexpr, MAXIMIZE: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr):
    """The numbers are bits of float64; ``lr`` may be a pointer instead."""
    t = scalar.cast(tl.load(step), COMPUTE)
    if lr.dtype.is_ptr():
        rate = scalar.cast(tl.load(lr), tl.float64) + tl.zeros((1,), tl.float64)
    else:
        rate = _number(lr)
    # 1 - beta ** t without cancellation; the other differences from 1 are taken in float64
    correction1 = scalar.neg(scalar.expm1(t * _number(log_beta1).to(COMPUTE)))
    correction2 = scalar.neg(scalar.expm1(t * _number(log_beta2).to(COMPUTE)))
    step_size = scalar.div(rate.to(COMPUTE), correction1)
    root2 = scalar.sqrt(correction2)
    decay = (1 - rate * _number(weight_decay)).to(COMPUTE)
    decay_rate = _number(weight_decay).to(COMPUTE)
    rest1 = (1 - _number(beta1)).to(COMPUTE)
    rest2 = (1 - _number(beta2)).to(COMPUTE)
    keep2 = _number(beta2).to(COMPUTE)
    small = _number(eps).to(COMPUTE)
    start = tl.program_id(0).to(tl.int64) * BLOCK
    i = start + tl.arange(0, BLOCK)
    if start + BLOCK <= n:
        _block(p, g, exp_avg, exp_avg_sq, max_sq, i, None, step_size, decay, decay_rate, rest1, keep2, rest2,
               root2, small, ADAMW, MAXIMIZE, COMPUTE)
    else:
        _block(p, g, exp_avg, exp_avg_sq, max_sq, i, i < n, step_size, decay, decay_rate, rest1, keep2, rest2,
               root2, small, ADAMW, MAXIMIZE, COMPUTE)


adam_kernel = Kernel(_adam, num_warps=4, fp_fusion=False)


def _log(beta: float) -> float:
    return math.log(beta) if beta > 0 else float("-inf")


def adam(param: DeviceArray, grad: DeviceArray, exp_avg: DeviceArray, exp_avg_sq: DeviceArray, step: DeviceArray, *,
         lr: float | DeviceArray, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.0,
         max_exp_avg_sq: DeviceArray | None = None, decoupled: bool = False, maximize: bool = False) -> None:
    """One step of Adam (AdamW where ``decoupled``) on ``param``, in place, as PyTorch computes it.

    Args:
        param, grad, exp_avg, exp_avg_sq: of one shape, contiguous; the averages are updated. Half types compute in float32.
        step: one element, any numeric dtype: the number of this step (1 for the first).
        lr: the learning rate, or one element of device memory that holds it.
        max_exp_avg_sq: the running maximum of amsgrad, updated.
    """
    arrays = [a for a in (param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq) if a is not None]
    if any(a.shape != param.shape or not a.is_contiguous for a in arrays):
        raise RuntimeError(f"adam: parameter, gradient and state must be contiguous and of one shape, got {arrays}")
    n = param.size
    if n:
        block = tile(n, BLOCK)
        compute = dtypes.float64 if param.dtype is dtypes.float64 else compute_type(exp_avg.dtype)
        numbers = [float_bits(float(v)) for v in (beta1, beta2, _log(beta1), _log(beta2), eps, weight_decay)]
        adam_kernel((cdiv(n, block),), param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, step,
                    lr if isinstance(lr, DeviceArray) else float_bits(float(lr)), *numbers, n, ADAMW=decoupled,
                    MAXIMIZE=maximize, COMPUTE=TRITON_TYPES[compute], BLOCK=block)
