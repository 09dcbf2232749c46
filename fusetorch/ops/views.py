"""Views: other shapes and strides over the same memory.

A view op is a map from (shape, strides, offset), strides and offset in elements, to those of the result. The NumPy form says the same for
CPU arrays. Transpose, flatten, chunk and the rest are composites of these few: :mod:`fusetorch.ops.reshaping`.
"""
from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..shapes import view_strides
from .opdef import fn, view

Layout = tuple[tuple[int, ...], tuple[int, ...], int]


# ---- the view ops


@view(name="view_as_shape", function=False, method=False)
def view_as_shape(shape, strides, offset, size: tuple) -> Layout:
    """The same elements in order, in another shape that strides can express."""
    new = view_strides(shape, strides, size)
    if new is None:
        raise RuntimeError("view size is not compatible with input tensor's size and stride (at least one dimension spans across "
                           "two contiguous subspaces). Use .reshape(...) instead.")
    return size, new, offset


@view_as_shape.numpy
def _(a: np.ndarray, size: tuple) -> np.ndarray:
    if a.flags.c_contiguous:
        return a.reshape(size)
    r = a.view()
    try:
        r.shape = size  # never copies
    except AttributeError:
        raise RuntimeError("view size is not compatible with input tensor's size and stride (at least one dimension spans across "
                           "two contiguous subspaces). Use .reshape(...) instead.") from None
    return r


@view_as_shape.vjp()
def _(ctx: Any, g: Any) -> Any:
    return g.reshape(ctx.shape(0))


@view(name="permute_dims", function=False, method=False)
def permute_dims(shape, strides, offset, dims: tuple) -> Layout:
    """Dimensions reordered: result dimension *i* is ``dims[i]`` of the operand."""
    return tuple(shape[d] for d in dims), tuple(strides[d] for d in dims), offset


@permute_dims.numpy
def _(a: np.ndarray, dims: tuple) -> np.ndarray:
    return a.transpose(dims)


@permute_dims.vjp()
def _(ctx: Any, g: Any) -> Any:
    dims = ctx.attrs["dims"]
    return fn.permute_dims(g, tuple(sorted(range(len(dims)), key=dims.__getitem__)))


@view(name="expand_to", function=False, method=False)
def expand_to(shape, strides, offset, size: tuple) -> Layout:
    """Broadcast to ``size``: new dimensions and those of size 1 get stride 0."""
    lead = len(size) - len(shape)
    return size, (0,) * lead + tuple(0 if n == 1 and m != 1 else s for n, m, s in zip(shape, size[lead:], strides)), offset


@expand_to.numpy
def _(a: np.ndarray, size: tuple) -> np.ndarray:
    lead = len(size) - a.ndim
    strides = (0,) * lead + tuple([0 if n == 1 and m != 1 else s for n, m, s in zip(a.shape, size[lead:], a.strides)])
    return strided(a, size, strides)


@expand_to.vjp()
def _(ctx: Any, g: Any) -> Any:
    return sum_to_size(g, ctx.shape(0))


def strided(a: np.ndarray, shape: tuple[int, ...], byte_strides: tuple[int, ...], byte_offset: int = 0) -> np.ndarray:
    """A NumPy view with given strides, starting ``byte_offset`` from ``a``'s first element."""
    if byte_offset:
        a = np.lib.stride_tricks.as_strided(a, (2,), (byte_offset,))[1:]  # the offset may be negative
    if a.flags.writeable and not any([s < 0 for s in byte_strides]):
        try:
            return np.ndarray(shape, a.dtype, a, 0, byte_strides)
        except (ValueError, TypeError, BufferError):  # a layout or dtype that goes beyond what NumPy can tell of this memory
            pass
    return np.lib.stride_tricks.as_strided(a, shape, byte_strides)


def sum_to_size(g: Any, shape: Sequence[int]) -> Any:
    """Sums broadcast dimensions so that ``g`` has ``shape``."""
    from ..recorded import sum_to
    return sum_to(g, tuple(shape))


@view(name="slice_dims", part=True, function=False, method=False)
def slice_dims(shape, strides, offset, index: tuple) -> Layout:
    """Basic indexing. ``index`` holds per dimension an int, ``(start, stop, step)`` normalised to what ``range`` takes, or
    ``None`` for a new dimension; it covers all dimensions."""
    out_shape, out_strides, d = [], [], 0
    for i in index:
        if i is None:
            out_shape.append(1)
            out_strides.append(0)
            continue
        if isinstance(i, int):
            offset += i * strides[d]
        else:
            start, stop, step = i
            n = len(range(start, stop, step))
            offset += start * strides[d] if n else 0
            out_shape.append(n)
            out_strides.append(strides[d] * step)
        d += 1
    return tuple(out_shape), tuple(out_strides), offset


@slice_dims.numpy
def _(a: np.ndarray, index: tuple) -> np.ndarray:
    return a[slices(index)]


@lru_cache(4096)
def slices(index: tuple) -> tuple:
    """A ``slice_dims`` index as NumPy takes it."""
    out = []
    for i in index:
        if i is None or type(i) is int:
            out.append(i)
        else:
            start, stop, step = i
            # to NumPy a stop of -1 is the last position, not the one before the first
            out.append(slice(start, None if stop < 0 else stop, step))
    return (*out, ...)  # the Ellipsis keeps a 0-d result an array


@slice_dims.vjp()
def _(ctx: Any, g: Any) -> Any:
    return fn.slice_scatter_dims(g, ctx.shape(0), ctx.attrs["index"])


@view(name="diagonal_dims", part=True, function=False, method=False)
def diagonal_dims(shape, strides, offset, offset_k: int, dim1: int, dim2: int) -> Layout:
    """The ``offset_k``-th diagonal of two dimensions, as a last dimension."""
    n = max(min(shape[dim1] + min(offset_k, 0), shape[dim2] - max(offset_k, 0)), 0)
    keep = [d for d in range(len(shape)) if d not in (dim1, dim2)]
    if n:
        offset += offset_k * strides[dim2] if offset_k >= 0 else -offset_k * strides[dim1]
    return (tuple(shape[d] for d in keep) + (n,),
            tuple(strides[d] for d in keep) + (strides[dim1] + strides[dim2],), offset)


@diagonal_dims.numpy
def _(a: np.ndarray, offset_k: int, dim1: int, dim2: int) -> np.ndarray:
    r = a.diagonal(offset_k, dim1, dim2)
    r.flags.writeable = a.flags.writeable
    return r


@diagonal_dims.vjp()
def _(ctx: Any, g: Any) -> Any:
    z = fn.zeros(ctx.shape(0), dtype=g.dtype, device=g.device)
    k, d1, d2 = ctx.attrs["offset_k"], ctx.attrs["dim1"], ctx.attrs["dim2"]
    return fn.diagonal_scatter(z, g, k, d1, d2)


@view(name="unfold_dim", function=False, method=False)
def unfold_dim(shape, strides, offset, dim: int, size: int, step: int) -> Layout:
    """Windows of ``size`` every ``step`` along ``dim``, as a last dimension."""
    n = (shape[dim] - size) // step + 1
    return (tuple(shape[:dim]) + (n,) + tuple(shape[dim + 1:]) + (size,),
            tuple(strides[:dim]) + (strides[dim] * step,) + tuple(strides[dim + 1:]) + (strides[dim],), offset)


@unfold_dim.numpy
def _(a: np.ndarray, dim: int, size: int, step: int) -> np.ndarray:
    item = a.itemsize
    shape, strides, _ = unfold_dim.body(a.shape, tuple(s // item for s in a.strides), 0, dim, size, step)
    return strided(a, shape, tuple(s * item for s in strides))


@unfold_dim.vjp()
def _(ctx: Any, g: Any) -> Any:
    shape, dim, size, step = ctx.shape(0), ctx.attrs["dim"], ctx.attrs["size"], ctx.attrs["step"]
    z = fn.zeros(shape, dtype=g.dtype, device=g.device)
    at = fn.arange(g.shape[dim], device=g.device).unsqueeze(1) * step + fn.arange(size, device=g.device)
    moved = g.movedim(-1, dim + 1).flatten(dim, dim + 1)
    return z.index_add(dim, at.flatten(), moved)
