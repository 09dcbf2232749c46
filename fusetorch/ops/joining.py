"""Joining, repeating and rearranging tensors; triangles and diagonals; grids."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import dtypes
from ..dtypes import int64, promote_types
from ..shapes import broadcast_shapes, numel, wrap_dim
from ..tensor import Tensor
from . import primitives as P
from .creation import place
from .expr import const, iota
from .indexing import device_write
from .opdef import composite, elementwise, fn, opaque
from .views import variadic


def _tensors(name: str, tensors: Any) -> list[Tensor]:
    if isinstance(tensors, Tensor):
        if tensors.ndim == 0:
            raise TypeError(f"{name}(): argument 'tensors' (position 1) must be tuple of Tensors, not Tensor")
        return list(tensors.unbind(0))
    out = list(tensors)
    for k, t in enumerate(out):
        if not isinstance(t, Tensor):
            raise TypeError(f"expected Tensor as element {k} in argument 0, but got {type(t).__name__}")
    return out


# ---- joining


@opaque(name="cat_dim", function=False, method=False)
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


@composite(out=True, aliases=("concat", "concatenate"), method=False)
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
    want = ts[0].dtype
    for t in ts[1:]:
        want = promote_types(want, t.dtype)
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


@composite(out=True, method=False)
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
        given = list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else list(tensors)
        made = tuple(_at_least(rank, t) for t in given)
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
    want = ts[0].dtype
    for t in ts[1:]:
        want = promote_types(want, t.dtype)
    r = c = 0
    out = fn.zeros((rows, cols), dtype=want, device=ts[0].device)
    for t in ts:
        n, m = t._a.shape
        out = fn.slice_put(out, t.to(want), ((r, r + n, 1), (c, c + m, 1)))
        r, c = r + n, c + m
    return out


# ---- repeating


@composite(function=False)
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


@composite()
def tile(input, *args, dims=None):
    """``repeat`` with missing leading factors taken as 1."""
    reps = variadic("tile", args, dims)
    return repeat.body(input, (1,) * (input.ndim - len(reps)) + tuple(reps))


@composite()
def repeat_interleave(input, repeats=None, dim=None, *, output_size=None):
    """Each slice of ``dim`` (each element if ``None``) repeated ``repeats`` times, a number or one per slice."""
    if repeats is None:
        return place(np.repeat(np.arange(input.numel()), _host_counts(input)), input.device)
    x = input.reshape(-1) if dim is None else input
    d = wrap_dim(0 if dim is None else dim, x.ndim)
    if not x.ndim:
        x = x.reshape(1)
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
    if repeats.numel() != x._a.shape[d]:
        raise RuntimeError("repeats must have the same size as input along dim, but got repeats.size(0) = "
                           f"{repeats.numel()} and input.size({d}) = {x._a.shape[d]}")
    at = np.repeat(np.arange(x._a.shape[d]), _host_counts(repeats))
    return fn.index(x, [place(at, x.device)], (d,))


def _host_counts(repeats: Tensor) -> np.ndarray:
    from .conversion import host_array
    counts = host_array(repeats.detach())
    if counts.size and counts.min() < 0:
        raise RuntimeError("repeats can not be negative")
    return counts


# ---- reordering


@composite()
def flip(input, *args, dims=None):
    """The order of the elements reversed along ``dims``, as a copy."""
    given = variadic("flip", args, dims)
    chosen = [wrap_dim(d, input.ndim) for d in given]
    if len(set(chosen)) != len(chosen):
        raise RuntimeError(f"dim {chosen[0]} appears multiple times in the list of dims")
    at = tuple((n - 1, -1, -1) if d in chosen else (0, n, 1) for d, n in enumerate(input._a.shape))
    return fn.clone_contiguous(fn.slice_dims(input, at))


@composite()
def fliplr(input):
    """The columns in reverse order."""
    if input.ndim < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return flip.body(input, 1)


@composite()
def flipud(input):
    """The rows in reverse order."""
    if input.ndim < 1:
        raise RuntimeError("Input must be >= 1-d.")
    return flip.body(input, 0)


@composite(out=True)
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
        return flip.body(input, a, b)
    return flip.body(input, b).transpose(a, b) if turns == 1 else flip.body(input, a).transpose(a, b)


# ---- broadcasting and grids


@composite(method=False)
def broadcast_tensors(*tensors):
    """Views of the tensors, all of the shape they broadcast to."""
    ts = list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else list(tensors)
    shape = tuple(broadcast_shapes(*[t.shape for t in ts])) if ts else ()
    return tuple(t.expand(shape) for t in ts)


@composite(name="broadcast_shapes", method=False)
def broadcast_shapes_(*shapes):
    """The shape that all ``shapes`` broadcast to."""
    return broadcast_shapes(*[(s,) if isinstance(s, int) else tuple(s) for s in shapes]) if shapes else broadcast_shapes(())


@composite(method=False)
def meshgrid(*tensors, indexing=None):
    """Views of vectors as coordinates of a grid; ``indexing`` is ``"ij"`` (default) or ``"xy"``."""
    ts = list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else list(tensors)
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
    ts = list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else list(tensors)
    if len(ts) == 1:
        return ts[0]
    return stack.body([g.reshape(-1) for g in meshgrid.body(*ts)], 1)


# ---- triangles and diagonals


@elementwise(name="tril_elementwise", function=False, method=False)
def tril_elementwise(input, diagonal: int, rank: int):
    """``input`` where column - row <= ``diagonal`` in the last two of ``rank`` dimensions, else 0."""
    return P.where(iota(("dim", rank - 1)) - iota(("dim", rank - 2)) <= diagonal, input, const(0, input.dtype))


@elementwise(name="triu_elementwise", function=False, method=False)
def triu_elementwise(input, diagonal: int, rank: int):
    """``input`` where column - row >= ``diagonal`` in the last two of ``rank`` dimensions, else 0."""
    return P.where(iota(("dim", rank - 1)) - iota(("dim", rank - 2)) >= diagonal, input, const(0, input.dtype))


def _triangle(name: str, doc: str) -> None:
    def f(input, diagonal=0):  # noqa: ANN001, ANN202
        if input.ndim < 2:
            raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions")
        return getattr(fn, name + "_elementwise")(input, int(diagonal), input.ndim)
    f.__doc__ = doc
    composite(name=name, inplace=True)(f)


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


@composite(out=True)
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


@composite(nn=True, function=False, method=False)
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
    elif tensor.numel() and tensor.device.type == "cpu" and not _tracing():
        if int(tensor.min()) < 0:
            raise RuntimeError("Class values must be non-negative.")
        if int(tensor.max()) >= num_classes:
            raise RuntimeError("Class values must be smaller than num_classes.")
    classes = fn.arange(num_classes, device=tensor.device)
    return (tensor.unsqueeze(-1) == classes).to(int64)


def _tracing() -> bool:
    from ..dispatch import tracer
    return tracer[0] is not None


# ---- padding


@composite(nn=True, function=False, method=False)
def pad(input, pad, mode="constant", value=None):
    """``input`` with ``pad[2k]`` elements before and ``pad[2k+1]`` after dimension ``-1-k``. ``mode``: ``constant`` (with ``value``),
    ``reflect``, ``replicate`` or ``circular``; negative amounts cut off."""
    if len(pad) % 2:
        raise RuntimeError(f"Padding length must be divisible by 2, got {len(pad)}")
    if len(pad) > 2 * input.ndim:
        raise RuntimeError(f"Padding length should be less than or equal to two times the input dimension but got padding length {len(pad)} "
                           f"and input of dimension {input.ndim}")
    amounts = {input.ndim - 1 - k: (int(pad[2 * k]), int(pad[2 * k + 1])) for k in range(len(pad) // 2)}
    if mode == "constant":
        return _pad_constant(input, amounts, 0 if value is None else value)
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if value:
        raise ValueError(f"Padding mode \"{mode}\" doesn't take in value argument")
    if not input.ndim - 2 <= len(pad) // 2 < input.ndim:
        raise NotImplementedError("Only 2D, 3D, 4D, 5D padding with non-constant padding are supported for now")
    sizes = input._a.shape
    out = input
    if mode == "circular":  # what is cut off does not come back
        out = _pad_constant(input, {d: (min(a, 0), min(b, 0)) for d, (a, b) in amounts.items()}, 0)
    for d, (before, after) in amounts.items():
        n = sizes[d]
        limit = n - 1 if mode == "reflect" else n if mode == "circular" else None
        if limit is not None and max(before, after) > limit:
            raise RuntimeError(f"Padding size should be less than the corresponding input dimension, but got: padding ({before}, {after}) at "
                               f"dimension {d} of input {list(input.shape)}")
        if mode == "circular":
            before, after, n = max(before, 0), max(after, 0), out._a.shape[d]
        if before == after == 0:
            continue
        at = np.arange(-before, n + after)
        if mode == "reflect":
            at = np.abs(at)
            at = np.where(at >= n, 2 * (n - 1) - at, at)
        elif mode == "replicate":
            at = np.clip(at, 0, n - 1)
        else:
            at = at % n
        out = fn.index(out, [place(at.astype(np.int64), out.device)], (d,))
    return out


def _pad_constant(x: Any, amounts: dict[int, tuple[int, int]], value: Any) -> Any:
    sizes = x._a.shape
    cut = tuple((max(-amounts.get(d, (0, 0))[0], 0), n - max(-amounts.get(d, (0, 0))[1], 0), 1) for d, n in enumerate(sizes))
    for d, n in enumerate(sizes):
        total = n + sum(amounts.get(d, (0, 0)))
        if total < 0:
            raise RuntimeError(f"The input size {n}, plus negative padding {amounts[d][0]} and {amounts[d][1]}, resulted in a negative "
                               f"output size {total}")
    cut = tuple((a, max(b, a), 1) for a, b, _ in cut)
    if any((a, b) != (0, n) for (a, b, _), n in zip(cut, sizes)):
        x = fn.slice_dims(x, cut)
    shape, at = [], []
    for d, n in enumerate(x._a.shape):
        before, after = (max(v, 0) for v in amounts.get(d, (0, 0)))
        shape.append(before + n + after)
        at.append((before, before + n, 1))
    if x.dtype is dtypes.bool_:
        value = bool(value)
    return fn.slice_scatter_dims(x, tuple(shape), tuple(at), value)


# ---- Einstein summation


@composite(method=False)
def einsum(equation, *operands):
    """Sums of products named by ``equation``, as in NumPy: ``einsum("bij,bjk->bik", a, b)``. Operands are contracted from left to right.

    Raises ``RuntimeError`` for an equation that does not fit the operands.
    """
    if not isinstance(equation, str):
        equation, operands = _sublist_form((equation, *operands))
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise RuntimeError("einsum(): " + ("fewer operands were provided than specified in the equation" if len(terms) > len(operands)
                                           else "more operands were provided than specified in the equation"))
    terms, dots = _expand_dots(terms, operands)
    if arrow:
        if "..." in right:
            right = right.replace("...", dots)
    else:
        letters = "".join(terms)
        right = dots + "".join(sorted(c for c in set(letters) if letters.count(c) == 1 and c not in dots))
    for c in right:
        if right.count(c) > 1:
            raise RuntimeError(f"einsum(): output subscript {c} appears more than once in the output")
        if c not in "".join(terms) and c not in dots:
            raise RuntimeError(f"einsum(): output subscript {c} does not appear in the equation for any input operand")
    xs = []
    for t, x in zip(terms, operands):
        t, x = _diagonals(t, x)
        xs.append((t, x))
    sizes: dict[str, int] = {}
    for t, x in xs:
        for c, n in zip(t, x._a.shape):
            if sizes.get(c, 1) != 1 and n not in (1, sizes[c]):
                raise RuntimeError(f"einsum(): operands do not broadcast with remapped shapes: subscript {c} has size {n} for one operand "
                                   f"and {sizes[c]} for another")
            sizes[c] = max(n, sizes.get(c, 1)) if n != 0 else 0
    t, x = xs[0]
    for k in range(1, len(xs)):
        later = set(right).union(*[set(u) for u, _ in xs[k + 1:]])
        t, x = _contract(t, x, *xs[k], later, sizes)
    summed = [i for i, c in enumerate(t) if c not in right]
    if summed:
        x = x.sum(summed)
        t = "".join(c for c in t if c in right)
    x = x.permute([t.index(c) for c in right]) if right != t else x
    want = [sizes[c] for c in right]
    return x if list(x._a.shape) == want else x.expand(want)


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _sublist_form(args: Sequence[Any]) -> tuple[str, tuple]:
    """``einsum(x, [0, 1], y, [1, 2], [0, 2])`` as an equation."""
    def name(sub: Sequence[Any]) -> str:
        return "".join("..." if i is Ellipsis else _LETTERS[i] for i in sub)
    n = len(args) // 2
    text = ",".join(name(args[2 * k + 1]) for k in range(n))
    if len(args) % 2:
        text += "->" + name(args[-1])
    return text, tuple(args[2 * k] for k in range(n))


def _expand_dots(terms: list[str], operands: Sequence[Any]) -> tuple[list[str], str]:
    """Replaces ``...`` by letters that the equation does not use."""
    used = set("".join(terms))
    free = [c for c in "αβγδεζηθικλμ"]
    widest = 0
    for k, (t, x) in enumerate(zip(terms, operands)):
        named = t.replace("...", "")
        bad = [c for c in named if c not in _LETTERS]
        if bad:
            raise RuntimeError(f"einsum(): invalid subscript given at index {t.index(bad[0])} in the equation string, subscripts must be in "
                               "[a-zA-Z]")
        if "..." in t:
            widest = max(widest, x.ndim - len(named))
        if len(named) != x.ndim and ("..." not in t or len(named) > x.ndim):
            raise RuntimeError(f"einsum(): the number of subscripts in the equation ({len(named)}) does not match the number of dimensions "
                               f"({x.ndim}) for operand {k}" + (" and no ellipsis was given" if "..." not in t else ""))
    dots = "".join(c for c in free if c not in used)[:widest]
    out = []
    for t, x in zip(terms, operands):
        n = x.ndim - len(t.replace("...", ""))
        out.append(t.replace("...", dots[widest - n:] if n else ""))
    return out, dots


def _diagonals(t: str, x: Any) -> tuple[str, Any]:
    """Takes the diagonal where a subscript is repeated within one operand."""
    for c in dict.fromkeys(t):
        while t.count(c) > 1:
            a = t.index(c)
            b = t.index(c, a + 1)
            if x._a.shape[a] != x._a.shape[b]:
                raise RuntimeError(f"einsum(): subscript {c} is repeated for an operand but the sizes don't match, {x._a.shape[b]} != "
                                   f"{x._a.shape[a]}")
            x = fn.diagonal_dims(x, 0, a, b)
            t = t[:a] + t[a + 1:b] + t[b + 1:] + c
    return t, x


def _contract(ta: str, a: Any, tb: str, b: Any, later: set[str], sizes: dict[str, int]) -> tuple[str, Any]:
    """Multiplies two operands and sums over the subscripts that nothing later needs, as one batched matrix product."""
    # what only one of them has and nobody needs is summed first
    for _ in range(2):
        gone = [i for i, c in enumerate(ta) if c not in tb and c not in later]
        if gone:
            a, ta = a.sum(gone), "".join(c for i, c in enumerate(ta) if i not in gone)
        a, ta, b, tb = b, tb, a, ta
    batch = [c for c in ta if c in tb and c in later]
    inner = [c for c in ta if c in tb and c not in later]
    rows = [c for c in ta if c not in tb]
    cols = [c for c in tb if c not in ta]

    def arrange(x: Any, t: str, groups: Sequence[list[str]]) -> Any:
        order = [c for g in groups for c in g]
        x = x.permute([t.index(c) for c in order])
        shared = set(batch) | set(inner)
        x = x.expand([sizes[c] if c in shared else n for c, n in zip(order, x._a.shape)])
        return x.reshape([sizes[c] for c in batch] + [numel(x._a.shape[t2] for t2 in _span(groups, g)) for g in (1, 2)])

    left, right = arrange(a, ta, (batch, rows, inner)), arrange(b, tb, (batch, inner, cols))
    if inner:
        r = fn.bmm_general(left, right)
    else:
        r = left * right
    shape = [sizes[c] for c in batch + rows + cols]
    return "".join(batch + rows + cols), r.reshape(shape)


def _span(groups: Sequence[list[str]], g: int) -> range:
    start = sum(len(x) for x in groups[:g])
    return range(start, start + len(groups[g]))
