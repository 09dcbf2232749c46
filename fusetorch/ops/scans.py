"""Running sums, products and extrema."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import bool_, dtype, int64
from ..return_types import result
from ..shapes import wrap_dim
from ..tensor import wrap
from .opdef import composite, fn, opaque
from .sorting import pick_vjp, wide

cummax_result = result("cummax", "values indices")
cummin_result = result("cummin", "values indices")


@opaque(name="cumsum_dim", function=False, method=False)
def cumsum_dim(input, dim: int):
    """The sum of the elements up to each position."""
    return [(tuple(input.shape), input.dtype)]


@cumsum_dim.cpu
def _(a: np.ndarray, dim: int) -> np.ndarray:
    x = wide(a)
    return a.copy() if a.ndim == 0 else np.add.accumulate(x, dim, x.dtype).astype(a.dtype, copy=False)


@cumsum_dim.cuda
def _(a: Any, dim: int) -> Any:
    from ..triton_kernels.scan import cumulative
    return cumulative("sum", a, dim, a.dtype)


@cumsum_dim.vjp()
def _(ctx: Any, g: Any) -> Any:
    d = ctx.attrs["dim"]
    return g if not g.ndim else fn.flip(fn.cumsum_dim(fn.flip(g, d), d), d)


@opaque(name="linear_scan", function=False, method=False)
def linear_scan(decay, input, dim: int):
    """``y[k] = decay[k] * y[k - 1] + input[k]`` along ``dim``, from zero."""
    return [(tuple(input.shape), input.dtype)]


@linear_scan.cpu
def _(decay: np.ndarray, a: np.ndarray, dim: int) -> np.ndarray:
    f, x = np.moveaxis(wide(decay), dim, 0), np.moveaxis(wide(a), dim, 0)
    out = np.empty(a.shape, x.dtype)
    y = np.moveaxis(out, dim, 0)
    for k in range(x.shape[0]):
        y[k] = x[k] if k == 0 else f[k] * y[k - 1] + x[k]
    return out.astype(a.dtype, copy=False)


@linear_scan.cuda
def _(decay: Any, a: Any, dim: int) -> Any:
    # doubling (Hillis and Steele 1986): after step s each position covers 2 s inputs
    f, y = wrap(decay), wrap(a)
    n, step = (y._a.shape[dim] if y.ndim else 1), 1
    if n < 2:
        return y.clone()._a
    while step < n:
        y, f = y + f * _moved(y, dim, step), f * _moved(f, dim, step, 1)
        step *= 2
    return y.contiguous()._a


def _moved(x: Any, d: int, by: int, fill: Any = 0) -> Any:
    """``x`` moved by ``by`` to later positions of ``d`` (to earlier ones where it is negative), ``fill`` coming in."""
    n = x._a.shape[d]
    at = tuple((max(by, 0), n + min(by, 0), 1) if k == d else (0, m, 1) for k, m in enumerate(x._a.shape))
    return fn.slice_scatter_dims(x.narrow(d, max(-by, 0), n - abs(by)), tuple(x._a.shape), at, fill)


def _reverse_scan(decay: Any, g: Any, d: int) -> Any:
    """``s[k] = g[k] + decay[k + 1] * s[k + 1]``."""
    return fn.flip(fn.linear_scan(fn.flip(_moved(decay, d, -1), d), fn.flip(g, d), d), d)


@linear_scan.vjp("decay", "out")
def _(ctx: Any, g: Any) -> Any:
    d = ctx.attrs["dim"]
    if not ctx.shape(0)[d]:
        return g, g
    s = _reverse_scan(ctx["decay"].conj(), g, d)
    return s * _moved(ctx["out"], d, 1).conj(), s


@opaque(name="cumprod_dim", function=False, method=False)
def cumprod_dim(input, dim: int):
    """The product of the elements up to each position."""
    return [(tuple(input.shape), input.dtype)]


@cumprod_dim.cpu
def _(a: np.ndarray, dim: int) -> np.ndarray:
    return a.copy() if a.ndim == 0 else np.cumprod(wide(a), axis=dim, dtype=wide(a).dtype).astype(a.dtype, copy=False)


@cumprod_dim.cuda
def _(a: Any, dim: int) -> Any:
    from ..triton_kernels.scan import cumulative
    return cumulative("prod", a, dim, a.dtype)


@cumprod_dim.vjp("input", "out")
def _(ctx: Any, g: Any) -> Any:
    x, d = ctx["input"], ctx.attrs["dim"]
    if not x.ndim or not x._a.shape[d]:
        return g
    # prefix before k, times what the later positions owe to it: exact also where a factor is zero
    x, before = x.conj(), _moved(ctx["out"], d, 1).conj()
    first = fn.arange(x._a.shape[d], device=x.device).reshape([-1 if k == d else 1 for k in range(x.ndim)]) == 0
    return fn.where(first, fn.ones_like(before), before) * _reverse_scan(x, g, d)


@opaque(refuses="complex", name="cum_extremum", function=False, method=False, n_outputs=2)
def cum_extremum(input, dim: int, largest: bool):
    """The largest (or smallest) element up to each position and where it (last) was."""
    return [(tuple(input.shape), input.dtype), (tuple(input.shape), int64)]


@cum_extremum.cpu
def _(a: np.ndarray, dim: int, largest: bool) -> tuple[np.ndarray, np.ndarray]:
    if a.ndim == 0:
        return a.copy(), np.zeros((), np.int64)
    x = np.moveaxis(wide(a), dim, 0)
    index = np.empty(a.shape, np.int64)
    where = np.moveaxis(index, dim, 0)
    for k in range(x.shape[0]):
        if k == 0:
            where[0], best = 0, x[0].copy()
            continue
        better = ((x[k] >= best) if largest else (x[k] <= best)) | (x[k] != x[k])
        better &= ~((best != best) & (x[k] == x[k]))
        best = np.where(better, x[k], best)
        where[k] = np.where(better, k, where[k - 1])
    return np.take_along_axis(a, index, dim), index


@cum_extremum.cuda
def _(a: Any, dim: int, largest: bool) -> tuple[Any, Any]:
    x = wrap(a)
    if not x.ndim:
        return x.clone()._a, fn.zeros((), dtype=int64, device=x.device)._a
    n, step = x._a.shape[dim], 1
    place_of = fn.arange(n, device=x.device)
    index = place_of.reshape([-1 if k == dim else 1 for k in range(x.ndim)]).expand(x._a.shape).contiguous()
    best = x
    while step < n:
        before, where = _moved(best, dim, step), _moved(index, dim, step, -1)
        beats = (before > best) if largest else (before < best)
        if x.dtype.is_floating_point:
            beats = (beats | (before != before)) & (best == best)
        beats = beats & (where >= 0)
        best, index = fn.where(beats, before, best), fn.where(beats, where, index)
        step *= 2
    return best.contiguous()._a, index._a


cum_extremum.vjp("out1")(pick_vjp)


def _summable(x: Any, d: dtype | None) -> Any:
    if d is None and x.dtype.category < 2:
        d = int64
    return x if d is None else x.to(d)


@composite(out="dtype", inplace=True, autocast="float32:cuda")
def cumsum(input, dim, *, dtype=None):
    """The sum of the elements up to each position of ``dim``; integers add up as int64."""
    d = wrap_dim(dim, input.ndim)
    return fn.cumsum_dim(_summable(input, dtype), d)


@composite(out="dtype", inplace=True, autocast="float32:cuda")
def cumprod(input, dim, *, dtype=None):
    """The product of the elements up to each position of ``dim``; integers multiply as int64."""
    d = wrap_dim(dim, input.ndim)
    return fn.cumprod_dim(_summable(input, dtype), d)


@composite(out="exact")
def cummax(input, dim):
    """``(values, indices)``: the largest element up to each position of ``dim``, and its last position."""
    return cummax_result(*fn.cum_extremum(input, wrap_dim(dim, input.ndim), True))


@composite(out="exact")
def cummin(input, dim):
    """``(values, indices)``: the smallest element up to each position of ``dim``, and its last position."""
    return cummin_result(*fn.cum_extremum(input, wrap_dim(dim, input.ndim), False))


@opaque(name="logcumsumexp_dim", function=False, method=False)
def logcumsumexp_dim(input, dim: int):
    """The logarithm of the sum of the exponentials up to each position."""
    return [(tuple(input.shape), input.dtype)]


@logcumsumexp_dim.cpu
def _(a: np.ndarray, dim: int) -> np.ndarray:
    return a.copy() if a.ndim == 0 else np.logaddexp.accumulate(wide(a), axis=dim).astype(a.dtype, copy=False)


@logcumsumexp_dim.cuda
def _(a: Any, dim: int) -> Any:
    y = wrap(a)
    n, step = (y._a.shape[dim] if y.ndim else 1), 1
    while step < n:
        y = fn.logaddexp(y, _moved(y, dim, step, float("-inf")))
        step *= 2
    return y.clone()._a if y._a is a else y._a


@logcumsumexp_dim.vjp("input", "out")
def _(ctx: Any, g: Any) -> Any:
    x, y, d = ctx["input"], ctx["out"], ctx.attrs["dim"]
    if not x.ndim or not x.numel():
        return g
    # s[k] = sum over i >= k of g[i] exp(y[k] - y[i]), whose factors are at most 1
    nothing = y == float("-inf")
    ratio = (_moved(y, d, 1) - y).masked_fill(nothing, 0.0).exp()
    return (x - y).masked_fill(nothing, 0.0).exp() * _reverse_scan(ratio, g, d)


@composite(refuses="bool integer", out="exact")
def logcumsumexp(input, dim):
    """``log(cumsum(exp(input)))`` without overflow."""
    d = wrap_dim(dim, input.ndim)
    if input.dtype.is_complex and input.ndim:  # partial sums of twice as many elements at each step
        y, step = input.clone(), 1
        while step < input._a.shape[d]:
            y, step = fn.logaddexp(y, _moved(y, d, step, float("-inf"))), 2 * step
        return y
    return fn.logcumsumexp_dim(input, d)


@composite(out=True)
def diff(input, n=1, dim=-1, prepend=None, append=None):
    """The differences between neighbours along ``dim``, taken ``n`` times."""
    if input.ndim == 0:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    d = wrap_dim(dim, input.ndim)
    if n == 0:
        return input
    parts = [p for p in (prepend, input, append) if p is not None]
    x = fn.cat(parts, d) if len(parts) > 1 else input
    for _ in range(min(n, x._a.shape[d])):
        m = x._a.shape[d]
        a, b = x.narrow(d, 1, m - 1), x.narrow(d, 0, m - 1)
        x = a ^ b if x.dtype is bool_ else a - b
    return x
