"""Random numbers and dropout by Philox4x32-10: element i of a result depends on (seed, offset + i) alone.

So the numbers are the same on every device, at any block size, eager and compiled (J. Salmon et al., "Parallel random numbers: as
easy as 1, 2, 3", SC 2011). ``seed`` and ``offset`` are ints, or one int64 element of device memory each, which a replayed CUDA
graph reads anew. A result of n elements uses the offsets up to ``offset + n``: advance the generator by n.

A uniform number has 24 random bits: ``(word >> 8) * 2**-24``, in [0, 1).
"""
from __future__ import annotations

import triton
import triton.language as tl

from fusetorch import dtypes
from fusetorch.dtypes import dtype
from fusetorch.runtime.launch import Kernel
from fusetorch.runtime.memory import DeviceArray, empty
from fusetorch.triton_kernels import scalar
from fusetorch.triton_kernels.layout import TRITON_TYPES, cdiv, float_bits, tile
from fusetorch.triton_kernels.pointwise import BLOCK, contiguous
from fusetorch.triton_kernels.softmax import compute_type

State = int | DeviceArray


@triton.jit
def _integer(x):
    if x.dtype.is_ptr():
        return tl.load(x).to(tl.int64)
    else:
        return x.to(tl.int64)


@triton.jit
def _number(bits, COMPUTE: tl.constexpr):
    """The float64 whose bits were passed as an int."""
    return tl.full((1,), bits, tl.int64).to(tl.float64, bitcast=True).to(COMPUTE)


@triton.jit
def uniform01(seed, counter, stream):
    """float32 in [0, 1) with 24 random bits. All int64; ``counter`` a block."""
    bits = scalar.philox(seed, counter, stream)
    return ((bits >> 8) & 0xFFFFFF).to(tl.float32) * 5.9604644775390625e-08


@triton.jit
def _dropped(x, seed, offset, out, mask_out, i, mask, p, scale, COMPUTE: tl.constexpr):
    keep = uniform01(seed, offset + i, tl.zeros((1,), tl.int64)) >= p
    value = scalar.cast(tl.load(x + i, mask), COMPUTE) * scale
    tl.store(out + i, scalar.cast(tl.where(keep, value, 0.0).to(COMPUTE), out.dtype.element_ty), mask)
    tl.store(mask_out + i, keep, mask)


@triton.jit(do_not_specialize=["seed", "offset", "p", "scale", "n"])
def _dropout(x, seed, offset, out, mask_out, p, scale, n, COMPUTE: tl.constexpr, BLOCK: tl.constexpr):
    seed = _integer(seed)
    offset = _integer(offset)
    p = _number(p, tl.float32)
    scale = _number(scale, COMPUTE)
    start = tl.program_id(0).to(tl.int64) * BLOCK
    i = start + tl.arange(0, BLOCK)
    if start + BLOCK <= n:
        _dropped(x, seed, offset, out, mask_out, i, None, p, scale, COMPUTE)
    else:
        _dropped(x, seed, offset, out, mask_out, i, i < n, p, scale, COMPUTE)


@triton.jit
def _store(out, start, value, n, BLOCK: tl.constexpr):
    i = start + tl.arange(0, BLOCK)
    if start + BLOCK <= n:
        tl.store(out + i, scalar.cast(value, out.dtype.element_ty))
    else:
        tl.store(out + i, scalar.cast(value, out.dtype.element_ty), i < n)


@triton.jit(do_not_specialize=["seed", "offset", "a", "b", "n"])
def _fill(seed, offset, a, b, out, n, KIND: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr):
    """KIND "uniform": in [a, b); "normal": mean a, deviation b (floats, as bits); "integer": in [a, a + b)."""
    seed = _integer(seed)
    start = tl.program_id(0).to(tl.int64) * BLOCK
    counter = _integer(offset) + start + tl.arange(0, BLOCK)
    first = tl.zeros((1,), tl.int64)
    if KIND == "integer":
        low = scalar.philox(seed, counter, first).to(tl.int64) & 0xFFFFFFFF
        high = scalar.philox(seed, counter, first + 1).to(tl.int64) & 0x7FFFFFFF
        value = scalar.remainder((high << 32) | low, tl.full((BLOCK,), b, tl.int64)) + tl.full((BLOCK,), a, tl.int64)
    else:
        u = uniform01(seed, counter, first).to(COMPUTE)
        if KIND == "uniform":
            value = u * (_number(b, COMPUTE) - _number(a, COMPUTE)) + _number(a, COMPUTE)
        else:
            # G. Box, M. Muller, "A Note on the Generation of Random Normal Deviates", 1958; 1 - u is never 0
            angle = uniform01(seed, counter, first + 1).to(COMPUTE) * 6.283185307179586
            radius = scalar.sqrt(scalar.log(1.0 - u) * -2.0)
            value = radius * scalar.cos(angle) * _number(b, COMPUTE) + _number(a, COMPUTE)
    _store(out, start, value, n, BLOCK)


@triton.jit(do_not_specialize=["seed", "offset", "p", "n"])
def _bernoulli(seed, offset, p, out, n, BLOCK: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * BLOCK
    i = start + tl.arange(0, BLOCK)
    u = uniform01(_integer(seed), _integer(offset) + i, tl.zeros((1,), tl.int64))
    if p.dtype.is_ptr():
        value = u.to(tl.float64) < tl.load(p + i, i < n, other=0).to(tl.float64)
    else:
        value = u < _number(p, tl.float32)
    _store(out, start, value, n, BLOCK)


dropout_kernel = Kernel(_dropout, num_warps=4, fp_fusion=False)
fill_kernel = Kernel(_fill, num_warps=4, fp_fusion=False)
bernoulli_kernel = Kernel(_bernoulli, num_warps=4, fp_fusion=False)


# ---- host side


def dropout(x: DeviceArray, p: float, seed: State, offset: State) -> tuple[DeviceArray, DeviceArray]:
    """``(x / (1 - p) where kept, else 0; the bool mask of what was kept)``. Element i is kept if its uniform number is >= p.

    Raises ``ValueError`` unless 0 <= p <= 1.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    out = empty(x.shape, x.dtype, x.storage.device_index)
    mask = empty(x.shape, dtypes.bool_, x.storage.device_index)
    n = x.size
    if n:
        block = tile(n, BLOCK)
        scale = 1 / (1 - p) if p < 1 else 0.0
        dropout_kernel((cdiv(n, block),), contiguous(x), seed, offset, out, mask, float_bits(float(p)), float_bits(scale), n,
                       COMPUTE=TRITON_TYPES[compute_type(x.dtype)], BLOCK=block)
    return out, mask


def _random(kind: str, out: DeviceArray, a: int, b: int, seed: State, offset: State) -> None:
    n = out.size
    if not out.is_contiguous:
        raise RuntimeError(f"random fill: {out} is not contiguous; fill a contiguous array and copy it")
    if n:
        block = tile(n, BLOCK // 2)
        fill_kernel((cdiv(n, block),), seed, offset, a, b, out, n, KIND=kind, COMPUTE=TRITON_TYPES[compute_type(out.dtype)],
                    BLOCK=block)


def fill_uniform(out: DeviceArray, low: float, high: float, seed: State, offset: State) -> None:
    """Fills the contiguous ``out`` with numbers from [low, high) (rounding to a half type may reach ``high``)."""
    _random("uniform", out, float_bits(float(low)), float_bits(float(high)), seed, offset)


def fill_normal(out: DeviceArray, mean: float, std: float, seed: State, offset: State) -> None:
    """Fills the contiguous ``out`` with normal numbers; each uses its counter on streams 0 and 1."""
    _random("normal", out, float_bits(float(mean)), float_bits(float(std)), seed, offset)


def fill_randint(out: DeviceArray, low: int, high: int, seed: State, offset: State) -> None:
    """Fills the contiguous ``out`` with integers from [low, high): 63 random bits modulo the range, plus ``low``.

    Raises ``RuntimeError`` for an empty range.
    """
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    if high - low >= 2**63:
        raise NotImplementedError(f"randint: a range of {high - low} does not fit in 63 bits")
    _random("integer", out, low, high - low, seed, offset)


def bernoulli(p: float | DeviceArray, shape: tuple[int, ...], out_dtype: dtype, seed: State, offset: State,
              device_index: int = 0) -> DeviceArray:
    """1 with probability ``p`` (a number, or an array of shape ``shape``), else 0."""
    out = empty(shape, out_dtype, device_index)
    n = out.size
    if n:
        if isinstance(p, DeviceArray):
            if p.shape != shape:
                raise RuntimeError(f"bernoulli: probabilities of shape {list(p.shape)} do not fit a result of {list(shape)}")
            given: State = contiguous(p)
        else:
            given = float_bits(float(p))
        block = tile(n, BLOCK)
        bernoulli_kernel((cdiv(n, block),), seed, offset, given, out, n, BLOCK=block)
    return out
