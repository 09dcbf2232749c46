"""Gather and scatter along one dimension, by an index tensor of the same rank."""
from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import HALVES, bool_, dtype, int64
from ..shapes import broadcast_shapes, numel, wrap_dim
from ..tensor import Tensor
from .indexing import device_copy, write
from .opdef import composite, fn, not_implemented, opaque

#: Up to so many elements are gathered from positions in memory that are remembered in part.
_FEW = 4096


def check_positions(shape: Sequence[int], index: np.ndarray, dim: int) -> None:
    """Raises ``RuntimeError`` where an index lies outside dimension ``dim`` of ``shape``."""
    if index.size:
        lo, hi, n = int(np.minimum.reduce(index, axis=None)), int(np.maximum.reduce(index, axis=None)), shape[dim]
        if lo < 0 or hi >= n:
            raise RuntimeError(f"index {lo if lo < 0 else hi} is out of bounds for dimension {dim} with size {n}")


def _positions(shape: Sequence[int], index: np.ndarray, dim: int) -> tuple[np.ndarray, ...]:
    """NumPy index arrays that say, for every element of ``index``, where in a tensor of ``shape`` it points."""
    check_positions(shape, index, dim)
    grid = np.ogrid[tuple(slice(n) for n in index.shape)]
    return tuple(index if k == dim else grid[k] for k in range(index.ndim))


@opaque(name="gather_dim", function=False, method=False)
def gather_dim(input, index, dim: int):
    """``out[i][j] = input[index[i][j]][j]`` for ``dim`` 0."""
    return [(tuple(index.shape), input.dtype)]


@functools.lru_cache(maxsize=256)
def _others(shape: tuple[int, ...], picked: tuple[int, ...], dim: int) -> np.ndarray:
    """Where in row-major memory of ``shape`` each element of an index of shape ``picked`` looks, but for ``dim``."""
    at = np.zeros((1,) * len(shape), np.int64)
    for k, n in enumerate(picked):
        if k != dim:
            at = at + (np.arange(n) * numel(shape[k + 1:])).reshape([-1 if j == k else 1 for j in range(len(shape))])
    return at


def picked(a: np.ndarray, index: np.ndarray, dim: int) -> np.ndarray:
    """``gather_dim`` of arrays of one rank (not 0), for indices that lie within bounds."""
    if 0 < index.size <= _FEW and a.flags.c_contiguous:
        after = numel(a.shape[dim + 1:])
        return a.reshape(-1).take((index if after == 1 else index * after) + _others(a.shape, index.shape, dim))
    at = tuple([index if k == dim else g for k, g in enumerate(np.ogrid[tuple([slice(n) for n in index.shape])])])
    return np.array(a[at])


@gather_dim.cpu
def _(a: np.ndarray, index: np.ndarray, dim: int) -> np.ndarray:
    if a.ndim and index.ndim == a.ndim:
        check_positions(a.shape, index, dim)
        return picked(a, index, dim)
    return np.array(a[_positions(a.shape, index, dim)])


@gather_dim.cuda
def _(a: Any, index: Any, dim: int) -> Any:
    from ..triton_kernels import gather_scatter
    return gather_scatter.gather(a, dim, index)


@gather_dim.vjp("index")
def _(ctx: Any, g: Any) -> Any:
    z = fn.zeros(ctx.shape(0), dtype=g.dtype, device=g.device)
    return fn.scatter_dim(z, g, ctx["index"], ctx.attrs["dim"], "sum", True)


@opaque(name="scatter_dim", function=False, method=False)
def scatter_dim(input, src, index, dim: int, reduce: str, include_self: bool):
    """``input`` with ``src`` written at, or reduced into, ``index`` along ``dim``. ``reduce``: ``none``, ``sum``, ``prod``, ``amax``,
    ``amin``; without ``include_self`` the positions that are hit forget their old value first."""
    return [(tuple(input.shape), input.dtype)]


_REDUCE = {"sum": np.add, "prod": np.multiply, "amax": np.maximum, "amin": np.minimum}


def _start_value(reduce: str, d: np.dtype) -> Any:
    if reduce in ("sum", "prod"):
        return 0 if reduce == "sum" else 1
    if d.kind == "b":
        return reduce == "amin"
    if d.kind in "iu":
        limits = np.iinfo(d)
        return limits.min if reduce == "amax" else limits.max
    return -np.inf if reduce == "amax" else np.inf


def _scatter(out: np.ndarray, src: np.ndarray, index: np.ndarray, dim: int, reduce: str, include_self: bool) -> None:
    at = _positions(out.shape, index, dim)
    src = src[tuple(slice(n) for n in index.shape)]
    if reduce == "none":
        out[at] = src
        return
    half = out.dtype in [d.np for d in HALVES]
    wide = out.astype(np.float32) if half else out
    if not include_self:
        wide[at] = _start_value(reduce, wide.dtype)
    if reduce == "sum":
        from ..codegen.scatter import add_at
        add_at(wide, np.broadcast_arrays(*at), src.astype(wide.dtype, copy=False))
    else:
        _REDUCE[reduce].at(wide, at, src.astype(wide.dtype))
    if half:
        out[...] = wide.astype(out.dtype)


@scatter_dim.cpu
def _(a: np.ndarray, src: np.ndarray, index: np.ndarray, dim: int, reduce: str, include_self: bool) -> np.ndarray:
    out = a.copy()
    _scatter(out, src, index, dim, reduce, include_self)
    return out


scatter_dim.kernels["cpu_inplace"] = _scatter


@scatter_dim.cuda
def _(a: Any, src: Any, index: Any, dim: int, reduce: str, include_self: bool) -> Any:
    from ..triton_kernels import gather_scatter
    out = device_copy(a)
    gather_scatter.scatter(out, dim, index, src, "" if reduce == "none" else reduce, include_self=include_self)
    return out


@scatter_dim.vjp("input", "src", "index", "out")
def _(ctx: Any, g: Any) -> Any:
    index, dim, reduce, include = ctx["index"], ctx.attrs["dim"], ctx.attrs["reduce"], ctx.attrs["include_self"]
    zero = fn.zeros((), dtype=g.dtype, device=g.device)

    def at(x: Any) -> Any:
        return _padded(fn.gather_dim(x, index, dim), ctx.shape(1))

    def forget(x: Any) -> Any:
        return fn.scatter_dim(x, zero.expand(index.shape), index, dim, "none", True)

    if reduce == "none":
        return forget(g) if ctx.needed[0] else None, at(g)
    if reduce == "sum":
        return g if include or not ctx.needed[0] else forget(g), at(g)
    x, src, out = ctx["input"], ctx["src"], ctx["out"]
    if reduce == "prod":
        # the product of all but one factor, also where a factor is zero
        first = fn.ones_like(x) if not include else x
        ones = fn.where(first == 0, fn.ones_like(first), first)
        part = fn.where(src == 0, fn.ones_like(src), src)
        rest = fn.scatter_dim(ones, part, index, dim, "prod", True)
        zeros = fn.scatter_dim((first == 0).to(int64), (src == 0).to(int64), index, dim, "sum", True)

        def but(value: Any, product: Any, count: Any) -> Any:
            lone = fn.where((count == 1) & (value == 0), product, zero)
            safe = fn.where(value == 0, fn.ones_like(value), value)
            return fn.where(count == 0, product / safe, lone)
        gx = g * but(x, rest, zeros) if include else forget(g)
        return gx, at(g) * but(src, at(rest), at(zeros))
    # equal extrema share the gradient
    same = (at(out) == src).to(g.dtype)
    mine = (x == out).to(g.dtype)
    if not include:
        mine = forget(mine)
    count = fn.scatter_dim(mine, same, index, dim, "sum", True)
    share = g / fn.where(count == 0, fn.ones_like(count), count)
    hit = fn.scatter_dim(fn.zeros_like(g), zero.expand(index.shape) + 1, index, dim, "none", True)
    gx = fn.where(hit == 0, g, share * mine if include else zero)
    return gx, at(share) * same


def _padded(x: Any, shape: Sequence[int]) -> Any:
    """``x`` with zeros behind it: the part of ``src`` that the index does not reach."""
    if tuple(x._a.shape) == tuple(shape):
        return x
    return fn.slice_scatter_dims(x, tuple(shape), tuple((0, n, 1) for n in x._a.shape), 0)


# ---- public forms


def _check_index(name: str, input: Any, dim: int, index: Any, against: Any = None) -> int:
    d = wrap_dim(dim, input.ndim)
    if index.dtype.name not in ("int64", "int32") and index.numel():
        raise RuntimeError(f"{name}(): Expected dtype int32/int64 for index, got {index.dtype}")
    if not index.numel():
        return d
    if max(index.ndim, 1) != max(input.ndim, 1):
        raise RuntimeError(f"{name}(): Index tensor must have the same number of dimensions as self tensor ({index.ndim} and {input.ndim})")
    for k in range(min(index.ndim, input.ndim)):
        if k != d and index._a.shape[k] > input._a.shape[k]:
            raise RuntimeError(f"{name}(): Size does not match at dimension {k} expected index {list(index.shape)} to be no larger than "
                               f"self {list(input.shape)} apart from dimension {d}")
    if against is not None:
        if max(against.ndim, 1) != max(index.ndim, 1):
            raise RuntimeError(f"{name}(): Index tensor must have the same number of dimensions as src tensor")
        for k in range(min(index.ndim, against.ndim)):
            if index._a.shape[k] > against._a.shape[k]:
                raise RuntimeError(f"{name}(): Expected index {list(index.shape)} to be no larger than src {list(against.shape)}")
    return d


def _raised(*tensors: Any) -> list[Any]:
    """0-d tensors as vectors of one element: the rank the ops work with."""
    return [t.reshape(1) if t.ndim == 0 else t for t in tensors]


@composite(out="apart")
def gather(input, dim, index, *, sparse_grad=False):
    """``out[i][j] = input[index[i][j]][j]`` (for ``dim`` 0): elements picked along ``dim``; the shape is that of ``index``."""
    d = _check_index("gather", input, dim, index)
    if not index.numel():
        return fn.gather_dim(*_raised(input, index), d) if index.ndim == input.ndim else input.reshape(-1)[:0].reshape(index._a.shape)
    x, i = _raised(input, index)
    r = fn.gather_dim(x, i, d)
    return r.reshape(()) if not index.ndim else r


def _scatter_call(name: str, input: Any, dim: int, index: Any, src: Any, reduce: str, include_self: bool, inplace: bool) -> Any:
    d = _check_index(name, input, dim, index, src)
    if src.dtype is not input.dtype:
        raise RuntimeError(f"{name}(): Expected self.dtype to be equal to src.dtype, got {input.dtype} and {src.dtype}")
    if not index.numel():
        return input if inplace else input.clone()
    i, s = _raised(index, src)
    if inplace:
        write(scatter_dim, input if input.ndim else input.view(1), (s, i), (d, reduce, include_self), name + "_")
        return input
    r = fn.scatter_dim(_raised(input)[0], s, i, d, reduce, include_self)
    return r if input.ndim else r.reshape(())


def _source(input: Any, index: Any, src: Any, value: Any) -> Any:
    given = src if value is None else value
    if isinstance(given, Tensor):
        return given
    return fn.full((), given, dtype=input.dtype, device=input.device).expand(index._a.shape)


def _legacy(name: str, reduce: Any) -> str:
    try:
        return {None: "none", "add": "sum", "multiply": "prod"}[reduce]
    except KeyError:
        raise RuntimeError(f"{name}(): reduce argument must be either add or multiply, got {reduce!r}") from None


@composite(out="exact")
def scatter(input, dim, index, src=None, *, value=None, reduce=None):
    """``input`` with ``src`` (a tensor or a number) written at ``index`` along ``dim``: ``out[index[i][j]][j] = src[i][j]`` for ``dim`` 0.
    ``reduce``: ``None``, ``"add"`` or ``"multiply"``."""
    how = _legacy("scatter", reduce)
    return _scatter_call("scatter", input, dim, index, _source(input, index, src, value), how, True, False)


@composite(function=False)
def scatter_(input, dim, index, src=None, *, value=None, reduce=None):
    """``scatter`` in place."""
    how = _legacy("scatter_", reduce)
    return _scatter_call("scatter", input, dim, index, _source(input, index, src, value), how, True, True)


@composite(out="exact", autocast="promote:cuda")
def scatter_add(input, dim, index, src):
    """``input`` with ``src`` added at ``index`` along ``dim``."""
    return _scatter_call("scatter_add", input, dim, index, src, "sum", True, False)


@composite(function=False)
def scatter_add_(input, dim, index, src):
    """``scatter_add`` in place."""
    return _scatter_call("scatter_add", input, dim, index, src, "sum", True, True)


def _reduce_name(name: str, reduce: str) -> str:
    if reduce not in ("sum", "prod", "mean", "amax", "amin"):
        raise RuntimeError(f"{name}(): reduce argument must be either sum, prod, mean, amax or amin, got {reduce}.")
    return reduce


def check_reduced(name: str, reduce: str, d: dtype) -> None:
    """Raises where slices of this dtype are not reduced so: complex numbers have no order, and truth values no mean."""
    if d.is_complex and reduce in ("amax", "amin") or d is bool_ and reduce == "mean":
        raise not_implemented(f"{name}_{reduce}", d)


@composite(out="exact")
def scatter_reduce(input, dim, index, src, reduce, *, include_self=True):
    """``src`` reduced into ``input`` at ``index`` along ``dim``, by ``"sum"``, ``"prod"``, ``"mean"``, ``"amax"`` or ``"amin"``."""
    how = _reduce_name("scatter_reduce", reduce)
    check_reduced("scatter_reduce", how, input.dtype)
    r = _scatter_call("scatter_reduce", input, dim, index, src, "sum" if how == "mean" else how, include_self, False)
    if how != "mean":
        return r
    ones = fn.ones_like(input)
    n = _scatter_call("scatter_reduce", ones, dim, index, fn.ones_like(src), "sum", include_self, False)
    n = n.clamp(min=1)
    return r / n if r.dtype.is_floating_point else fn.floor_divide(r, n)


@composite(function=False)
def scatter_reduce_(input, dim, index, src, reduce, *, include_self=True):
    """``scatter_reduce`` in place."""
    if _reduce_name("scatter_reduce_", reduce) != "mean":
        return _scatter_call("scatter_reduce", input, dim, index, src, reduce, include_self, True)
    from ..writing import inplace
    return inplace("scatter_reduce_", input,
                   lambda before: scatter_reduce.body(before, dim, index, src, reduce, include_self=include_self))


@composite(out="apart")
def take_along_dim(input, indices, dim=None):
    """``gather`` with the shapes broadcast outside ``dim``; the flattened tensor if ``dim`` is ``None``."""
    if indices.dtype is not int64:
        raise RuntimeError(f"torch.take_along_dim(): dtype of indices should be Long but got {indices.dtype}")
    if dim is None:
        return gather.body(input.reshape(-1), 0, indices.reshape(-1))
    if input.ndim != indices.ndim:
        raise RuntimeError(f"torch.take_along_dim(): input and indices should have the same number of dimensions, but got {input.ndim} "
                           f"dimensions for input, and {indices.ndim} dimensions for indices")
    d = wrap_dim(dim, input.ndim)
    sizes = [1 if k == d else n for k, n in enumerate(input._a.shape)]
    others = [1 if k == d else n for k, n in enumerate(indices._a.shape)]
    common = broadcast_shapes(sizes, others)
    x = input.expand([n if k == d else common[k] for k, n in enumerate(input._a.shape)])
    i = indices.expand([n if k == d else common[k] for k, n in enumerate(indices._a.shape)])
    return gather.body(x, d, fn.where(i < 0, i + x._a.shape[d], i))
