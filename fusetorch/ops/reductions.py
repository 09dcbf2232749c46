"""Reductions over any set of dimensions."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import dtype, int64, uint8
from ..shapes import numel
from ..tensor import tracing, wrap
from . import primitives as P
from .expr import cast, count, reduce
from .opdef import As, compute_dtype, fn, reduction
from .oracles import scipy_special


def spread(ctx: Any, g: Any) -> Any:
    """A reduced gradient brought back to the operand's rank, so that it broadcasts against the operand."""
    if not ctx.attrs["keepdim"]:
        shape = ctx.shape(0)
        dims = ctx.attrs["dim"]
        if type(g._a) is np.ndarray and len(dims) == len(shape):
            return g  # one number broadcasts as it is
        g = g.reshape(tuple(1 if d in dims else n for d, n in enumerate(shape)))
    return g


def _expanded(g: Any, shape: tuple[int, ...]) -> Any:
    from ..autograd import GradMode
    a = g._a
    if type(a) is np.ndarray and not GradMode.enabled and numel(shape) <= 1 << 15 and not tracing():
        full = np.empty(shape, a.dtype)  # cheaper than a view, and what follows reads it faster
        full[...] = a
        return wrap(full)
    return g.expand(shape)


def _back_to(g: Any, d: dtype) -> Any:
    # a real operand of a complex result takes the real part; .to() would warn of that
    return g if g.dtype is d else fn.convert(g, d)


def _accumulator(input: Any, dt: dtype | None) -> tuple[Any, dtype | None]:
    if dt is None and input.dtype.category < 2:
        dt = int64
    return (input, None) if dt is None else (cast(input, compute_dtype(dt)), dt)


def _typed(e: Any, dt: dtype | None) -> Any:
    return e if dt is None else As(cast(e, compute_dtype(dt)), dt)


@reduction(oracle=lambda a, dim=None, keepdim=False: np.sum(a, axis=dim, keepdims=keepdim), autocast="float32:cuda")
def sum(input, dim=None, keepdim=False, *, dtype: dtype = None):
    """The sum. Integers and bools are added up as int64; half types in float32."""
    x, dt = _accumulator(input, dtype)
    return _typed(reduce("sum", x), dt)


@sum.vjp()
def _(ctx: Any, g: Any) -> Any:
    return _expanded(_back_to(spread(ctx, g), ctx.dtype(0)), ctx.shape(0))


@reduction(oracle=lambda a, dim=None, keepdim=False: np.mean(a, axis=dim, keepdims=keepdim))
def mean(input, dim=None, keepdim=False, *, dtype: dtype = None):
    """The mean of floating elements; NaN where there are none."""
    x = input if dtype is None else cast(input, compute_dtype(dtype))
    if x.dtype.category < 2:
        raise NotImplementedError(f"mean(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. "
                           f"Got: {x.dtype}. Convert it with .float(), or pass dtype=.")
    return _typed(reduce("sum", x) / cast(count(), x.dtype), dtype)


@mean.vjp()
def _(ctx: Any, g: Any) -> Any:
    n = 1
    for d in ctx.attrs["dim"]:
        n *= ctx.shape(0)[d]
    return _expanded(_back_to(spread(ctx, g) / n, ctx.dtype(0)), ctx.shape(0))


@reduction(name="prod_dims", function=False, method=False, oracle=lambda a, dim=None, keepdim=False: np.prod(a, axis=dim, keepdims=keepdim))
def prod_dims(input, dim=None, keepdim=False, *, dtype: dtype = None):
    """The product. Integers and bools multiply as int64."""
    x, dt = _accumulator(input, dtype)
    return _typed(reduce("prod", x), dt)


@prod_dims.vjp("input", "out")
def _(ctx: Any, g: Any) -> Any:
    x, y = ctx["input"].to(g.dtype), spread(ctx, ctx["out"])
    dims = ctx.attrs["dim"]
    zeros = (x == 0).sum(dims, keepdim=True)
    # with one zero among the factors only that factor has a gradient: the product of the others
    others = fn.prod_dims(fn.where(x == 0, fn.ones_like(x), x), dims, True)
    safe = fn.where(x == 0, fn.ones_like(x), x)
    rest = fn.where(zeros == 0, y / safe, fn.where((zeros == 1) & (x == 0), others, fn.zeros_like(x)))
    return _back_to(spread(ctx, g) * rest.conj(), ctx.dtype(0))


@reduction(out="exact", nonempty=True, oracle=lambda a, dim=None, keepdim=False: np.max(a, axis=dim, keepdims=keepdim))
def amax(input, dim=None, keepdim=False):
    """The largest element; equal ones share the gradient."""
    return reduce("max", input)


@reduction(out="exact", nonempty=True, oracle=lambda a, dim=None, keepdim=False: np.min(a, axis=dim, keepdims=keepdim))
def amin(input, dim=None, keepdim=False):
    """The smallest element; equal ones share the gradient."""
    return reduce("min", input)


def _extremum_vjp(ctx: Any, g: Any) -> Any:
    mask = ctx["input"] == spread(ctx, ctx["out"])
    return spread(ctx, g) * mask / mask.sum(ctx.attrs["dim"], keepdim=True)


amax.vjp("input", "out")(_extremum_vjp)
amin.vjp("input", "out")(_extremum_vjp)


@reduction(name="max_with_index", function=False, method=False, n_outputs=2)
def max_with_index(input, dim=None, keepdim=False):
    """The largest element and its (first) position along one dimension."""
    return reduce("max", input), reduce("argmax", input)


@reduction(name="min_with_index", function=False, method=False, n_outputs=2)
def min_with_index(input, dim=None, keepdim=False):
    """The smallest element and its (first) position along one dimension."""
    return reduce("min", input), reduce("argmin", input)


def _indexed_vjp(ctx: Any, g: Any, _: Any) -> Any:
    (d,) = ctx.attrs["dim"] or (0,)
    shape = ctx.shape(0)
    if not shape:
        return g
    position = fn.arange(shape[d], device=g.device).reshape([-1 if k == d else 1 for k in range(len(shape))])
    return fn.where(position == spread(ctx, ctx["out1"]), spread(ctx, g), fn.zeros((), dtype=g.dtype, device=g.device))


max_with_index.vjp("out1")(_indexed_vjp)
min_with_index.vjp("out1")(_indexed_vjp)


@reduction(name="argmax_dims", function=False, method=False, differentiable=False)
def argmax_dims(input, dim=None, keepdim=False):
    """The position of the largest element among the reduced dimensions."""
    return reduce("argmax", input)


@reduction(name="argmin_dims", function=False, method=False, differentiable=False)
def argmin_dims(input, dim=None, keepdim=False):
    """The position of the smallest element among the reduced dimensions."""
    return reduce("argmin", input)


def _truth_as(input: Any, e: Any) -> Any:
    return cast(e, uint8) if input.dtype is uint8 else e  # PyTorch keeps the old byte masks


@reduction(differentiable=False, promote="none", oracle=lambda a, dim=None, keepdim=False: np.any(a, axis=dim, keepdims=keepdim))
def any(input, dim=None, keepdim=False):
    """Whether an element is not zero."""
    return _truth_as(input, reduce("max", P.truth(input)))


@reduction(differentiable=False, promote="none", oracle=lambda a, dim=None, keepdim=False: np.all(a, axis=dim, keepdims=keepdim))
def all(input, dim=None, keepdim=False):
    """Whether every element is not zero."""
    return _truth_as(input, reduce("min", P.truth(input)))


@reduction(name="var_mean_dims", function=False, method=False, n_outputs=2)
def var_mean_dims(input, dim=None, keepdim=False, *, correction: float = 1.0):
    """Variance (of complex numbers: both parts' added up), with ``correction`` taken from the count, and mean; two passes over the row."""
    if input.dtype.category < 2:
        raise RuntimeError(f"std and var only support floating point and complex dtypes, got {input.dtype}")
    n = cast(count(), input.dtype)
    mu = reduce("sum", input) / n
    d = input - mu
    return reduce("sum", P.abs2(d)) / P.maximum(P.real(n - correction), 0.0), mu


@var_mean_dims.vjp("input", "out1")
def _(ctx: Any, g: Any, g_mean: Any) -> Any:
    x, n = ctx["input"], 1
    for d in ctx.attrs["dim"]:
        n *= ctx.shape(0)[d]
    out = None
    if g is not None:
        free = max_int(n - ctx.attrs["correction"])
        out = (x - spread(ctx, ctx["out1"])) * (spread(ctx, g) * (2.0 / free if free else float("nan")))
    if g_mean is not None:
        m = (spread(ctx, g_mean) / n).expand(ctx.shape(0))
        out = m if out is None else out + m
    return out


def max_int(n: float) -> float:
    """Not below zero."""
    return n if n > 0 else 0


def _logsumexp(a: np.ndarray, dim: Any = None, keepdim: bool = False) -> np.ndarray:
    return scipy_special("logsumexp")(a, axis=dim, keepdims=keepdim)


@reduction(promote="float", oracle=_logsumexp, autocast="float32:cuda", aliases=("special.logsumexp",))
def logsumexp(input, dim=None, keepdim=False):
    """``log(sum(exp(input)))`` without overflow."""
    m = reduce("max", P.real(input))
    m = P.where(P.isfinite(m), m, 0.0)
    return P.log(reduce("sum", P.exp(input - m))) + m


@logsumexp.vjp("input", "out")
def _(ctx: Any, g: Any) -> Any:
    return spread(ctx, g) * (ctx["input"] - spread(ctx, ctx["out"])).exp().conj()


@reduction(name="count_nonzero_dims", function=False, method=False, differentiable=False, promote="none")
def count_nonzero_dims(input, dim=None, keepdim=False):
    """How many elements are not zero."""
    return reduce("sum", cast(P.truth(input), int64))


@reduction(name="vector_norm_dims", function=False, method=False, promote="float",
           oracle=lambda a, ord, dim=None, keepdim=False: np.linalg.norm(a, ord, axis=dim, keepdims=keepdim))
def vector_norm_dims(input, ord: object, dim=None, keepdim=False):
    """The ``ord``-norm of the elements as one vector (``ord`` may be infinite, 0 or any number)."""
    a = P.abs(input)
    if ord == float("inf"):
        return reduce("max", a)
    if ord == float("-inf"):
        return reduce("min", a)
    if ord == 0:
        return reduce("sum", cast(P.ne(input, 0), a.dtype))
    if ord == 1:
        return reduce("sum", a)
    if ord == 2:
        return P.sqrt(reduce("sum", P.abs2(input)))
    return P.pow(reduce("sum", P.pow(a, float(ord))), 1.0 / float(ord))


@vector_norm_dims.vjp("input", "out")
def _(ctx: Any, g: Any) -> Any:
    x, y, g, p = ctx["input"], spread(ctx, ctx["out"]), spread(ctx, g), ctx.attrs["ord"]
    if p == 0:
        return fn.zeros_like(x)
    if p in (float("inf"), float("-inf")):
        mask = x.abs() == y
        return x.sgn() * mask * (g / mask.sum(ctx.attrs["dim"], keepdim=True))
    if p == 1:
        return x.sgn() * g
    # the norm's gradient at zero is zero, as in PyTorch
    if p == 2:
        return x * (g / y).masked_fill(y == 0, 0.0)
    scale = (g / y.pow(p - 1)).masked_fill(y == 0, 0.0)
    return x.sgn() * (x.abs().pow(p - 1) * scale).masked_fill(x == 0, 0.0) if p < 2 else x * x.abs().pow(p - 2) * scale


