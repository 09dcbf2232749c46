"""Arithmetic written with other operations: bounds, NaN-aware sums, distances, integrals, statistics, products."""
from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from ..dtypes import bool_, complex128, float64, int64, promote_types
from ..shapes import broadcast_shapes, numel, wrap_dim
from ..tensor import Tensor
from . import primitives as P
from .creation import place
from .losses import tracing
from .opdef import composite, elementwise, fn

# ---- elementwise


@elementwise(real=True, promote="float", inplace=True, oracle=np.deg2rad)
def deg2rad(input):
    """Degrees as radians."""
    return input * (math.pi / 180.0)


@elementwise(real=True, promote="float", inplace=True, oracle=np.rad2deg)
def rad2deg(input):
    """Radians as degrees."""
    return input * (180.0 / math.pi)


@elementwise(promote="float", inplace=True, oracle=np.sinc, aliases=("special.sinc",))
def sinc(input):
    """``sin(pi x) / (pi x)``, 1 at 0."""
    z = input * math.pi
    zero = P.eq(z, 0)
    return P.where(zero, 1.0, P.sin(z) / P.where(zero, 1.0, z))


@elementwise(promote="floating", numbers="none", oracle=np.logaddexp2)
def logaddexp2(input, other):
    """``log2(2 ** input + 2 ** other)`` without overflow."""
    m = P.maximum(input, other)
    return P.where(P.isinf(m) & P.eq(input, other), input, m + P.log1p(P.exp2(-P.abs(input - other))) * (1 / math.log(2.0)))


@elementwise(promote="float", inplace=True, numbers="none", oracle=lambda a, b: a * 2.0**b)
def ldexp(input, other):
    """``input * 2 ** other``."""
    return input * P.exp2(other)


@elementwise(out="exact", real=True, differentiable=False, oracle=np.isposinf)
def isposinf(input):
    """Whether each element is plus infinity."""
    return P.eq(input, math.inf) if input.dtype.is_floating_point else P.ne(input, input)


@elementwise(out="exact", real=True, differentiable=False, oracle=np.isneginf)
def isneginf(input):
    """Whether each element is minus infinity."""
    return P.eq(input, -math.inf) if input.dtype.is_floating_point else P.ne(input, input)


@composite(inplace=True, out=True)
def clamp_min(input, min):
    """``input``, but at least ``min``."""
    return fn.clamp(input, min=min)


@composite(inplace=True, out=True)
def clamp_max(input, max):
    """``input``, but at most ``max``."""
    return fn.clamp(input, max=max)


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


# ---- sums


@composite(out="dtype")
def nansum(input, dim=None, keepdim=False, *, dtype=None):
    """The sum without the NaNs."""
    if input.dtype.is_complex:
        raise RuntimeError("nansum does not support complex inputs")
    x = input if dtype is None else input.to(dtype)
    return fn.sum(fn.where(x.isnan(), fn.zeros((), dtype=x.dtype, device=x.device), x), dim, keepdim)


@composite(out="dtype")
def nanmean(input, dim=None, keepdim=False, *, dtype=None):
    """The mean without the NaNs."""
    if not input.dtype.is_floating_point:
        raise RuntimeError(f"nanmean(): expected input to have floating point or complex dtype but got {input.dtype}")
    x = input if dtype is None else input.to(dtype)
    return nansum.body(x, dim, keepdim) / (~x.isnan()).sum(dim, keepdim=keepdim)


@composite(function=False)
def sum_to_size(input, *args, size=None):
    """Summed so that it has ``size``, which must broadcast to the tensor's shape."""
    from .reshaping import variadic
    from .views import sum_to_size as sum_to
    size = variadic("sum_to_size", args, size)
    if tuple(broadcast_shapes(size, input.shape)) != tuple(input.shape):
        raise RuntimeError(f"size {{{list(size)}}} is not expandable to size {{{list(input.shape)}}}.")
    return sum_to(input, size) if size else input.sum()  # integers to a single number become int64


@composite(autocast="float32:cpu")
def trace(input):
    """The sum of a matrix's diagonal."""
    if input.ndim != 2:
        raise RuntimeError("trace: expected a matrix")
    return fn.diagonal(input).sum()


@composite(out="exact", autocast="promote:cuda")
def vdot(input, other):
    """The inner product of two vectors, the first conjugated."""
    return fn.dot(fn.conj(input), other)


@composite(autocast="float32:cuda")
def dist(input, other, p=2):
    """The ``p``-norm of the difference."""
    return fn.vector_norm_dims(input - other, float(p))


@composite(method=False, autocast="float32")
def cdist(x1, x2, p=2.0, compute_mode="use_mm_for_euclid_dist_if_necessary"):
    """The ``p``-norm distances between the rows of ``x1`` (..., P, M) and of ``x2`` (..., R, M): (..., P, R)."""
    for name, x in (("X1", x1), ("X2", x2)):
        if x.ndim < 2:
            raise RuntimeError(f"cdist only supports at least 2D tensors, {name} got: {x.ndim}D")
    if x1._a.shape[-1] != x2._a.shape[-1]:
        raise RuntimeError(f"X1 and X2 must have the same number of columns. X1: {x1._a.shape[-1]} X2: {x2._a.shape[-1]}")
    if p < 0:
        raise RuntimeError("cdist only supports non-negative p values")
    if not x1.dtype.is_floating_point:
        raise RuntimeError(f"cdist only supports floating-point dtypes, X1 got: {x1.dtype}")
    return fn.vector_norm_dims(x1.unsqueeze(-2) - x2.unsqueeze(-3), float(p), -1)


@composite(out="exact", inplace=True, autocast="float32:cuda")
def renorm(input, p, dim, maxnorm):
    """The slices of ``dim`` scaled down to a ``p``-norm of at most ``maxnorm``."""
    if input.ndim < 2:
        raise RuntimeError(f"renorm: input needs at least 2 dimensions, got {input.ndim} dimensions")
    if p <= 0 or maxnorm < 0:
        raise RuntimeError(f"renorm: non-positive-norm not supported (p={p}, maxnorm={maxnorm})")
    d = wrap_dim(dim, input.ndim)
    norms = fn.vector_norm_dims(input, float(p), [k for k in range(input.ndim) if k != d], True)
    return input * fn.where(norms > maxnorm, maxnorm / (norms + 1e-7), fn.ones_like(norms))


def _spacing(x: Any, dx: Any, y: Any, dim: int) -> Any:
    if x is None:
        return 1.0 if dx is None else dx
    gaps = fn.diff(x, dim=-1 if x.ndim == 1 else dim)
    return gaps.reshape([-1 if k == dim else 1 for k in range(y.ndim)]) if x.ndim == 1 else gaps


def _trapezoids(y: Any, x: Any, dx: Any, dim: int) -> tuple[Any, int]:
    if y.ndim == 0:
        raise IndexError("trapezoid(): y must have at least one dimension")
    d = wrap_dim(dim, y.ndim)
    n = y._a.shape[d]
    if n == 0:
        raise RuntimeError("trapezoid(): there is nothing to integrate over")
    return (y.narrow(d, 1, n - 1) + y.narrow(d, 0, n - 1)) * _spacing(x, dx, y, d) / 2, d


@composite(method=False, aliases=("trapz",))
def trapezoid(y, x=None, *, dx=None, dim=-1):
    """The integral along ``dim`` by the trapezoidal rule, at positions ``x`` or with spacing ``dx``."""
    parts, d = _trapezoids(y, x, dx, dim)
    return parts.sum(d)


@composite(method=False)
def cumulative_trapezoid(y, x=None, *, dx=None, dim=-1):
    """The integral up to each position but the first."""
    parts, d = _trapezoids(y, x, dx, dim)
    return parts.cumsum(d)


@composite()
def cov(input, *, correction=1, fweights=None, aweights=None):
    """The covariance matrix of variables in rows and observations in columns, which may be counted (``fweights``, integers) and weighted
    (``aweights``)."""
    if input.ndim > 2:
        raise RuntimeError(f"cov(): expected input to have two or fewer dimensions but got an input with {input.ndim} dimensions")
    if input.dtype is bool_:
        raise RuntimeError("cov(): bool dtype is not supported for input")
    x = input if input.dtype.category >= 2 else input.float()
    rows = x.reshape(1, -1) if x.ndim < 2 else x
    n = rows._a.shape[1]
    w = None
    for name, given in (("fweights", fweights), ("aweights", aweights)):
        if given is None:
            continue
        if given.ndim > 1 or given.numel() != n:
            raise RuntimeError(f"cov(): expected {name} to be a vector of {n} elements, got shape {list(given.shape)}")
        if given.dtype.is_floating_point == (name == "fweights"):
            raise RuntimeError(f"cov(): {name} must be {'integral' if name == 'fweights' else 'floating point'} dtype, got {given.dtype}")
        if not tracing() and n and bool((given < 0).any()):
            raise RuntimeError(f"cov(): {name} cannot be negative")
        w = given.reshape(-1) if w is None else w * given.reshape(-1)
    if w is not None:
        w = w.to(promote_types(w.dtype, rows.dtype))
        rows = rows.to(w.dtype)
    if w is None:
        centred = rows - rows.mean(1, keepdim=True)
        c = fn.bmm_general(centred, fn.adjoint(centred)) / max(n - correction, 0)
    else:
        total = w.sum()
        centred = rows - (rows * w).sum(1, keepdim=True) / total
        free = total - correction if aweights is None or not correction else total - correction * (w * aweights).sum() / total
        c = fn.bmm_general(centred * w, fn.adjoint(centred)) / fn.real(free).clamp(min=0)
    return c.reshape(()) if rows._a.shape[0] == 1 else c


@composite()
def corrcoef(input):
    """The correlation matrix of variables in rows."""
    c = cov.body(input)
    if not c.ndim:
        return c / c
    s = fn.real(fn.diagonal(c)).sqrt()
    r = c / s.unsqueeze(1) / s
    return fn.complex(fn.real(r).clamp(-1, 1), fn.imag(r).clamp(-1, 1)) if r.dtype.is_complex else r.clamp(-1, 1)


# ---- products


@composite(out=True)
def kron(input, other):
    """The Kronecker product."""
    rank = max(input.ndim, other.ndim)
    a, b = (x.reshape((1,) * (rank - x.ndim) + tuple(x.shape)) for x in (input, other))
    wide = a.reshape([n for s in a._a.shape for n in (s, 1)]) * b.reshape([n for s in b._a.shape for n in (1, s)])
    return wide.reshape([m * n for m, n in zip(a._a.shape, b._a.shape)])


@composite(out="exact", autocast="promote:cuda")
def cross(input, other, dim=None):
    """The vector product along ``dim`` (of size 3; the first such unless given)."""
    shape = tuple(broadcast_shapes(input.shape, other.shape))
    if dim is None:
        if 3 not in shape:
            raise RuntimeError("no dimension of size 3 in input")
        d = shape.index(3)
    else:
        d = wrap_dim(dim, len(shape))
    if input.ndim != other.ndim:
        raise RuntimeError("linalg.cross: inputs must have the same number of dimensions.")
    if input._a.shape[d] != 3 or other._a.shape[d] != 3:
        raise RuntimeError(f"linalg.cross: inputs dimension {d} must have length 3. Got {input._a.shape[d]} and {other._a.shape[d]}")
    return (fn.roll(input, -1, d) * fn.roll(other, -2, d)) - (fn.roll(input, -2, d) * fn.roll(other, -1, d))


@composite()
def combinations(input, r=2, with_replacement=False):
    """The ``r``-element combinations of a vector's elements, as rows."""
    if input.ndim != 1:
        raise RuntimeError(f"Expect a 1D vector, but got shape {list(input.shape)}")
    if r < 0:
        raise RuntimeError(f"Expect a non-negative number, but got {r}")
    pick = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    at = np.array(list(pick(range(input.numel()), r)), np.int64).reshape(-1, r)
    return fn.index(input, [place(at, input.device)], (0,)) if r else fn.empty((0,), dtype=input.dtype, device=input.device)


@composite(method=False)
def unravel_index(indices, shape):
    """Positions in a flattened tensor of ``shape`` as one coordinate tensor per dimension."""
    sizes = [shape] if isinstance(shape, int) else list(shape)
    out, rest = [], indices.to(int64)
    for k in range(len(sizes)):
        step = numel(sizes[k + 1:])
        out.append(fn.floor_divide(rest, step))
        rest = fn.remainder(rest, step)
    return tuple(out)


# ---- channels to pixels


@composite(nn=True)
def pixel_shuffle(input, upscale_factor):
    """(..., C r^2, H, W) as (..., C, H r, W r) (Shi et al. 2016)."""
    if input.ndim < 3:
        raise RuntimeError(f"pixel_shuffle expects input to have at least 3 dimensions, but got input with {input.ndim} dimension(s)")
    r = upscale_factor
    if r <= 0:
        raise RuntimeError(f"pixel_shuffle expects a positive upscale_factor, but got {r}")
    *batch, c, h, w = input._a.shape
    if c % (r * r):
        raise RuntimeError(f"pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of upscale_factor, but "
                           f"input.size(-3)={c} is not divisible by {r * r}")
    n = len(batch)
    x = input.reshape([*batch, c // (r * r), r, r, h, w])
    return x.permute([*range(n), n, n + 3, n + 1, n + 4, n + 2]).reshape([*batch, c // (r * r), h * r, w * r])


@composite(nn=True)
def pixel_unshuffle(input, downscale_factor):
    """The inverse of ``pixel_shuffle``."""
    if input.ndim < 3:
        raise RuntimeError(f"pixel_unshuffle expects input to have at least 3 dimensions, but got input with {input.ndim} dimension(s)")
    r = downscale_factor
    if r <= 0:
        raise RuntimeError(f"pixel_unshuffle expects a positive downscale_factor, but got {r}")
    *batch, c, h, w = input._a.shape
    if h % r or w % r:
        raise RuntimeError(f"pixel_unshuffle expects height and width to be divisible by downscale_factor, but got {h} x {w} and {r}")
    n = len(batch)
    x = input.reshape([*batch, c, h // r, r, w // r, r])
    return x.permute([*range(n), n, n + 2, n + 4, n + 1, n + 3]).reshape([*batch, c * r * r, h // r, w // r])
