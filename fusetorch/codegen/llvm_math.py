"""Scalar functions as LLVM instructions: what the ``@name`` forms of :mod:`fusetorch.ops.primitives` stand for.

Each function takes the builder, the LLVM type and the operands, and returns the result's name. Code is branch-free, so that the
loop vectoriser can widen it. float32 functions are polynomials where one is known to be good; the rest, and float64, call libm.

Sources: range reduction of exp after S. Moshier's Cephes library (expf.c), with a minimax polynomial of our own; log and erf after
N. Juffa's minimax fits (published on the NVIDIA developer forums and Stack Overflow).
"""
from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..dtypes import dtype
from ..ops import special

if TYPE_CHECKING:
    from .llvm import Builder

FUNCTIONS: dict[str, Callable[..., str]] = {}


def call(b: Builder, name: str, dt: dtype, args: list[str]) -> str:
    """Writes function ``name`` of ``args``, all of ``dt`` (half types as float32)."""
    t = {"f16": "float", "bf16": "float", "f32": "float", "f64": "double", "b1": "i1"}.get(dt.code) or f"i{dt.bits}"
    return FUNCTIONS[name](_Math(b, t, dt.is_signed), *args)


def _function(f: Callable[..., str]) -> Callable[..., str]:
    FUNCTIONS[f.__name__.strip("_")] = f
    return f


class _Math:
    """Short names for instructions on one type."""

    def __init__(self, b: Builder, t: str, signed: bool) -> None:
        self.b, self.t, self.signed = b, t, signed
        self.single = t == "float"
        self.int = {"float": "i32", "double": "i64"}.get(t, t)

    def c(self, x: float) -> str:
        if self.single:
            x = struct.unpack("f", struct.pack("f", x))[0]
        return f"0x{struct.unpack('>Q', struct.pack('>d', x))[0]:016x}"

    def f(self, op: str, *args: str) -> str:
        return self.b.op(f"{op} {self.t} {', '.join(args)}")

    def i(self, op: str, *args: object) -> str:
        return self.b.op(f"{op} {self.int} {', '.join(map(str, args))}")

    def add(self, x: str, y: str) -> str: return self.f("fadd", x, y)
    def sub(self, x: str, y: str) -> str: return self.f("fsub", x, y)
    def mul(self, x: str, y: str) -> str: return self.f("fmul", x, y)
    def div(self, x: str, y: str) -> str: return self.f("fdiv", x, y)

    def fma(self, x: str, y: str, z: str) -> str:
        return self.b.intrinsic("fmuladd", self.t, x, y, z)

    def poly(self, x: str, coefficients: list[float]) -> str:
        """Horner's rule, highest power first."""
        r = self.c(coefficients[0])
        for k in coefficients[1:]:
            r = self.fma(r, x, self.c(k))
        return r

    def fcmp(self, how: str, x: str, y: str) -> str:
        return self.b.op(f"fcmp {how} {self.t} {x}, {y}")

    def icmp(self, how: str, x: object, y: object) -> str:
        return self.b.op(f"icmp {how} {self.int} {x}, {y}")

    def select(self, m: str, x: str, y: str) -> str:
        return self.b.op(f"select i1 {m}, {self.t} {x}, {self.t} {y}")

    def iselect(self, m: str, x: object, y: object) -> str:
        return self.b.op(f"select i1 {m}, {self.int} {x}, {self.int} {y}")

    def bits(self, x: str) -> str:
        return self.b.op(f"bitcast {self.t} {x} to {self.int}")

    def unbits(self, x: str) -> str:
        return self.b.op(f"bitcast {self.int} {x} to {self.t}")

    def abs(self, x: str) -> str:
        return self.b.intrinsic("fabs", self.t, x)

    def copysign(self, x: str, y: str) -> str:
        return self.b.intrinsic("copysign", self.t, x, y)

    def libm(self, name: str, *args: str) -> str:
        return self.b.libm(name, self.t, *args)

    def clamp(self, x: str, lo: float, hi: float) -> str:
        """``x`` limited to [lo, hi]; NaN passes."""
        x = self.select(self.fcmp("ogt", x, self.c(hi)), self.c(hi), x)
        return self.select(self.fcmp("olt", x, self.c(lo)), self.c(lo), x)


# ---- plain

@_function
def identity(m: _Math, x: str) -> str:
    return x


@_function
def iabs(m: _Math, x: str) -> str:
    return m.b.call(f"llvm.abs.{m.t}", m.t, [(m.t, x), ("i1", "false")])


@_function
def sign(m: _Math, x: str) -> str:
    if m.t in ("float", "double"):
        zero, one = m.c(0.0), m.c(1.0)
        r = m.select(m.fcmp("ogt", x, zero), one, zero)
        r = m.select(m.fcmp("olt", x, zero), m.c(-1.0), r)
        return m.select(m.fcmp("uno", x, x), x, r)
    r = m.iselect(m.icmp("sgt" if m.signed else "ne", x, 0), 1, 0)
    return m.iselect(m.icmp("slt", x, 0), -1, r) if m.signed else r


@_function
def signbit(m: _Math, x: str) -> str:
    return m.icmp("slt", m.bits(x), 0)


@_function
def maximum(m: _Math, x: str, y: str) -> str:
    r = m.select(m.fcmp("ogt", x, y), x, y)
    return m.select(m.fcmp("uno", x, x), x, r)


@_function
def minimum(m: _Math, x: str, y: str) -> str:
    r = m.select(m.fcmp("olt", x, y), x, y)
    return m.select(m.fcmp("uno", x, x), x, r)


@_function
def rsqrt(m: _Math, x: str) -> str:
    return m.div(m.c(1.0), m.b.intrinsic("sqrt", m.t, x))


# ---- division. Integers: a zero divisor gives 0, and the smallest number over -1 wraps, without trapping.

def _safe_divisor(m: _Math, x: str, y: str) -> tuple[str, str]:
    """``(divisor that cannot trap, whether the divisor was zero)``."""
    zero = m.icmp("eq", y, 0)
    d = m.iselect(zero, 1, y)
    if m.signed:
        bits = int(m.t[1:])
        wraps = m.b.op(f"and i1 {m.icmp('eq', d, -1)}, {m.icmp('eq', x, -(1 << bits - 1))}")
        d = m.iselect(wraps, 1, d)
    return d, zero


@_function
def floor_divide(m: _Math, x: str, y: str) -> str:
    if m.t in ("float", "double"):
        # as NumPy and Python: from the exact remainder, so that the quotient is right where x / y rounds up
        mod = fmod(m, x, y)
        q = m.div(m.sub(x, mod), y)
        other = m.b.op(f"xor i1 {m.fcmp('olt', mod, m.c(0.0))}, {m.fcmp('olt', y, m.c(0.0))}")
        fix = m.b.op(f"and i1 {m.fcmp('une', mod, m.c(0.0))}, {other}")
        q = m.select(fix, m.sub(q, m.c(1.0)), q)
        fl = m.b.intrinsic("floor", m.t, q)
        r = m.select(m.fcmp("ogt", m.sub(q, fl), m.c(0.5)), m.add(fl, m.c(1.0)), fl)
        quotient = m.div(x, y)
        r = m.select(m.fcmp("oeq", q, m.c(0.0)), m.copysign(m.c(0.0), quotient), r)
        return m.select(m.fcmp("oeq", y, m.c(0.0)), quotient, r)
    d, zero = _safe_divisor(m, x, y)
    q = m.i("sdiv" if m.signed else "udiv", x, d)
    if m.signed:
        r = m.i("sub", x, m.i("mul", q, d))
        other = m.icmp("slt", m.i("xor", r, d), 0)
        fix = m.b.op(f"and i1 {m.icmp('ne', r, 0)}, {other}")
        q = m.iselect(fix, m.i("sub", q, 1), q)
    return m.iselect(zero, 0, q)


@_function
def remainder(m: _Math, x: str, y: str) -> str:
    if m.t in ("float", "double"):
        r = fmod(m, x, y)
        other = m.b.op(f"xor i1 {m.fcmp('olt', r, m.c(0.0))}, {m.fcmp('olt', y, m.c(0.0))}")
        nonzero = m.fcmp("une", r, m.c(0.0))
        r2 = m.select(m.b.op(f"and i1 {nonzero}, {other}"), m.add(r, y), r)
        return m.select(m.fcmp("oeq", r2, m.c(0.0)), m.copysign(r2, y), r2)
    d, zero = _safe_divisor(m, x, y)
    r = m.i("srem" if m.signed else "urem", x, d)
    if m.signed:
        fix = m.b.op(f"and i1 {m.icmp('ne', r, 0)}, {m.icmp('slt', m.i('xor', r, d), 0)}")
        r = m.iselect(fix, m.i("add", r, d), r)
    return m.iselect(zero, 0, r)


@_function
def fmod(m: _Math, x: str, y: str) -> str:
    if m.t in ("float", "double"):
        return m.libm("fmod", x, y)
    d, zero = _safe_divisor(m, x, y)
    return m.iselect(zero, 0, m.i("srem" if m.signed else "urem", x, d))


@_function
def ipow(m: _Math, x: str, y: str) -> str:
    """Square and multiply; a negative exponent gives what the inverse rounds to: 0, or 1 and -1 for bases 1 and -1."""
    result, base, n = "1", x, y
    bits = int(m.t[1:])
    for k in range(bits if bits < 16 else 32 if bits < 64 else 64):
        if k >= bits:
            break
        odd = m.icmp("ne", m.i("and", m.i("lshr", n, k), 1), 0)
        result = m.iselect(odd, m.i("mul", result, base), result)
        base = m.i("mul", base, base)
    if m.signed:
        odd = m.icmp("ne", m.i("and", n, 1), 0)
        inverse = m.iselect(m.icmp("eq", x, 1), 1, m.iselect(m.icmp("eq", x, -1), m.iselect(odd, -1, 1), 0))
        result = m.iselect(m.icmp("slt", n, 0), inverse, result)
    return result


@_function
def shift_left(m: _Math, x: str, y: str) -> str:
    bits = int(m.t[1:])
    fits = m.icmp("ult", y, bits)
    return m.iselect(fits, m.i("shl", x, m.iselect(fits, y, 0)), 0)


@_function
def shift_right(m: _Math, x: str, y: str) -> str:
    bits = int(m.t[1:])
    fits = m.icmp("ult", y, bits)
    if m.signed:
        return m.i("ashr", x, m.iselect(fits, y, bits - 1))
    return m.iselect(fits, m.i("lshr", x, m.iselect(fits, y, 0)), 0)


# ---- exponentials and logarithms

#: expm1(r) = r + r**2 P(r) for |r| <= ln(2) / 2: minimax, relative error of 1 + expm1 3e-9
_EXPM1 = [1.38145685e-3, 8.36873148e-3, 4.1668389e-2, 0.166665211, 0.49999994]


#: The same for 0 <= r <= ln(2), relative error of expm1 2e-8.
_EXPM1_POSITIVE = [1.86159974e-3, 7.96047319e-3, 4.17961553e-2, 0.16664736, 0.500000894]


def _reduce_exp(m: _Math, x: str, rounding: str) -> tuple[str, str]:
    """``(k, r)`` with x = k ln(2) + r, k an i32, ln(2) in two parts."""
    n = m.b.intrinsic(rounding, m.t, m.mul(x, m.c(1.44269504)))
    r = m.fma(n, m.c(2.12194440e-4), m.fma(n, m.c(-0.693359375), x))
    return m.b.op(f"fptosi float {n} to i32"), r


def _pow2(m: _Math, n: str) -> str:
    return m.unbits(m.i("shl", m.i("add", n, 127), 23))


@_function
def exp(m: _Math, x: str) -> str:
    if not m.single:
        return m.libm("exp", x)
    k, r = _reduce_exp(m, m.clamp(x, -104.0, 88.8), "rint")
    p = m.poly(r, [*_EXPM1, 1.0, 1.0])
    if m.b.width == 512:  # one instruction there, a function call elsewhere
        return m.b.call("llvm.ldexp.f32.i32", "float", [("float", p), ("i32", k)])
    half = m.i("ashr", k, 1)  # two steps, so that results below the normal range are rounded once
    return m.mul(m.mul(p, _pow2(m, half)), _pow2(m, m.i("sub", k, half)))


@_function
def log(m: _Math, x: str) -> str:
    if not m.single:
        return m.libm("log", x)
    small = m.fcmp("olt", x, m.c(1.17549435e-38))
    a = m.select(small, m.mul(x, m.c(8388608.0)), x)
    e = m.i("and", m.i("sub", m.bits(a), 0x3F2AAAAB), -8388608)
    f = m.sub(m.unbits(m.i("sub", m.bits(a), e)), m.c(1.0))
    i = m.fma(m.b.op(f"sitofp i32 {e} to float"), m.c(2.0**-23), m.select(small, m.c(-23.0), m.c(0.0)))
    q = m.mul(f, f)
    r = m.poly(q, [-0.130187988, -0.121489584, -0.166846126, -0.249996230])
    t = m.poly(q, [0.140889585, 0.139809534, 0.200121998])
    r = m.fma(m.fma(m.fma(t, f, r), f, m.c(0.333331972)), f, m.c(-0.5))
    r = m.fma(i, m.c(0.693147182), m.fma(r, q, f))
    r = m.select(m.fcmp("oeq", x, m.c(math.inf)), x, r)
    r = m.select(m.fcmp("oeq", x, m.c(0.0)), m.c(-math.inf), r)
    return m.select(m.fcmp("ult", x, m.c(0.0)), m.c(math.nan), r)


@_function
def tanh(m: _Math, x: str) -> str:
    if not m.single:
        return m.libm("tanh", x)
    # (s p + s - 1) / (s p + s + 1) with e**(2 |x|) = s (1 + p), s a power of two: p >= 0, so nothing cancels
    t = m.abs(x)
    t = m.select(m.fcmp("ogt", t, m.c(9.25)), m.c(9.25), t)
    k, r = _reduce_exp(m, m.add(t, t), "floor")
    p = m.fma(m.poly(r, _EXPM1_POSITIVE), m.mul(r, r), r)
    s = _pow2(m, k)
    y = m.div(m.fma(s, p, m.sub(s, m.c(1.0))), m.fma(s, p, m.add(s, m.c(1.0))))
    return m.copysign(y, x)


@_function
def erf(m: _Math, x: str) -> str:
    if not m.single:
        return m.libm("erf", x)
    t, q = m.abs(x), m.mul(x, x)
    r = m.fma(m.c(-1.72853470e-5), t, m.c(3.83197126e-4))
    r = m.fma(r, q, m.fma(m.c(-3.88396438e-3), t, m.c(2.42546219e-2)))
    for k in (-1.06777877e-1, -6.34846687e-1, -1.28717512e-1):
        r = m.fma(r, t, m.c(k))
    r = m.fma(r, t, m.f("fneg", t))
    big = m.copysign(m.sub(m.c(1.0), exp(m, r)), x)
    v = m.poly(q, [-5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1, 1.28379166e-1])
    return m.select(m.fcmp("ogt", t, m.c(0.927734375)), big, m.fma(v, x, x))


def _libm(name: str, operands: int = 1) -> None:
    if operands == 1:
        FUNCTIONS[name] = lambda m, x: m.libm(name, x)
    else:
        FUNCTIONS[name] = lambda m, x, y: m.libm(name, x, y)


for _name in ("exp2", "expm1", "log2", "log10", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh",
              "acosh", "atanh", "erfc", "lgamma"):
    _libm(_name)
for _name in ("pow", "atan2", "nextafter"):
    _libm(_name, 2)


# ---- random bits

@_function
def philox(m: _Math, seed: str, counter: str, stream: str) -> str:
    """Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011); word 0 of the result."""
    b = m.b

    def split(x: str) -> tuple[str, str]:
        high = b.op(f"lshr i64 {x}, 32")
        return b.op(f"and i64 {x}, 4294967295"), high

    (k0, k1), (c0, c1), (c2, c3) = split(seed), split(counter), split(stream)
    for _ in range(10):
        p0 = b.op(f"mul i64 {c0}, {0xD2511F53}")
        p1 = b.op(f"mul i64 {c2}, {0xCD9E8D57}")
        lo0, hi0 = split(p0)
        lo1, hi1 = split(p1)
        c0, c1, c2, c3 = (b.op(f"xor i64 {b.op(f'xor i64 {hi1}, {c1}')}, {k0}"), lo1,
                          b.op(f"xor i64 {b.op(f'xor i64 {hi0}, {c3}')}, {k1}"), lo0)
        k0 = b.op(f"and i64 {b.op(f'add i64 {k0}, {0x9E3779B9}')}, 4294967295")
        k1 = b.op(f"and i64 {b.op(f'add i64 {k1}, {0xBB67AE85}')}, 4294967295")
    return b.op(f"trunc i64 {c0} to i32")


# ---- special functions without a libm version: see ops/special.py for the methods

def _as_double(f: Callable[..., str]) -> None:
    def wrapped(m: _Math, x: str) -> str:
        if not m.single:
            return f(m, x)
        wide = _Math(m.b, "double", True)
        return m.b.op(f"fptrunc double {f(wide, m.b.op(f'fpext float {x} to double'))} to float")

    FUNCTIONS[f.__name__] = wrapped


@_as_double
def erfinv(m: _Math, x: str) -> str:
    c, one = m.c, m.c(1.0)
    a, z = m.abs(x), m.mul(x, x)
    centre = m.div(m.mul(x, m.poly(z, [-0.140543331, 0.914624893, -1.645349621, 0.886226899])),
                   m.poly(z, [0.012229801, -0.329097515, 1.442710462, -2.118377725, 1.0]))
    rest = m.sub(one, a)
    t = m.b.intrinsic("sqrt", m.t, m.f("fneg", m.libm("log", m.mul(rest, c(0.5)))))
    tail = m.div(m.poly(t, [1.641345311, 3.429567803, -1.624906493, -1.970840454]),
                 m.poly(t, [1.637067800, 3.543889200, 1.0]))
    y = m.select(m.fcmp("ole", a, c(0.7)), centre, m.copysign(tail, x))
    for _ in range(2):
        p = m.abs(y)
        far = m.copysign(one, y)
        far = m.mul(far, m.sub(rest, m.libm("erfc", p)))
        miss = m.select(m.fcmp("olt", p, c(0.7)), m.sub(m.libm("erf", y), x), far)
        step = m.mul(m.mul(miss, c(math.sqrt(math.pi) / 2)), m.libm("exp", m.mul(y, y)))
        y = m.sub(y, m.div(step, m.fma(y, step, one)))
    y = m.select(m.fcmp("oeq", a, one), m.copysign(c(math.inf), x), y)
    return m.select(m.fcmp("ole", a, one), y, c(math.nan))


@_as_double
def digamma(m: _Math, x: str) -> str:
    c, zero, one = m.c, m.c(0.0), m.c(1.0)
    below = m.fcmp("ole", x, zero)
    v = m.select(below, m.sub(one, x), x)
    total = zero
    for _ in range(10):
        small = m.fcmp("olt", v, c(10.0))
        total = m.sub(total, m.select(small, m.div(one, v), zero))
        v = m.select(small, m.add(v, one), v)
    z = m.div(one, m.mul(v, v))
    series = m.mul(z, m.poly(z, list(reversed(special.PSI))))
    total = m.add(total, m.sub(m.sub(m.libm("log", v), m.div(c(0.5), v)), series))
    f = m.sub(x, m.b.intrinsic("rint", m.t, x))
    reflected = m.sub(total, m.div(c(math.pi), m.libm("tan", m.mul(c(math.pi), f))))
    reflected = m.select(m.fcmp("une", f, zero), reflected, c(math.nan))
    r = m.select(below, reflected, total)
    d = m.sub(m.sub(x, c(special.ROOT)), c(special.ROOT_LOW))
    near = m.mul(d, m.poly(d, list(reversed(special.ROOT_SERIES))))
    r = m.select(m.fcmp("olt", m.abs(d), c(0.1)), near, r)
    r = m.select(m.fcmp("oeq", x, zero), m.copysign(c(math.inf), m.f("fneg", x)), r)
    return m.select(m.fcmp("oeq", x, c(math.inf)), x, r)
