"""The scalar primitives: one row each, and all that any other part of fusetorch knows about them.

A row gives arity, result dtype, NumPy function, LLVM form, and the vector-Jacobian product over expressions. The Triton form is
the ``@triton.jit`` function of the same name in :mod:`fusetorch.triton_kernels.scalar`.

LLVM forms, by operand kind (``f`` float32/float64, ``s`` signed integer, ``u`` uint8, ``i`` any integer, ``b`` bool): a template
(``{t}`` operand type, ``{0}`` ``{1}`` operands), ``%name`` for the intrinsic ``llvm.name``, or ``@name`` for a function that
:mod:`fusetorch.codegen.llvm_math` writes.

A vjp takes ``(g, y, *inputs)``, expressions all, and returns one expression or ``None`` (no gradient) per input. Over complex numbers
it is that of a holomorphic function, which :mod:`fusetorch.ops.gradient` turns into PyTorch's convention, but for the rows in
:data:`OWN_WAY`. Which primitives take complex numbers is said in :mod:`fusetorch.ops.complex_parts`, by the real numbers that make up the
result.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dtypes import bool_, dtype, float32, int32, promote_types
from .expr import Expr, cast, const, lift

PRIMITIVES: dict[str, Primitive] = {}


@dataclass(frozen=True, eq=False)
class Primitive:
    """A scalar operation. Calling it builds an expression; numbers become constants of the other operand's dtype."""

    name: str
    arity: int
    numpy: Callable[..., Any]
    llvm: dict[str, str]
    vjp: Callable[..., Any] | None
    result: Any  # the result's dtype; None: that which the operands share; a function: of that one
    passes: int = 1  # how many passes over the elements NumPy makes

    def __call__(self, *args: Any) -> Expr:
        if len(args) != self.arity:
            raise TypeError(f"primitive {self.name} takes {self.arity} operands, got {len(args)}")
        es = lift(args)
        skip = 1 if self.name == "where" else 0  # the condition keeps its own dtype
        dt = es[skip].dtype
        for e in es[skip + 1:]:
            dt = promote_types(dt, e.dtype)
        if self.name != "philox":
            es = [cast(es[0], bool_)] * skip + [cast(e, dt) for e in es[skip:]]
        if dt.category == 3 and self.name not in COMPLEX:
            from .opdef import not_implemented
            raise not_implemented(self.name, dt)
        return Expr(self.name, tuple(es), None, self.result(dt) if callable(self.result) else self.result or dt)


def _row(name: str, arity: int, numpy: Callable[..., Any], llvm: dict[str, str], vjp: Callable[..., Any] | None = None,
         result: Any = None, passes: int = 1) -> Primitive:
    p = PRIMITIVES[name] = Primitive(name, arity, numpy, llvm, vjp, result, passes)
    return p


#: The primitives that take complex numbers.
COMPLEX = {"add", "sub", "mul", "div", "pow", "neg", "abs", "sign", "sqrt", "rsqrt", "exp", "exp2", "expm1", "log", "log2", "log10",
           "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "eq", "ne", "isnan",
           "where", "cast", "real", "imag", "conj"}
#: Those whose vjp holds over complex numbers as it is written: linear with real factors, or not holomorphic.
OWN_WAY = {"add", "sub", "neg", "where", "cast", "abs", "sign", "real", "imag", "complex", "conj"}


def _f(form: str) -> dict[str, str]:
    return {"f": form}


def _zero_like(e: Expr) -> Expr:
    return const(0, e.dtype)


# ---- arithmetic
add = _row("add", 2, np.add, {"f": "fadd {t} {0}, {1}", "i": "add {t} {0}, {1}", "b": "or {t} {0}, {1}"},
           lambda g, y, a, b: (g, g))
sub = _row("sub", 2, np.subtract, {"f": "fsub {t} {0}, {1}", "i": "sub {t} {0}, {1}", "b": "xor {t} {0}, {1}"},
           lambda g, y, a, b: (g, -g))
mul = _row("mul", 2, np.multiply, {"f": "fmul {t} {0}, {1}", "i": "mul {t} {0}, {1}", "b": "and {t} {0}, {1}"},
           lambda g, y, a, b: (g * b, g * a))
div = _row("div", 2, np.true_divide, _f("fdiv {t} {0}, {1}"), lambda g, y, a, b: (g / b, -g * (a / b) / b))
floor_divide = _row("floor_divide", 2, np.floor_divide,
                    {"f": "@floor_divide", "s": "@floor_divide", "u": "@floor_divide"},
                    lambda g, y, a, b: (_zero_like(g), _zero_like(g)))
remainder = _row("remainder", 2, np.remainder, {"f": "@remainder", "s": "@remainder", "u": "@remainder"},
                 lambda g, y, a, b: (g, -g * floor_divide(a, b)))
fmod = _row("fmod", 2, np.fmod, {"f": "@fmod", "s": "@fmod", "u": "@fmod"},
            lambda g, y, a, b: (g, -g * trunc(a / b)))


def _pow_vjp(g: Expr, y: Expr, a: Expr, b: Expr) -> tuple[Expr, Expr]:
    zero = _zero_like(a)
    da = where(eq(b, 0), zero, g * b * pow(a, b - 1))
    db = where(eq(a, 0) & (real(b) >= 0), zero, g * y * log(a))
    return da, db


def _np_pow(a: Any, b: Any) -> Any:
    if getattr(b, "dtype", np.dtype(float)).kind in "ib" and np.any(np.less(b, 0)):
        # an integer to a negative power: 1 / that, rounded towards zero; 0 gives 0
        a, b = np.broadcast_arrays(a, b)
        whole = np.power(a, np.abs(b))
        return np.where(b >= 0, whole, np.where(np.abs(whole) == 1, whole, 0)).astype(whole.dtype)
    return np.power(a, b)


pow = _row("pow", 2, _np_pow, {"f": "@pow", "s": "@ipow", "u": "@ipow"}, _pow_vjp)
neg = _row("neg", 1, np.negative, {"f": "fneg {t} {0}", "i": "sub {t} 0, {0}"}, lambda g, y, a: (-g,))
abs = _row("abs", 1, np.abs, {"f": "%fabs", "s": "@iabs", "u": "@identity", "b": "@identity"},
           lambda g, y, a: (g * sign(a),), dtype.to_real)


def _np_sign(a: Any) -> Any:
    if a.dtype.kind == "c":
        size = np.abs(a)
        return a / np.where(size == 0, 1, size)
    if a.dtype.kind != "f":
        return a if a.dtype.kind == "b" else np.sign(a)
    return np.subtract(a > 0, a < 0, dtype=a.dtype)  # 0 for NaN


def _sign_vjp(g: Expr, y: Expr, a: Expr) -> tuple[Expr]:
    if a.dtype.category != 3:
        return (_zero_like(g),)
    # on the unit circle: what is left is the part at right angles to it
    return (where(eq(a, 0), _zero_like(g), (g - y * real(g * conj(y))) / where(eq(a, 0), 1.0, abs(a))),)


sign = _row("sign", 1, _np_sign, {"f": "@sign", "s": "@sign", "u": "@sign", "b": "@identity"}, _sign_vjp)
maximum = _row("maximum", 2, np.maximum, {"f": "%maximum", "s": "%smax", "u": "%umax", "b": "or {t} {0}, {1}"},
               lambda g, y, a, b: _tie(g, a, b, a > b))
minimum = _row("minimum", 2, np.minimum, {"f": "%minimum", "s": "%smin", "u": "%umin", "b": "and {t} {0}, {1}"},
               lambda g, y, a, b: _tie(g, a, b, a < b))
fmax = _row("fmax", 2, np.fmax, {"f": "%maxnum", "s": "%smax", "u": "%umax", "b": "or {t} {0}, {1}"},
            lambda g, y, a, b: _pick(g, (a >= b) | isnan(b)))
fmin = _row("fmin", 2, np.fmin, {"f": "%minnum", "s": "%smin", "u": "%umin", "b": "and {t} {0}, {1}"},
            lambda g, y, a, b: _pick(g, (a <= b) | isnan(b)))


def _tie(g: Expr, a: Expr, b: Expr, a_wins: Expr) -> tuple[Expr, Expr]:
    # equal operands share the gradient, as in PyTorch
    half = where(eq(a, b), g * 0.5, _zero_like(g))
    return where(a_wins, g, half), where(a_wins, _zero_like(g), where(eq(a, b), g * 0.5, g))


def _pick(g: Expr, first: Expr) -> tuple[Expr, Expr]:
    return where(first, g, _zero_like(g)), where(first, _zero_like(g), g)


# ---- powers, exponentials, logarithms
_LN2 = math.log(2.0)
_LN10 = math.log(10.0)


def _rsqrt(a: np.ndarray) -> np.ndarray:
    return np.reciprocal(np.sqrt(a))


sqrt = _row("sqrt", 1, np.sqrt, _f("%sqrt"), lambda g, y, a: (g / (y * 2),))
rsqrt = _row("rsqrt", 1, _rsqrt, _f("@rsqrt"), lambda g, y, a: (g * -0.5 * y * y * y,))
exp = _row("exp", 1, np.exp, _f("@exp"), lambda g, y, a: (g * y,))
exp2 = _row("exp2", 1, np.exp2, _f("@exp2"), lambda g, y, a: (g * y * _LN2,))
expm1 = _row("expm1", 1, np.expm1, _f("@expm1"), lambda g, y, a: (g * (y + 1),))
log = _row("log", 1, np.log, _f("@log"), lambda g, y, a: (g / a,))
log2 = _row("log2", 1, np.log2, _f("@log2"), lambda g, y, a: (g / (a * _LN2),))
log10 = _row("log10", 1, np.log10, _f("@log10"), lambda g, y, a: (g / (a * _LN10),))
log1p = _row("log1p", 1, np.log1p, _f("@log1p"), lambda g, y, a: (g / (a + 1),))

# ---- trigonometric and hyperbolic
sin = _row("sin", 1, np.sin, _f("@sin"), lambda g, y, a: (g * cos(a),))
cos = _row("cos", 1, np.cos, _f("@cos"), lambda g, y, a: (-g * sin(a),))
tan = _row("tan", 1, np.tan, _f("@tan"), lambda g, y, a: (g * (y * y + 1),))
asin = _row("asin", 1, np.arcsin, _f("@asin"), lambda g, y, a: (g * rsqrt(1 - a * a),))
acos = _row("acos", 1, np.arccos, _f("@acos"), lambda g, y, a: (-g * rsqrt(1 - a * a),))
atan = _row("atan", 1, np.arctan, _f("@atan"), lambda g, y, a: (g / (a * a + 1),))
atan2 = _row("atan2", 2, np.arctan2, _f("@atan2"), lambda g, y, a, b: _atan2_vjp(g, a, b))
sinh = _row("sinh", 1, np.sinh, _f("@sinh"), lambda g, y, a: (g * cosh(a),))
cosh = _row("cosh", 1, np.cosh, _f("@cosh"), lambda g, y, a: (g * sinh(a),))
tanh = _row("tanh", 1, np.tanh, _f("@tanh"), lambda g, y, a: (g * (1 - y * y),))
asinh = _row("asinh", 1, np.arcsinh, _f("@asinh"), lambda g, y, a: (g * rsqrt(a * a + 1),))
acosh = _row("acosh", 1, np.arccosh, _f("@acosh"), lambda g, y, a: (g * (
    rsqrt(a + 1) * rsqrt(a - 1) if a.dtype.category == 3 else rsqrt(a * a - 1)),))
atanh = _row("atanh", 1, np.arctanh, _f("@atanh"), lambda g, y, a: (g / (1 - a * a),))


def _atan2_vjp(g: Expr, a: Expr, b: Expr) -> tuple[Expr, Expr]:
    r = a * a + b * b
    return g * (b / r), g * (-a / r)


# ---- special functions; SciPy is not needed: the CPU versions are ours (ops/special.py)
#: How many passes NumPy makes for one of these, about.
_MANY = 100


def _special(name: str) -> Callable[..., Any]:
    def call(x: np.ndarray) -> np.ndarray:
        from . import special
        return getattr(special, name)(x)
    return call


erf = _row("erf", 1, _special("erf"), _f("@erf"),
           lambda g, y, a: (g * (exp(-(a * a)) * (2 / math.sqrt(math.pi))),), passes=_MANY)
erfc = _row("erfc", 1, _special("erfc"), _f("@erfc"),
            lambda g, y, a: (g * (exp(-(a * a)) * (-2 / math.sqrt(math.pi))),), passes=_MANY)
erfinv = _row("erfinv", 1, _special("erfinv"), _f("@erfinv"),
              lambda g, y, a: (g * (exp(y * y) * (math.sqrt(math.pi) / 2)),), passes=_MANY)
lgamma = _row("lgamma", 1, _special("lgamma"), _f("@lgamma"), lambda g, y, a: (g * digamma(a),), passes=_MANY)
digamma = _row("digamma", 1, _special("digamma"), _f("@digamma"), lambda g, y, a: (g * _trigamma(a),), passes=_MANY)


def _trigamma(x: Expr) -> Expr:
    """The derivative of digamma: reflection below zero, recurrence up to 6, then the asymptotic series (Abramowitz and Stegun 6.4)."""
    s = sin(x * math.pi)
    negative = x < 0.5
    z = where(negative, 1 - x, x)
    total: Any = None
    for _ in range(6):
        total = 1 / (z * z) if total is None else total + 1 / (z * z)
        z = z + 1
    w = 1 / (z * z)
    series = 1 / z + w * 0.5 + w / z * (1 / 6 - w * (1 / 30 - w * (1 / 42 - w * (1 / 30 - w * 5 / 66))))
    return where(negative, math.pi**2 / (s * s) - (total + series), total + series)

# ---- rounding
floor = _row("floor", 1, np.floor, {"f": "%floor", "i": "@identity"}, lambda g, y, a: (_zero_like(g),))
ceil = _row("ceil", 1, np.ceil, {"f": "%ceil", "i": "@identity"}, lambda g, y, a: (_zero_like(g),))
trunc = _row("trunc", 1, np.trunc, {"f": "%trunc", "i": "@identity"}, lambda g, y, a: (_zero_like(g),))
round = _row("round", 1, np.rint, {"f": "%rint", "i": "@identity"}, lambda g, y, a: (_zero_like(g),))

# ---- comparisons: bool results, no gradient. NaN compares false, except under ne.
eq = _row("eq", 2, np.equal, {"f": "fcmp oeq {t} {0}, {1}", "i": "icmp eq {t} {0}, {1}", "b": "icmp eq {t} {0}, {1}"},
          None, bool_)
ne = _row("ne", 2, np.not_equal, {"f": "fcmp une {t} {0}, {1}", "i": "icmp ne {t} {0}, {1}",
                                  "b": "icmp ne {t} {0}, {1}"}, None, bool_)
lt = _row("lt", 2, np.less, {"f": "fcmp olt {t} {0}, {1}", "s": "icmp slt {t} {0}, {1}", "u": "icmp ult {t} {0}, {1}",
                             "b": "icmp ult {t} {0}, {1}"}, None, bool_)
le = _row("le", 2, np.less_equal, {"f": "fcmp ole {t} {0}, {1}", "s": "icmp sle {t} {0}, {1}",
                                   "u": "icmp ule {t} {0}, {1}", "b": "icmp ule {t} {0}, {1}"}, None, bool_)
gt = _row("gt", 2, np.greater, {"f": "fcmp ogt {t} {0}, {1}", "s": "icmp sgt {t} {0}, {1}",
                                "u": "icmp ugt {t} {0}, {1}", "b": "icmp ugt {t} {0}, {1}"}, None, bool_)
ge = _row("ge", 2, np.greater_equal, {"f": "fcmp oge {t} {0}, {1}", "s": "icmp sge {t} {0}, {1}",
                                      "u": "icmp uge {t} {0}, {1}", "b": "icmp uge {t} {0}, {1}"}, None, bool_)
isnan = _row("isnan", 1, np.isnan, {"f": "fcmp uno {t} {0}, {0}"}, None, bool_)
signbit = _row("signbit", 1, np.signbit, {"f": "@signbit", "s": "icmp slt {t} {0}, 0"}, None, bool_)

# ---- bits; on bool these are the logical operations
bitwise_and = _row("bitwise_and", 2, np.bitwise_and, {"i": "and {t} {0}, {1}", "b": "and {t} {0}, {1}"})
bitwise_or = _row("bitwise_or", 2, np.bitwise_or, {"i": "or {t} {0}, {1}", "b": "or {t} {0}, {1}"})
bitwise_xor = _row("bitwise_xor", 2, np.bitwise_xor, {"i": "xor {t} {0}, {1}", "b": "xor {t} {0}, {1}"})
bitwise_not = _row("bitwise_not", 1, np.invert, {"i": "xor {t} {0}, -1", "b": "xor {t} {0}, true"})
# shift counts outside [0, bits) are defined as in NumPy: 0, or the sign for a signed right shift
shift_left = _row("shift_left", 2, np.left_shift, {"i": "@shift_left"})
shift_right = _row("shift_right", 2, np.right_shift, {"i": "@shift_right"})


# ---- selection and conversion
def _np_cast(a: np.ndarray, dt: dtype) -> np.ndarray:
    return (a.real if a.dtype.kind == "c" and dt.category in (1, 2) else a).astype(dt.np)


where = _row("where", 3, np.where, {"f": "select i1 {0}, {t} {1}, {t} {2}", "i": "select i1 {0}, {t} {1}, {t} {2}",
                                    "b": "select i1 {0}, {t} {1}, {t} {2}"},
             lambda g, y, c, a, b: (None, where(c, g, _zero_like(g)), where(c, _zero_like(g), g)), passes=3)
copysign = _row("copysign", 2, np.copysign, _f("%copysign"),
                lambda g, y, a, b: (where(eq(a, 0), _zero_like(g), g * sign(a) * copysign(_one_like(g), b)),
                                    _zero_like(g)))
nextafter = _row("nextafter", 2, np.nextafter, _f("@nextafter"))
PRIMITIVES["cast"] = Primitive("cast", 1, _np_cast, {k: "@cast" for k in "fiub"},
                               lambda g, y, a: (cast(g, a.dtype) if a.dtype.category >= 2 else None,), None)


def _one_like(e: Expr) -> Expr:
    return const(1, e.dtype)


# ---- complex numbers: their parts are real expressions, so that no LLVM or Triton form is needed (ops/complex_parts.py)
def _np_complex(a: Any, b: Any) -> np.ndarray:
    a, b = np.asarray(a), np.asarray(b)
    out = np.empty(np.broadcast_shapes(a.shape, b.shape), np.complex128 if a.dtype == np.float64 else np.complex64)
    out.real, out.imag = a, b
    return out


_real = _row("real", 1, np.real, {}, lambda g, y, a: (cast(g, a.dtype),), dtype.to_real)
_imag = _row("imag", 1, np.imag, {}, lambda g, y, a: (complex(_zero_like(g), g),), dtype.to_real)
_conj = _row("conj", 1, np.conjugate, {}, lambda g, y, a: (conj(g),))
#: A complex number from its parts, float32 or float64.
complex = _row("complex", 2, _np_complex, {}, lambda g, y, a, b: (real(g), imag(g)), dtype.to_complex)


def real(x: Expr) -> Expr:
    """The real part."""
    return x if x.dtype.category != 3 else x.args[0] if x.op == "complex" else _real(x)


def imag(x: Expr) -> Expr:
    """The imaginary part."""
    return _zero_like(x) if x.dtype.category != 3 else x.args[1] if x.op == "complex" else _imag(x)


def conj(x: Expr) -> Expr:
    """The complex conjugate."""
    return x if x.dtype.category != 3 else x.args[0] if x.op == "conj" else _conj(x)


def abs2(x: Expr) -> Expr:
    """The square of the absolute value."""
    return x * x if x.dtype.category != 3 else real(x) * real(x) + imag(x) * imag(x)


# ---- random bits
def _philox(seed: Any, counter: Any, stream: Any) -> np.ndarray:
    from . import philox
    return philox.bits(seed, counter, stream)


#: 32 random bits (as int32) from Philox4x32-10 at key ``seed`` (int64) and position ``(counter, stream)`` (int64 each).
philox = _row("philox", 3, _philox, {"i": "@philox"}, None, int32, _MANY)


def uniform01(seed: Any, counter: Expr, stream: int = 0) -> Expr:
    """A float32 in [0, 1) with 24 random bits."""
    bits = philox(seed, counter, const(stream, counter.dtype))
    return cast(shift_right(bits, 8) & 0xFFFFFF, float32) * 2.0**-24


# ---- shorthands over primitives, for bodies
def sigmoid(x: Expr) -> Expr:
    """1 / (1 + exp(-x)). The value is right at both ends; what is derived from it is 0 * inf where the exponential overflows."""
    return 1.0 / (exp(-x) + 1.0)


def square(x: Expr) -> Expr:
    """x * x."""
    return x * x


def isinf(x: Expr) -> Expr:
    """Whether x is plus or minus infinity."""
    return isinf(real(x)) | isinf(imag(x)) if x.dtype.category == 3 else eq(abs(x), math.inf)


def isfinite(x: Expr) -> Expr:
    """Whether x is neither infinite nor NaN."""
    return isfinite(real(x)) & isfinite(imag(x)) if x.dtype.category == 3 else abs(x) < math.inf


def clip(x: Expr, lo: Any, hi: Any) -> Expr:
    """x limited to [lo, hi]; NaN stays NaN."""
    return minimum(maximum(x, lo), hi)


def logical_not(x: Expr) -> Expr:
    """True where x is zero."""
    return eq(x, const(0, x.dtype))


def truth(x: Expr) -> Expr:
    """True where x is not zero."""
    return x if x.dtype is bool_ else ne(x, const(0, x.dtype))
