"""Elementary and special functions as LLVM instructions, for :mod:`fusetorch.codegen.llvm_math`.

float32: polynomials with errors of at most about 2 units in the last place, right at NaN, infinities, zeros and subnormals. float64:
exp, expm1, tanh, log and log1p; the rest call libm, one element at a time.

Sources: range reduction of exp after S. Moshier's Cephes library (expf.c), with minimax polynomials of our own; float32 log and erf
after N. Juffa's minimax fits (published in the NVIDIA developer forums and on Stack Overflow); float64 exp and log after Sun's fdlibm
(e_exp.c, e_log.c); sin, cos and atan polynomials after Cephes (sinf.c, atanf.c), with the argument reduced by a table of 2**k * 2/pi mod 4.
"""
from __future__ import annotations

import functools
import math
import struct
from collections.abc import Callable

from ..ops import special
from .llvm_math import FUNCTIONS, Math, function

# ---- exponentials

#: expm1(r) = r + r**2 P(r) for |r| <= ln(2) / 2: minimax, relative error of 1 + expm1 3e-9
_EXPM1 = [1.38145685e-3, 8.36873148e-3, 4.1668389e-2, 0.166665211, 0.49999994]
#: The same for 0 <= r <= ln(2), relative error of expm1 2e-8.
_EXPM1_POSITIVE = [1.86159974e-3, 7.96047319e-3, 4.17961553e-2, 0.16664736, 0.500000894]


def _reduce(m: Math, x: str, rounding: str) -> tuple[str, str]:
    """``(n, r)`` with x = n ln(2) + r, n a whole number, ln(2) in two parts."""
    n = m.b.intrinsic(rounding, m.t, m.mul(x, m.c(1.44269504)))
    return n, m.fma(n, m.c(2.12194440e-4), m.fma(n, m.c(-0.693359375), x))


def _integer(m: Math, n: str) -> str:
    return m.b.op(f"fptosi {m.t} {n} to i32")


def _expm1_parts(m: Math, x: str) -> tuple[str, str]:
    """``(k, expm1(r))`` with x = k ln(2) + r, |r| <= ln(2) / 2, k an i32."""
    if m.single:
        n, r = _reduce(m, x, "rint")
        return _integer(m, n), m.fma(m.poly(r, _EXPM1), m.mul(r, r), r)
    n = m.b.intrinsic("rint", m.t, m.mul(x, m.c(1.4426950408889634)))
    hi = m.fma(n, m.c(-6.93147180369123816490e-01), x)
    lo = m.mul(n, m.c(1.90821492927058770002e-10))
    r = m.sub(hi, lo)
    t = m.mul(r, r)
    p = m.poly(t, [4.13813679705723846039e-08, -1.65339022054652515390e-06, 6.61375632143793436117e-05,
                   -2.77777777770155933842e-03, 1.66666666666666019037e-01])
    q = m.sub(r, m.mul(t, p))
    p = m.add(m.sub(m.div(m.mul(r, q), m.sub(m.c(2.0), q)), lo), hi)
    return _integer(m, n), p


def _pow2(m: Math, n: str) -> str:
    """2**n in the normal range, n an integer of the type's width."""
    return m.unbits(m.i("shl", m.i("add", n, 127 if m.single else 1023), 23 if m.single else 52))


def _pow2_of(m: Math, k: str) -> str:
    """2**k in the normal range for an i32 k."""
    return _pow2(m, k if m.single else m.b.op(f"sext i32 {k} to i64"))


def _scale(m: Math, x: str, k: str) -> str:
    """x * 2**k for an i32 k, rounded once where it leaves the normal range."""
    if m.b.width == 512:  # one instruction there, a function call elsewhere
        return m.b.call(f"llvm.ldexp.{'f32' if m.single else 'f64'}.i32", m.t, [(m.t, x), ("i32", k)])
    if not m.single:
        k = m.b.op(f"sext i32 {k} to i64")
    half = m.i("ashr", k, 1)
    return m.mul(m.mul(x, _pow2(m, half)), _pow2(m, m.i("sub", k, half)))


def _scale_down(m: Math, x: str, n: str) -> str:
    """``_scale`` by a whole float32 number n >= -151, x in [1/2, 3/2], without arithmetic that underflows, which takes processors a hundred
    cycles: below the normal range the result's bits are x * 2**(n + 149), rounded to an integer."""
    low = m.fcmp("ole", n, m.c(-126.0))
    n = m.select(low, m.add(n, m.c(149.0)), n)
    y = _scale(m, x, _integer(m, n))
    return m.select(low, m.unbits(_integer(m, m.b.intrinsic("rint", m.t, y))), y)


@function
def exp(m: Math, x: str) -> str:
    if m.single:
        x = m.clamp(x, -104.0, 88.8)
        n, r = _reduce(m, x, "rint")
        return _scale_down(m, m.poly(r, [*_EXPM1, 1.0, 1.0]), n)
    none = m.fcmp("olt", x, m.c(-745.2))  # rounds to zero; told apart because to underflow takes long
    k, p = _expm1_parts(m, m.clamp(m.select(none, m.c(0.0), x), -746.0, 709.8))
    return m.select(none, m.c(0.0), _scale(m, m.add(m.c(1.0), p), k))


@function
def exp2(m: Math, x: str) -> str:
    if not m.single:
        return m.libm("exp2", x)
    x = m.clamp(x, -151.0, 128.0)
    n = m.b.intrinsic("rint", m.t, x)
    r = m.mul(m.sub(x, n), m.c(0.693147181))
    return _scale_down(m, m.poly(r, [*_EXPM1, 1.0, 1.0]), n)


@function
def expm1(m: Math, x: str) -> str:
    k, p = _expm1_parts(m, m.clamp(x, -25.0, 88.8) if m.single else m.clamp(x, -50.0, 709.8))
    s = _pow2_of(m, m.b.op(f"sub i32 {k}, 1"))  # half of 2**k, which may be too large
    y = m.fma(s, p, m.sub(s, m.c(0.5)))
    return m.copysign(m.add(y, y), x)


@function
def tanh(m: Math, x: str) -> str:
    # (s p + s - 1) / (s p + s + 1) with e**(2 |x|) = s (1 + p), s a power of two
    t, top = m.abs(x), m.c(9.25 if m.single else 20.0)
    t = m.select(m.fcmp("ogt", t, top), top, t)
    t = m.add(t, t)
    if m.single:  # p >= 0, so nothing cancels
        n, r = _reduce(m, t, "floor")
        k = _integer(m, n)
        p = m.fma(m.poly(r, _EXPM1_POSITIVE), m.mul(r, r), r)
    else:
        k, p = _expm1_parts(m, t)
    s = _pow2_of(m, k)
    y = m.div(m.fma(s, p, m.sub(s, m.c(1.0))), m.fma(s, p, m.add(s, m.c(1.0))))
    return m.copysign(y, x)


@function
def erf(m: Math, x: str) -> str:
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


# ---- logarithms

def _split_log(m: Math, x: str) -> tuple[str, str]:
    """``(i, log of m)`` with x = m 2**i, 2/3 <= m < 4/3, for positive finite float32 x."""
    small = m.fcmp("olt", x, m.c(1.17549435e-38))
    a = m.select(small, m.mul(x, m.c(8388608.0)), x)
    e = m.i("and", m.i("sub", m.bits(a), 0x3F2AAAAB), -8388608)
    f = m.sub(m.unbits(m.i("sub", m.bits(a), e)), m.c(1.0))
    i = m.fma(m.b.op(f"sitofp i32 {e} to float"), m.c(2.0**-23), m.select(small, m.c(-23.0), m.c(0.0)))
    q = m.mul(f, f)
    r = m.poly(q, [-0.130187988, -0.121489584, -0.166846126, -0.249996230])
    t = m.poly(q, [0.140889585, 0.139809534, 0.200121998])
    r = m.fma(m.fma(m.fma(t, f, r), f, m.c(0.333331972)), f, m.c(-0.5))
    return i, m.fma(r, q, f)


def _log_edges(m: Math, x: str, y: str) -> str:
    y = m.select(m.fcmp("oeq", x, m.c(math.inf)), x, y)
    y = m.select(m.fcmp("oeq", x, m.c(0.0)), m.c(-math.inf), y)
    return m.select(m.fcmp("ult", x, m.c(0.0)), m.c(math.nan), y)


@function
def log(m: Math, x: str) -> str:
    if m.single:
        i, y = _split_log(m, x)
        return _log_edges(m, x, m.fma(i, m.c(0.693147182), y))
    c = m.c
    small = m.fcmp("olt", x, c(2.2250738585072014e-308))
    a = m.select(small, m.mul(x, c(2.0**54)), x)
    # x = 2**k (1 + f) with sqrt(2)/2 < 1 + f < sqrt(2)
    e = m.i("and", m.i("sub", m.bits(a), 0x3FE6A09E667F3BCD), -(1 << 52))
    f = m.sub(m.unbits(m.i("sub", m.bits(a), e)), c(1.0))
    k = m.add(_exponent(m, e), m.select(small, c(-54.0), c(0.0)))
    s = m.div(f, m.add(c(2.0), f))
    z = m.mul(s, s)
    r = m.mul(z, m.poly(z, [1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01, 2.222219843214978396e-01,
                            2.857142874366239149e-01, 3.999999999940941908e-01, 6.666666666666735130e-01]))
    half = m.mul(m.mul(c(0.5), f), f)
    y = m.add(m.mul(s, m.add(half, r)), m.mul(k, c(1.90821492927058770002e-10)))
    y = m.sub(m.mul(k, c(6.93147180369123816490e-01)), m.sub(m.sub(half, y), f))
    return _log_edges(m, x, y)


def _exponent(m: Math, e: str) -> str:
    """The exponent field of float64 bits ``e`` as a double."""
    shifted = m.i("ashr", e, 52)
    return m.b.op(f"sitofp i32 {m.b.op(f'trunc i64 {shifted} to i32')} to double")


@function
def log2(m: Math, x: str) -> str:
    if not m.single:
        return m.libm("log2", x)
    i, y = _split_log(m, x)
    return _log_edges(m, x, m.fma(y, m.c(1.44269504), i))


@function
def log10(m: Math, x: str) -> str:
    if not m.single:
        return m.libm("log10", x)
    i, y = _split_log(m, x)
    y = m.fma(y, m.c(0.434294482), m.mul(i, m.c(-1.4320988898e-8)))  # log10(2) in two parts
    return _log_edges(m, x, m.fma(i, m.c(0.30103000998497009), y))


@function
def log1p(m: Math, x: str) -> str:
    # log(u) for u = 1 + x as rounded, and what the rounding left out
    u = m.add(m.c(1.0), x)
    y = m.add(log(m, u), m.div(m.sub(x, m.sub(u, m.c(1.0))), u))
    y = m.select(m.fcmp("oeq", u, m.c(0.0)), m.c(-math.inf), y)
    y = m.select(m.fcmp("oeq", x, m.c(math.inf)), x, y)
    return m.copysign(y, x)


@function
def pow(m: Math, x: str, y: str) -> str:
    if not m.single:
        return m.libm("pow", x, y)
    # in float64, where exp(y log |x|) has digits to spare
    b, d = m.b, Math(m.b, "double", True)
    a = b.op(f"fpext float {m.abs(x)} to double")
    r = exp(d, d.mul(b.op(f"fpext float {y} to double"), log(d, a)))
    r = b.op(f"fptrunc double {r} to float")
    half = m.mul(y, m.c(0.5))
    whole = m.fcmp("oeq", b.intrinsic("rint", m.t, y), y)
    odd = b.op(f"and i1 {whole}, {m.fcmp('une', b.intrinsic('rint', m.t, half), half)}")
    negative = m.icmp("slt", m.bits(x), 0)
    r = m.select(b.op(f"and i1 {odd}, {negative}"), m.f("fneg", r), r)
    # a negative base has a power at whole exponents only; zero and infinity have all
    plain = b.op(f"and i1 {m.fcmp('olt', x, m.c(0.0))}, {m.fcmp('one', x, m.c(-math.inf))}")
    r = m.select(b.op(f"and i1 {plain}, {b.op(f'xor i1 {whole}, true')}"), m.c(math.nan), r)
    infinite = m.fcmp("oeq", m.abs(y), m.c(math.inf))
    one = b.op(f"and i1 {infinite}, {m.fcmp('oeq', m.abs(x), m.c(1.0))}")
    one = b.op(f"or i1 {one}, {m.fcmp('oeq', x, m.c(1.0))}")
    one = b.op(f"or i1 {one}, {m.fcmp('oeq', y, m.c(0.0))}")
    nan = b.op(f"or i1 {m.fcmp('uno', x, x)}, {m.fcmp('uno', y, y)}")
    return m.select(one, m.c(1.0), m.select(nan, m.c(math.nan), r))


# ---- trigonometry

@functools.cache
def _two_over_pi() -> int:
    """2 / pi * 2**400, from Machin's formula."""
    one = 1 << 440

    def arctan_inverse(n: int) -> int:
        total, term, k = 0, one // n, 1
        while term:
            total += term // k if k % 4 == 1 else -(term // k)
            term //= n * n
            k += 2
        return total

    pi = 4 * (4 * arctan_inverse(5) - arctan_inverse(239))
    return (2 * one << 400) // pi


@functools.cache
def _turns() -> str:
    """A table: row k has (2**k * 2/pi) mod 4 in two parts, the first of 28 bits, for k = 0 .. 104."""
    rows = []
    for k in range(105):
        v = (_two_over_pi() << k) % (4 << 400)
        bits = max(v.bit_length() - 28, 0)
        high = v >> bits << bits
        rows += [high / 2**400, (v - high) / 2**400]
    values = ", ".join(f"double 0x{struct.unpack('>Q', struct.pack('>d', v))[0]:016x}" for v in rows)
    return f"@turns = internal constant [{len(rows)} x double] [{values}]"


def _quadrant(m: Math, x: str) -> tuple[str, str]:
    """``(q, r)`` with x = q pi/2 + r mod 2 pi, |r| <= pi/4, for float32 x; q an i32."""
    b, d = m.b, Math(m.b, "double", True)
    b.helpers[_turns()] = None
    # x = a 2**k with |a| < 2**24: then a times the first part is exact
    k = m.i("sub", m.i("lshr", m.i("and", m.bits(x), 0x7F800000), 23), 150)
    k = b.intrinsic("smin", "i32", b.intrinsic("smax", "i32", k, "0"), "104")
    twice = m.i("shl", k, 1)
    a = b.op(f"fpext float {m.mul(x, m.unbits(m.i('shl', m.i('sub', 127, k), 23)))} to double")
    row = b.op(f"getelementptr double, ptr @turns, i64 {b.op(f'zext i32 {twice} to i64')}")
    high = b.op(f"load double, ptr {row}, align 8")
    low = b.op(f"load double, ptr {b.op(f'getelementptr double, ptr {row}, i64 1')}, align 8")
    p = d.mul(a, high)
    n = b.intrinsic("rint", "double", p)
    f = d.add(d.sub(p, n), d.mul(a, low))
    extra = b.intrinsic("rint", "double", f)  # the second part may reach the next quadrant
    f = d.sub(f, extra)
    # n mod 4 by exact arithmetic, since n may exceed an i32
    quarter = b.intrinsic("floor", "double", d.mul(n, d.c(0.25)))
    q = d.add(d.sub(n, d.mul(quarter, d.c(4.0))), extra)
    return b.op(f"fptosi double {q} to i32"), b.op(f"fptrunc double {d.mul(f, d.c(math.pi / 2))} to float")


def _sin_cos(m: Math, r: str) -> tuple[str, str]:
    """Sine and cosine for |r| <= pi/4."""
    z = m.mul(r, r)
    s = m.fma(m.mul(m.poly(z, [-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1]), z), r, r)
    c = m.poly(z, [2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2])
    return s, m.fma(m.mul(z, z), c, m.fma(z, m.c(-0.5), m.c(1.0)))


def _circular(m: Math, x: str, shift: int) -> str:
    """sin(x + shift pi/2)."""
    q, r = _quadrant(m, x)
    q = m.i("add", q, shift) if shift else q
    s, c = _sin_cos(m, r)
    y = m.select(m.icmp("ne", m.i("and", q, 1), 0), c, s)
    y = m.unbits(m.i("xor", m.bits(y), m.i("shl", m.i("and", q, 2), 30)))
    return m.select(m.fcmp("olt", m.abs(x), m.c(math.inf)), y, m.c(math.nan))


@function
def sin(m: Math, x: str) -> str:
    if not m.single:
        return m.libm("sin", x)
    return m.select(m.fcmp("oeq", x, m.c(0.0)), x, _circular(m, x, 0))  # keeps -0


@function
def cos(m: Math, x: str) -> str:
    return _circular(m, x, 1) if m.single else m.libm("cos", x)


@function
def tan(m: Math, x: str) -> str:
    if not m.single:
        return m.libm("tan", x)
    q, r = _quadrant(m, x)
    s, c = _sin_cos(m, r)
    odd = m.icmp("ne", m.i("and", q, 1), 0)
    y = m.div(m.select(odd, m.f("fneg", c), s), m.select(odd, s, c))
    y = m.select(m.fcmp("oeq", x, m.c(0.0)), x, y)
    return m.select(m.fcmp("olt", m.abs(x), m.c(math.inf)), y, m.c(math.nan))


@function
def atan(m: Math, x: str) -> str:
    if not m.single:
        return m.libm("atan", x)
    t, one = m.abs(x), m.c(1.0)
    far, mid = m.fcmp("ogt", t, m.c(2.414213562373095)), m.fcmp("ogt", t, m.c(0.4142135623730950))
    top = m.select(far, m.c(-1.0), m.select(mid, m.sub(t, one), t))
    bottom = m.select(far, t, m.select(mid, m.add(t, one), one))
    start = m.select(far, m.c(math.pi / 2), m.select(mid, m.c(math.pi / 4), m.c(0.0)))
    r = m.div(top, bottom)
    z = m.mul(r, r)
    p = m.poly(z, [8.05374449538e-2, -1.38776856032e-1, 1.99777106478e-1, -3.33329491539e-1])
    return m.copysign(m.add(start, m.fma(m.mul(p, z), r, r)), x)


def _libm(name: str, operands: int = 1) -> None:
    if operands == 1:
        FUNCTIONS[name] = lambda m, x: m.libm(name, x)
    else:
        FUNCTIONS[name] = lambda m, x, y: m.libm(name, x, y)


for _name in ("asin", "acos", "sinh", "cosh", "asinh", "acosh", "atanh", "erfc", "lgamma"):
    _libm(_name)
for _name in ("atan2", "nextafter"):
    _libm(_name, 2)


# ---- special functions without a libm version: see ops/special.py for the methods

def _as_double(f: Callable[..., str]) -> None:
    def wrapped(m: Math, x: str) -> str:
        if not m.single:
            return f(m, x)
        wide = Math(m.b, "double", True)
        return m.b.op(f"fptrunc double {f(wide, m.b.op(f'fpext float {x} to double'))} to float")

    FUNCTIONS[f.__name__] = wrapped


@_as_double
def erfinv(m: Math, x: str) -> str:
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
def digamma(m: Math, x: str) -> str:
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
