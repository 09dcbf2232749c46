"""Activation functions (``nn.functional``), each one body over primitives.

Sources: GELU, Hendrycks and Gimpel 2016; SiLU/Swish, Elfwing et al. 2017; ELU, Clevert et al. 2015; SELU, Klambauer et al. 2017; CELU,
Barron 2017; Mish, Misra 2019; hard-swish, Howard et al. 2019; softplus, Dugas et al. 2000.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..dtypes import float64, uint8
from ..shapes import wrap_dim
from . import primitives as P
from .expr import cast
from .opdef import composite, elementwise, fn
from .oracles import scipy_special


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@elementwise(refuses="bool", inplace=True, nn=True, oracle=lambda a: np.maximum(a, 0))
def relu(input):
    """``max(input, 0)``; its gradient at 0 is 0."""
    return P.where(input <= 0, 0, input)


@elementwise(promote="float", function=False, method=False, oracle=lambda g, y: np.where(y <= 0, 0, g))
def relu_grad(grad, result):
    """The gradient of relu from its result, so that its operand need not be kept."""
    return P.where(result <= 0, 0, grad)


@relu.vjp("out")
def _(ctx: Any, g: Any) -> Any:
    return fn.relu_grad(g, ctx["out"])


@elementwise(refuses="bool", inplace=True, nn=True, function=False, method=False, oracle=lambda a: np.clip(a, 0, 6))
def relu6(input):
    """``min(max(input, 0), 6)``."""
    return P.where(input <= 0, 0, P.where(input >= 6, 6, input))


def _gelu(a: np.ndarray, approximate: str = "none") -> np.ndarray:
    if approximate == "tanh":
        return 0.5 * a * (1 + np.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3)))
    return 0.5 * a * (1 + scipy_special("erf")(a / math.sqrt(2)))


@elementwise(refuses="complex", out="exact", promote="floating", nn=True, function=False, method=False, oracle=_gelu)
def gelu(input, approximate: str = "none"):
    """``x * Phi(x)``, exactly (``"none"``) or by the tanh formula (``"tanh"``)."""
    if approximate == "none":
        return input * 0.5 * (P.erf(input * math.sqrt(0.5)) + 1.0)
    if approximate == "tanh":
        inner = (input + input * input * input * 0.044715) * math.sqrt(2 / math.pi)
        return input * 0.5 * (P.tanh(inner) + 1.0)
    raise RuntimeError(f"approximate argument must be either none or tanh, got {approximate!r}")


@elementwise(promote="floating", nn=True, inplace=True, function=False, method=False, oracle=lambda a: a * _sigmoid(a))
def silu(input):
    """``x * sigmoid(x)``."""
    return input / (P.exp(-input) + 1.0)


@silu.vjp("input")
def _(ctx: Any, g: Any) -> Any:
    x = ctx["input"]
    if x.dtype.is_complex:
        s = fn.sigmoid(x)
        return g * (s * (x * (1 - s) + 1)).conj()
    return fn.silu_grad(g, x)


@elementwise(name="silu_grad", function=False, method=False,
             oracle=lambda g, a: g * _sigmoid(a) * (1 + a * (1 - _sigmoid(a))))
def silu_grad(grad, input):
    """The gradient of ``silu``."""
    far = 709.0 if input.dtype is float64 else 88.0  # beyond it the exponential overflows, and 0 * inf is no second derivative
    s = P.where(input < -far, 0.0, P.sigmoid(P.maximum(input, -far)))
    return grad * (s * (input * (1.0 - s) + 1.0))


@elementwise(promote="floating", nn=True, inplace=True, function=False, method=False,
             oracle=lambda a: a * np.tanh(np.log1p(np.exp(a))))
def mish(input):
    """``x * tanh(softplus(x))``."""
    return input * P.tanh(P.where(input > 20, input, P.log1p(P.exp(P.minimum(input, 20.0)))))


@elementwise(promote="floating", nn=True, inplace=True, function=False, method=False,
             oracle=lambda a, negative_slope=0.01: np.where(a > 0, a, a * negative_slope))
def leaky_relu(input, negative_slope: float = 0.01):
    """``x`` if positive, else ``negative_slope * x``."""
    return P.where(input > 0, input, input * negative_slope)


@elementwise(promote="floating", nn=True, inplace=True, function=False, method=False,
             oracle=lambda a, alpha=1.0: np.where(a > 0, a, alpha * np.expm1(a)))
def elu(input, alpha: float = 1.0):
    """``x`` if positive, else ``alpha * (exp(x) - 1)``."""
    return P.where(input > 0, input, alpha * P.expm1(P.where(input > 0, 0.0, input)))


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


@elementwise(promote="floating", nn=True, inplace=True, oracle=lambda a: _SELU_SCALE * np.where(a > 0, a, _SELU_ALPHA * np.expm1(a)))
def selu(input):
    """Scaled ELU with the self-normalising constants."""
    return P.where(input > 0, input, P.expm1(P.where(input > 0, 0.0, input)) * _SELU_ALPHA) * _SELU_SCALE


@elementwise(promote="floating", nn=True, inplace=True,
             oracle=lambda a, alpha=1.0: np.maximum(a, 0) + np.minimum(0, alpha * np.expm1(a / alpha)))
def celu(input, alpha: float = 1.0):
    """``max(0, x) + min(0, alpha * (exp(x / alpha) - 1))``."""
    return P.where(input > 0, input, alpha * P.expm1(P.where(input > 0, 0.0, input) / alpha))


def _softplus(a: np.ndarray, beta: float = 1.0, threshold: float = 20.0) -> np.ndarray:
    return np.where(a * beta > threshold, a, np.log1p(np.exp(np.minimum(a * beta, threshold))) / beta)


@elementwise(out="exact", promote="floating", nn=True, function=False, method=False, oracle=_softplus, autocast="float32:cuda")
def softplus(input, beta: float = 1.0, threshold: float = 20.0):
    """``log(1 + exp(beta x)) / beta``, linear where ``beta x > threshold``."""
    z = input * beta
    return P.where(z > threshold, input, P.log1p(P.exp(P.minimum(z, threshold))) / beta)


@elementwise(refuses="bool", promote="float", nn=True, function=False, method=False, oracle=lambda a: a / (1 + np.abs(a)))
def softsign(input):
    """``x / (1 + |x|)``."""
    return input / (P.abs(input) + 1.0)


@elementwise(out="exact", promote="floating", nn=True, function=False, method=False, oracle=lambda a: -np.log1p(np.exp(-a)))
def logsigmoid(input):
    """``log(sigmoid(x))`` without overflow."""
    return P.minimum(input, 0.0) - P.log1p(P.exp(-P.abs(input)))


@elementwise(refuses="bool", promote="float", nn=True, function=False, method=False, oracle=lambda a: a - np.tanh(a))
def tanhshrink(input):
    """``x - tanh(x)``."""
    return input - P.tanh(input)


@elementwise(refuses="bool", nn=True, inplace=True, function=False, method=False,
             oracle=lambda a, min_val=-1.0, max_val=1.0: np.clip(a, min_val, max_val))
def hardtanh(input, min_val: float = -1.0, max_val: float = 1.0):
    """``x`` limited to [min_val, max_val]."""
    lo, hi = cast(min_val, input.dtype), cast(max_val, input.dtype)
    return P.where(input <= lo, lo, P.where(input >= hi, hi, input))


@hardtanh.check
def _(input, min_val, max_val):
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    if min_val < 0 and input.dtype is uint8:
        raise RuntimeError("cannot do hardtanh on an unsigned type with negative limits")


@elementwise(promote="floating", nn=True, inplace=True, function=False, method=False, oracle=lambda a: np.clip(a + 3, 0, 6) / 6)
def hardsigmoid(input):
    """``min(max(x + 3, 0), 6) / 6``."""
    return P.where(input <= -3.0, 0.0, P.where(input >= 3.0, 1.0, input / 6.0 + 0.5))


@elementwise(promote="floating", nn=True, inplace=True, function=False, method=False, oracle=lambda a: a * np.clip(a + 3, 0, 6) / 6)
def hardswish(input):
    """``x * min(max(x + 3, 0), 6) / 6``."""
    return P.where(input <= -3.0, 0.0, P.where(input >= 3.0, input, input * (input + 3.0) / 6.0))


@elementwise(out="exact", promote="floating", nn=True, oracle=lambda a, lambd=0.5: np.where(np.abs(a) > lambd, a, 0))
def hardshrink(input, lambd: float = 0.5):
    """``x`` where ``|x| > lambd``, else 0."""
    return P.where(P.abs(input) <= lambd, 0.0, input)


@elementwise(out="exact", promote="floating", nn=True, function=False, method=False,
             oracle=lambda a, lambd=0.5: np.sign(a) * np.maximum(np.abs(a) - lambd, 0))
def softshrink(input, lambd: float = 0.5):
    """``x`` moved towards 0 by ``lambd``."""
    return P.where(input > lambd, input - lambd, P.where(input < -lambd, input + lambd, input * 0.0))


@softshrink.check
def _(input, lambd):
    if lambd < 0:
        raise RuntimeError(f"lambda must be in range [0, inf) for input dtype {input.dtype}, but found {lambd}")


@elementwise(refuses="bool", nn=True, inplace=True, oracle=lambda a, threshold, value: np.where(a > threshold, a, value))
def threshold(input, threshold: float, value: float):
    """``x`` where it is above ``threshold``, else ``value``."""
    return P.where(input <= cast(threshold, input.dtype), cast(value, input.dtype), input)


@elementwise(promote="floating", nn=True, name="prelu_elementwise", function=False, method=False,
             oracle=lambda a, w: np.where(a > 0, a, a * w))
def prelu_elementwise(input, weight):
    """``x`` if positive, else ``weight * x``, with ``weight`` already broadcastable to ``x``."""
    return P.where(input > 0, input, input * weight)


# ---- activations with a parameter or two halves


@composite(nn=True, autocast="lower")
def prelu(input, weight):
    """``x`` if positive, else ``weight * x``; ``weight`` has one element, or one for each channel (dimension 1)."""
    n = weight.numel()
    if weight.ndim > 1:
        raise RuntimeError(f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {weight.ndim}")
    if n != 1:
        if input.ndim == 0:
            raise RuntimeError("Not allow zero-dim input tensor.")
        channels = input._a.shape[1] if input.ndim >= 2 else 1
        if channels != n:
            raise RuntimeError(f"Mismatch of parameter numbers and input channel size. Found parameter numbers = {n} and channel size = "
                               f"{channels}.")
        weight = weight.reshape([-1 if d == 1 else 1 for d in range(input.ndim)])
    else:
        weight = weight.reshape((1,) * input.ndim)
    return fn.prelu_elementwise(input, weight)


@composite(refuses="bool integer complex", nn=True, function=False, method=False)
def glu(input, dim=-1):
    """The first half of ``dim`` times the sigmoid of the second half."""
    if not input.ndim:
        raise RuntimeError("glu does not support 0-dimensional tensors")
    d = wrap_dim(dim, input.ndim)
    n = input._a.shape[d]
    if n % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {d} is size {n}")
    a, b = fn.split(input, n // 2, d) if n else (input, input)
    return a * b.sigmoid()


@composite(nn=True, method=False)
def rrelu(input, lower=1.0 / 8, upper=1.0 / 3, training=False, inplace=False):
    """``x`` if positive, else ``x`` times a slope: uniform in [lower, upper] while ``training``, else their middle.

    Source: Xu et al. 2015.
    """
    if not lower <= upper:
        raise RuntimeError(f"Lower bound should be less than or equal to the upper bound, got {lower} and {upper}")
    if training:
        drawn = fn.empty_like(input).uniform_(lower, upper)
        slope = fn.where(input <= 0, drawn, fn.ones_like(drawn))
        r = input * slope
    else:
        r = fn.leaky_relu(input, (lower + upper) / 2)
    if not inplace:
        return r
    from ..writing import inplace as write_inplace
    return write_inplace("rrelu_", input, lambda before: r)


@composite(nn=True, method=False)
def rrelu_(input, lower=1.0 / 8, upper=1.0 / 3, training=False):
    """``rrelu`` in place."""
    return fn.rrelu(input, lower, upper, training, True)
