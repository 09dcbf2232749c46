"""Comparisons, logic and bits, and what kind of number an element is."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..dtypes import float32
from . import primitives as P
from .expr import Expr, cast, const
from .opdef import elementwise


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


# ---- logic and bits


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
    elementwise(name=name, refuses="bool" if "shift" in name else "", inplace=True, differentiable=False, numbers="any",
                operators=(operator,), oracle=oracle)(f)


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


# ---- kinds of numbers


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


@elementwise(out="exact", refuses="complex", differentiable=False, oracle=np.isposinf)
def isposinf(input):
    """Whether each element is plus infinity."""
    return P.eq(input, math.inf) if input.dtype.is_floating_point else P.ne(input, input)


@elementwise(out="exact", refuses="complex", differentiable=False, oracle=np.isneginf)
def isneginf(input):
    """Whether each element is minus infinity."""
    return P.eq(input, -math.inf) if input.dtype.is_floating_point else P.ne(input, input)
