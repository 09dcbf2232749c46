"""Elementwise operations: arithmetic, comparisons, mathematical functions, selection.

Each is one body over primitives. See ``docs/adding-an-op.md``.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..dtypes import bool_, dtype, float32, int64
from ..tensor import Tensor
from . import primitives as P
from .expr import Expr, cast, const
from .opdef import As, OpDef, compute_dtype, elementwise, fn

# ---- arithmetic


def _scaled(other: Any, alpha: Any) -> Any:
    return other if alpha is None else other * cast(alpha, other.dtype)


@elementwise(inplace=True, numbers="any", operators=("__add__",), oracle=np.add)
def add(input, other, *, alpha: float = None):
    """``input + alpha * other``."""
    return input + _scaled(other, alpha)


@elementwise(inplace=True, numbers="any", operators=("__sub__",), aliases=("subtract",), oracle=np.subtract)
def sub(input, other, *, alpha: float = None):
    """``input - alpha * other``."""
    if input.dtype is bool_:
        raise RuntimeError("Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or "
                           "`logical_xor()` operator instead.")
    return input - _scaled(other, alpha)


@elementwise(inplace=True, numbers="any", operators=("__mul__",), aliases=("multiply",), oracle=np.multiply)
def mul(input, other):
    """``input * other``."""
    return input * other


@elementwise(inplace=True, method=True, function=True, name="true_divide", promote="float", numbers="any", operators=("__truediv__",),
             oracle=np.true_divide)
def true_divide(input, other):
    """``input / other``; integers divide to the default floating dtype."""
    return input / other


@elementwise(bools=False, inplace=True, numbers="any", operators=("__floordiv__",), oracle=np.floor_divide)
def floor_divide(input, other):
    """``input / other`` rounded down."""
    return P.floor_divide(input, other)


@elementwise(bools=False, inplace=True, name="trunc_divide", numbers="any", function=False, method=False,
             oracle=lambda a, b: np.trunc(np.true_divide(a, b)).astype(np.result_type(a, b)))
def trunc_divide(input, other):
    """``input / other`` rounded towards zero."""
    if input.dtype.is_floating_point:
        return P.trunc(input / other)
    q = P.floor_divide(input, other)
    inexact = P.ne(q * other, input)
    return P.where(inexact & (q < 0), q + 1, q)


@elementwise(bools=False, inplace=True, numbers="any", operators=("__mod__",), oracle=np.remainder)
def remainder(input, other):
    """The remainder with the divisor's sign, as Python's ``%``."""
    return P.remainder(input, other)


@elementwise(bools=False, inplace=True, oracle=np.fmod)
def fmod(input, other):
    """The remainder with the dividend's sign, as C's ``fmod``."""
    return P.fmod(input, other)


@elementwise(bools=False, inplace=True, numbers="any", operators=("__pow__",), oracle=np.power, domain=(0.2, 3.0),
           autocast="float32:cuda")
def pow(input, exponent):
    """``input ** exponent``."""
    return P.pow(input, exponent)


@elementwise(function=False, method=False, oracle=lambda a: a**3)
def cube(input):
    """``input ** 3``."""
    return input * input * input


@pow.instead
def _(input: Any, exponent: Any) -> Any:
    """Exponents that need no logarithm."""
    if type(exponent) in (int, float) and isinstance(input, Tensor) and input.dtype.category >= 2:
        cheaper = {2: fn.square, 3: fn.cube, -1: fn.reciprocal}.get(exponent)
        return cheaper and cheaper(input)
    return None


@elementwise(out="exact", inplace=True, aliases=("negative",), oracle=np.negative)
def neg(input):
    """``-input``."""
    if input.dtype is bool_:
        raise RuntimeError("Negation, the `-` operator, on a bool tensor is not supported. Use the `~` or `logical_not()` "
                           "operator instead.")
    return -input


@elementwise(out="exact", bools=False, inplace=True, aliases=("absolute",), oracle=np.abs)
def abs(input):
    """The absolute value."""
    return P.abs(input)


@elementwise(out="exact", inplace=True, oracle=np.sign)
def sign(input):
    """-1, 0 or 1."""
    if input.dtype.is_complex:
        raise NotImplementedError("Unlike NumPy, torch.sign doesn't allow complex numbers. Use torch.sgn instead.")
    return P.sign(input)


@elementwise(out="exact", inplace=True, oracle=np.sign)
def sgn(input):
    """The sign: ``input / abs(input)`` for complex numbers (0 for 0), the same as ``sign`` for real ones."""
    return P.sign(input)


@elementwise(inplace=True, promote="float", oracle=lambda a: 1 / a, domain=(0.3, 3.0), autocast="float32:cuda")
def reciprocal(input):
    """``1 / input``."""
    return 1.0 / input


@elementwise(inplace=True, oracle=np.square)
def square(input):
    """``input * input``."""
    return cast(input, int64) * cast(input, int64) if input.dtype is bool_ else input * input


@elementwise(oracle=np.positive)
def positive(input):
    """``+input``."""
    if input.dtype is bool_:
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input * 1


@elementwise(numbers="none", oracle=np.maximum)
def maximum(input, other):
    """The larger operand; NaN if either is NaN."""
    return P.maximum(input, other)


@elementwise(numbers="none", oracle=np.minimum)
def minimum(input, other):
    """The smaller operand; NaN if either is NaN."""
    return P.minimum(input, other)


@elementwise(numbers="none", oracle=np.fmax)
def fmax(input, other):
    """The larger operand, ignoring a NaN."""
    return P.fmax(input, other)


@elementwise(numbers="none", oracle=np.fmin)
def fmin(input, other):
    """The smaller operand, ignoring a NaN."""
    return P.fmin(input, other)


@elementwise(promote="floating", inplace=True, oracle=lambda a, b, c: a + (b - a) * c)
def lerp(input, end, weight):
    """``input + weight * (end - input)``, exact at both ends."""
    return P.where(P.abs(weight) < 0.5, input + weight * (end - input), end - (end - input) * (1 - weight))


@elementwise(bools=False, inplace=True, oracle=lambda a, b, c, value=1: a + value * b * c, autocast="promote:cuda")
def addcmul(input, tensor1, tensor2, *, value: float = None):
    """``input + value * tensor1 * tensor2``."""
    product = tensor1 * tensor2
    return input + (product if value is None else cast(value, product.dtype) * product)


@elementwise(inplace=True, promote="floating", oracle=lambda a, b, c, value=1: a + value * b / c, domain=(0.3, 3.0),
           autocast="promote:cuda")
def addcdiv(input, tensor1, tensor2, *, value: float = None):
    """``input + value * tensor1 / tensor2``."""
    return input + (tensor1 / tensor2 if value is None else cast(value, tensor1.dtype) * (tensor1 / tensor2))


@elementwise(real=True, numbers="none", promote="floating", inplace=True, oracle=np.hypot, domain=(0.3, 3.0))
def hypot(input, other):
    """``sqrt(input**2 + other**2)`` without overflow on the way."""
    a, b = P.abs(input), P.abs(other)
    hi, lo = P.maximum(a, b), P.minimum(a, b)
    r = lo / P.where(P.eq(hi, 0), 1.0, hi)
    return P.where(P.eq(hi, math.inf), hi, hi * P.sqrt(r * r + 1.0))


# ---- exponentials, logarithms, roots


def _unary(name: str, body: Any, oracle: Any, doc: str, domain: tuple[float, float] = (-3.0, 3.0), **options: Any) -> OpDef:
    def f(input):  # noqa: ANN001, ANN202 - the signature is what the registry reads
        return body(input)
    f.__doc__ = doc
    return elementwise(name=name, promote="float", inplace=True, oracle=oracle, domain=domain, **options)(f)


_unary("sqrt", P.sqrt, np.sqrt, "The square root.", (0.1, 3.0))
_unary("rsqrt", P.rsqrt, lambda a: 1 / np.sqrt(a), "``1 / sqrt(input)``.", (0.2, 3.0), autocast="float32:cuda")
_unary("exp", P.exp, np.exp, "e to the power ``input``.", autocast="float32:cuda")
_unary("exp2", P.exp2, np.exp2, "2 to the power ``input``.", aliases=("special.exp2",))
_unary("expm1", P.expm1, np.expm1, "``exp(input) - 1``, accurate near zero.", autocast="float32:cuda", aliases=("special.expm1",))
_unary("log", P.log, np.log, "The natural logarithm.", (0.1, 3.0), autocast="float32:cuda")
_unary("log2", P.log2, np.log2, "The logarithm to base 2.", (0.1, 3.0), autocast="float32:cuda")
_unary("log10", P.log10, np.log10, "The logarithm to base 10.", (0.1, 3.0), autocast="float32:cuda")
_unary("log1p", P.log1p, np.log1p, "``log(1 + input)``, accurate near zero.", (-0.8, 3.0), autocast="float32:cuda",
       aliases=("special.log1p",))
_unary("sin", P.sin, np.sin, "The sine.")
_unary("cos", P.cos, np.cos, "The cosine.")
_unary("tan", P.tan, np.tan, "The tangent.", (-1.2, 1.2), autocast="float32:cuda")
_unary("asin", P.asin, np.arcsin, "The inverse sine.", (-0.9, 0.9), aliases=("arcsin",), autocast="float32:cuda")
_unary("acos", P.acos, np.arccos, "The inverse cosine.", (-0.9, 0.9), aliases=("arccos",), autocast="float32:cuda")
_unary("atan", P.atan, np.arctan, "The inverse tangent.", aliases=("arctan",))
_unary("sinh", P.sinh, np.sinh, "The hyperbolic sine.", autocast="float32:cuda")
_unary("cosh", P.cosh, np.cosh, "The hyperbolic cosine.", autocast="float32:cuda")
_unary("tanh", P.tanh, np.tanh, "The hyperbolic tangent.", nn=True)
_unary("asinh", P.asinh, np.arcsinh, "The inverse hyperbolic sine.", aliases=("arcsinh",))
_unary("acosh", P.acosh, np.arccosh, "The inverse hyperbolic cosine.", (1.2, 3.0), aliases=("arccosh",))
_unary("atanh", P.atanh, np.arctanh, "The inverse hyperbolic tangent.", (-0.9, 0.9), aliases=("arctanh",))
_unary("erf", P.erf, lambda a: _scipy("erf")(a), "The error function.", aliases=("special.erf",))
_unary("erfc", P.erfc, lambda a: _scipy("erfc")(a), "``1 - erf(input)``.", aliases=("special.erfc",))
_unary("erfinv", P.erfinv, lambda a: _scipy("erfinv")(a), "The inverse of ``erf``.", (-0.9, 0.9), autocast="float32:cuda",
       aliases=("special.erfinv",))
_unary("lgamma", P.lgamma, lambda a: _scipy("gammaln")(a), "The logarithm of the absolute gamma function.", (0.3, 3.0),
       aliases=("special.gammaln",))
_unary("digamma", P.digamma, lambda a: _scipy("digamma")(a), "The derivative of ``lgamma``.", (0.3, 3.0),
       aliases=("special.digamma", "special.psi"))
_sigmoid = _unary("sigmoid", P.sigmoid, lambda a: 1 / (1 + np.exp(-a)), "``1 / (1 + exp(-input))``.", nn=True, aliases=("special.expit",))


@elementwise(name="sigmoid_grad", function=False, method=False, oracle=lambda g, y: g * (1 - y) * y)
def sigmoid_grad(grad, result):
    """The gradient of ``sigmoid``, from its result."""
    y = P.conj(result)
    return grad * ((1.0 - y) * y)


@_sigmoid.vjp("out")
def _(ctx: Any, g: Any) -> Any:
    return fn.sigmoid_grad(g, ctx["out"])


def _scipy(name: str) -> Any:
    import scipy.special  # the oracle of tests only
    return getattr(scipy.special, name)


@elementwise(numbers="none", promote="float", inplace=True, aliases=("arctan2",), oracle=np.arctan2, autocast="promote:cuda")
def atan2(input, other):
    """The angle of the point (other, input)."""
    return P.atan2(input, other)


@elementwise(real=True, promote="float", inplace=True, oracle=lambda a, eps=None: np.log(a / (1 - a)), domain=(0.1, 0.9),
             aliases=("special.logit",))
def logit(input, eps: float = None):
    """``log(x / (1 - x))``, with x limited to [eps, 1 - eps] if ``eps`` is given."""
    x = input if eps is None else P.clip(input, eps, 1 - eps)
    return P.log(x / (1 - x))


@elementwise(numbers="none", promote="floating", oracle=np.logaddexp)
def logaddexp(input, other):
    """``log(exp(input) + exp(other))`` without overflow."""
    if input.dtype.is_complex:  # the operand of the larger real part stays outside the logarithm
        first = P.real(input) >= P.real(other)
        m, rest = P.where(first, input, other), P.where(first, other, input)
        return P.where(P.isinf(P.real(m)) & P.eq(input, other), input, m + P.log1p(P.exp(rest - m)))
    m = P.maximum(input, other)
    return P.where(P.isinf(m) & P.eq(input, other), input, m + P.log1p(P.exp(-P.abs(input - other))))


@elementwise(real=True, numbers="any", promote="float", inplace=True, oracle=lambda a, b: _scipy("xlogy")(a, b), domain=(0.2, 3.0),
             aliases=("special.xlogy",))
def xlogy(input, other):
    """``input * log(other)``, 0 where ``input`` is 0 (and ``other`` is not NaN)."""
    return P.where(P.eq(input, 0) & ~P.isnan(other), P.where(P.isnan(other), other, 0.0), input * P.log(other))


# ---- rounding


@elementwise(out="exact", bools=False, inplace=True, oracle=np.floor)
def floor(input):
    """Rounded down."""
    return P.floor(input)


@elementwise(out="exact", bools=False, inplace=True, oracle=np.ceil)
def ceil(input):
    """Rounded up."""
    return P.ceil(input)


@elementwise(out="exact", bools=False, inplace=True, aliases=("fix",), oracle=np.trunc)
def trunc(input):
    """Rounded towards zero."""
    return P.trunc(input)


@elementwise(out="exact", inplace=True, oracle=lambda a, decimals=0: np.round(a, decimals), aliases=("special.round",))
def round(input, *, decimals: int = 0):
    """Rounded to the nearest, ties to even, at ``decimals`` digits after the point."""
    if decimals == 0 or not input.dtype.is_floating_point:
        return P.round(input)
    s = 10.0**builtin_abs(decimals)
    return P.round(input * s) / s if decimals > 0 else P.round(input / s) * s


def builtin_abs(n: int) -> int:
    """The absolute value of a Python int (``abs`` is an operation here)."""
    return -n if n < 0 else n


@elementwise(out="exact", promote="floating", inplace=True, oracle=lambda a: a - np.trunc(a))
def frac(input):
    """The part after the point, with the sign of ``input``."""
    return input - P.trunc(input)


# ---- comparisons and logic


def _comparison(name: str, prim: Any, operator: str, oracle: Any, doc: str, aliases: tuple[str, ...] = ()) -> None:
    def f(input, other):  # noqa: ANN001, ANN202
        return prim(input, other)
    f.__doc__ = doc
    elementwise(name=name, inplace=True, differentiable=False, operators=(operator,), oracle=oracle, aliases=aliases)(f)


_comparison("eq", P.eq, "__eq__", np.equal, "Whether the operands are equal.")
_comparison("ne", P.ne, "__ne__", np.not_equal, "Whether the operands differ.", ("not_equal",))
_comparison("lt", P.lt, "__lt__", np.less, "Whether ``input < other``.", ("less",))
_comparison("le", P.le, "__le__", np.less_equal, "Whether ``input <= other``.", ("less_equal",))
_comparison("gt", P.gt, "__gt__", np.greater, "Whether ``input > other``.", ("greater",))
_comparison("ge", P.ge, "__ge__", np.greater_equal, "Whether ``input >= other``.", ("greater_equal",))


@elementwise(inplace=True, differentiable=False, promote="none", oracle=np.logical_not)
def logical_not(input):
    """True where ``input`` is zero."""
    return P.logical_not(input)


@elementwise(numbers="none", inplace=True, differentiable=False, promote="none", oracle=np.logical_and)
def logical_and(input, other):
    """True where both operands are not zero."""
    return P.truth(input) & P.truth(other)


@elementwise(numbers="none", inplace=True, differentiable=False, promote="none", oracle=np.logical_or)
def logical_or(input, other):
    """True where an operand is not zero."""
    return P.truth(input) | P.truth(other)


@elementwise(numbers="none", inplace=True, differentiable=False, promote="none", oracle=np.logical_xor)
def logical_xor(input, other):
    """True where exactly one operand is not zero."""
    return P.truth(input) ^ P.truth(other)


def _no_floats(name: str, *es: Any) -> None:
    for e in es:
        if e.dtype.category >= 2:
            raise NotImplementedError(f"\"{name}\" not implemented for '{e.dtype}': it takes integer or bool tensors")


def _bits(name: str, prim: Any, operator: str, oracle: Any, doc: str) -> None:
    def f(input, other):  # noqa: ANN001, ANN202
        _no_floats(name, input, other)
        return prim(input, other)
    f.__doc__ = doc
    elementwise(name=name, inplace=True, differentiable=False, numbers="any", operators=(operator,), oracle=oracle)(f)


_bits("bitwise_and", P.bitwise_and, "__and__", np.bitwise_and, "Bitwise and (logical on bool).")
_bits("bitwise_or", P.bitwise_or, "__or__", np.bitwise_or, "Bitwise or (logical on bool).")
_bits("bitwise_xor", P.bitwise_xor, "__xor__", np.bitwise_xor, "Bitwise exclusive or (logical on bool).")
_bits("bitwise_left_shift", P.shift_left, "__lshift__", np.left_shift, "``input << other``.")
_bits("bitwise_right_shift", P.shift_right, "__rshift__", np.right_shift, "``input >> other``.")


@elementwise(out="exact", inplace=True, differentiable=False, oracle=np.invert)
def bitwise_not(input):
    """Bitwise not (logical on bool)."""
    _no_floats("bitwise_not", input)
    return ~input


def _false(input: Expr) -> Expr:
    return P.ne(input, input)


@elementwise(differentiable=False, oracle=np.isnan)
def isnan(input):
    """Whether each element is NaN."""
    return P.isnan(input) if input.dtype.category >= 2 else _false(input)


@elementwise(differentiable=False, oracle=np.isinf)
def isinf(input):
    """Whether each element is infinite."""
    return P.isinf(input) if input.dtype.category >= 2 else _false(input)


@elementwise(differentiable=False, oracle=np.isfinite)
def isfinite(input):
    """Whether each element is neither infinite nor NaN."""
    return P.isfinite(input) if input.dtype.category >= 2 else P.eq(input, input)


@elementwise(out="exact", differentiable=False, oracle=np.signbit)
def signbit(input):
    """Whether the sign bit is set."""
    return P.signbit(input) if input.dtype.is_signed else _false(input)


@elementwise(promote="float", inplace=True, oracle=np.copysign)
def copysign(input, other):
    """The magnitude of ``input`` with the sign of ``other``."""
    return P.copysign(input, other)


@elementwise(out="exact", inplace=True, oracle=lambda a, nan=0.0, posinf=None, neginf=None: np.nan_to_num(
    a, nan=nan or 0.0, posinf=posinf, neginf=neginf))
def nan_to_num(input, nan: float = None, posinf: float = None, neginf: float = None):
    """Replaces NaN and infinities by finite numbers (the dtype's limits unless given)."""
    if input.dtype.category < 2:
        return input
    from ..dtypes import finfo
    f = finfo(input.dtype)
    nan, top, bottom = (d if v is None else P.real(v) for v, d in ((nan, 0.0), (posinf, f.max), (neginf, f.min)))

    def finite(x: Expr) -> Expr:
        x = P.where(P.isnan(x), nan, x)
        return P.where(P.eq(x, math.inf), top, P.where(P.eq(x, -math.inf), bottom, x))

    return P.complex(finite(P.real(input)), finite(P.imag(input))) if input.dtype.is_complex else finite(input)


@elementwise(numbers="none", differentiable=False,
             oracle=lambda a, b, rtol=1e-5, atol=1e-8, equal_nan=False: np.isclose(a, b, rtol, atol, equal_nan))
def isclose(input, other, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False):
    """Whether ``|input - other| <= atol + rtol * |other|``, or both are equal."""
    close = P.eq(input, other)
    if equal_nan and input.dtype.category >= 2:
        close = close | (P.isnan(input) & P.isnan(other))
    d = float32 if input.dtype.category < 2 else input.dtype
    a, b = cast(input, d), cast(other, d)
    return close | (P.isfinite(b) & (P.abs(a - b) <= cast(atol, d.to_real()) + cast(rtol, d.to_real()) * P.abs(b)))


@isclose.check
def _(input, other, rtol, atol, equal_nan):
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not _is_tensor(value) and value < 0:
            raise RuntimeError(f"{name} must be greater than or equal to zero, but got {value}")


def _is_tensor(x: Any) -> bool:
    return hasattr(x, "numel")


@elementwise(out="exact", numbers="none", inplace=True, oracle=np.heaviside, differentiable=False)
def heaviside(input, values):
    """0 below zero, ``values`` at zero, 1 above."""
    if input.dtype is not values.dtype:
        raise RuntimeError("heaviside is not yet implemented for tensors with different dtypes.")
    return P.where(P.eq(input, 0), values, P.where(input < 0, const(0, input.dtype), const(1, input.dtype)))


# ---- selection


@elementwise(numbers="any", name="where_elementwise", function=False, method=False, keep=("condition",), oracle=np.where)
def where_elementwise(condition, input, other):
    """``input`` where ``condition``, else ``other``."""
    return P.where(P.truth(condition), input, other)


@elementwise(inplace=True, keep=("mask", "value"), oracle=lambda a, m, v: np.where(m, v, a))
def masked_fill(input, mask, value):
    """``value`` (a number or 0-d tensor) where ``mask``, else ``input`` (whose dtype is kept)."""
    return P.where(P.truth(mask), cast(value, input.dtype), input)


@masked_fill.check
def _(input, mask, value):
    if _is_tensor(value) and value.ndim:
        raise RuntimeError("masked_fill_ only supports a 0-dimensional value tensor, but got tensor with "
                           f"{value.ndim} dimension(s).")
    d = getattr(input, "dtype", None)
    imaginary = value.dtype.is_complex if _is_tensor(value) else isinstance(value, complex)
    if d is not None and imaginary and not d.is_complex:
        raise RuntimeError(f"masked_fill: value cannot be converted to type {d} without overflow")


@elementwise(inplace=True, aliases=("clip",), oracle=lambda a, min=None, max=None: np.clip(a, min, max))
def clamp(input, min=None, max=None):
    """``input`` limited to [min, max]; NaN stays NaN."""
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    x = input
    if min is not None:
        x = P.where(x < min, min, x)
    if max is not None:
        x = P.where(x > max, max, x)
    return x


# ---- conversion


@elementwise(name="convert", function=False, method=False, promote="none", oracle=lambda a, dtype: a.astype(dtype.np))
def convert(input, dtype: dtype):
    """``input`` in another dtype: what ``.to(dtype)`` runs."""
    return As(cast(input, compute_dtype(dtype)), dtype)


@elementwise(oracle=np.copy, promote="none")
def clone(input, *, memory_format: str = None):
    """A copy that gradients flow through; laid out like ``input`` unless ``memory_format`` says otherwise."""
    return input


@clone.instead
def _(input: Any, memory_format: Any) -> Any:
    if memory_format is None:
        return None
    from .memory import in_format
    return in_format(input, memory_format, copy=True)


@elementwise(name="clone_contiguous", function=False, method=False, promote="none", row_major=True, oracle=np.copy)
def clone_contiguous(input):
    """A row-major copy."""
    return input
