"""PyTorch's ways to reshape, reorder and cut, as composites of the view ops; and ``as_strided``, which views a whole memory."""
from __future__ import annotations

from copy import copy
from functools import lru_cache
from typing import Any

import numpy as np

from ..dtypes import PYTHON_TYPES, bool_
from ..dtypes import dtype as dtype_class
from ..shapes import distinct_dims, infer_reshape, numel, view_strides, wrap_dim
from ..tensor import active_tracer, meta, tracing, version_of, wrap
from .opdef import composite, fn, view
from .views import Layout, strided


def variadic(name: str, args: tuple, keyword: Any) -> tuple[int, ...]:
    """Ints given one by one, as one sequence, or by keyword."""
    if keyword is None:
        given = args[0] if len(args) == 1 and isinstance(args[0], (tuple, list)) else args
        for n in given:
            if type(n) is not int:
                break
        else:
            return tuple(given)
    else:
        if args:
            raise TypeError(f"{name}(): sizes given both by position and by keyword")
        args = (keyword,)
    if len(args) == 1 and isinstance(args[0], (tuple, list)):
        args = tuple(args[0])
    for n in args:
        if not hasattr(n, "__index__"):
            raise TypeError(f"{name}(): expected integers, got {type(n).__name__} in {args}")
    return tuple([int(n) for n in args])


@composite(function=False, name="view")
def _view(input, *shape, size=None, dtype=None):
    """The same memory in another shape (one size may be -1), or read as another dtype."""
    if len(shape) == 1 and isinstance(shape[0], (dtype_class, type)):
        dtype = PYTHON_TYPES.get(shape[0], shape[0])
    if dtype is not None:
        return fn.view_as_shape(input, tuple(input._a.shape)) if dtype is input.dtype else fn.view_dtype(input, dtype)
    size = infer_reshape(variadic("view", shape, size), input.numel())
    return fn.view_as_shape(input, size)


@composite()
def reshape(input, *args, shape=None):
    """The same elements in order in another shape; a view where strides allow it, else a copy."""
    size = variadic("reshape", args, shape)
    have = input._a.shape
    if size == have:
        return input if tuple.__len__(have) == 0 else fn.view_as_shape(input, size)
    size = infer_reshape(size, numel(have))
    if not input.is_contiguous() and view_strides(have, input.stride(), size) is None:
        input = input.contiguous()
    return fn.view_as_shape(input, size)


@composite(function=False)
def view_as(input, other):
    """``input.view(other.shape)``."""
    return fn.view_as_shape(input, infer_reshape(tuple(other.shape), input.numel()))


@composite(function=False)
def reshape_as(input, other):
    """``input.reshape(other.shape)``."""
    return input.reshape(tuple(other.shape))


@composite()
def permute(input, *args, dims=None):
    """Dimensions in another order."""
    given = variadic("permute", args, dims)
    rank = input.ndim
    if len(given) != rank:
        raise RuntimeError("permute: number of dimensions in the tensor input does not match the length of the desired ordering of "
                           f"dimensions i.e. input.dim() = {rank} is not equal to len(dims) = {len(given)}")
    order = tuple(wrap_dim(d, rank) for d in given)
    if len(set(order)) != rank:
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return fn.permute_dims(input, order)


@composite(aliases=("swapaxes", "swapdims"), also={"axis0": "dim0", "axis1": "dim1"})
def transpose(input, dim0, dim1):
    """Two dimensions swapped."""
    rank = input.ndim
    return fn.permute_dims(input, _swapped(rank, dim0, dim1))


@lru_cache(1024)
def _swapped(rank: int, dim0: int, dim1: int) -> tuple[int, ...]:
    a, b = wrap_dim(dim0, rank), wrap_dim(dim1, rank)
    order = list(range(rank))
    if rank:
        order[a], order[b] = order[b], order[a]
    return tuple(order)


@composite()
def t(input):
    """The transpose of a matrix; vectors and scalars as they are."""
    if input.ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {input.ndim}D")
    return fn.permute_dims(input, tuple(range(input.ndim))[::-1])


@composite(aliases=("moveaxis",))
def movedim(input, source, destination):
    """Dimensions moved to other places, the rest in order."""
    src = [source] if isinstance(source, int) else list(source)
    dst = [destination] if isinstance(destination, int) else list(destination)
    if len(src) != len(dst):
        raise RuntimeError(f"movedim: Invalid source or destination dims: source ({src} dims) should contain the same number of "
                           f"dims as destination ({dst} dims)")
    rank = input.ndim
    src, dst = [wrap_dim(d, rank) for d in src], [wrap_dim(d, rank) for d in dst]
    if len(set(src)) != len(src) or len(set(dst)) != len(dst):
        raise RuntimeError(f"movedim: repeated dim in `source` ({src}) or `destination` ({dst})")
    order: list[Any] = [None] * rank
    for s, d in zip(src, dst):
        order[d] = s
    rest = iter(d for d in range(rank) if d not in src)
    return fn.permute_dims(input, tuple(next(rest) if d is None else d for d in order))


@composite(function=False)
def expand(input, *args, size=None, implicit=False):
    """Broadcast without copying; -1 keeps a size."""
    size = variadic("expand", args, size)
    have = input._a.shape
    lead = len(size) - len(have)
    if lead < 0:
        raise RuntimeError(f"expand({input.dtype}{list(have)}, size={list(size)}): the number of sizes provided ({len(size)}) must be "
                           f"greater or equal to the number of dimensions in the tensor ({len(have)})")
    out = list(size)
    for i, n in enumerate(size):
        old = have[i - lead] if i >= lead else None
        if n == -1:
            if old is None:
                raise RuntimeError(f"The expanded size of the tensor (-1) isn't allowed in a leading, non-existing dimension {i}")
            out[i] = old
        elif old is not None and old not in (1, n):
            raise RuntimeError(f"The expanded size of the tensor ({n}) must match the existing size ({old}) at non-singleton dimension "
                               f"{i}.  Target sizes: {list(size)}.  Tensor sizes: {list(have)}")
    return fn.expand_to(input, tuple(out))


@composite(function=False)
def expand_as(input, other):
    """``input.expand(other.shape)``."""
    return input.expand(tuple(other.shape))


@composite()
def broadcast_to(input, size):
    """``input.expand(size)``."""
    return input.expand(tuple(size))


@composite(inplace=False)
def squeeze(input, dim=None):
    """Dimensions of size 1 removed: all, or those among ``dim``."""
    shape, rank = input._a.shape, input.ndim
    chosen = range(rank) if dim is None else distinct_dims(dim, rank)
    return fn.view_as_shape(input, tuple(n for d, n in enumerate(shape) if n != 1 or d not in chosen))


@composite()
def unsqueeze(input, dim):
    """A dimension of size 1 put in at ``dim``."""
    d = wrap_dim(dim, input.ndim + 1)
    shape = input._a.shape
    return fn.view_as_shape(input, shape[:d] + (1,) + shape[d:])


@composite()
def flatten(input, start_dim=0, end_dim=-1):
    """Dimensions ``start_dim`` to ``end_dim`` as one."""
    shape, rank = input._a.shape, input.ndim
    if rank == 0:
        return input.reshape(1)
    a, b = wrap_dim(start_dim, rank), wrap_dim(end_dim, rank)
    if a > b:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    return input if a == b else input.reshape(shape[:a] + (numel(shape[a:b + 1]),) + shape[b + 1:])


@composite()
def ravel(input):
    """All elements in order, in one dimension."""
    return input.reshape(-1)


@composite()
def unflatten(input, dim, sizes):
    """Dimension ``dim`` split into ``sizes`` (one may be -1)."""
    shape = input._a.shape
    d = wrap_dim(dim, input.ndim)
    if not len(sizes):
        raise RuntimeError("unflatten: sizes must be non-empty")
    return fn.view_as_shape(input, shape[:d] + infer_reshape(tuple(sizes), shape[d]) + shape[d + 1:])


def _take(input: Any, d: int, start: int, stop: int) -> Any:
    index = tuple((start, stop, 1) if k == d else (0, n, 1) for k, n in enumerate(input._a.shape))
    return fn.slice_dims(input, index)


@composite()
def narrow(input, dim, start, length):
    """Elements ``start`` to ``start + length`` of dimension ``dim``."""
    if not input.ndim:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    d = wrap_dim(dim, input.ndim)
    if hasattr(start, "numel") and (start.ndim or start.dtype.is_floating_point or start.dtype is bool_):
        raise RuntimeError("start must be an 0-dim integral Tensor.")
    n, start = input._a.shape[d], int(start)
    if not -n <= start <= n:
        raise IndexError(f"start out of range (expected to be in range of [{-n}, {n}], but got {start})")
    if length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    if start < 0:
        start += n
    if start + length > n:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({n}).")
    return _take(input, d, start, start + length)


@composite()
def select(input, dim, index):
    """Position ``index`` of dimension ``dim``, which goes away."""
    d = wrap_dim(dim, input.ndim)
    n = input._a.shape[d]
    if not -n <= index < n:
        raise IndexError(f"select(): index {index} out of range for tensor of size {list(input.shape)} at dimension {d}")
    at = index + n if index < 0 else index
    return fn.slice_dims(input, tuple(at if k == d else (0, m, 1) for k, m in enumerate(input._a.shape)))


@composite(also={"split_size": "split_size_or_sections", "split_sizes": "split_size_or_sections"})
def split(tensor, split_size_or_sections, dim=0):
    """Pieces of one size (the last may be smaller), or of the given sizes, along ``dim``."""
    d = wrap_dim(dim, tensor.ndim)
    n = tensor._a.shape[d]
    if isinstance(split_size_or_sections, int):
        step = split_size_or_sections
        if step < 0 or (step == 0 and n):
            raise RuntimeError(f"split expects split_size be non-negative, but got split_size={step}")
        sizes = [min(step, n - i) for i in range(0, n, step)] if n else [0]
    else:
        sizes = list(split_size_or_sections)
        if any(s < 0 for s in sizes):
            raise RuntimeError(f"split_with_sizes expects split_sizes have only non-negative entries, but got split_sizes={sizes}")
        if sum(sizes) != n:
            raise RuntimeError(f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at dimension {d}), but "
                               f"got split_sizes={sizes}")
    out, at = [], 0
    for s in sizes:
        out.append(_take(tensor, d, at, at + s))
        at += s
    return tuple(out)


@composite()
def chunk(input, chunks, dim=0):
    """At most ``chunks`` pieces of equal size (the last may be smaller) along ``dim``."""
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    d = wrap_dim(dim, input.ndim)
    n = input._a.shape[d]
    return split.body(input, max(-(-n // chunks), 1), d) if n else split.body(input, [0] * chunks, d)


@composite()
def unbind(input, dim=0):
    """The slices along ``dim``, which goes away."""
    d = wrap_dim(dim, input.ndim)
    if not input.ndim:
        return tuple(select.body(input, d, i) for i in range(input._a.shape[d]))
    before, after = [tuple([(0, n, 1) for n in part]) for part in (input._a.shape[:d], input._a.shape[d + 1:])]
    return tuple([fn.slice_dims(input, (*before, i, *after)) for i in range(input._a.shape[d])])


@composite()
def diagonal(input, offset=0, dim1=0, dim2=1):
    """A diagonal of two dimensions as a last dimension."""
    a, b = wrap_dim(dim1, input.ndim), wrap_dim(dim2, input.ndim)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    return fn.diagonal_dims(input, offset, a, b)


@composite(function=False)
def unfold(input, dimension, size, step):
    """Windows of ``size`` elements every ``step`` along ``dimension``, as a last dimension."""
    d = wrap_dim(dimension, input.ndim)
    if not input.ndim:
        if size > 1 or size < 0 or step <= 0:
            raise RuntimeError(f"maximum size for tensor at dimension 0 is 1 but size is {size}")
        return _take(fn.view_as_shape(input, (1,)), 0, 0, size)
    n = input._a.shape[d]
    if size > n or size < 0 or step <= 0:
        raise RuntimeError(f"maximum size for tensor at dimension {d} is {n} but size is {size}")
    return fn.unfold_dim(input, d, size, step)


@view(name="as_strided_view", function=False, method=False)
def as_strided_view(shape, strides, offset, size: tuple, stride: tuple, start: int, own: tuple) -> Layout:
    """Any layout over the same memory, ``start`` elements from the first element of the operand, whose strides are ``own``."""
    return size, stride, offset + start


@as_strided_view.numpy
def _(a: np.ndarray, size: tuple, stride: tuple, start: int, own: tuple) -> np.ndarray:
    return strided(a, size, tuple(s * a.itemsize for s in stride), start * a.itemsize)


@as_strided_view.vjp()
def _(ctx: Any, g: Any) -> Any:
    # each element's gradient is added where it was read; memory between the operand's elements counts for nothing
    size, stride, start, own = (ctx.attrs[k] for k in ("size", "stride", "start", "own"))
    first = min(start, 0)
    read, held = _positions(size, stride, start - first), _positions(ctx.shape(0), own, -first)
    n = 1 + max([int(p.max()) for p in (read, held) if p.size], default=-1)
    flat = fn.zeros((n,), dtype=g.dtype, device=g.device)
    if read.size:
        flat = fn.put_at(flat, g, [fn.tensor(read, device=g.device)], (0,), True)
    return fn.index(flat, [fn.tensor(held, device=g.device)], (0,))


def _positions(size: tuple, stride: tuple, start: int) -> np.ndarray:
    at = np.full(size, start, np.int64)
    for d, (n, s) in enumerate(zip(size, stride)):
        at += (np.arange(n, dtype=np.int64) * s).reshape([-1 if k == d else 1 for k in range(len(size))])
    return at


def _offset_in_memory(t: Any) -> int:
    """How far ``t``'s first element is from the start of its memory."""
    from .memory import offset_in_memory
    return offset_in_memory(t)


def _room_in_memory(t: Any) -> int:
    """How many elements the memory holds that ``t`` is a view of."""
    from .memory import room_in_memory
    if not tracing():
        return room_in_memory(t)
    whole = t if t._x is None or t._x.base is None else t._x.base
    return 1 + sum((n - 1) * s for n, s in zip(whole._a.shape, whole.stride())) if whole.numel() else 0


@composite(function=False)
def storage_offset(input):
    """How far the first element is from the start of the memory, in elements."""
    return _offset_in_memory(input)


@composite()
def as_strided(input, size, stride, storage_offset=None):
    """A view with any sizes and strides, ``storage_offset`` from the start of the memory (from the tensor's own start unless given).

    Raises ``RuntimeError`` for a layout that leaves the memory of the tensor that ``input`` is a view of.
    """
    size, stride = variadic("as_strided", (size,), None), variadic("as_strided", (stride,), None)
    if len(size) != len(stride):
        raise RuntimeError(f"mismatch in length of strides and shape: {list(stride)} and {list(size)}")
    if any(s < 0 for s in stride):
        raise RuntimeError("as_strided: Negative strides are not supported at the moment, got strides: " + str(list(stride)))
    here = _offset_in_memory(input)
    start = here if storage_offset is None else storage_offset
    room = _room_in_memory(input)
    if numel(size) and (start < 0 or start + sum((n - 1) * s for n, s in zip(size, stride)) >= room):
        raise RuntimeError(f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {start} are out of bounds for storage "
                           f"of {room} elements")
    return fn.as_strided_view(input, size, stride, start - here, tuple(input.stride()))


@composite()
def split_with_sizes(input, split_sizes, dim=0):
    """Pieces of the given sizes along ``dim``."""
    return split.body(input, list(split_sizes), dim)


@composite(also={"input": "tensor"})
def unsafe_split(tensor, split_size, dim=0):
    """``split``."""
    return split.body(tensor, split_size, dim)


@composite()
def unsafe_chunk(input, chunks, dim=0):
    """``chunk``."""
    return chunk.body(input, chunks, dim)


@composite(also={"indices": "indices_or_sections", "sections": "indices_or_sections", "tensor_indices_or_sections": "indices_or_sections"})
def tensor_split(input, indices_or_sections, dim=0):
    """Pieces along ``dim``: so many of nearly equal size, or cut at the given positions."""
    if not input.ndim:
        raise RuntimeError("tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims")
    d = wrap_dim(dim, input.ndim)
    n = input._a.shape[d]
    if hasattr(indices_or_sections, "numel"):
        indices_or_sections = indices_or_sections.tolist()
    if isinstance(indices_or_sections, int):
        k = indices_or_sections
        if k <= 0:
            raise RuntimeError(f"number of sections must be larger than 0, got {k}")
        sizes = [n // k + (i < n % k) for i in range(k)]
        cuts = [sum(sizes[:i]) for i in range(1, k)]
    else:
        cuts = list(indices_or_sections)
    edges = [0] + [min(max(c + n if c < 0 else c, 0), n) for c in cuts] + [n]
    return tuple(_take(input, d, a, max(a, b)) for a, b in zip(edges, edges[1:]))


def _split_along(name: str, dim: Any, rank: int, doc: str) -> None:
    def f(input, indices_or_sections):  # noqa: ANN001, ANN202
        if input.ndim < rank:
            raise RuntimeError(f"torch.{name} requires a tensor with at least {rank} dimension, but got a tensor with "
                               f"{input.ndim} dimensions!")
        d = (0 if input.ndim == 1 else 1) if dim is None else dim
        if isinstance(indices_or_sections, int) and (indices_or_sections <= 0 or input._a.shape[d] % indices_or_sections):
            raise RuntimeError(f"torch.{name} attempted to split along dimension {d}, but the size of the dimension {input._a.shape[d]} is "
                               f"not divisible by the split_size {indices_or_sections}!")
        return tensor_split.body(input, indices_or_sections, d)
    f.__doc__ = doc
    composite(name=name, also={"indices": "indices_or_sections", "sections": "indices_or_sections"})(f)


_split_along("hsplit", None, 1, "Pieces along dimension 1 (0 for vectors).")
_split_along("vsplit", 0, 2, "Pieces along dimension 0.")
_split_along("dsplit", 2, 3, "Pieces along dimension 2.")


def _become(name: str) -> None:
    def f(input, *args, **kwargs):  # noqa: ANN001, ANN002, ANN003, ANN202
        if input._req and tracing():
            active_tracer().before_rebinding(input)
        version_of(input)
        was = wrap(input._a)  # the tensor becomes a view of what it was
        was._req, was._x = input._req, copy(input._x)
        made = getattr(fn, name)(was, *args, **kwargs)
        if input._req and input.grad_fn is None and made._req:
            raise RuntimeError(f"a leaf Variable that requires grad is being used in an in-place operation ({name}_).")
        input._a = made._a
        if made._req or not input._req:
            input._req, input._x = made._req, made._x
        x = meta(input)
        x.version[0] += 1
        x.seen = x.version[0]
        return input
    f.__doc__ = f"``{name}`` in place: the tensor itself gets the other shape and strides."
    composite(name=name + "_", function=name == "as_strided")(f)


for _name in ("squeeze", "unsqueeze", "transpose", "t", "swapaxes", "swapdims", "as_strided"):
    _become(_name)


@composite(function=False)
def contiguous(input, memory_format=None):
    """The tensor itself if row-major (or in the given memory format), else a copy that is."""
    if memory_format is not None:
        from .memory import in_format
        if memory_format.name == "preserve_format":
            raise RuntimeError("preserve memory format is unsupported by the contiguous operator")
        return in_format(input, memory_format)
    return input if input.is_contiguous() else fn.clone_contiguous(input)
