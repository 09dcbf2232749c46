"""Joining, repeating and rearranging tensors; triangles and diagonals; grids."""
from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from ..dtypes import promote_types
from ..shapes import wrap_dim
from ..tensor import Tensor, tracing
from .creation import place
from .indexing import device_write
from .opdef import Short, composite, fn, opaque
from .reshaping import variadic


def _tensors(name: str, tensors: Any) -> list[Tensor]:
    if isinstance(tensors, Tensor):
        raise TypeError(f"{name}(): argument 'tensors' (position 1) must be tuple of Tensors, not Tensor; tensor.unbind() gives one")
    out = list(tensors)
    for k, t in enumerate(out):
        if not isinstance(t, Tensor):
            raise TypeError(f"expected Tensor as element {k} in argument 0, but got {type(t).__name__}")
    return out


def one_by_one(tensors: tuple[Any, ...]) -> list[Tensor]:
    """Tensors that were given as arguments each, or as one sequence."""
    return list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else list(tensors)


#: Elements up to which tensors are joined in one step.
SMALL = 1 << 15


# ---- joining


@opaque(name="cat_dim", layout="joined", function=False, method=False)
def cat_dim(tensors: Tensors, dim: int):  # noqa: F821 - "Tensors" marks a list of tensors
    """Tensors of one dtype one after the other along ``dim``; the other sizes are equal."""
    first = list(tensors[0].shape)
    first[dim] = sum([t.shape[dim] for t in tensors])
    return [(tuple(first), tensors[0].dtype)]


@cat_dim.cpu
def _(arrays: list[np.ndarray], dim: int) -> np.ndarray:
    return np.concatenate(arrays, dim)


@cat_dim.cuda
def _(arrays: list[Any], dim: int) -> Any:
    from ..runtime.memory import empty
    ((shape, d),) = cat_dim.body(arrays, dim)
    out, at = empty(shape, d, arrays[0].storage.device_index), 0
    for a in arrays:
        n = a.shape[dim]
        device_write(out, (a.shape, out.strides, at * out.strides[dim]), a)
        at += n
    return out


@cat_dim.vjp()
def _(ctx: Any, g: Any) -> Any:
    d, at, out = ctx.attrs["dim"], 0, []
    for k, wanted in enumerate(ctx.needed):
        shape = ctx.shape(k)
        if wanted:
            out.append(fn.slice_dims(g, tuple((at, at + n, 1) if i == d else (0, n, 1) for i, n in enumerate(shape))))
        else:
            out.append(None)
        at += shape[d]
    return out


@composite(out=True, aliases=("concat", "concatenate"), method=False, autocast="promote")
def cat(tensors, dim=0):
    """The tensors one after the other along ``dim``. Dtypes are promoted; a 1-D tensor without elements is skipped, as in PyTorch."""
    ts = _tensors("cat", tensors)
    if not ts:
        raise ValueError("torch.cat(): expected a non-empty list of Tensors")
    for k, t in enumerate(ts):
        if not t.ndim:
            raise RuntimeError(f"zero-dimensional tensor (at position {k}) cannot be concatenated")
    real = [t for t in ts if t._a.shape != (0,)]
    kept = real or ts[:1]
    d = wrap_dim(dim, kept[0].ndim)
    want = reduce(promote_types, [t.dtype for t in ts])
    first = kept[0]._a.shape
    for k, t in enumerate(ts):
        shape = t._a.shape
        if shape == (0,):
            continue
        if len(shape) != len(first):
            raise RuntimeError(f"Tensors must have same number of dimensions: got {len(first)} and {len(shape)}")
        for i, (n, m) in enumerate(zip(first, shape)):
            if n != m and i != d:
                raise RuntimeError(f"Sizes of tensors must match except in dimension {d}. Expected size {n} but got size {m} for tensor "
                                   f"number {k} in the list.")
    kept = [t if t.dtype is want else t.to(want) for t in kept]
    return fn.cat_dim(kept, d)


@composite(out=True, method=False, autocast="promote")
def stack(tensors, dim=0):
    """Tensors of one shape as the slices of a new dimension ``dim``."""
    ts = _tensors("stack", tensors)
    if not ts:
        raise RuntimeError("stack expects a non-empty TensorList")
    first = ts[0]._a.shape
    for k, t in enumerate(ts):
        if t._a.shape != first:
            raise RuntimeError(f"stack expects each tensor to be equal size, but got {list(first)} at entry 0 and {list(t.shape)} at entry "
                               f"{k}")
    d = wrap_dim(dim, len(first) + 1)
    return cat.body([t.unsqueeze(d) for t in ts], d)


def _alike(tensors: Any, least: int) -> list[np.ndarray] | None:
    """The arrays of a list of small CPU tensors of one dtype and rank (at least ``least``), not empty; ``None`` where they are not that."""
    if type(tensors) not in (list, tuple) or not tensors:
        return None
    arrays, first = [], None
    for t in tensors:
        if not isinstance(t, Tensor):
            return None
        a = t._a
        if type(a) is not np.ndarray or a.ndim < least or not 0 < a.size <= SMALL or not a.flags.c_contiguous:
            return None
        if first is None:
            first = a
        elif a.dtype is not first.dtype or a.ndim != first.ndim:
            return None
        arrays.append(a)
    return arrays


@cat.short
def _(tensors, dim=0):
    arrays = _alike(tensors, 1)
    if arrays is None or not -arrays[0].ndim <= dim < arrays[0].ndim:
        return None
    d = dim % arrays[0].ndim
    try:
        out = np.concatenate(arrays, d)
    except ValueError:  # sizes differ: the body says where
        return None
    sizes, given = [a.shape[d] for a in arrays], tuple(tensors)

    def backward(g: np.ndarray) -> list:
        at, found, lead = 0, [], (slice(None),) * d
        for t, n in zip(given, sizes):
            found.append(g[(*lead, slice(at, at + n))] if t._req else None)
            at += n
        return found
    return Short(out, given, (), backward)


@stack.short
def _(tensors, dim=0):
    arrays = _alike(tensors, 0)
    if arrays is None or not -arrays[0].ndim - 1 <= dim <= arrays[0].ndim:
        return None
    shape = arrays[0].shape
    d = dim % (len(shape) + 1)
    for a in arrays:
        if a.shape != shape:
            return None
    slot, given = (*shape[:d], 1, *shape[d:]), tuple(tensors)
    out = np.concatenate([a.reshape(slot) for a in arrays], d)

    def backward(g: np.ndarray) -> list:
        lead = (slice(None),) * d
        return [g[(*lead, k)] if t._req else None for k, t in enumerate(given)]
    return Short(out, given, (), backward)


def _at_least(rank: int, t: Tensor) -> Tensor:
    if t.ndim >= rank:
        return t
    if rank == 1:
        return t.reshape(1)
    if rank == 2:
        return t.reshape(1, 1) if t.ndim == 0 else t.unsqueeze(0)
    return t.reshape(1, 1, 1) if t.ndim == 0 else t.unsqueeze(0).unsqueeze(2) if t.ndim == 1 else t.unsqueeze(2)


def _atleast(rank: int) -> None:
    def f(*tensors):  # noqa: ANN002, ANN202
        made = tuple(_at_least(rank, t) for t in one_by_one(tensors))
        return made[0] if len(tensors) == 1 and isinstance(tensors[0], Tensor) else made
    f.__doc__ = f"Views with at least {rank} dimension{'s' if rank > 1 else ''}."
    composite(name=f"atleast_{rank}d", method=False)(f)


for _rank in (1, 2, 3):
    _atleast(_rank)


def _nonempty(name: str, tensors: Any) -> list[Tensor]:
    ts = _tensors(name, tensors)
    if not ts:
        raise RuntimeError(f"{name} expects a non-empty TensorList")
    return ts


@composite(out=True, method=False)
def hstack(tensors):
    """Joined along dimension 1 (0 for vectors)."""
    ts = [_at_least(1, t) for t in _nonempty("hstack", tensors)]
    return cat.body(ts, 0 if ts[0].ndim == 1 else 1)


@composite(out=True, method=False, aliases=("row_stack",))
def vstack(tensors):
    """Joined along dimension 0, vectors as rows."""
    return cat.body([_at_least(2, t) for t in _nonempty("vstack", tensors)], 0)


@composite(out=True, method=False)
def dstack(tensors):
    """Joined along dimension 2."""
    return cat.body([_at_least(3, t) for t in _nonempty("dstack", tensors)], 2)


@composite(out=True, method=False)
def column_stack(tensors):
    """Joined along dimension 1, vectors as columns."""
    ts = [t.reshape(-1, 1) if t.ndim <= 1 else t for t in _nonempty("column_stack", tensors)]
    return cat.body(ts, 1)


@composite(method=False)
def block_diag(*tensors):
    """The matrices as blocks on the diagonal of a matrix of zeros."""
    ts = [_at_least(2, t) for t in tensors]
    rows, cols = sum(t._a.shape[0] for t in ts), sum(t._a.shape[1] for t in ts)
    want = reduce(promote_types, [t.dtype for t in ts])
    r = c = 0
    out = fn.zeros((rows, cols), dtype=want, device=ts[0].device)
    for t in ts:
        n, m = t._a.shape
        out = fn.slice_put(out, t.to(want), ((r, r + n, 1), (c, c + m, 1)))
        r, c = r + n, c + m
    return out


# ---- repeating


@composite(function=False, layout="row-major")
def repeat(input, *args, repeats=None):
    """The tensor repeated ``repeats[d]`` times along each dimension ``d`` (there may be new leading ones)."""
    reps = variadic("repeat", args, repeats)
    shape = input._a.shape
    if len(reps) < len(shape):
        raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    if any(r < 0 for r in reps):
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(reps)}: {list(reps)}")
    shape = (1,) * (len(reps) - len(shape)) + tuple(shape)
    if all(r == 1 for r in reps):
        return input.reshape(shape).clone()
    split = [n for r, s in zip(reps, shape) for n in (1, s)]
    wide = [n for r, s in zip(reps, shape) for n in (r, s)]
    return input.reshape(split).expand(wide).reshape([r * s for r, s in zip(reps, shape)])


@composite(layout="row-major")
def tile(input, *args, dims=None):
    """``repeat`` with missing leading factors taken as 1."""
    reps = variadic("tile", args, dims)
    return repeat.body(input, (1,) * (input.ndim - len(reps)) + tuple(reps))


@composite(layout="row-major")
def repeat_interleave(input, repeats=None, dim=None, *, output_size=None):
    """Each slice of ``dim`` (each element if ``None``) repeated ``repeats`` times, a number or one per slice."""
    if repeats is None:
        return place(np.repeat(np.arange(input.numel()), _host_counts(input)), input.device)
    x = input.reshape(-1) if dim is None else input
    d = wrap_dim(0 if dim is None else dim, x.ndim)
    if not x.ndim:
        x = x.reshape(1)
    n = x._a.shape[d]
    if isinstance(repeats, Tensor) and output_size is not None and repeats.ndim < 2 and repeats.numel() in (1, n):
        return x.index_select(d, _repeated(repeats.reshape(-1).expand(n), output_size))
    if isinstance(repeats, Tensor) and repeats.numel() == 1:
        repeats = int(repeats.item())
    if isinstance(repeats, int):
        if repeats < 0:
            raise RuntimeError("Repeats must be non-negative")
        shape = x._a.shape
        wide = x.unsqueeze(d + 1).expand(shape[:d + 1] + (repeats,) + shape[d + 1:])
        return wide.reshape(shape[:d] + (shape[d] * repeats,) + shape[d + 1:])
    if repeats.ndim != 1:
        raise RuntimeError("repeat_interleave only accept 1D vector as repeat")
    if repeats.numel() != n:
        raise RuntimeError("repeats must have the same size as input along dim, but got repeats.size(0) = "
                           f"{repeats.numel()} and input.size({d}) = {n}")
    at = np.repeat(np.arange(n), _host_counts(repeats))
    return fn.index(x, [place(at, x.device)], (d,))


def _repeated(counts: Tensor, size: int) -> Tensor:
    """The numbers 0, 1, ..., each ``counts`` times, together ``size``: no value needs to be known."""
    if not tracing() and int(counts.sum()) != size:
        raise RuntimeError(f"repeat_interleave: output_size is {size}, but repeats add up to {int(counts.sum())}")
    return fn.searchsorted(counts.long().cumsum(0), fn.arange(size, device=counts.device), right=True)


def _host_counts(repeats: Tensor) -> np.ndarray:
    from .conversion import host_array
    counts = host_array(repeats.detach())
    if counts.size and counts.min() < 0:
        raise RuntimeError("repeats can not be negative")
    return counts
