"""Exponentials, logarithms, roots, circular and hyperbolic functions, and those made of them."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import primitives as P
from .opdef import OpDef, elementwise, fn
from .oracles import scipy_special


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
_unary("erf", P.erf, scipy_special("erf"), "The error function.", aliases=("special.erf",))
_unary("erfc", P.erfc, scipy_special("erfc"), "``1 - erf(input)``.", aliases=("special.erfc",))
_unary("erfinv", P.erfinv, scipy_special("erfinv"), "The inverse of ``erf``.", (-0.9, 0.9), autocast="float32:cuda",
       aliases=("special.erfinv",))
_unary("lgamma", P.lgamma, scipy_special("gammaln"), "The logarithm of the absolute gamma function.", (0.3, 3.0),
       aliases=("special.gammaln",))
_unary("digamma", P.digamma, scipy_special("digamma"), "The derivative of ``lgamma``.", (0.3, 3.0),
       aliases=("special.digamma", "special.psi"))


_sigmoid = _unary("sigmoid", P.sigmoid, lambda a: 1 / (1 + np.exp(-a)), "``1 / (1 + exp(-input))``.", nn=True, aliases=("special.expit",))


@_sigmoid.vjp("out")
def _(ctx: Any, g: Any) -> Any:
    return fn.sigmoid_grad(g, ctx["out"])


@elementwise(name="sigmoid_grad", function=False, method=False, oracle=lambda g, y: g * (1 - y) * y)
def sigmoid_grad(grad, result):
    """The gradient of ``sigmoid``, from its result."""
    y = P.conj(result)
    return grad * ((1.0 - y) * y)


@elementwise(numbers="none", promote="float", inplace=True, aliases=("arctan2",), oracle=np.arctan2, autocast="promote:cuda")
def atan2(input, other):
    """The angle of the point (other, input)."""
    return P.atan2(input, other)


@elementwise(refuses="complex", promote="float", inplace=True, oracle=lambda a, eps=None: np.log(a / (1 - a)), domain=(0.1, 0.9),
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


@elementwise(promote="floating", numbers="none", oracle=np.logaddexp2)
def logaddexp2(input, other):
    """``log2(2 ** input + 2 ** other)`` without overflow."""
    m = P.maximum(input, other)
    return P.where(P.isinf(m) & P.eq(input, other), input, m + P.log1p(P.exp2(-P.abs(input - other))) * (1 / math.log(2.0)))


@elementwise(refuses="complex", numbers="any", promote="float", inplace=True, oracle=scipy_special("xlogy"), domain=(0.2, 3.0),
             aliases=("special.xlogy",))
def xlogy(input, other):
    """``input * log(other)``, 0 where ``input`` is 0 (and ``other`` is not NaN)."""
    return P.where(P.eq(input, 0) & ~P.isnan(other), P.where(P.isnan(other), other, 0.0), input * P.log(other))


@elementwise(refuses="complex", promote="float", inplace=True, oracle=np.deg2rad)
def deg2rad(input):
    """Degrees as radians."""
    return input * (math.pi / 180.0)


@elementwise(refuses="complex", promote="float", inplace=True, oracle=np.rad2deg)
def rad2deg(input):
    """Radians as degrees."""
    return input * (180.0 / math.pi)


@elementwise(promote="float", inplace=True, oracle=np.sinc, aliases=("special.sinc",))
def sinc(input):
    """``sin(pi x) / (pi x)``, 1 at 0."""
    z = input * math.pi
    zero = P.eq(z, 0)
    return P.where(zero, 1.0, P.sin(z) / P.where(zero, 1.0, z))
