"""The largest element of each window, with its position: what all forms of max pooling share.

The windows cover the last ``len(kernel)`` dimensions. On the CPU an operation over windows is one over as many strided slices as a window
has elements: the slices are operands of one elementwise loop, which vectorises and runs on threads.
"""
from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import FROM_NUMPY, dtype, int64
from . import primitives as P
from .expr import const, load, scalar
from .opdef import LoopSpec, fn, opaque
from .sorting import wide

#: Slices that one loop reads; larger windows are copied out.
_MOST = 16


@opaque(name="max_windows", function=False, method=False, n_outputs=2)
def max_windows(input, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple, result: tuple):
    """The largest element of each window and its position in the plane of the last dimensions; NaN counts as largest.

    ``result`` is how many windows each dimension has; what they see beyond the ends counts for nothing."""
    shape = (*input.shape[:-len(kernel)], *result)
    return [(shape, input.dtype), (shape, int64)]


@opaque(name="max_windows_grad", function=False, method=False)
def max_windows_grad(grad, indices, size: tuple, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple):
    """The gradient of the input of ``max_windows``, whose last dimensions have ``size``: each ``grad`` added where its element was."""
    return [((*grad.shape[:-len(size)], *size), grad.dtype)]


# ---- geometry


@functools.lru_cache(maxsize=256)
def _positions(size: tuple, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple,
               result: tuple) -> tuple[np.ndarray, np.ndarray, list[tuple[int, ...]], list[int]]:
    """``(base, first, offsets, flat)``: per window the position in the plane of its first element and of the first that exists; per
    element of a window its coordinates and the difference of its position to the base."""
    steps = [math.prod(size[d + 1:]) for d in range(len(size))]
    base = first = np.zeros((1,) * len(size), np.int64)
    for d, n in enumerate(result):
        start = np.arange(n) * stride[d] - padding[d]
        inside = np.where(start < 0, start + -(start // dilation[d]) * dilation[d], start)
        shape = [-1 if k == d else 1 for k in range(len(size))]
        base = base + (start * steps[d]).reshape(shape)
        first = first + (inside * steps[d]).reshape(shape)
    offsets = list(itertools.product(*[range(0, k * e, e) for k, e in zip(kernel, dilation)]))
    return base, first, offsets, [sum(o * s for o, s in zip(at, steps)) for at in offsets]


def _reach(size: tuple, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple, result: tuple) -> tuple[int, ...]:
    """The extent of the padded plane: padding in front, the elements, and what the windows see behind them."""
    return tuple(max(n + p, (m - 1) * s + (k - 1) * e + 1)
                 for n, k, s, p, e, m in zip(size, kernel, stride, padding, dilation, result))


def _slice(at: Sequence[int], stride: Sequence[int], result: Sequence[int]) -> tuple:
    """In the padded plane: the element ``at`` of every window."""
    return (..., *[slice(o, o + (m - 1) * s + 1, s) for o, s, m in zip(at, stride, result)])


# ---- on the CPU


@functools.lru_cache(maxsize=128)
def _largest(d: dtype, count: int, first: bool) -> LoopSpec:
    """The largest of ``count`` slices and its position: base plus the scalar of its slice. ``first``: start with a value and a position."""
    base, e = load(0, int64), [load(1 + k, d) for k in range(count)]
    offsets = [scalar(k, int64) for k in range(count)]
    if first:
        best, at = load(1 + count, d), load(2 + count, int64)
    else:
        best, at = e[0], base + offsets[0]
    for k in range(0 if first else 1, count):
        take = e[k] > best
        if d.is_floating_point:
            take = take | P.isnan(e[k])
        best, at = P.where(take, e[k], best), P.where(take, base + offsets[k], at)
    loads = [int64, *[d] * count, *([d, int64] if first else [])]
    return LoopSpec("max_windows", None, loads, [best, at], [d, int64], [True, True], [int64] * count, False)


def _lowest(d: np.dtype) -> Any:
    return np.iinfo(d).min if d.kind in "iu" else -np.inf


@max_windows.cpu
def _(a: np.ndarray, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple, result: tuple) -> tuple[np.ndarray, np.ndarray]:
    from .. import cpu_backend
    n = len(kernel)
    size, shape = a.shape[-n:], (*a.shape[:-n], *result)
    if 0 in shape:
        return np.empty(shape, a.dtype), np.empty(shape, np.int64)
    base, first, offsets, flat = _positions(size, kernel, stride, padding, dilation, result)
    reach = _reach(size, kernel, stride, padding, dilation, result)
    padded = any(padding) or reach != size
    x = a
    if padded:
        x = np.full((*a.shape[:-n], *reach), _lowest(wide(a[:0]).dtype), a.dtype)
        x[(..., *[slice(p, p + m) for p, m in zip(padding, size)])] = a
    slices = [x[_slice(at, stride, result)] for at in offsets]
    if len(slices) <= _MOST:
        start = [np.broadcast_to(np.array(_lowest(wide(a[:0]).dtype), a.dtype), shape), first] if padded else []
        spec = _largest(FROM_NUMPY[a.dtype], len(slices), padded)
        values, at = cpu_backend.loop(spec, [np.broadcast_to(base, shape), *slices, *start], flat, None, None)
        return values, at
    windows = np.stack(slices, -1)
    best = np.argmax(wide(windows), -1)[..., None]
    values = np.take_along_axis(windows, best, -1)[..., 0]
    at = base + np.array(flat)[best[..., 0]]
    # where nothing beats the lowest value, the first element that exists is meant
    return values, np.where(wide(values) == _lowest(wide(a[:0]).dtype), first, at)


@functools.lru_cache(maxsize=64)
def _handed_back(d: dtype, count: int) -> LoopSpec:
    """Per slice: the gradient where the window's position is that of the slice, else 0."""
    g, at, base = load(0, d), load(1, int64), load(2, int64)
    values = [P.where(P.eq(at, base + scalar(k, int64)), g, const(0, g.dtype)) for k in range(count)]
    return LoopSpec("max_windows_grad", None, [d, int64, int64], values, [d] * count, [True] * count, [int64] * count, False)


@functools.lru_cache(maxsize=8)
def _added_back(d: dtype) -> LoopSpec:
    """A slice of the gradient with its part added."""
    total, g, at, base = load(0, d), load(1, d), load(2, int64), load(3, int64)
    value = P.where(P.eq(at, base + scalar(0, int64)), total + g, total)
    return LoopSpec("max_windows_grad", None, [d, d, int64, int64], [value], [d], [True], [int64], False)


@max_windows_grad.cpu
def _(g: np.ndarray, indices: np.ndarray, size: tuple, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple) -> np.ndarray:
    from .. import cpu_backend
    n, result, kept = len(size), g.shape[-len(size):], g.dtype
    g = wide(g)
    d = FROM_NUMPY[g.dtype]
    shape = (*g.shape[:-n], *size)
    if 0 in g.shape:
        return np.zeros(shape, kept)
    base, _, offsets, flat = _positions(size, kernel, stride, padding, dilation, result)
    if len(offsets) > _MOST:
        out = np.zeros((math.prod(g.shape[:-n]), math.prod(size)), g.dtype)
        np.add.at(out, (np.arange(out.shape[0])[:, None], indices.reshape(out.shape[0], -1)), g.reshape(out.shape[0], -1))
        return out.reshape(shape).astype(kept, copy=False)
    reach = _reach(size, kernel, stride, padding, dilation, result)
    apart = all((k - 1) * e < s for k, s, e in zip(kernel, stride, dilation))
    whole = apart and all(k * m == r and e == 1 for k, m, r, e in zip(kernel, result, reach, dilation))
    out = cpu_backend.empty((*g.shape[:-n], *reach), d)
    if not whole:
        out[...] = 0
    slices = [out[_slice(at, stride, result)] for at in offsets]
    base = np.broadcast_to(base, g.shape)
    if apart:
        cpu_backend.loop(_handed_back(d, len(slices)), [g, indices, base], flat, None, slices)
    else:
        for o, k in zip(slices, flat):
            cpu_backend.loop(_added_back(d), [o, g, indices, base], [k], None, [o])
    return out[(..., *[slice(p, p + m) for p, m in zip(padding, size)])].astype(kept, copy=False)


# ---- on the device, and gradients


@max_windows.cuda
def _(a: Any, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple, result: tuple) -> tuple[Any, Any]:
    from ..triton_kernels import pool
    return pool.max_windows(a, kernel, stride, padding, dilation, result)


@max_windows_grad.cuda
def _(g: Any, indices: Any, size: tuple, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple) -> Any:
    from ..triton_kernels import pool
    return pool.max_windows_grad(g, indices, size, kernel, stride, padding, dilation)


@max_windows.vjp("out1")
def _(ctx: Any, g: Any, _: Any) -> Any:
    attrs = ctx.attrs
    size = tuple(ctx.shape(0)[-len(attrs["kernel"]):])
    return fn.max_windows_grad(g, ctx["out1"], size, attrs["kernel"], attrs["stride"], attrs["padding"], attrs["dilation"])


@max_windows_grad.vjp("indices")
def _(ctx: Any, g: Any) -> Any:
    return pick(g, ctx["indices"], len(ctx.attrs["size"])), None


def pick(input: Any, indices: Any, n: int) -> Any:
    """The elements of the planes of the last ``n`` dimensions at positions in the plane, in the indices' shape."""
    lead, shape = tuple(indices._a.shape[:-n]), indices._a.shape
    return fn.gather_dim(input.reshape((*lead, math.prod(input._a.shape[-n:]))),
                         indices.reshape((*lead, math.prod(shape[-n:]))), len(lead)).reshape(shape)
