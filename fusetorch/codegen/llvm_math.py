"""Scalar functions as LLVM instructions: what the ``@name`` forms of :mod:`fusetorch.ops.primitives` stand for.

Each function takes a :class:`Math` and the operands, and returns the result's register. Code is branch-free, so that the loop
vectoriser can widen it. The elementary functions are in :mod:`fusetorch.codegen.llvm_elementary`.
"""
from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..dtypes import dtype

if TYPE_CHECKING:
    from .llvm import Builder

FUNCTIONS: dict[str, Callable[..., str]] = {}


def call(b: Builder, name: str, dt: dtype, args: list[str]) -> str:
    """Writes function ``name`` of ``args``, all of ``dt`` (half types as float32)."""
    t = {"f16": "float", "bf16": "float", "f32": "float", "f64": "double", "b1": "i1"}.get(dt.code) or f"i{dt.bits}"
    from . import llvm_elementary  # noqa: F401  files its functions in the table
    return FUNCTIONS[name](Math(b, t, dt.is_signed), *args)


def function(f: Callable[..., str]) -> Callable[..., str]:
    """Files ``f`` under its name."""
    FUNCTIONS[f.__name__.strip("_")] = f
    return f


class Math:
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

@function
def identity(m: Math, x: str) -> str:
    return x


@function
def iabs(m: Math, x: str) -> str:
    return m.b.call(f"llvm.abs.{m.t}", m.t, [(m.t, x), ("i1", "false")])


@function
def sign(m: Math, x: str) -> str:
    if m.t in ("float", "double"):
        zero, one = m.c(0.0), m.c(1.0)
        r = m.select(m.fcmp("ogt", x, zero), one, zero)
        return m.select(m.fcmp("olt", x, zero), m.c(-1.0), r)  # 0 for NaN
    r = m.iselect(m.icmp("sgt" if m.signed else "ne", x, 0), 1, 0)
    return m.iselect(m.icmp("slt", x, 0), -1, r) if m.signed else r


@function
def signbit(m: Math, x: str) -> str:
    return m.icmp("slt", m.bits(x), 0)


@function
def maximum(m: Math, x: str, y: str) -> str:
    r = m.select(m.fcmp("ogt", x, y), x, y)
    return m.select(m.fcmp("uno", x, x), x, r)


@function
def minimum(m: Math, x: str, y: str) -> str:
    r = m.select(m.fcmp("olt", x, y), x, y)
    return m.select(m.fcmp("uno", x, x), x, r)


@function
def rsqrt(m: Math, x: str) -> str:
    return m.div(m.c(1.0), m.b.intrinsic("sqrt", m.t, x))


# ---- division. Integers: a zero divisor gives 0, and the smallest number over -1 wraps, without trapping.

def _safe_divisor(m: Math, x: str, y: str) -> tuple[str, str]:
    """``(divisor that cannot trap, whether the divisor was zero)``."""
    zero = m.icmp("eq", y, 0)
    d = m.iselect(zero, 1, y)
    if m.signed:
        bits = int(m.t[1:])
        wraps = m.b.op(f"and i1 {m.icmp('eq', d, -1)}, {m.icmp('eq', x, -(1 << bits - 1))}")
        d = m.iselect(wraps, 1, d)
    return d, zero


@function
def floor_divide(m: Math, x: str, y: str) -> str:
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


@function
def remainder(m: Math, x: str, y: str) -> str:
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


@function
def fmod(m: Math, x: str, y: str) -> str:
    if m.t in ("float", "double"):
        return m.libm("fmod", x, y)
    d, zero = _safe_divisor(m, x, y)
    return m.iselect(zero, 0, m.i("srem" if m.signed else "urem", x, d))


@function
def ipow(m: Math, x: str, y: str) -> str:
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


@function
def shift_left(m: Math, x: str, y: str) -> str:
    bits = int(m.t[1:])
    fits = m.icmp("ult", y, bits)
    return m.iselect(fits, m.i("shl", x, m.iselect(fits, y, 0)), 0)


@function
def shift_right(m: Math, x: str, y: str) -> str:
    bits = int(m.t[1:])
    fits = m.icmp("ult", y, bits)
    if m.signed:
        return m.i("ashr", x, m.iselect(fits, y, bits - 1))
    return m.iselect(fits, m.i("lshr", x, m.iselect(fits, y, 0)), 0)


# ---- random bits

@function
def philox(m: Math, seed: str, counter: str, stream: str) -> str:
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
