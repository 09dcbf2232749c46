"""Functions of the error function and the normal distribution, and entropy terms."""
from __future__ import annotations

import math
from typing import Any

from ..dtypes import float32
from . import primitives as P
from .expr import Expr
from .opdef import elementwise, fn
from .oracles import scipy_special


def scaled_erfc(x: Expr) -> Expr:
    """``exp(x**2) * erfc(x)``: for large x the asymptotic series (Abramowitz and Stegun 7.1.23)."""
    border = 4.0 if x.dtype is float32 else 8.0
    low, high = P.minimum(x, border), P.maximum(x, border)
    w = 0.5 / (high * high)
    tail: Any = 1.0
    for k in range(16, 0, -1):
        tail = 1.0 - w * (2 * k - 1) * tail
    r = P.where(x < border, P.exp(low * low) * P.erfc(low), tail / (high * math.sqrt(math.pi)))
    return P.where(P.isnan(x), x, r)


@elementwise(refuses="half", name="special_erfcx", promote="float", function=False, method=False, aliases=("special.erfcx",),
             oracle=scipy_special("erfcx"),
             domain=(-2.0, 12.0))
def special_erfcx(input):
    """``exp(input**2) * erfc(input)``, without overflow for large input."""
    return scaled_erfc(input)


@special_erfcx.vjp("input", "out")
def _(ctx: Any, g: Any) -> Any:
    return g * (2.0 * ctx["input"] * ctx["out"] - 2.0 / math.sqrt(math.pi))


@elementwise(name="special_ndtr", promote="float", function=False, method=False, aliases=("special.ndtr",), oracle=scipy_special("ndtr"))
def special_ndtr(input):
    """The area under the standard normal density up to ``input``."""
    return P.erfc(input * -math.sqrt(0.5)) * 0.5


def _log_ndtr(x: Expr) -> Expr:
    z = x * math.sqrt(0.5)
    below = P.minimum(z, -math.sqrt(0.5))
    tail = P.log(scaled_erfc(-below) * 0.5) - below * below
    return P.where(x < -1.0, tail, P.log1p(P.erfc(z) * -0.5))


@elementwise(refuses="half", name="special_log_ndtr", promote="float", function=False, method=False, aliases=("special.log_ndtr",),
             oracle=scipy_special("log_ndtr"), domain=(-12.0, 3.0))
def special_log_ndtr(input):
    """``log(ndtr(input))``, accurate in both tails."""
    return _log_ndtr(input)


@special_log_ndtr.vjp("input")
def _(ctx: Any, g: Any) -> Any:
    # the density over the area below
    return g * (math.sqrt(2.0 / math.pi) / fn.special_erfcx(ctx["input"] * -math.sqrt(0.5)))


@elementwise(refuses="half", name="special_ndtri", promote="float", function=False, method=False, aliases=("special.ndtri",),
             oracle=scipy_special("ndtri"),
             domain=(0.02, 0.98))
def special_ndtri(input):
    """The inverse of ``ndtr``: infinite at 0 and 1, NaN beyond."""
    # the smaller tail's logarithm, solved for by Newton's method from Abramowitz and Stegun 26.2.23
    p = P.minimum(input, 1.0 - input)
    log = P.log(P.where(p > 0, p, 0.5))
    t = P.sqrt(log * -2.0)
    z = (2.515517 + t * (0.802853 + t * 0.010328)) / (1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308))) - t
    for _ in range(1 if input.dtype is float32 else 3):
        ratio = scaled_erfc(z * -math.sqrt(0.5))
        area = P.log(ratio * 0.5) - z * z * 0.5
        z = z - (area - log) * ratio * math.sqrt(math.pi / 2.0)
    centre = P.erfinv(input * 2.0 - 1.0) * math.sqrt(2.0)
    r = P.where(P.abs(input - 0.5) < 0.4, centre, P.where(input < 0.5, z, -z))
    edge = P.where(P.eq(input, 0), -math.inf, P.where(P.eq(input, 1), math.inf, math.nan))
    return P.where(p > 0, r, edge)


@special_ndtri.vjp("out")
def _(ctx: Any, g: Any) -> Any:
    y = ctx["out"]
    return g * (y * y * 0.5).exp() * math.sqrt(2.0 * math.pi)


@elementwise(name="special_entr", promote="float", function=False, method=False, aliases=("special.entr",), oracle=scipy_special("entr"),
             domain=(0.1, 3.0))
def special_entr(input):
    """``-input * log(input)``: 0 at 0, minus infinity below."""
    x = P.where(input > 0, input, 1.0)
    return P.where(P.isnan(input), input, P.where(input > 0, -x * P.log(x), P.where(P.eq(input, 0), 0.0, -math.inf)))


@special_entr.vjp("input")
def _(ctx: Any, g: Any) -> Any:
    return g * (-ctx["input"].log() - 1.0)


@elementwise(refuses="complex", name="special_xlog1py", numbers="any", promote="float", function=False, method=False,
             aliases=("special.xlog1py",),
             oracle=scipy_special("xlog1py"), domain=(0.2, 3.0))
def special_xlog1py(input, other):
    """``input * log1p(other)``, 0 where ``input`` is 0 (and ``other`` is not NaN)."""
    return P.where(P.eq(input, 0) & ~P.isnan(other), P.where(P.isnan(other), other, 0.0), input * P.log1p(other))
