"""Order: sorting, ranks, medians and quantiles."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import HALVES, bool_, int64, uint8
from ..return_types import result
from ..shapes import wrap_dim
from ..tensor import Tensor, wrap
from .gather_scatter import picked
from .opdef import composite, fn, opaque

sort_result = result("sort", "values indices")
topk_result = result("topk", "values indices")
kthvalue_result = result("kthvalue", "values indices")
median_result = result("median", "values indices")
mode_result = result("mode", "values indices")


def wide(a: np.ndarray) -> np.ndarray:
    """Half types as float32, which NumPy can sort and compare."""
    return a.astype(np.float32) if a.dtype in [d.np for d in HALVES] else a


def pick_vjp(ctx: Any, g: Any, _: Any) -> Any:
    """The gradient of values picked along a dimension goes back to where they came from."""
    shape = ctx.shape(0)
    if not shape:
        return g
    z = fn.zeros(shape, dtype=g.dtype, device=g.device)
    return fn.scatter_dim(z, g, ctx["out1"], ctx.attrs["dim"], "sum", True)


# ---- sorting


@opaque(refuses="complex", name="sort_dim", layout="like", function=False, method=False, n_outputs=2)
def sort_dim(input, dim: int, descending: bool):
    """The elements in order along ``dim`` (equal ones stay in order; NaN counts as largest), and where each was."""
    return [(tuple(input.shape), input.dtype), (tuple(input.shape), int64)]


@sort_dim.cpu
def _(a: np.ndarray, dim: int, descending: bool) -> tuple[np.ndarray, np.ndarray]:
    if a.ndim == 0:
        return a.copy(), np.zeros((), np.int64)
    keys = wide(a)
    if descending:  # equal elements keep their order: sort the mirror image, mirror back
        back = (*[slice(None)] * (dim % a.ndim), slice(None, None, -1))
        order = a.shape[dim] - 1 - keys[back].argsort(axis=dim, kind="stable")[back]
    else:
        order = np.argsort(keys, axis=dim, kind="stable")
    order = np.ascontiguousarray(order, dtype=np.int64)
    return picked(a, order, dim), order


#: longest row that a device sorts: each element is compared with each other one of its row
_DEVICE_SORT_LIMIT = 1 << 14


@sort_dim.cuda
def _(a: Any, dim: int, descending: bool) -> tuple[Any, Any]:
    values, order = _sort_by_rank(wrap(a), dim, descending)
    return values._a, order._a


def _sort_by_rank(x: Any, dim: int, descending: bool) -> tuple[Any, Any]:
    """Sorts by counting, for every element, those that stand before it."""
    if not x.ndim:
        return x.clone(), fn.zeros((), dtype=int64, device=x.device)
    n = x._a.shape[dim]
    if n > _DEVICE_SORT_LIMIT:
        raise NotImplementedError(f"sort: rows of {n} {x.dtype.name} elements on cuda are not supported (at most {_DEVICE_SORT_LIMIT}); "
                                  "sort on the cpu: x.cpu().sort()")
    row = x.movedim(dim, -1)
    place_of = fn.arange(n, device=x.device)
    mine, other = row.unsqueeze(-1), row.unsqueeze(-2)
    first = (other > mine) if descending else (other < mine)
    if x.dtype.is_floating_point:  # NaN counts as largest
        a, b = (other, mine) if descending else (mine, other)
        first = first | ((a != a) & (b == b))
        same = (other == mine) | ((other != other) & (mine != mine))
    else:
        same = other == mine
    rank = (first | (same & (place_of < place_of.unsqueeze(-1)))).sum(-1)
    at = place_of.expand(row._a.shape)
    order = fn.scatter_dim(fn.zeros(row._a.shape, dtype=int64, device=x.device), at, rank, row.ndim - 1, "none", True)
    order = order.movedim(-1, dim).contiguous()
    return fn.gather_dim(x, order, dim), order


sort_dim.vjp("out1")(pick_vjp)


@opaque(refuses="complex", name="topk_dim", function=False, method=False, n_outputs=2)
def topk_dim(input, k: int, dim: int, largest: bool):
    """The ``k`` largest (or smallest) elements along ``dim`` in order, and where they were."""
    shape = tuple(k if d == dim else n for d, n in enumerate(input.shape))
    return [(shape, input.dtype), (shape, int64)]


@topk_dim.cpu
def _(a: np.ndarray, k: int, dim: int, largest: bool) -> tuple[np.ndarray, np.ndarray]:
    if a.ndim == 0:
        return a.copy(), np.zeros((), np.int64)
    values, order = sort_dim.kernels["cpu"](a, dim, largest)
    first = tuple(slice(k) if d == dim else slice(None) for d in range(a.ndim))
    return np.ascontiguousarray(values[first]), np.ascontiguousarray(order[first])


@topk_dim.cuda
def _(a: Any, k: int, dim: int, largest: bool) -> tuple[Any, Any]:
    values, order = _sort_by_rank(wrap(a), dim, largest)
    if values.ndim:
        values, order = values.narrow(dim, 0, k).contiguous(), order.narrow(dim, 0, k).contiguous()
    return values._a, order._a


topk_dim.vjp("out1")(pick_vjp)


@composite(out="exact")
def sort(input, dim=-1, descending=False, stable=False):
    """``(values, indices)`` in order along ``dim``; equal elements keep their order, and NaN counts as largest."""
    return sort_result(*fn.sort_dim(input, wrap_dim(dim, input.ndim), bool(descending)))


@composite(out=True)
def argsort(input, dim=-1, descending=False, stable=False):
    """The indices that ``sort`` returns."""
    return fn.sort_dim(input, wrap_dim(dim, input.ndim), bool(descending))[1]


@composite(out="exact")
def msort(input):
    """``sort`` along dimension 0, the values alone."""
    return fn.sort_dim(input, 0, False)[0]


@composite(out="exact")
def topk(input, k, dim=-1, largest=True, sorted=True):
    """``(values, indices)`` of the ``k`` largest (or smallest) elements along ``dim``, in order."""
    d = wrap_dim(dim, input.ndim)
    n = input._a.shape[d] if input.ndim else 1
    if not 0 <= k <= n:
        raise RuntimeError("selected index k out of range")
    if input.dtype is bool_:
        raise NotImplementedError("\"topk\" not implemented for 'Bool'")
    return topk_result(*fn.topk_dim(input, int(k), d, bool(largest)))


@composite(refuses="bool", out="apart", layout="row-major")
def kthvalue(input, k, dim=-1, keepdim=False):
    """``(values, indices)`` of the ``k``-th smallest element along ``dim``, counted from 1."""
    d = wrap_dim(dim, input.ndim)
    n = input._a.shape[d] if input.ndim else 1
    if not 1 <= k <= n:
        if input.ndim and n == 0:
            raise IndexError(f"kthvalue(): Expected reduction dim {d} to have non-zero size.")
        raise RuntimeError("kthvalue(): selected number k out of range for dimension " + str(d))
    if not input.ndim:
        return kthvalue_result(input.clone(), fn.zeros((), dtype=int64, device=input.device))
    return kthvalue_result(*_without(d, keepdim, *[t.narrow(d, k - 1, 1) for t in fn.sort_dim(input, d, False)]))


def _without(d: int, keepdim: bool, *found: Any) -> tuple[Any, ...]:
    """Results with one element along ``d``, that dimension kept or not."""
    return found if keepdim else tuple([t.squeeze(d) for t in found])


def _median(input: Any, d: int, keepdim: bool, ignore_nan: bool) -> tuple[Any, ...]:
    if not input.ndim:
        return input.clone(), fn.zeros((), dtype=int64, device=input.device)
    n = input._a.shape[d]
    if not n:
        raise IndexError(f"median(): Expected reduction dim {d} to have non-zero size.")
    values, indices = fn.sort_dim(input, d, False)
    if input.dtype.is_floating_point:
        nans = input.isnan().sum(d, keepdim=True)
        at = (n - nans - 1).clamp(min=0) // 2
        if not ignore_nan:  # the first NaN stands behind all numbers
            at = fn.where(nans > 0, n - nans, at)
    else:
        at = fn.full([1 if k == d else m for k, m in enumerate(input._a.shape)], (n - 1) // 2, dtype=int64, device=input.device)
    return _without(d, keepdim, fn.gather_dim(values, at, d), fn.gather_dim(indices, at, d))


def _median_op(name: str, ignore_nan: bool, doc: str) -> None:
    def f(input, dim=None, keepdim=False):  # noqa: ANN001, ANN202
        if dim is None:
            if not input.numel():
                if input.dtype.is_floating_point:
                    return fn.full((), float("nan"), dtype=input.dtype, device=input.device)
                raise RuntimeError("median(): the median of an empty integer tensor is not defined")
            return _median(input.reshape(-1), 0, False, ignore_nan)[0]
        return median_result(*_median(input, wrap_dim(dim, input.ndim), keepdim, ignore_nan))
    f.__doc__ = doc
    composite(name=name, refuses="bool complex")(f)


_median_op("median", False, "The lower median of all elements, or ``(values, indices)`` along ``dim``; NaN if there is one.")
_median_op("nanmedian", True, "``median`` without the NaNs.")


@composite(out="exact")
def mode(input, dim=-1, keepdim=False):
    """``(values, indices)`` of the most frequent element along ``dim`` (the smallest of them), and a last position of it."""
    d = wrap_dim(dim, input.ndim)
    if not input.ndim:
        return mode_result(input.clone(), fn.zeros((), dtype=int64, device=input.device))
    if not input._a.shape[d]:
        raise IndexError(f"mode(): Expected reduction dim {d} to have non-zero size.")
    x = input.detach().movedim(d, -1)
    x = x.to(uint8) if x.dtype is bool_ else x
    ordered, at = x.contiguous().sort(-1, stable=True)
    end = fn.searchsorted(ordered, ordered, right=True)     # of each element's run
    longest = (end - fn.searchsorted(ordered, ordered)).argmax(-1, keepdim=True)
    index = at.gather(-1, (end.gather(-1, longest) - 1).clamp(min=0)).movedim(-1, d)
    return mode_result(*_without(d, keepdim, fn.gather_dim(input, index.contiguous(), d), index))


def _quantile(input: Any, q: Any, dim: Any, keepdim: bool, interpolation: str, ignore_nan: bool) -> Any:
    name = "nanquantile" if ignore_nan else "quantile"
    if not input.dtype.is_floating_point or input.dtype in HALVES:
        raise RuntimeError(f"{name}() input tensor must be either float or double dtype")
    if not isinstance(q, Tensor):
        if not 0 <= q <= 1:
            raise RuntimeError(f"{name}() q must be in the range [0, 1] but got {q}")
        q = fn.full((), q, dtype=input.dtype, device=input.device)
    if q.ndim > 1:
        raise RuntimeError(f"{name}() q must be a scalar or 1D tensor")
    if q.dtype is not input.dtype:
        raise RuntimeError(f"{name}() q tensor must be same dtype as the input tensor")
    if interpolation not in ("linear", "lower", "higher", "midpoint", "nearest"):
        raise RuntimeError(f"{name}() interpolation must be one of linear, lower, higher, midpoint or nearest, but got {interpolation}")
    if not input.numel():
        raise RuntimeError(f"{name}() input tensor must be non-empty")
    x = input.reshape(-1) if dim is None else input
    d = 0 if dim is None else wrap_dim(dim, x.ndim)
    if not x.ndim:
        x = x.reshape(1)
    x = x.movedim(d, -1) if x.ndim > 1 else x
    n = x._a.shape[-1]
    values = fn.sort_dim(x, x.ndim - 1, False)[0]
    nans = x.isnan().sum(-1, keepdim=True)
    qs = q.reshape(-1)
    if ignore_nan:
        rank = qs * (n - nans - 1).clamp(min=0).to(q.dtype)
    else:
        rank = fn.where(nans > 0, float(n - 1), qs * float(n - 1))
    if interpolation == "nearest":
        rank = rank.round()
    low = rank.floor() if interpolation != "higher" else rank.ceil()
    rank, low = fn.broadcast_tensors(rank, low)
    out = fn.gather_dim(values, low.to(int64), x.ndim - 1)
    if interpolation in ("linear", "midpoint"):
        above = fn.gather_dim(values, rank.ceil().to(int64), x.ndim - 1)
        out = out.lerp(above, rank - low if interpolation == "linear" else fn.where(rank == low, 0.0, 0.5).to(x.dtype))
    out = out.movedim(-1, 0)
    if keepdim:
        out = out.reshape([out._a.shape[0]] + ([1] * input.ndim if dim is None else
                                               [1 if k == d else m for k, m in enumerate(input._a.shape)]))
    return out.squeeze(0) if q.ndim == 0 else out


@composite(out="exact", autocast="float32:cpu")
def quantile(input, q, dim=None, keepdim=False, *, interpolation="linear"):
    """The ``q``-quantiles (``q`` in [0, 1], a number or a vector, which becomes the first dimension)."""
    return _quantile(input, q, dim, keepdim, interpolation, False)


@composite(out="exact", autocast="float32:cpu")
def nanquantile(input, q, dim=None, keepdim=False, *, interpolation="linear"):
    """``quantile`` without the NaNs."""
    return _quantile(input, q, dim, keepdim, interpolation, True)
