"""Arithmetic: sums, products, quotients, powers, signs, the larger and the smaller of two.

Each operation is one body over primitives. See ``docs/adding-an-op.md``.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..dtypes import bool_, complex128, float64, int64
from ..tensor import Tensor
from . import primitives as P
from .expr import cast
from .opdef import REGISTRY, composite, elementwise, fn

# ---- sums, products, quotients


def _scaled(other: Any, alpha: Any) -> Any:
    return other if alpha is None else other * cast(alpha, other.dtype)


@elementwise(inplace=True, numbers="any", operators=("__add__",), oracle=np.add)
def add(input, other, *, alpha: float = None):
    """``input + alpha * other``."""
    return input + _scaled(other, alpha)


@elementwise(inplace=True, numbers="any", operators=("__sub__",), aliases=("subtract",), oracle=np.subtract)
def sub(input, other, *, alpha: float = None):
    """``input - alpha * other``; no operand may be bool."""
    return input - _scaled(other, alpha)


@sub.check_kinds
def _(kinds: list) -> None:
    bools = [k is bool_ or k is bool for k in kinds]
    if all(bools):
        raise RuntimeError("Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or `logical_xor()` operator "
                           "instead.")
    if any(bools):
        raise RuntimeError("Subtraction, the `-` operator, with a bool tensor is not supported. If you are trying to invert a mask, use "
                           "the `~` or `logical_not()` operator instead.")


@elementwise(inplace=True, numbers="any", operators=("__mul__",), aliases=("multiply",), oracle=np.multiply)
def mul(input, other):
    """``input * other``."""
    return input * other


@elementwise(inplace=True, method=True, function=True, name="true_divide", promote="float", numbers="any", operators=("__truediv__",),
             oracle=np.true_divide)
def true_divide(input, other):
    """``input / other``; integers divide to the default floating dtype."""
    return input / other


@elementwise(refuses="bool", inplace=True, numbers="any", operators=("__floordiv__",), oracle=np.floor_divide)
def floor_divide(input, other):
    """``input / other`` rounded down."""
    return P.floor_divide(input, other)


@elementwise(refuses="bool", inplace=True, name="trunc_divide", numbers="any", function=False, method=False,
             oracle=lambda a, b: np.trunc(np.true_divide(a, b)).astype(np.result_type(a, b)))
def trunc_divide(input, other):
    """``input / other`` rounded towards zero."""
    if input.dtype.is_floating_point:
        return P.trunc(input / other)
    q = P.floor_divide(input, other)
    inexact = P.ne(q * other, input)
    return P.where(inexact & (q < 0), q + 1, q)


def _quotient(rounding_mode: str | None) -> str:
    """The name of the operation that divides and rounds so."""
    names = {None: "true_divide", "floor": "floor_divide", "trunc": "trunc_divide"}
    if rounding_mode not in names:
        raise RuntimeError(f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'")
    return names[rounding_mode]


@composite(out=True, aliases=("divide",), operators=())
def div(input, other, *, rounding_mode=None):
    """``input / other``, then rounded as ``rounding_mode`` says: ``None``, ``"floor"`` or ``"trunc"``."""
    return getattr(fn, _quotient(rounding_mode))(input, other)


@composite(function=False, aliases=("divide_",))
def div_(input, other, *, rounding_mode=None):
    """``div`` in place."""
    from .. import writing
    return writing.elementwise_(REGISTRY[_quotient(rounding_mode)], (input, other))


@composite()
def rsub(input, other, *, alpha=1):
    """``other - alpha * input``."""
    if not isinstance(input, Tensor):
        raise TypeError(f"rsub(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    return fn.sub(other, input, alpha=alpha) if isinstance(other, Tensor) else other - (input if alpha == 1 else input * alpha)


@elementwise(refuses="bool", inplace=True, numbers="any", operators=("__mod__",), oracle=np.remainder)
def remainder(input, other):
    """The remainder with the divisor's sign, as Python's ``%``."""
    return P.remainder(input, other)


@elementwise(refuses="bool", inplace=True, oracle=np.fmod)
def fmod(input, other):
    """The remainder with the dividend's sign, as C's ``fmod``."""
    return P.fmod(input, other)


@elementwise(promote="floating", keep=("weight",), inplace=True, oracle=lambda a, b, c: a + (b - a) * c)
def lerp(input, end, weight):
    """``input + weight * (end - input)``, exact at both ends."""
    weight = cast(weight, input.dtype)
    return P.where(P.abs(weight) < 0.5, input + weight * (end - input), end - (end - input) * (1 - weight))


@elementwise(refuses="bool", inplace=True, oracle=lambda a, b, c, value=1: a + value * b * c, autocast="promote:cuda")
def addcmul(input, tensor1, tensor2, *, value: float = None):
    """``input + value * tensor1 * tensor2``."""
    product = tensor1 * tensor2
    return input + (product if value is None else cast(value, product.dtype) * product)


@elementwise(inplace=True, promote="floating", oracle=lambda a, b, c, value=1: a + value * b / c, domain=(0.3, 3.0),
           autocast="promote:cuda")
def addcdiv(input, tensor1, tensor2, *, value: float = None):
    """``input + value * tensor1 / tensor2``."""
    return input + (tensor1 / tensor2 if value is None else cast(value, tensor1.dtype) * (tensor1 / tensor2))


# ---- powers


@elementwise(refuses="bool", inplace=True, numbers="any", operators=("__pow__",), oracle=np.power, domain=(0.2, 3.0),
           autocast="float32:cuda")
def pow(input, exponent):
    """``input ** exponent``."""
    return P.pow(input, exponent)


@pow.check
def _(input: Any, exponent: Any) -> None:
    if type(exponent) is int and exponent < 0 and isinstance(input, Tensor) and input.dtype.category == 1:
        raise RuntimeError("Integers to negative integer powers are not allowed.")


@pow.instead
def _(input: Any, exponent: Any) -> Any:
    """Exponents that need no logarithm."""
    if type(exponent) in (int, float) and isinstance(input, Tensor) and input.dtype.category >= 2:
        cheaper = {2: fn.square, 3: fn.cube, -1: fn.reciprocal}.get(exponent)
        return cheaper and cheaper(input)
    return None


@elementwise(function=False, method=False, oracle=lambda a: a**3)
def cube(input):
    """``input ** 3``."""
    return input * input * input


@elementwise(inplace=True, oracle=np.square)
def square(input):
    """``input * input``."""
    return cast(input, int64) * cast(input, int64) if input.dtype is bool_ else input * input


@elementwise(inplace=True, promote="float", oracle=lambda a: 1 / a, domain=(0.3, 3.0), autocast="float32:cuda")
def reciprocal(input):
    """``1 / input``."""
    return 1.0 / input


@elementwise(promote="float", inplace=True, numbers="none", oracle=lambda a, b: a * 2.0**b)
def ldexp(input, other):
    """``input * 2 ** other``."""
    return input * P.exp2(other)


@composite(out=True)
def float_power(input, exponent):
    """``input ** exponent`` in float64, or complex128 where an operand is complex."""
    def is_complex(x: Any) -> bool:
        return x.dtype.is_complex if isinstance(x, Tensor) else isinstance(x, complex)
    d, number = (complex128, complex) if is_complex(input) or is_complex(exponent) else (float64, float)
    a, b = (x.to(d) if isinstance(x, Tensor) else number(x) for x in (input, exponent))
    return fn.pow(a, b)


@composite(function=False)
def float_power_(input, exponent):
    """``float_power`` in place, of a tensor that has the result's dtype."""
    either = exponent.dtype.is_complex if isinstance(exponent, Tensor) else isinstance(exponent, complex)
    wide = complex128 if input.dtype.is_complex or either else float64
    if input.dtype is not wide:
        raise RuntimeError(f"the base given to float_power_ has dtype {input.dtype} but the operation's result requires dtype "
                           f"{wide}")
    return input.pow_(exponent.to(wide) if isinstance(exponent, Tensor) else exponent)


@elementwise(refuses="complex", numbers="none", promote="floating", inplace=True, oracle=np.hypot, domain=(0.3, 3.0))
def hypot(input, other):
    """``sqrt(input**2 + other**2)`` without overflow on the way."""
    a, b = P.abs(input), P.abs(other)
    hi, lo = P.maximum(a, b), P.minimum(a, b)
    r = lo / P.where(P.eq(hi, 0), 1.0, hi)
    return P.where(P.eq(hi, math.inf), hi, hi * P.sqrt(r * r + 1.0))


# ---- signs


@elementwise(out="exact", inplace=True, aliases=("negative",), oracle=np.negative)
def neg(input):
    """``-input``."""
    if input.dtype is bool_:
        raise RuntimeError("Negation, the `-` operator, on a bool tensor is not supported. Use the `~` or `logical_not()` "
                           "operator instead.")
    return -input


@elementwise(oracle=np.positive)
def positive(input):
    """``+input``."""
    if input.dtype is bool_:
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input * 1


@elementwise(out="exact", refuses="bool", inplace=True, aliases=("absolute",), oracle=np.abs)
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


@elementwise(promote="float", inplace=True, oracle=np.copysign)
def copysign(input, other):
    """The magnitude of ``input`` with the sign of ``other``."""
    return P.copysign(input, other)


# ---- the larger and the smaller


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
