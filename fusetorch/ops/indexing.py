"""Indexing: ``x[...]``, ``x[...] = v``, and writes into part of a tensor.

The basic part of an index (ints, slices, ``None``, ``...``) is one view, :func:`~fusetorch.ops.views.slice_dims`. The index tensors that
are left go to the op ``index``, or ``index_put`` for writing, with PyTorch's placement rule: their broadcast shape
stands where the indexed dimensions stood if those are neighbours, else in front.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import HALVES, bool_, int64
from ..runtime.cpu_memory import empty
from ..shapes import broadcast_shapes
from ..tensor import Tensor, tracing, version_of
from .index_expressions import at_index, basic_index, broadcastable, check_mask, on_device, parse
from .opdef import composite, fn, opaque
from .views import diagonal_dims, slice_dims, slices

Shape = tuple[int, ...]


# ---- the opaque operations


def indexed_shape(shape: Sequence[int], indices: Sequence[Any], dims: Sequence[int]) -> Shape:
    """The shape of a tensor of ``shape`` indexed by ``indices`` in the sorted dimensions ``dims``."""
    picked = tuple(broadcast_shapes(*[i.shape for i in indices]))
    rest = [n for d, n in enumerate(shape) if d not in dims]
    at = dims[0] if dims[-1] - dims[0] == len(dims) - 1 else 0
    return tuple(rest[:at]) + picked + tuple(rest[at:])


def _numpy_index(indices: Sequence[np.ndarray], dims: Sequence[int]) -> tuple[Any, ...]:
    full: list[Any] = [slice(None)] * (dims[-1] + 1)
    for i, d in zip(indices, dims):
        full[d] = i
    return tuple(full)


def _check_bounds(shape: Sequence[int], indices: Sequence[np.ndarray], dims: Sequence[int]) -> None:
    for i, d in zip(indices, dims):
        if i.size:
            lo, hi, n = int(i.min()), int(i.max()), shape[d]
            if lo < -n or hi >= n:
                raise IndexError(f"index {lo if lo < -n else hi} is out of bounds for dimension {d} with size {n}")


@opaque(name="index", function=False, method=False)
def index(input, indices: Tensors, dims: tuple):  # noqa: F821 - "Tensors" marks a list of tensors
    """``input`` indexed by integer tensors in the sorted dimensions ``dims``."""
    return [(indexed_shape(input.shape, indices, dims), input.dtype)]


@index.cpu
def _(a: np.ndarray, indices: list[np.ndarray], dims: tuple) -> np.ndarray:
    try:
        if len(dims) == 1:
            return a.take(indices[0], axis=dims[0])
        return np.array(a[_numpy_index(indices, dims)])
    except IndexError:
        _check_bounds(a.shape, indices, dims)
        raise


@index.cuda
def _(a: Any, indices: list[Any], dims: tuple) -> Any:
    from ..triton_kernels import gather_scatter
    from ..triton_kernels.pointwise import contiguous
    return contiguous(gather_scatter.index(a, _per_dim(indices, dims)))


def _per_dim(indices: Sequence[Any], dims: Sequence[int]) -> list[Any]:
    full: list[Any] = [None] * (dims[-1] + 1)
    for i, d in zip(indices, dims):
        full[d] = i
    return full


@index.vjp("indices")
def _(ctx: Any, g: Any) -> Any:
    return fn.index_sum(g, ctx["indices"], tuple(ctx.shape(0)), ctx.attrs["dims"])


@opaque(name="index_sum", function=False, method=False)
def index_sum(input, indices: Tensors, shape: tuple, dims: tuple):  # noqa: F821
    """The gradient of ``index``: zeros of ``shape``, with ``input`` added at index tensors."""
    return [(shape, input.dtype)]


@index_sum.cpu
def _(g: np.ndarray, indices: list[np.ndarray], shape: tuple, dims: tuple) -> np.ndarray:
    out = np.zeros(shape, g.dtype)
    _put_at(out, g, indices, dims, True)
    return out


@index_sum.cuda
def _(g: Any, indices: list[Any], shape: tuple, dims: tuple) -> Any:
    from ..triton_kernels import gather_scatter
    from ..triton_kernels.pointwise import full
    out = full(shape, 0, g.dtype, g.storage.device_index)
    gather_scatter.index_put(out, _per_dim(indices, dims), g, accumulate=True)
    return out


@index_sum.vjp("indices")
def _(ctx: Any, h: Any) -> Any:
    return fn.index(h, ctx["indices"], ctx.attrs["dims"])


@opaque(name="put_at", layout="like", function=False, method=False)
def put_at(input, values, indices: Tensors, dims: tuple, accumulate: bool):  # noqa: F821
    """``input`` with ``values`` written (or added) at index tensors; ``values`` broadcasts to the indexed shape."""
    return [(tuple(input.shape), input.dtype)]


def _put_at(out: np.ndarray, values: np.ndarray, indices: list[np.ndarray], dims: tuple, accumulate: bool) -> None:
    _check_bounds(out.shape, indices, dims)
    if not accumulate:
        out[_numpy_index(indices, dims)] = values
        return
    from ..codegen.scatter import add_at
    at = _per_dim(indices, dims)
    if out.dtype in (d.np for d in HALVES):
        wide = out.astype(np.float32)
        add_at(wide, at, values.astype(np.float32))
        out[...] = wide.astype(out.dtype)
    else:
        add_at(out, at, values)


@put_at.cpu
def _(a: np.ndarray, values: np.ndarray, indices: list[np.ndarray], dims: tuple, accumulate: bool) -> np.ndarray:
    out = a.copy()
    _put_at(out, values, indices, dims, accumulate)
    return out


put_at.kernels["cpu_inplace"] = _put_at


def device_copy(a: Any) -> Any:
    """A row-major copy of a device array."""
    from ..runtime.memory import empty
    from ..triton_kernels.pointwise import copy
    out = empty(tuple(a.shape), a.dtype, a.storage.device_index)
    if a.size:
        copy(a, out)
    return out


def device_write(out: Any, layout: tuple, src: Any) -> Any:
    """Copies ``src`` into the part of a device array that ``layout`` (shape, strides, offset) describes."""
    from ..triton_kernels.pointwise import copy
    part = out.view(tuple(layout[0]), tuple(layout[1]), layout[2])
    if part.size:
        copy(src, part)
    return out


@put_at.cuda
def _(a: Any, values: Any, indices: list[Any], dims: tuple, accumulate: bool) -> Any:
    from ..triton_kernels import gather_scatter
    out = device_copy(a)
    gather_scatter.index_put(out, _per_dim(indices, dims), values, accumulate=accumulate)
    return out


@put_at.vjp("indices")
def _(ctx: Any, g: Any) -> Any:
    from .views import sum_to_size
    indices, dims = ctx["indices"], ctx.attrs["dims"]
    gi = gv = None
    if ctx.needed[0]:
        gi = g if ctx.attrs["accumulate"] else fn.put_at(g, fn.zeros((), dtype=g.dtype, device=g.device), indices, dims, False)
    if ctx.needed[1]:
        gv = sum_to_size(fn.index(g, indices, dims), ctx.shape(1))
    return gi, gv


@opaque(name="slice_scatter_dims", function=False, method=False)
def slice_scatter_dims(input, shape: tuple, index: tuple, fill: object = 0):
    """A tensor of ``shape`` filled with ``fill``, with ``input`` written at a basic index (see ``slice_dims``)."""
    return [(tuple(shape), input.dtype)]


@slice_scatter_dims.cpu
def _(a: np.ndarray, shape: tuple, index: tuple, fill: Any) -> np.ndarray:
    out = empty(shape, a.dtype)
    out.fill(fill)
    out[slices(index)] = a
    return out


@slice_scatter_dims.cuda
def _(a: Any, shape: tuple, index: tuple, fill: Any) -> Any:
    from ..triton_kernels.pointwise import full
    out = full(tuple(shape), fill, a.dtype, a.storage.device_index)
    return device_write(out, slice_dims.body(out.shape, out.strides, 0, index), a)


@slice_scatter_dims.vjp()
def _(ctx: Any, g: Any) -> Any:
    return fn.slice_dims(g, ctx.attrs["index"])


@opaque(name="slice_put", layout="like", function=False, method=False)
def slice_put(input, src, index: tuple):
    """``input`` with ``src`` written at a basic index."""
    return [(tuple(input.shape), input.dtype)]


@slice_put.cpu
def _(a: np.ndarray, src: np.ndarray, index: tuple) -> np.ndarray:
    out = a.copy()
    out[slices(index)] = src
    return out


@slice_put.cuda
def _(a: Any, src: Any, index: tuple) -> Any:
    out = device_copy(a)
    return device_write(out, slice_dims.body(out.shape, out.strides, 0, index), src)


@slice_put.vjp()
def _(ctx: Any, g: Any) -> Any:
    at = ctx.attrs["index"]
    gs = fn.slice_dims(g, at)
    return fn.slice_put(g, fn.zeros_like(gs), at) if ctx.needed[0] else None, gs


@opaque(name="diagonal_put", layout="like", function=False, method=False)
def diagonal_put(input, src, offset: int, dim1: int, dim2: int):
    """``input`` with ``src`` written on a diagonal."""
    return [(tuple(input.shape), input.dtype)]


@diagonal_put.cpu
def _(a: np.ndarray, src: np.ndarray, offset: int, dim1: int, dim2: int) -> np.ndarray:
    out = a.copy()
    d = out.diagonal(offset, dim1, dim2)
    d.flags.writeable = True
    d[...] = src
    return out


@diagonal_put.cuda
def _(a: Any, src: Any, offset: int, dim1: int, dim2: int) -> Any:
    out = device_copy(a)
    return device_write(out, diagonal_dims.body(out.shape, out.strides, 0, offset, dim1, dim2), src)


@diagonal_put.vjp()
def _(ctx: Any, g: Any) -> Any:
    at = ctx.attrs["offset"], ctx.attrs["dim1"], ctx.attrs["dim2"]
    gs = fn.diagonal_dims(g, *at)
    return fn.diagonal_put(g, fn.zeros_like(gs), *at) if ctx.needed[0] else None, gs


# ---- the public forms


@composite(name="__getitem__", function=False)
def getitem(input, key):
    """``input[key]``: a view for ints, slices, ``None`` and ``...``; a copy where index tensors, lists or masks take part."""
    if type(key) is int:  # the common case of loops over rows
        shape = input._a.shape
        if not shape:
            raise IndexError("invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in C++ to convert "
                             "a 0-dim tensor to a number")
        return fn.slice_dims(input, (at_index(key, shape, 0), *[(0, n, 1) for n in shape[1:]]))
    index = basic_index(input._a.shape, key)
    if index is not None:
        return fn.slice_dims(input, index)
    keys = (key,) if type(key) is Tensor else key if type(key) is tuple else ()
    if 0 < len(keys) <= input.ndim and all([type(k) is Tensor and type(k._a) is type(input._a) and k.ndim and k.dtype is int64
                                            for k in keys]):
        if len(keys) > 1:
            broadcastable(keys)
        return fn.index(input, list(keys), tuple(range(len(keys))))
    p = parse(input, key)
    if p.trivial and p.indices:
        view = input
    else:
        view = fn.slice_dims(input, p.basic)
    if not p.indices:
        return view
    broadcastable(p.indices)
    return fn.index(view, on_device(p.indices, input), p.dims)


def _fit(value: Any, like: Any, shape: Sequence[int]) -> Any:
    """A value to be written: a tensor of ``like``'s dtype and device, without leading dimensions of size 1 that ``shape`` has not."""
    if not isinstance(value, Tensor):
        value = fn.tensor(value, dtype=like.dtype, device=like.device)
    extra = value.ndim - len(shape)
    if extra > 0 and all(n == 1 for n in value._a.shape[:extra]):
        value = value.reshape(value._a.shape[extra:])
    return value if value.dtype is like.dtype and value.device is like.device else value.to(device=like.device, dtype=like.dtype)


def write(op: Any, target: Any, operands: Sequence[Any], attrs: tuple, name: str) -> Any:
    """In-place form of an op that returns its first operand changed: in the memory itself where nothing is recorded."""
    from .. import dispatch, writing
    from ..autograd import GradMode
    tensors = [t for o in operands for t in (o if isinstance(o, list) else [o])]
    kernel = op.kernels.get("cpu_inplace")
    if (kernel is not None and isinstance(target._a, np.ndarray) and not tracing()
            and not (GradMode.enabled and (target._req or any(t._req for t in tensors)))):
        for t in tensors:
            if np.may_share_memory(t._a, target._a):
                break
        else:
            kernel(target._a, *[[t._a for t in o] if isinstance(o, list) else o._a for o in operands], *attrs)
            writing.bump(target)
            return target
    return writing.inplace(name, target, lambda before: dispatch.opaque(op, (before, *operands), attrs))


@composite(name="__setitem__", function=False)
def setitem(input, key, value):
    """``input[key] = value``, with ``value`` broadcast and converted."""
    if isinstance(key, Tensor) and key.dtype is bool_ and key.ndim and _is_single(value) and key.ndim <= input.ndim:
        # no need to know how many elements the mask selects
        check_mask(key, input._a.shape)
        mask = key.reshape(key._a.shape + (1,) * (input.ndim - key.ndim))
        fn.masked_fill_(input, mask, _fit(value, input, ()) if isinstance(value, Tensor) else value)
        return
    if tracing() and _written_where(input, key, value):
        return
    index = basic_index(input._a.shape, key)
    if index is not None:
        if not _written(input, index, value):
            view = fn.slice_dims(input, index)
            view.copy_(_fit(value, input, view._a.shape))
        return
    p = parse(input, key)
    view = input if p.trivial else fn.slice_dims(input, p.basic)
    if not p.indices:
        view.copy_(_fit(value, input, view._a.shape))
        return
    broadcastable(p.indices)
    shape = indexed_shape(view._a.shape, p.indices, p.dims)
    value = _fit(value, input, shape)
    check_value(value, shape)
    write(put_at, view, (value, on_device(p.indices, input)), (p.dims, False), "index_put_")


def _written(input: Tensor, index: tuple, value: Any) -> bool:
    """Writes a number, or a tensor of the same dtype, where ``slice_dims`` would look; False where that takes more than NumPy."""
    a = input._a
    if type(a) is not np.ndarray or input._req or tracing():
        return False
    if isinstance(value, Tensor):
        if value._req or type(value._a) is not np.ndarray or value._a.dtype is not a.dtype:
            return False
        value = value._a
    elif type(value) not in (float, int, bool) or a.dtype.char not in "fdFD" or 1e30 < abs(value) < np.inf:
        return False
    if 0 in a.strides:  # perhaps an error
        return False
    try:
        a[slices(index)] = value
    except ValueError:  # the shapes do not fit
        return False
    version_of(input)[0] += 1
    return True


def _written_where(input: Tensor, key: Any, value: Any) -> bool:
    """Writes a value that is the same for all that the one mask in ``key`` selects, which is then not counted; False for all else."""
    items = key if isinstance(key, tuple) else (key,)
    k = next((k for k, i in enumerate(items) if isinstance(i, Tensor)), None)
    if k is None or items[k].dtype is not bool_ or not items[k].ndim:
        return False
    before, mask, after = items[:k], items[k], items[k + 1:]
    if not all(i is None or i is ... or isinstance(i, slice) or type(i) is int for i in (*before, *after)):
        return False
    index = basic_index(input._a.shape, (*before, *[slice(None)] * mask.ndim, *after))
    if index is None:
        return False
    view = fn.slice_dims(input, index)
    kept = [i for i in (after if ... in before else before) if i is None or isinstance(i, slice)]
    at = view.ndim - mask.ndim - len(kept) if ... in before else len(kept)
    if view._a.shape[at:at + mask.ndim] != mask._a.shape:
        return False
    value = _fit(value, input, (*view._a.shape[:at], 1, *view._a.shape[at + mask.ndim:]))
    rest = view.ndim - at - mask.ndim
    if value.ndim > rest:  # it has a dimension for what the mask selects
        own = value._a.shape
        if own[value.ndim - rest - 1] != 1:
            return False
        value = value.reshape(own[:value.ndim - rest - 1] + (1,) * mask.ndim + own[value.ndim - rest:])
    view.copy_(fn.where(mask.reshape(mask._a.shape + (1,) * rest), value, view))
    return True


def _is_single(value: Any) -> bool:
    return not isinstance(value, (list, tuple, np.ndarray)) and (not isinstance(value, Tensor) or value.ndim == 0)


def check_value(value: Tensor, shape: Sequence[int]) -> None:
    """Raises ``RuntimeError`` where ``value`` does not broadcast to the indexed ``shape``."""
    have = value._a.shape
    lead = len(shape) - len(have)
    if lead < 0 or any(n not in (1, m) for n, m in zip(have, shape[lead:])):
        raise RuntimeError(f"shape mismatch: value tensor of shape {list(have)} cannot be broadcast to indexing result of shape "
                           f"{list(shape)}")
