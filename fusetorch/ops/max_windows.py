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
    if len(slices) <= max(_MOST, math.prod(result)):
        best = [np.array(_lowest(wide(a[:0]).dtype), a.dtype), first] if padded else []
        for k in range(0, len(slices), _MOST):
            now = slices[k:k + _MOST]
            spec = _largest(FROM_NUMPY[a.dtype], len(now), bool(best))
            best = cpu_backend.loop(spec, [base, *now, *best], flat[k:k + _MOST], None, None)
        return best[0], best[1]
    windows = np.stack(slices, -1)
    best = np.argmax(wide(windows), -1)[..., None]
    values = np.take_along_axis(windows, best, -1)[..., 0]
    at = base + np.array(flat)[best[..., 0]]
    # where nothing beats the lowest value, the first element that exists is meant
    return values, np.where(wide(values) == _lowest(wide(a[:0]).dtype), first, at)


@functools.lru_cache(maxsize=64)
def _gathered(d: dtype, count: int, more: bool) -> LoopSpec:
    """Where an element is: the sum of the gradients of ``count`` windows that chose it. ``more``: added to what is there."""
    here, total = load(0, int64), load(1 + 2 * count, d) if more else const(0, d)
    for k in range(count):
        total = total + P.where(P.eq(load(1 + count + k, int64), here), load(1 + k, d), const(0, d))
    loads = [int64, *[d] * count, *[int64] * count, *([d] if more else [])]
    return LoopSpec("max_windows_grad", None, loads, [total], [d], [True], [], False)


def _classes(n: int, k: int, s: int, p: int, d: int) -> tuple[list[tuple[slice, np.ndarray, list[int], int]], int, int]:
    """One dimension's elements by their place within a stride: elements of a class are seen by windows at the same distances.

    Gives per class the elements as a slice and as positions, where in the padded windows those that see the first one are, and how many
    elements it has; and how many windows the padding adds before the first and needs in all."""
    reach, out, total = (k - 1) * d // s, [], 0
    for r in range(s):
        x = np.arange((r - p) % s, n, s)
        if x.size:
            q = (int(x[0]) + p) // s
            starts = [reach + q - (t * d - r) // s for t in range(k) if (t * d - r) % s == 0]
            out.append((slice(int(x[0]), n, s), x, starts, x.size))
            total = max([total, *[at + x.size for at in starts]])
    return out, reach, total


@functools.lru_cache(maxsize=256)
def _groups(size: tuple, kernel: tuple, stride: tuple, padding: tuple,
            dilation: tuple) -> tuple[list[tuple[tuple, np.ndarray, list[tuple]]], tuple[int, ...], tuple[int, ...]]:
    """The plane's elements in groups that are seen by windows at the same distances: where they are, their positions, and where in the
    padded windows those that see them are; and the padding as in :func:`_classes`, per dimension."""
    classes, reach, total = zip(*[_classes(*each) for each in zip(size, kernel, stride, padding, dilation)])
    out = []
    for group in itertools.product(*classes):
        here = np.zeros((1,) * len(size), np.int64)
        for k, (_, x, _, _) in enumerate(group):
            here = here + (x * math.prod(size[k + 1:])).reshape([-1 if j == k else 1 for j in range(len(size))])
        seen = [(..., *[slice(a, a + c[3]) for a, c in zip(at, group)]) for at in itertools.product(*[c[2] for c in group])]
        out.append(((..., *[c[0] for c in group]), here, seen))
    return out, reach, total


@max_windows_grad.cpu
def _(g: np.ndarray, indices: np.ndarray, size: tuple, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple) -> np.ndarray:
    from .. import cpu_backend
    kept, lead = g.dtype, g.ndim - len(size)
    if not g.size:
        return np.zeros((*g.shape[:lead], *size), kept)
    g = wide(g)
    if math.prod(kernel) > max(_MOST, math.prod(g.shape[lead:])):  # few large windows
        out = np.zeros((math.prod(g.shape[:lead]), math.prod(size)), g.dtype)
        np.add.at(out, (np.arange(out.shape[0])[:, None], indices.reshape(out.shape[0], -1)), g.reshape(out.shape[0], -1))
        return out.reshape((*g.shape[:lead], *size)).astype(kept, copy=False)
    d = FROM_NUMPY[g.dtype]
    groups, reach, total = _groups(size, kernel, stride, padding, dilation)
    if any(reach) or any(t > m for t, m in zip(total, g.shape[lead:])):
        inside = (..., *[slice(r, r + m) for r, m in zip(reach, g.shape[lead:])])
        whole = (*g.shape[:lead], *[max(t, r + m) for r, t, m in zip(reach, total, g.shape[lead:])])
        wider, at = np.zeros(whole, g.dtype), np.full(whole, -1, indices.dtype)
        wider[inside], at[inside] = g, indices
        g, indices = wider, at
    out = cpu_backend.empty((*g.shape[:lead], *size), d)
    for place, here, seen in groups:
        part = out[place]
        if not seen:
            part[...] = 0
        for k in range(0, len(seen), _MOST // 2):
            now = seen[k:k + _MOST // 2]
            arrays = [here, *[g[at] for at in now], *[indices[at] for at in now], *([part] if k else [])]
            cpu_backend.loop(_gathered(d, len(now), k > 0), arrays, [], None, [part])
    return out.astype(kept, copy=False)


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
