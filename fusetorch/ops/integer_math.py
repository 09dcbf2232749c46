"""Divisors of integers, and the parts of floating numbers."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..dtypes import HALVES, int32
from . import primitives as P
from .expr import Expr, cast
from .opdef import As, elementwise

#: Euclid's algorithm ends after this many steps for integers of so many bytes: consecutive Fibonacci numbers need the most (G. Lame, 1844).
STEPS = {1: 13, 2: 24, 4: 46, 8: 92}


def _gcd(name: str, a: Expr, b: Expr) -> Expr:
    if a.dtype.category != 1:
        raise NotImplementedError(f"\"{name}\" not implemented for {a.dtype}; it is for integers")
    a, b = P.abs(a), P.abs(b)
    for _ in range(STEPS[a.dtype.itemsize]):
        done = P.eq(b, 0)
        a, b = P.where(done, a, b), P.where(done, b, P.remainder(a, P.where(done, 1, b)))
    return a


@elementwise(inplace=True, numbers="none", differentiable=False, oracle=np.gcd)
def gcd(input, other):
    """The greatest common divisor of integers; 0 for two zeros."""
    return _gcd("gcd", input, other)


@elementwise(inplace=True, numbers="none", differentiable=False, oracle=np.lcm)
def lcm(input, other):
    """The least common multiple of integers; 0 where one is 0."""
    g = _gcd("lcm", input, other)
    return P.abs(P.floor_divide(input, P.where(P.eq(g, 0), 1, g)) * other)


@elementwise(inplace=True, numbers="none", promote="floating", oracle=np.nextafter)
def nextafter(input, other):
    """The next floating number after ``input`` towards ``other``."""
    return P.nextafter(input, other)


@nextafter.vjp("input", "other")
def _(ctx: Any, g: Any) -> Any:
    # as in PyTorch: a step of one unit moves with its start, unless it is there already
    return g.masked_fill(ctx["input"] == ctx["other"], 0.0).sum_to_size(ctx.shape(0)), (g * 0.0).sum_to_size(ctx.shape(1))


@nextafter.check
def _(input: Any, other: Any, *_: Any) -> None:
    if any(getattr(t, "dtype", None) in HALVES for t in (input, other)):
        raise NotImplementedError("\"nextafter\" not implemented for half types; convert the tensor with .float() first")


@elementwise(name="frexp_parts", function=False, method=False, n_outputs=2, promote="floating",
             oracle=lambda a: [*np.frexp(np.asarray(a))])
def frexp_parts(input):
    """``input = mantissa * 2 ** exponent`` with a mantissa in [0.5, 1)."""
    a = P.abs(input)
    plain = (a > 0) & (a < math.inf)
    x = P.where(plain, input, 1.0)
    e = P.floor(P.log2(P.abs(x))) + 1.0
    half = P.floor(e * 0.5)
    m = x * P.exp2(-half) * P.exp2(half - e)
    # the logarithm may be off by one next to a power of two
    high, low = P.abs(m) >= 1.0, P.abs(m) < 0.5
    m = P.where(high, m * 0.5, P.where(low, m * 2.0, m))
    e = P.where(high, e + 1.0, P.where(low, e - 1.0, e))
    return P.where(plain, m, input), As(cast(P.where(plain, e, 0.0), int32), int32)


@frexp_parts.vjp("out1")
def _(ctx: Any, g: Any, _: Any) -> Any:
    return g / ctx["out1"].exp2().to(g.dtype)
