"""Random numbers of other families: gamma, Poisson, binomial, Dirichlet, and the in-place Cauchy, log-normal and geometric.

All are expressions over the position like the draws in ``random.py``, so they run, fuse and repeat on every device. Rejection methods try a
fixed number of times; that all tries fail has a probability below 1e-8, and then a value near the mode is taken.

Sources: Marsaglia and Tsang, "A simple method for generating gamma variables", 2000; Hoermann, "The transformed rejection method for
generating Poisson random variables" and "The generation of binomial random variates", 1993; Jankowiak and Obermeyer, "Pathwise
derivatives beyond the reparameterization trick", 2018, for the gradient of large gamma variables.
"""
from __future__ import annotations

from typing import Any

from .. import dtypes
from ..dtypes import float64
from ..tensor import Tensor
from . import primitives as P
from .expr import Expr, cast, const
from .opdef import composite, elementwise, fn
from .random import _fill, _floating, _unit, draw, draw_on

_TRIES = 8
#: Values below which a distribution's probabilities are summed up one after the other, and how many have any weight.
_SMALL, _TERMS = 10.0, 46


def _uniform(seed: Expr, offset: Expr, stream: int) -> Expr:
    """Uniform in (0, 1], float64."""
    return 1.0 - _unit(seed, offset, float64, stream)


@elementwise(name="draw_gamma", function=False, method=False, random=True, keep=("seed", "offset"))
def draw_gamma(alpha, seed, offset):
    """Gamma numbers of rate 1 and shape ``alpha``."""
    kind = float64 if alpha.dtype is float64 else dtypes.float32
    boost = alpha < 1.0
    d = P.where(boost, alpha + 1.0, alpha) - 1.0 / 3.0
    c = 1.0 / P.sqrt(d * 9.0)
    made = d
    for k in reversed(range(_TRIES)):
        x = _normal_at(seed, offset, kind, 2 * k)
        v = x * c + 1.0
        v = v * v * v
        positive = v > 0.0
        safe = P.where(positive, v, const(1.0, v.dtype))
        u = 1.0 - _unit(seed, offset, kind, 2 * k + 2 * _TRIES)
        taken = positive & (P.log(u) < x * x * 0.5 + d - d * safe + d * P.log(safe))
        made = P.where(taken, d * safe, made)
    u = 1.0 - _unit(seed, offset, kind, 4 * _TRIES)
    made = P.where(boost, made * P.exp(P.log(u) / alpha), made)
    return P.maximum(made, const(2.2250738585072014e-308 if kind is float64 else 1.1754943508222875e-38, made.dtype))


def _normal_at(seed: Expr, offset: Expr, kind: Any, stream: int) -> Expr:
    radius = P.sqrt(P.log(1.0 - _unit(seed, offset, kind, stream)) * -2.0)
    return radius * P.cos(_unit(seed, offset, kind, stream + 1) * 6.283185307179586)


@draw_gamma.vjp("alpha", "out")
def _(ctx: Any, g: Any) -> Any:
    return g * fn._standard_gamma_grad(ctx["alpha"], ctx["out"]), None, None


@elementwise(name="_standard_gamma_grad", method=False, differentiable=False, promote="floating")
def _standard_gamma_grad(input, output):
    """How a gamma variable ``output`` of shape ``input`` moves with the shape, at a fixed value of its distribution function.

    Up to shape 8 minus the ratio of the series of the distribution function's derivative to the density, beyond it its expansion for
    large shapes (relative error about 1e-4).
    """
    a = cast(input, float64)
    x = P.maximum(cast(output, float64), const(1e-300, float64))
    small = P.minimum(a, const(8.0, float64))
    at = P.minimum(x, const(70.0, float64))
    log_x = P.log(at)
    psi = P.digamma(small)
    term: Any = None
    total: Any = None
    for n in range(130):
        inverse = 1.0 / (small + float(n))
        term = inverse if term is None else term * at * inverse
        psi = psi + inverse
        total = term * (log_x - psi) if total is None else total + term * (log_x - psi)
    series = -at * total
    # near the mode, and away from it
    b = P.maximum(a, const(8.0, float64))
    squares = 1440.0 * b * b + 6.0 * x * (53.0 - 120.0 * x) - 65.0 * x * x / b + b * (107.0 + 3600.0 * x)
    near = (1.0 + 24.0 * b * (1.0 + 12.0 * b)) * squares / (1244160.0 * b * b * b * b)
    middle = P.abs(x - b) <= b * 0.1
    away = P.where(middle, b * 2.0, x)
    ratio = P.log(away / b)
    root = P.sqrt(b * 8.0)
    bend = away - b - b * ratio
    bend = 1.0 / (bend * P.sqrt(bend))
    both = root / (b - away) + P.where(away < b, -bend, bend)
    slope = ratio * both - P.sqrt(2.0 / b) * (b + away) / ((b - away) * (b - away))
    far = -(1.0 + (1.0 + 1.0 / (24.0 * b)) / (12.0 * b)) * away * slope / root
    return cast(P.where(a <= 8.0, series, P.where(middle, near, far)), input.dtype)


@composite(method=False)
def _standard_gamma(input, generator=None):
    """Gamma numbers of rate 1 with the shapes in ``input``; gradients flow to the shapes."""
    if not input.dtype.is_floating_point:
        raise NotImplementedError(f"\"gamma\" not implemented for '{input.dtype}'")
    return draw_on("draw_gamma", [input], (), generator)


@composite(method=False)
def _sample_dirichlet(input, generator=None):
    """Numbers of Dirichlet distributions with the concentrations in the last dimension of ``input``; gradients flow to them."""
    made = _standard_gamma.body(input, generator)
    share = made / made.sum(-1, keepdim=True)
    return share.clamp(min=dtypes.finfo(input.dtype).tiny)


@elementwise(name="draw_poisson", function=False, method=False, random=True, differentiable=False, keep=("seed", "offset"))
def draw_poisson(rate, seed, offset):
    """Poisson numbers of mean ``rate``."""
    wide = cast(rate, float64)
    low = P.minimum(wide, const(_SMALL, float64))
    u = _unit(seed, offset, float64, 0)
    weight = P.exp(-low)
    below = weight
    count = cast(u >= below, float64)
    for k in range(1, _TERMS):
        weight = weight * (low / float(k))
        below = below + weight
        count = count + cast(u >= below, float64)
    high = P.maximum(wide, const(_SMALL, float64))
    spread = 0.931 + 2.53 * P.sqrt(high)
    a = -0.059 + 0.02483 * spread
    scale = 1.1239 + 1.1328 / (spread - 3.4)
    certain = 0.9277 - 3.6224 / (spread - 2.0)
    made = P.floor(high)
    for t in reversed(range(_TRIES)):
        at = _unit(seed, offset, float64, 2 * t + 1) - 0.5
        v = _uniform(seed, offset, 2 * t + 2)
        edge = P.maximum(0.5 - P.abs(at), const(1e-300, float64))
        k = P.floor((2.0 * a / edge + spread) * at + high + 0.43)
        safe = P.maximum(k, const(0.0, float64))
        exact = P.log(v * scale / (a / (edge * edge) + spread)) <= safe * P.log(high) - high - P.lgamma(safe + 1.0)
        taken = ((edge >= 0.07) & (v <= certain)) | ((k >= 0.0) & ((edge >= 0.013) | (v <= edge)) & exact)
        made = P.where(taken, k, made)
    return cast(P.where(wide < _SMALL, count, made), rate.dtype)


@composite(out=True, method=False)
def poisson(input, generator=None):
    """Poisson numbers with the means in ``input``, in its dtype."""
    _floating("poisson_cpu", input.dtype)
    return draw_on("draw_poisson", [input.detach()], (), generator)


@elementwise(name="draw_binomial", function=False, method=False, random=True, differentiable=False, keep=("seed", "offset"))
def draw_binomial(count, prob, seed, offset):
    """How many of ``count`` trials of probability ``prob`` succeed."""
    n, p = cast(count, float64), cast(prob, float64)
    flipped = p > 0.5
    p = P.where(flipped, 1.0 - p, p)
    q = 1.0 - p
    mean = n * p
    u = _unit(seed, offset, float64, 0)
    odds = p / q
    weight = P.exp(n * P.log1p(-p))
    below = weight
    found = cast(u >= below, float64)
    for k in range(1, _TERMS):
        weight = weight * (P.maximum(n - float(k - 1), const(0.0, float64)) / float(k) * odds)
        below = below + weight
        found = found + cast(u >= below, float64)
    found = P.minimum(found, n)
    big = mean >= _SMALL
    n2, p2 = P.where(big, n, const(40.0, float64)), P.where(big, p, const(0.5, float64))
    q2 = 1.0 - p2
    spread = P.sqrt(n2 * p2 * q2)
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * p2
    certain = 0.92 - 4.2 / b
    scale = (2.83 + 5.1 / b) * spread
    mode = P.floor((n2 + 1.0) * p2)
    h = P.lgamma(mode + 1.0) + P.lgamma(n2 - mode + 1.0)
    log_odds = P.log(p2 / q2)
    made = mode
    for t in reversed(range(_TRIES)):
        at = _unit(seed, offset, float64, 2 * t + 1) - 0.5
        v = _uniform(seed, offset, 2 * t + 2)
        edge = P.maximum(0.5 - P.abs(at), const(1e-300, float64))
        k = P.floor((2.0 * a / edge + b) * at + n2 * p2 + 0.5)
        inside = (k >= 0.0) & (k <= n2)
        safe = P.where(inside, k, mode)
        level = h - P.lgamma(safe + 1.0) - P.lgamma(n2 - safe + 1.0) + (safe - mode) * log_odds
        exact = P.log(v * scale / (a / (edge * edge) + b)) <= level
        made = P.where(inside & (((edge >= 0.07) & (v <= certain)) | exact), k, made)
    made = P.where(big, made, found)
    return cast(P.where(flipped, n - made, made), prob.dtype)


@composite(method=False)
def binomial(count, prob, generator=None):
    """How many of ``count`` trials succeed with probability ``prob`` each; both tensors of one floating dtype."""
    if count.dtype is not prob.dtype or not prob.dtype.is_floating_point:
        raise RuntimeError(f"Found dtype {count.dtype} but expected {prob.dtype}" if prob.dtype.is_floating_point
                           else f"\"binomial_cpu\" not implemented for '{prob.dtype}'")
    count, prob = fn.broadcast_tensors(count.detach(), prob.detach())
    return draw_on("draw_binomial", [count, prob], (), generator)


# ---- in place


def _uniforms(input: Tensor, generator: Any) -> Tensor:
    """Uniform in (0, 1], in the shape of ``input``, in float32 at least."""
    d = float64 if input.dtype is float64 else dtypes.float32
    return 1.0 - draw("draw_uniform", input._a.shape, d, input.device, (d,), generator)


@composite(function=False)
def cauchy_(input, median=0.0, sigma=1.0, *, generator=None):
    """Writes numbers of the Cauchy distribution."""
    _floating("cauchy_", input.dtype)
    if sigma <= 0:
        raise RuntimeError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma}")
    return _fill(input, (median + sigma * fn.tan((_uniforms(input, generator) - 0.5) * 3.141592653589793)).to(input.dtype), "cauchy_")


@composite(function=False)
def log_normal_(input, mean=1.0, std=2.0, *, generator=None):
    """Writes exponentials of normal numbers."""
    d = _floating("log_normal_", input.dtype)
    if std <= 0:
        raise RuntimeError(f"log_normal_ expects std > 0.0, but found std={std}")
    return _fill(input, fn.exp(draw("draw_normal", input._a.shape, d, input.device, (d, mean, std), generator)), "log_normal_")


@composite(function=False)
def geometric_(input, p, *, generator=None):
    """Writes how many trials of probability ``p`` it takes to succeed (1, 2, ...)."""
    if not 0 < p < 1:
        raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p}")
    if input.dtype is dtypes.bool_:
        raise NotImplementedError("\"geometric_\" not implemented for 'Bool'")
    rate = fn.log1p(fn.full((), -float(p), dtype=float64, device=input.device))
    made = fn.ceil(fn.log(_uniforms(input, generator)) / rate.to(dtypes.float32 if input.dtype is not float64 else float64))
    return _fill(input, made.clamp(min=1).to(input.dtype), "geometric_")
