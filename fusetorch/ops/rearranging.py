"""Rearranging tensors: reversal, rotation, grids, triangles and diagonals."""
from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ..dtypes import int64
from ..errors import warn
from ..runtime.batched import values_of
from ..shapes import broadcast_shapes, distinct_dims, wrap_dim
from ..tensor import tracing, wrap
from . import primitives as P
from .creation import place
from .expr import const, iota
from .joining import one_by_one, stack
from .opdef import composite, elementwise, fn
from .reshaping import variadic


@composite(layout="like")
def flip(input, *args, dims=None):
    """The order of the elements reversed along ``dims``, as a copy."""
    chosen = distinct_dims(variadic("flip", args, dims), input.ndim)
    at = tuple((n - 1, -1, -1) if d in chosen else (0, n, 1) for d, n in enumerate(input._a.shape))
    return fn.clone_contiguous(fn.slice_dims(input, at))


@composite()
def fliplr(input):
    """The columns in reverse order."""
    if input.ndim < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return fn.flip(input, 1)


@composite()
def flipud(input):
    """The rows in reverse order."""
    if input.ndim < 1:
        raise RuntimeError("Input must be >= 1-d.")
    return fn.flip(input, 0)


@composite(out=True, layout="row-major")
def roll(input, shifts, dims=None):
    """The elements moved by ``shifts`` along ``dims``, those that fall off coming back at the other end."""
    s = (shifts,) if isinstance(shifts, int) else tuple(shifts)
    if dims is None or dims == ():
        if len(s) != 1:
            raise RuntimeError(f"shifts and dimensions must align. shifts: {len(s)}, dims:0")
        return _roll(input.reshape(-1), s[0], 0).reshape(input._a.shape)
    ds = (dims,) if isinstance(dims, int) else tuple(dims)
    if len(s) != len(ds):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {len(s)}, dims:{len(ds)}" if s else "`shifts` required")
    out = input
    if not input.ndim and ds:
        raise IndexError(f"Dimension specified as {ds[0]} but tensor has no dimensions")
    for k, d in zip(s, ds):
        out = _roll(out, k, wrap_dim(d, input.ndim))
    return out


def _roll(x: Any, k: int, d: int) -> Any:
    n = x._a.shape[d] if x.ndim else 0
    k = k % n if n else 0
    if not k:
        return x.clone()
    return fn.cat_dim([x.narrow(d, n - k, k), x.narrow(d, 0, n - k)], d)


@composite()
def rot90(input, k=1, dims=(0, 1)):
    """Rotated by 90 degrees ``k`` times in the plane of two dimensions, from the first towards the second."""
    if len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if input.ndim < 2:
        raise RuntimeError(f"expected total dims >= 2, but got total dims = {input.ndim}")
    a, b = (wrap_dim(d, input.ndim) for d in dims)
    if a == b:
        raise RuntimeError(f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}")
    turns = k % 4
    if turns == 0:
        return input.clone()
    if turns == 2:
        return fn.flip(input, a, b)
    return fn.flip(input, b).transpose(a, b) if turns == 1 else fn.flip(input, a).transpose(a, b)


# ---- broadcasting and grids


@composite(method=False)
def broadcast_tensors(*tensors):
    """Views of the tensors, all of the shape they broadcast to."""
    ts = one_by_one(tensors)
    shape = tuple(broadcast_shapes(*[t.shape for t in ts])) if ts else ()
    return tuple(t.expand(shape) for t in ts)


@composite(name="broadcast_shapes", method=False)
def broadcast_shapes_(*shapes):
    """The shape that all ``shapes`` broadcast to."""
    return broadcast_shapes(*[(s,) if isinstance(s, int) else tuple(s) for s in shapes or [()]])


@composite(method=False)
def meshgrid(*tensors, indexing=None):
    """Views of vectors as coordinates of a grid; ``indexing`` is ``"ij"`` (default) or ``"xy"``."""
    ts = one_by_one(tensors)
    if indexing is None:
        warn("torch.meshgrid: in an upcoming release, it will be required to pass the indexing argument.")
    if indexing not in (None, "ij", "xy"):
        raise RuntimeError(f'torch.meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}')
    if not ts:
        raise RuntimeError("meshgrid expects a non-empty TensorList")
    for t in ts:
        if t.ndim > 1:
            raise RuntimeError(f"torch.meshgrid: Expected 0D or 1D tensor in the tensor list but got: {t.ndim}D")
        if t.dtype is not ts[0].dtype:
            raise RuntimeError("torch.meshgrid expects all tensors to have the same dtype")
    swap = indexing == "xy" and len(ts) >= 2
    if swap:
        ts[0], ts[1] = ts[1], ts[0]
    shape = [t.numel() for t in ts]
    grids = [t.reshape([-1 if k == d else 1 for k in range(len(ts))]).expand(shape) for d, t in enumerate(ts)]
    if swap:
        grids[0], grids[1] = grids[1], grids[0]
    return tuple(grids)


@composite(method=False)
def cartesian_prod(*tensors):
    """All combinations of the vectors' elements, as rows."""
    ts = one_by_one(tensors)
    if len(ts) == 1:
        return ts[0]
    return stack.body([g.reshape(-1) for g in meshgrid.body(*ts)], 1)


# ---- triangles and diagonals


@elementwise(name="tril_elementwise", row_major=True, function=False, method=False)
def tril_elementwise(input, diagonal: int, rank: int):
    """``input`` where column - row <= ``diagonal`` in the last two of ``rank`` dimensions, else 0."""
    return P.where(iota(("dim", rank - 1)) - iota(("dim", rank - 2)) <= diagonal, input, const(0, input.dtype))


@elementwise(name="triu_elementwise", row_major=True, function=False, method=False)
def triu_elementwise(input, diagonal: int, rank: int):
    """``input`` where column - row >= ``diagonal`` in the last two of ``rank`` dimensions, else 0."""
    return P.where(iota(("dim", rank - 1)) - iota(("dim", rank - 2)) >= diagonal, input, const(0, input.dtype))


def _triangle(name: str, doc: str) -> None:
    def f(input, diagonal=0):  # noqa: ANN001, ANN202
        if input.ndim < 2:
            raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions")
        return getattr(fn, name + "_elementwise")(input, int(diagonal), input.ndim)
    f.__doc__ = doc
    composite(name=name, inplace=True, out="exact")(f)


_triangle("tril", "The lower triangle of the last two dimensions, up to diagonal ``diagonal``; 0 above it.")
_triangle("triu", "The upper triangle of the last two dimensions, from diagonal ``diagonal``; 0 below it.")


def _triangle_indices(name: str, pick: Any) -> None:
    def f(row, col, offset=0, *, dtype=int64, device="cpu", layout=None):  # noqa: ANN001, ANN202
        a = np.stack(pick(np.ones((row, col), bool), offset).nonzero())
        return place(a.astype(dtype.np), device)
    f.__doc__ = f"Row and column numbers of the {'lower' if name[:4] == 'tril' else 'upper'} triangle, as two rows."
    composite(name=name, method=False)(f)


_triangle_indices("tril_indices", np.tril)
_triangle_indices("triu_indices", np.triu)


@composite()
def diag_embed(input, offset=0, dim1=-2, dim2=-1):
    """The last dimension as the ``offset``-th diagonal of two new dimensions, 0 elsewhere."""
    rank = input.ndim + 1
    a, b = wrap_dim(dim1, rank), wrap_dim(dim2, rank)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    n = input._a.shape[-1] + (offset if offset >= 0 else -offset)
    rest = iter(input._a.shape[:-1])
    shape = tuple(n if d in (a, b) else next(rest) for d in range(rank))
    return fn.diagonal_put(fn.zeros(shape, dtype=input.dtype, device=input.device), input, offset, a, b)


@composite(out="exact")
def diag(input, diagonal=0):
    """A vector as a diagonal matrix; the diagonal of a matrix as a vector."""
    if input.ndim == 1:
        return diag_embed.body(input, diagonal)
    if input.ndim == 2:
        return fn.diagonal(input, diagonal).clone()
    raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {input.ndim}D")


@composite()
def diagflat(input, offset=0):
    """The elements as a diagonal matrix."""
    return diag_embed.body(input.reshape(-1), offset)


@composite(nn=True, function=False, method=False, layout="row-major", also={"input": "tensor"})
def one_hot(tensor, num_classes=-1):
    """int64: for each class number a vector with 1 at that place and 0 elsewhere."""
    if tensor.dtype is not int64:
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor.")
    if num_classes == -1:
        if not tensor.numel():
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
        if int(tensor.min()) < 0:
            raise RuntimeError("Class values must be non-negative.")
        num_classes = int(tensor.max()) + 1
    elif tensor.numel() and tensor.device.type == "cpu" and not tracing():
        values = values_of(tensor._a)
        if values.min() < 0:
            raise RuntimeError("Class values must be non-negative.")
        if values.max() >= num_classes:
            raise RuntimeError("Class values must be smaller than num_classes.")
    a = tensor._a
    if type(a) is np.ndarray and not tracing():
        out = np.zeros((a.size, num_classes), np.int64)
        out[np.arange(a.size), a.reshape(-1)] = 1
        return wrap(out.reshape(*a.shape, num_classes))
    classes = fn.arange(num_classes, device=tensor.device)
    return (tensor.unsqueeze(-1) == classes).to(int64)


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


def _image(name: str, input: Any, factor_name: str, factor: int) -> tuple[list[int], int, int, int]:
    """The sizes of a batch of images: before the channels, channels, height, width."""
    if input.ndim < 3:
        raise RuntimeError(f"{name} expects input to have at least 3 dimensions, but got input with {input.ndim} dimension(s)")
    if factor <= 0:
        raise RuntimeError(f"{name} expects a positive {factor_name}, but got {factor}")
    *batch, c, h, w = input._a.shape
    return batch, c, h, w


@composite(nn=True, layout="images")
def pixel_shuffle(input, upscale_factor):
    """(..., C r^2, H, W) as (..., C, H r, W r) (Shi et al. 2016)."""
    r = upscale_factor
    batch, c, h, w = _image("pixel_shuffle", input, "upscale_factor", r)
    if c % (r * r):
        raise RuntimeError(f"pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of upscale_factor, but "
                           f"input.size(-3)={c} is not divisible by {r * r}")
    n = len(batch)
    x = input.reshape([*batch, c // (r * r), r, r, h, w])
    return x.permute([*range(n), n, n + 3, n + 1, n + 4, n + 2]).reshape([*batch, c // (r * r), h * r, w * r])


@composite(nn=True, layout="images")
def pixel_unshuffle(input, downscale_factor):
    """The inverse of ``pixel_shuffle``."""
    r = downscale_factor
    batch, c, h, w = _image("pixel_unshuffle", input, "downscale_factor", r)
    if h % r or w % r:
        raise RuntimeError(f"pixel_unshuffle expects height and width to be divisible by downscale_factor, but got {h} x {w} and {r}")
    n = len(batch)
    x = input.reshape([*batch, c, h // r, r, w // r, r])
    return x.permute([*range(n), n, n + 2, n + 4, n + 1, n + 3]).reshape([*batch, c * r * r, h // r, w // r])
