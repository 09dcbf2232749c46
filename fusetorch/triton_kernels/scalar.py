"""The scalar primitives on the GPU: one Triton device function per row of :mod:`fusetorch.ops.primitives`, by the same name.

The eager pointwise kernels take one as a constexpr and generated kernels call the same ones, so that fused and unfused
results agree to the bit. They work on blocks (or single values) of float32, float64, the integers and bool (int1); half
types are widened to float32 by whoever loads them. Conventions are NumPy's: NaN spreads through ``maximum`` and ``minimum``
and not through ``fmax`` and ``fmin``; ``remainder`` and ``floor_divide`` round down; integer division by zero gives 0.

Where Triton's own operator is an approximation (``/``, ``tl.exp``, ``tl.sqrt`` ...) the correctly rounded form or
libdevice's (1-2 ulp) is used.
"""
# The names are the primitives', builtins among them (abs, pow, round): inside this module they mean the functions below.
from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra import libdevice

# ---- arithmetic


@triton.jit
def add(x, y):
    if x.dtype == tl.int1:
        return x | y
    else:
        return x + y


@triton.jit
def sub(x, y):
    if x.dtype == tl.int1:
        return x ^ y
    else:
        return x - y


@triton.jit
def mul(x, y):
    if x.dtype == tl.int1:
        return x & y
    else:
        return x * y


@triton.jit
def div(x, y):
    if x.dtype == tl.float32:
        return tl.div_rn(x, y)
    else:
        return x / y


@triton.jit
def floor_divide(x, y):
    if x.dtype.is_floating():
        # CPython's float division: exact also where x / y rounds up to the next integer
        m = libdevice.fmod(x, y)
        q = div(x - m, y)
        q = tl.where((m != 0) & ((y < 0) != (m < 0)), q - 1, q)
        whole = tl.floor(q)
        whole = tl.where(q - whole > 0.5, whole + 1, whole)
        quotient = div(x, y)
        return tl.where(y == 0, quotient, tl.where(q == 0, libdevice.copysign(q * 0, quotient), whole))
    else:
        safe = tl.where(y == 0, y | 1, y)
        q = x // safe
        if x.dtype.is_int_signed():
            q = tl.where((x % safe != 0) & ((x < 0) != (safe < 0)), q - 1, q)
        return tl.where(y == 0, y, q)


@triton.jit
def remainder(x, y):
    if x.dtype.is_floating():
        m = libdevice.fmod(x, y)
        return tl.where(m == 0, libdevice.copysign(m, y), tl.where((y < 0) != (m < 0), m + y, m))
    else:
        safe = tl.where(y == 0, y | 1, y)
        m = x % safe
        if x.dtype.is_int_signed():
            m = tl.where((m != 0) & ((m < 0) != (safe < 0)), m + safe, m)
        return tl.where(y == 0, y, m)


@triton.jit
def fmod(x, y):
    if x.dtype.is_floating():
        return libdevice.fmod(x, y)
    else:
        safe = tl.where(y == 0, y | 1, y)
        return tl.where(y == 0, y, x % safe)


@triton.jit
def pow(x, y):
    if x.dtype.is_floating():
        return libdevice.pow(x, y)
    else:
        # by squaring; a negative exponent leaves what an integer can hold: 1, -1 or 0
        result = tl.where(x == x, 1, x).to(x.dtype)
        base = x
        e = y
        BITS: tl.constexpr = x.dtype.primitive_bitwidth
        for _ in tl.static_range(BITS):
            result = tl.where((e & 1) != 0, result * base, result)
            base = base * base
            e = e >> 1
        if x.dtype.is_int_signed():
            inverse = tl.where(x == 1, 1, tl.where(x == -1, tl.where((y & 1) != 0, -1, 1), 0)).to(x.dtype)
            result = tl.where(y < 0, inverse, result)
        return result


@triton.jit
def neg(x):
    if x.dtype.is_floating():
        return x * -1.0  # 0 - x would lose the sign of zero
    else:
        return -x


@triton.jit
def abs(x):
    if x.dtype == tl.int1 or x.dtype.is_int_unsigned():
        return x
    else:
        return tl.abs(x)


@triton.jit
def sign(x):
    if x.dtype == tl.int1:
        return x
    elif x.dtype.is_floating():
        return tl.where(x > 0, 1.0, tl.where(x < 0, -1.0, 0.0)).to(x.dtype)  # 0 for NaN
    elif x.dtype.is_int_unsigned():
        return tl.where(x > 0, 1, 0).to(x.dtype)
    else:
        return tl.where(x > 0, 1, tl.where(x < 0, -1, 0)).to(x.dtype)


@triton.jit
def maximum(x, y):
    if x.dtype == tl.int1:
        return x | y
    else:
        return tl.maximum(x, y, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def minimum(x, y):
    if x.dtype == tl.int1:
        return x & y
    else:
        return tl.minimum(x, y, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def fmax(x, y):
    if x.dtype == tl.int1:
        return x | y
    else:
        return tl.maximum(x, y, propagate_nan=tl.PropagateNan.NONE)


@triton.jit
def fmin(x, y):
    if x.dtype == tl.int1:
        return x & y
    else:
        return tl.minimum(x, y, propagate_nan=tl.PropagateNan.NONE)


# ---- powers, exponentials, logarithms


@triton.jit
def sqrt(x):
    if x.dtype == tl.float32:
        return tl.sqrt_rn(x)
    else:
        return tl.sqrt(x)


@triton.jit
def rsqrt(x):
    return div(tl.where(x == x, 1.0, x).to(x.dtype), sqrt(x))


@triton.jit
def exp(x):
    return libdevice.exp(x)


@triton.jit
def exp2(x):
    return libdevice.exp2(x)


@triton.jit
def expm1(x):
    return libdevice.expm1(x)


@triton.jit
def log(x):
    return libdevice.log(x)


@triton.jit
def log2(x):
    return libdevice.log2(x)


@triton.jit
def log10(x):
    return libdevice.log10(x)


@triton.jit
def log1p(x):
    return libdevice.log1p(x)


# ---- trigonometric and hyperbolic


@triton.jit
def sin(x):
    return libdevice.sin(x)


@triton.jit
def cos(x):
    return libdevice.cos(x)


@triton.jit
def tan(x):
    return libdevice.tan(x)


@triton.jit
def asin(x):
    return libdevice.asin(x)


@triton.jit
def acos(x):
    return libdevice.acos(x)


@triton.jit
def atan(x):
    return libdevice.atan(x)


@triton.jit
def atan2(x, y):
    return libdevice.atan2(x, y)


@triton.jit
def sinh(x):
    return libdevice.sinh(x)


@triton.jit
def cosh(x):
    return libdevice.cosh(x)


@triton.jit
def tanh(x):
    return libdevice.tanh(x)


@triton.jit
def asinh(x):
    return libdevice.asinh(x)


@triton.jit
def acosh(x):
    return libdevice.acosh(x)


@triton.jit
def atanh(x):
    return libdevice.atanh(x)


# ---- special functions


@triton.jit
def erf(x):
    return libdevice.erf(x)


@triton.jit
def erfc(x):
    return libdevice.erfc(x)


@triton.jit
def erfinv(x):
    return libdevice.erfinv(x)


@triton.jit
def lgamma(x):
    return libdevice.lgamma(x)


@triton.jit
def digamma(x):
    # psi(z) = psi(z + 1) - 1/z up to z >= 10, then the asymptotic series; psi(1 - x) - pi / tan(pi x) for x < 0
    # (Abramowitz and Stegun, 6.3.5, 6.3.7, 6.3.18)
    z = tl.where(x < 0, 1 - x, x)
    shift = tl.where(x == x, 0.0, x).to(x.dtype)
    one = tl.where(x == x, 1.0, x).to(x.dtype)
    for _ in tl.static_range(10):
        low = z < 10
        shift = tl.where(low, shift - div(one, z), shift)
        z = tl.where(low, z + 1, z)
    r = div(one, z)
    w = r * r
    s = w * (0.08333333333333333 - w * (0.008333333333333333 - w * (0.003968253968253968 - w * (
        0.004166666666666667 - w * (0.007575757575757576 - w * (0.021092796092796094 - w * 0.08333333333333333))))))
    y = libdevice.log(z) - 0.5 * r - s + shift
    fraction = x - libdevice.trunc(x)
    y = tl.where(x < 0, y - div(3.141592653589793 * one, libdevice.tan(3.141592653589793 * fraction)), y)
    pole = tl.where(x == 0, libdevice.copysign(one, x) * float("-inf"), float("nan")).to(x.dtype)
    return tl.where((x <= 0) & (fraction == 0), pole, y)


# ---- rounding


@triton.jit
def floor(x):
    if x.dtype.is_floating():
        return tl.floor(x)
    else:
        return x


@triton.jit
def ceil(x):
    if x.dtype.is_floating():
        return tl.ceil(x)
    else:
        return x


@triton.jit
def trunc(x):
    if x.dtype.is_floating():
        return libdevice.trunc(x)
    else:
        return x


@triton.jit
def round(x):
    if x.dtype.is_floating():
        return libdevice.rint(x)  # half to even
    else:
        return x


# ---- comparisons. int1 is signed in Triton (true is -1), so bool is ordered by logic.


@triton.jit
def eq(x, y):
    return x == y


@triton.jit
def ne(x, y):
    return x != y


@triton.jit
def lt(x, y):
    if x.dtype == tl.int1:
        return (x ^ y) & y
    else:
        return x < y


@triton.jit
def le(x, y):
    if x.dtype == tl.int1:
        return (x == y) | y
    else:
        return x <= y


@triton.jit
def gt(x, y):
    if x.dtype == tl.int1:
        return (x ^ y) & x
    else:
        return x > y


@triton.jit
def ge(x, y):
    if x.dtype == tl.int1:
        return (x == y) | x
    else:
        return x >= y


@triton.jit
def isnan(x):
    return x != x


@triton.jit
def signbit(x):
    if x.dtype == tl.float32:
        return x.to(tl.int32, bitcast=True) < 0
    elif x.dtype == tl.float64:
        return x.to(tl.int64, bitcast=True) < 0
    elif x.dtype == tl.int1 or x.dtype.is_int_unsigned():
        return x != x
    else:
        return x < 0


# ---- bits; on bool these are the logical operations


@triton.jit
def bitwise_and(x, y):
    return x & y


@triton.jit
def bitwise_or(x, y):
    return x | y


@triton.jit
def bitwise_xor(x, y):
    return x ^ y


@triton.jit
def bitwise_not(x):
    if x.dtype == tl.int1:
        return x == (x ^ x)
    elif x.dtype == tl.uint8:
        return x ^ 0xFF  # ~ would need the constant -1, which is no uint8
    else:
        return ~x


@triton.jit
def shift_left(x, y):
    inside = (y >= 0) & (y < x.dtype.primitive_bitwidth)
    return tl.where(inside, x << tl.where(inside, y, 0).to(x.dtype), 0).to(x.dtype)


@triton.jit
def shift_right(x, y):
    inside = (y >= 0) & (y < x.dtype.primitive_bitwidth)
    shifted = x >> tl.where(inside, y, 0).to(x.dtype)
    if x.dtype.is_int_signed():
        return tl.where(inside, shifted, tl.where(x < 0, -1, 0)).to(x.dtype)
    else:
        return tl.where(inside, shifted, 0).to(x.dtype)


# ---- selection and conversion


@triton.jit
def where(condition, x, y):
    return tl.where(condition, x, y)


@triton.jit
def copysign(x, y):
    return libdevice.copysign(x, y)


@triton.jit
def nextafter(x, y):
    return libdevice.nextafter(x, y)


@triton.jit
def cast(x, dtype: tl.constexpr):
    """``x`` as ``dtype`` (a Triton type), rounded to nearest even; to bool: ``x != 0``; float to a narrow integer wraps."""
    if x.dtype == dtype:
        return x
    elif dtype == tl.int1:
        return x != 0
    elif x.dtype.is_floating() and dtype.is_int() and dtype.primitive_bitwidth < 32:
        # by way of int64, as a C program with an intermediate type does: -1.0 as uint8 is 255
        return x.to(tl.int64).to(dtype)
    elif x.dtype == tl.int1 and dtype.is_int():
        return tl.where(x, 1, 0).to(dtype)  # not -1
    elif x.dtype == tl.int1:
        return tl.where(x, 1.0, 0.0).to(dtype)
    else:
        return x.to(dtype)


# ---- random bits


@triton.jit
def philox(seed, counter, stream):
    """Word 0 of Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), as int32."""
    c0 = (counter & 0xFFFFFFFF).to(tl.uint32)
    c1 = ((counter >> 32) & 0xFFFFFFFF).to(tl.uint32)
    c2 = (stream & 0xFFFFFFFF).to(tl.uint32)
    c3 = ((stream >> 32) & 0xFFFFFFFF).to(tl.uint32)
    word, _1, _2, _3 = tl.philox(seed, c0, c1, c2, c3)
    return word.to(tl.int32, bitcast=True)


#: primitive name -> device function
SCALARS = {name: f for name, f in globals().items() if isinstance(f, triton.runtime.JITFunction)}
