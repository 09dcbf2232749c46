"""Indexing: ``x[...]``, ``x[...] = v``, and writes into part of a tensor.

The basic part of an index (ints, slices, ``None``, ``...``) is one view, :func:`~fusetorch.ops.views.slice_dims`. The index tensors that
are left go to the op ``index``, or ``index_put`` for writing, with PyTorch's placement rule: their broadcast shape
stands where the indexed dimensions stood if those are neighbours, else in front.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import HALVES, bool_, int64, uint8
from ..runtime.cpu_memory import empty
from ..shapes import broadcast_shapes
from ..tensor import Tensor, tracing, version_of
from .creation import place
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


# ---- reading an index expression


class Parsed:
    """An index expression taken apart: ``basic`` for ``slice_dims``, then ``indices`` at ``dims`` of that view."""

    __slots__ = ("basic", "indices", "dims", "trivial")

    def __init__(self, basic: tuple, indices: list[Tensor], dims: tuple[int, ...], trivial: bool) -> None:
        self.basic, self.indices, self.dims, self.trivial = basic, indices, dims, trivial


def basic_index(shape: Sequence[int], key: Any) -> tuple | None:
    """The index for ``slice_dims`` where an expression consists of Python ints, slices of such, ``None`` and ``...`` that fit; ``None``
    for all others and for mistakes, which :func:`parse` takes apart."""
    items = key if type(key) is tuple else (key,)
    rank, used, found = len(shape), 0, -1
    for k, i in enumerate(items):
        if type(i) is int or type(i) is slice:
            used += 1
        elif i is Ellipsis:
            if found >= 0:
                return None
            found = k
        elif i is not None:
            return None
    if used > rank:
        return None
    if found >= 0:
        items = (*items[:found], *[_ALL] * (rank - used), *items[found + 1:])
    elif used < rank:
        items = (*items, *[_ALL] * (rank - used))
    out, d = [], 0
    for i in items:
        if i is None:
            out.append(None)
            continue
        n = shape[d]
        d += 1
        if i is _ALL:
            out.append((0, n, 1))
        elif type(i) is int:
            if not -n <= i < n:
                return None
            out.append(i + n if i < 0 else i)
        else:
            start, stop, step = i.start, i.stop, i.step
            for v in (start, stop, step):
                if v is not None and type(v) is not int:
                    return None
            if step is not None and step <= 0:
                return None
            start, stop, step = i.indices(n)
            out.append((start, stop if stop > start else start, step))
    return tuple(out)


_ALL = slice(None)


def _is_sequence(i: Any) -> bool:
    return isinstance(i, (list, range, np.ndarray)) or (isinstance(i, tuple) and not hasattr(i, "numel"))


def _as_index_tensor(i: Any, device: Any) -> Tensor:
    if isinstance(i, np.ndarray):
        return fn.from_numpy(np.ascontiguousarray(i)).to(device=device)
    t = fn.tensor(list(i), device=device)
    return t.to(int64) if t.numel() == 0 and t.dtype.is_floating_point else t


def parse(x: Any, key: Any) -> Parsed:
    """Takes an index expression apart; ``IndexError`` or ``TypeError`` where PyTorch raises it."""
    items = list(key) if isinstance(key, tuple) else [key]
    shape, device = x._a.shape, None
    for k, i in enumerate(items):
        if _is_sequence(i):
            if device is None:
                device = x.device
            items[k] = _as_index_tensor(i, device)
        elif isinstance(i, np.bool_):
            items[k] = bool(i)
    used, ellipsis = 0, None
    for k, i in enumerate(items):
        if isinstance(i, Tensor):
            used += i.ndim if i.dtype in (bool_, uint8) else 1
        elif i is Ellipsis:
            if ellipsis is not None:
                raise IndexError("an index can only have a single ellipsis ('...')")
            ellipsis = k
        elif i is not None and not isinstance(i, bool):
            used += 1
    rank = len(shape)
    if used > rank:
        raise IndexError(f"too many indices for tensor of dimension {rank}")
    missing = [slice(None)] * (rank - used)
    if ellipsis is None:
        items += missing
    else:
        items[ellipsis:ellipsis + 1] = missing
    basic: list[Any] = []
    indices: list[Tensor] = []
    dims: list[int] = []
    d = out = 0  # dimension of x, dimension of the view
    trivial = True
    lone = sum(isinstance(i, Tensor) for i in items) == 1
    for i in items:
        if isinstance(i, slice):
            start, stop, step = normalised_slice(i, shape[d])
            trivial = trivial and start == 0 and stop == shape[d] and step == 1
            basic.append((start, stop, step))
            d, out = d + 1, out + 1
        elif i is None:
            basic.append(None)
            out, trivial = out + 1, False
        elif isinstance(i, bool):
            basic.append(None)
            indices.append(fn.zeros(1 if i else 0, dtype=int64, device=x.device))
            dims.append(out)
            out, trivial = out + 1, False
        elif isinstance(i, Tensor):
            if not i.ndim and i.dtype not in (bool_, uint8):
                if i.dtype.is_floating_point:
                    raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
                if not (lone and tracing()):
                    basic.append(at_index(int(i.item()), shape, d))
                    d, trivial = d + 1, False
                    continue
            for part in index_tensors(i, shape, d):
                if i.ndim or i.dtype not in (bool_, uint8):
                    basic.append((0, shape[d], 1))
                    d += 1
                else:
                    basic.append(None)
                    trivial = False
                indices.append(part)
                dims.append(out)
                out += 1
        elif hasattr(i, "__index__"):
            basic.append(at_index(i.__index__(), shape, d))
            d, trivial = d + 1, False
        else:
            raise IndexError("only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices "
                             f"(got {type(i).__name__})")
    return Parsed(tuple(basic), indices, tuple(dims), trivial)


def at_index(i: int, shape: Sequence[int], d: int) -> int:
    """Position ``i`` of dimension ``d`` counted from the front; ``IndexError`` outside."""
    n = shape[d]
    if not -n <= i < n:
        raise IndexError(f"index {i} is out of bounds for dimension {d} with size {n}")
    return i + n if i < 0 else i


def normalised_slice(s: slice, n: int) -> tuple[int, int, int]:
    """Start, stop and step of a slice of ``n`` elements, as ``range`` takes them."""
    parts = [v.item() if isinstance(v, Tensor) else v for v in (s.start, s.stop, s.step)]
    for v in parts:
        if v is not None and not hasattr(v, "__index__"):
            raise TypeError(f"slice indices must be integers or None or have an __index__ method, got {type(v).__name__}")
    if parts[2] is not None and parts[2] <= 0:
        raise ValueError("step must be greater than zero")
    start, stop, step = slice(*parts).indices(n)
    return start, max(stop, start), step


def index_tensors(i: Tensor, shape: Sequence[int], d: int) -> list[Tensor]:
    """The integer tensors that an index tensor stands for: itself, or the positions where a mask is true."""
    if i.dtype in (bool_, uint8):
        for k, n in enumerate(i._a.shape):
            if n != shape[d + k]:
                raise IndexError(f"The shape of the mask {list(i.shape)} at index {k} does not match the shape of the indexed tensor "
                                 f"{list(shape)} at index {d + k}")
        if not i.ndim:
            return [fn.zeros(1 if bool(i) else 0, dtype=int64, device=i.device)]
        return list(nonzero_tensors(i))
    if i.dtype.is_floating_point or i.dtype.itemsize < 4:
        raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
    return [i]


def nonzero_tensors(x: Tensor) -> tuple[Tensor, ...]:
    """Where ``x`` is not zero: one int64 vector per dimension."""
    from .conversion import host_array
    where = np.nonzero(np.atleast_1d(host_array(x.detach())))
    return tuple(place(w.astype(np.int64), x.device) for w in where)


def broadcastable(indices: Sequence[Tensor]) -> None:
    """Raises ``IndexError`` where index tensors do not broadcast together."""
    try:
        broadcast_shapes(*[i._a.shape for i in indices])
    except RuntimeError:
        shapes = ", ".join(str(list(i.shape)) for i in indices)
        raise IndexError(f"shape mismatch: indexing tensors could not be broadcast together with shapes {shapes}") from None


def on_device(indices: list[Tensor], x: Any) -> list[Tensor]:
    """Index tensors moved to where ``x`` is."""
    return [i if type(i._a) is type(x._a) or tracing() else i.to(device=x.device) for i in indices]


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
    from .. import dispatch
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
            dispatch.bump(target)
            return target
    return dispatch.inplace(name, target, lambda before: dispatch.opaque(op, (before, *operands), attrs))


@composite(name="__setitem__", function=False)
def setitem(input, key, value):
    """``input[key] = value``, with ``value`` broadcast and converted."""
    if isinstance(key, Tensor) and key.dtype is bool_ and key.ndim and _is_single(value) and key.ndim <= input.ndim:
        # no need to know how many elements the mask selects
        _index_shape_check(key, input._a.shape)
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


def _index_shape_check(mask: Tensor, shape: Sequence[int]) -> None:
    for k, n in enumerate(mask._a.shape):
        if n != shape[k]:
            raise IndexError(f"The shape of the mask {list(mask.shape)} at index {k} does not match the shape of the indexed tensor "
                             f"{list(shape)} at index {k}")


def check_value(value: Tensor, shape: Sequence[int]) -> None:
    """Raises ``RuntimeError`` where ``value`` does not broadcast to the indexed ``shape``."""
    have = value._a.shape
    lead = len(shape) - len(have)
    if lead < 0 or any(n not in (1, m) for n, m in zip(have, shape[lead:])):
        raise RuntimeError(f"shape mismatch: value tensor of shape {list(have)} cannot be broadcast to indexing result of shape "
                           f"{list(shape)}")
