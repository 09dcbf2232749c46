"""Functions of the gamma function: polygamma, the zeta function, incomplete gamma functions.

Sources: Abramowitz and Stegun, chapters 6 and 23; NIST Digital Library of Mathematical Functions, chapters 8 and 25.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..dtypes import get_default_dtype
from ..tensor import Tensor
from . import primitives as P
from .expr import Expr
from .opdef import composite, elementwise, fn
from .oracles import scipy_special

#: Bernoulli numbers B(2k) over (2k)!
BERNOULLI = (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600, -3617 / 10670622842880000)


def _zeta(x: Expr, q: Expr) -> Expr:
    """The sum of ``(q + k) ** -x`` for ``q > 0``: ten terms, the rest by Euler and Maclaurin's formula (DLMF 25.11.5)."""
    total: Any = None
    for k in range(10):
        term = P.pow(q + k, -x)
        total = term if total is None else total + term
    a = q + 10.0
    power = P.pow(a, -x)
    total = total + power * a / (x - 1.0) + power * 0.5
    # x (x + 1) ... over powers of a, each step from the one before
    factor = x * power / a
    for k, b in enumerate(BERNOULLI):
        total = total + factor * b
        factor = factor * ((x + (2 * k + 1)) / a) * ((x + (2 * k + 2)) / a)
    return total


def _whole(x: Expr) -> Expr:
    return P.eq(x, P.floor(x))


@elementwise(refuses="half", name="special_zeta", numbers="any", promote="float", function=False, method=False, aliases=("special.zeta",),
             oracle=scipy_special("zeta"), domain=(1.5, 6.0))
def special_zeta(input, other):
    """The Hurwitz zeta function: the sum of ``(other + k) ** -input`` over k = 0, 1, ...

    Infinite at ``input = 1`` and for whole ``other <= 0``; NaN for ``input < 1``, and for other negative ``other`` unless ``input`` is
    whole. As in PyTorch there is a gradient for ``other`` alone.
    """
    x, q = P.where(input > 1, input, 2.0), other
    positive = q > 0
    part = q - P.floor(q)
    first = P.where(positive, q, P.where(P.eq(part, 0), 1.0, part))
    # below zero: what is left of part, term by term, is a difference of two sums above zero, with the sign of (-1) ** x
    other_side = 1.0 - P.where(positive, 0.5, part)
    left = _zeta(x, other_side) - _zeta(x, P.where(positive, 0.5, 1.0 - q))
    even = P.eq(P.remainder(input, 2.0), 0)
    r = _zeta(x, first) + P.where(positive, 0.0, P.where(even, left, -left))
    r = P.where((q <= 0) & P.eq(part, 0), math.inf, P.where((q <= 0) & ~_whole(input), math.nan, r))
    r = P.where(P.eq(input, 1), math.inf, P.where(input < 1, math.nan, r))
    return P.where(P.isnan(input) | P.isnan(other), math.nan, r)


@special_zeta.vjp("input", "other")
def _(ctx: Any, g: Any) -> Any:
    x, q = ctx["input"], ctx["other"]
    if x is None or q is None:  # a number among the operands
        raise NotImplementedError("the derivative of special.zeta is implemented for two tensors; pass the number as a tensor")
    if ctx.needed[0]:
        raise NotImplementedError("the derivative for 'self' is not implemented: special.zeta has a gradient for its second argument alone")
    return None, (g * -x * fn.special_zeta(x + 1, q)).sum_to_size(ctx.shape(1))


@elementwise(name="polygamma_order", promote="float", function=False, method=False, domain=(0.5, 6.0),
             oracle=lambda a, order: scipy_special("polygamma")(order, a))
def polygamma_order(input, order: int):
    """Derivative number ``order`` (1 or more) of digamma."""
    sign = 1.0 if order % 2 else -1.0
    return special_zeta.body(input * 0.0 + (order + 1.0), input) * (sign * math.gamma(order + 1))


@polygamma_order.vjp("input")
def _(ctx: Any, g: Any) -> Any:
    return g * fn.polygamma_order(ctx["input"], ctx.attrs["order"] + 1)


@composite(inplace=True, out=True, aliases=("special.polygamma",))
def polygamma(n, input):
    """Derivative number ``n`` of digamma; ``input.polygamma(n)`` as a method."""
    if isinstance(n, Tensor):
        n, input = input, n
    if n < 0:
        raise RuntimeError("polygamma(n, x) does not support negative n.")
    return fn.digamma(input) if n == 0 else fn.polygamma_order(input, int(n))


@composite(refuses="bool", inplace=True, out=True, aliases=("special.multigammaln",))
def mvlgamma(input, p):
    """The logarithm of the multivariate gamma function of dimension ``p``."""
    if p < 1:
        raise RuntimeError("p has to be greater than or equal to 1")
    x = input if input.dtype.category >= 2 else input.to(get_default_dtype())
    shifts = fn.arange(p, dtype=x.dtype, device=x.device) * -0.5
    return fn.lgamma(x.unsqueeze(-1) + shifts).sum(-1) + p * (p - 1) / 4.0 * math.log(math.pi)


# ---------------------------------------------------------------------------------------------------- incomplete gamma functions

#: Steps of the series and of the continued fraction: enough for a <= LARGE in float64.
STEPS = 64
LARGE = 20.0
NODES = 32


def _large(a: Expr, x: Expr) -> tuple[Expr, Expr]:
    """``(lower, upper)`` for ``a > LARGE``: the integral from x to where the integrand vanishes (W. Press et al., "Numerical Recipes",
    3rd edition, 6.2), by Gauss and Legendre's rule, with Stirling's series for the factor in front."""
    b = P.maximum(a, LARGE) - 1.0
    root = P.sqrt(b)
    above = x > b
    end = P.where(above, P.maximum(b + root * 11.5, x + root * 6.0), P.maximum(0.0, P.minimum(b - root * 7.5, x - root * 5.0)))
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    total: Any = 0.0
    for n, w in zip(nodes.tolist(), weights.tolist()):
        v = (x - b + (end - x) * ((n + 1.0) * 0.5)) / b
        total = P.exp(b * (P.log1p(v) - v)) * (w * 0.5) + total
    r = 1.0 / b
    stirling = r * (1 / 12 - r * r * (1 / 360 - r * r * (1 / 1260 - r * r * (1 / 1680))))
    area = total * (end - x) * P.exp(-stirling) / P.sqrt(b * (2.0 * math.pi))
    return P.where(above, 1.0 - area, -area), P.where(above, area, 1.0 + area)


def _incomplete(a: Expr, x: Expr) -> tuple[Expr, Expr]:
    """``(lower, upper)``: below ``x = a + 1`` the power series (DLMF 8.7.1), above it the continued fraction (8.9.2), from its end."""
    large = a > LARGE
    small = P.where(large | ~(a > 0), 1.0, a)
    inside = P.where((x > 0) & P.isfinite(x), x, 1.0)
    y = P.minimum(inside, small + 1.0)
    total: Any = 1.0
    for k in range(STEPS, 0, -1):
        total = y / (small + float(k)) * total + 1.0
    series = P.exp(small * P.log(y) - y - P.lgamma(small + 1.0)) * total
    z = P.maximum(inside, small + 1.0)
    tail = z - small + (2 * STEPS + 1.0)
    for k in range(STEPS, 0, -1):
        tail = z - small + (2 * k - 1.0) + (small - float(k)) * float(k) / tail
    fraction = P.exp(small * P.log(z) - z - P.lgamma(small)) / tail
    near = inside < small + 1.0
    big = _large(a, inside)
    return (P.where(large, big[0], P.where(near, series, 1.0 - fraction)), P.where(large, big[1], P.where(near, 1.0 - series, fraction)))


def _edges(r: Expr, a: Expr, x: Expr, none: float) -> Expr:
    """``none``: the value at ``x = 0``; the other end of [0, 1] at infinity and at ``a = 0``."""
    r = P.where(P.eq(x, 0), none, P.where(P.eq(x, math.inf) | P.eq(a, 0), 1.0 - none, r))
    r = P.where(P.eq(a, math.inf), P.where(P.eq(x, math.inf), math.nan, none), r)
    bad = (x < 0) | (a < 0) | (P.eq(a, 0) & P.eq(x, 0)) | P.isnan(a) | P.isnan(x)
    return P.where(bad, math.nan, r)


@elementwise(promote="floating", inplace=True, numbers="none", aliases=("special.gammainc",), oracle=scipy_special("gammainc"),
             domain=(0.3, 9.0))
def igamma(input, other):
    """The regularised lower incomplete gamma function of order ``input`` at ``other``. As in PyTorch there is a gradient for ``other``
    alone."""
    return _edges(_incomplete(input, other)[0], input, other, 0.0)


@elementwise(promote="floating", inplace=True, numbers="none", aliases=("special.gammaincc",), oracle=scipy_special("gammaincc"),
             domain=(0.3, 9.0))
def igammac(input, other):
    """The regularised upper incomplete gamma function: ``1 - igamma(input, other)``. As in PyTorch there is a gradient for ``other``
    alone."""
    return _edges(_incomplete(input, other)[1], input, other, 1.0)


def _density(ctx: Any, g: Any, name: str) -> Any:
    if ctx.needed[0]:
        raise NotImplementedError(f"the derivative for 'self' is not implemented: {name} has a gradient for its second argument alone")
    a, x = ctx["input"], ctx["other"]
    return (g * ((a - 1.0) * x.log() - x - a.lgamma()).exp()).sum_to_size(ctx.shape(1))


@igamma.vjp("input", "other")
def _(ctx: Any, g: Any) -> Any:
    return None, _density(ctx, g, "igamma")


@igammac.vjp("input", "other")
def _(ctx: Any, g: Any) -> Any:
    return None, -_density(ctx, g, "igammac")
