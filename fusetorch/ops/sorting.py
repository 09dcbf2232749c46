"""Order: sorting, ranks, medians, searching, counting distinct values; and running sums and extrema."""
from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np

from ..dtypes import HALVES, bool_, dtype, int32, int64
from ..shapes import wrap_dim
from ..tensor import Tensor, wrap
from .creation import place
from .opdef import composite, fn, opaque

sort_result = namedtuple("sort", "values indices")
topk_result = namedtuple("topk", "values indices")
kthvalue_result = namedtuple("kthvalue", "values indices")
median_result = namedtuple("median", "values indices")
mode_result = namedtuple("mode", "values indices")
cummax_result = namedtuple("cummax", "values indices")
cummin_result = namedtuple("cummin", "values indices")


def _wide(a: np.ndarray) -> np.ndarray:
    return a.astype(np.float32) if a.dtype in [d.np for d in HALVES] else a


def _pick_vjp(ctx: Any, g: Any, _: Any) -> Any:
    """The gradient of values picked along a dimension goes back to where they came from."""
    shape = ctx.shape(0)
    if not shape:
        return g
    z = fn.zeros(shape, dtype=g.dtype, device=g.device)
    return fn.scatter_dim(z, g, ctx["out1"], ctx.attrs["dim"], "sum", True)


# ---- sorting


@opaque(name="sort_dim", function=False, method=False, n_outputs=2)
def sort_dim(input, dim: int, descending: bool):
    """The elements in order along ``dim`` (equal ones stay in order; NaN counts as largest), and where each was."""
    return [(tuple(input.shape), input.dtype), (tuple(input.shape), int64)]


@sort_dim.cpu
def _(a: np.ndarray, dim: int, descending: bool) -> tuple[np.ndarray, np.ndarray]:
    if a.ndim == 0:
        return a.copy(), np.zeros((), np.int64)
    keys = _wide(a)
    if descending:  # equal elements keep their order: sort the mirror image, mirror back
        order = a.shape[dim] - 1 - np.flip(np.argsort(np.flip(keys, dim), axis=dim, kind="stable"), dim)
    else:
        order = np.argsort(keys, axis=dim, kind="stable")
    order = np.ascontiguousarray(order, dtype=np.int64)
    return np.take_along_axis(a, order, dim), order


#: longest row that a device sorts: each element is compared with each other one of its row
_DEVICE_SORT_LIMIT = 1 << 14


@sort_dim.cuda
def _(a: Any, dim: int, descending: bool) -> tuple[Any, Any]:
    from ..autograd import no_grad
    with no_grad():
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


sort_dim.vjp("out1")(_pick_vjp)


@opaque(name="topk_dim", function=False, method=False, n_outputs=2)
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
    from ..autograd import no_grad
    with no_grad():
        values, order = _sort_by_rank(wrap(a), dim, largest)
        if values.ndim:
            values, order = values.narrow(dim, 0, k).contiguous(), order.narrow(dim, 0, k).contiguous()
    return values._a, order._a


topk_dim.vjp("out1")(_pick_vjp)


@composite(out=True)
def sort(input, dim=-1, descending=False, stable=False):
    """``(values, indices)`` in order along ``dim``; equal elements keep their order, and NaN counts as largest."""
    return sort_result(*fn.sort_dim(input, wrap_dim(dim, input.ndim), bool(descending)))


@composite(out=True)
def argsort(input, dim=-1, descending=False, stable=False):
    """The indices that ``sort`` returns."""
    return fn.sort_dim(input, wrap_dim(dim, input.ndim), bool(descending))[1]


@composite(out=True)
def msort(input):
    """``sort`` along dimension 0, the values alone."""
    return fn.sort_dim(input, 0, False)[0]


@composite(out=True)
def topk(input, k, dim=-1, largest=True, sorted=True):
    """``(values, indices)`` of the ``k`` largest (or smallest) elements along ``dim``, in order."""
    d = wrap_dim(dim, input.ndim)
    n = input._a.shape[d] if input.ndim else 1
    if not 0 <= k <= n:
        raise RuntimeError("selected index k out of range")
    if input.dtype is bool_:
        raise RuntimeError("\"topk\" not implemented for 'Bool'")
    return topk_result(*fn.topk_dim(input, int(k), d, bool(largest)))


@composite(out=True)
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
    values, indices = fn.sort_dim(input, d, False)
    values, indices = values.narrow(d, k - 1, 1), indices.narrow(d, k - 1, 1)
    return kthvalue_result(*((values, indices) if keepdim else (values.squeeze(d), indices.squeeze(d))))


def _median(input: Any, d: int, keepdim: bool, ignore_nan: bool) -> tuple[Any, Any]:
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
    v, i = fn.gather_dim(values, at, d), fn.gather_dim(indices, at, d)
    return (v, i) if keepdim else (v.squeeze(d), i.squeeze(d))


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
    composite(name=name)(f)


_median_op("median", False, "The lower median of all elements, or ``(values, indices)`` along ``dim``; NaN if there is one.")
_median_op("nanmedian", True, "``median`` without the NaNs.")


@composite(out=True)
def mode(input, dim=-1, keepdim=False):
    """``(values, indices)`` of the most frequent element along ``dim`` (the smallest of them), and a last position of it."""
    from .conversion import host_array
    d = wrap_dim(dim, input.ndim)
    if not input.ndim:
        return mode_result(input.clone(), fn.zeros((), dtype=int64, device=input.device))
    a = np.moveaxis(_wide(host_array(input.detach())), d, -1)
    at = np.zeros(a.shape[:-1], np.int64)
    for row in np.ndindex(a.shape[:-1]):
        values, inverse, counts = np.unique(a[row], return_inverse=True, return_counts=True)
        at[row] = np.flatnonzero(inverse == counts.argmax())[-1]
    index = place(np.expand_dims(at, d), input.device)
    values = fn.gather_dim(input, index, d)
    return mode_result(values, index) if keepdim else mode_result(values.squeeze(d), index.squeeze(d))


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


@composite(out=True)
def quantile(input, q, dim=None, keepdim=False, *, interpolation="linear"):
    """The ``q``-quantiles (``q`` in [0, 1], a number or a vector, which becomes the first dimension)."""
    return _quantile(input, q, dim, keepdim, interpolation, False)


@composite(out=True)
def nanquantile(input, q, dim=None, keepdim=False, *, interpolation="linear"):
    """``quantile`` without the NaNs."""
    return _quantile(input, q, dim, keepdim, interpolation, True)


# ---- searching and counting


@opaque(name="search_sorted", function=False, method=False, differentiable=False)
def search_sorted(sequence, values, right: bool):
    """Where each value would be inserted into its (sorted) row of ``sequence``; one row serves all values if it is 1-D."""
    return [(tuple(values.shape), int64)]


@search_sorted.cpu
def _(sequence: np.ndarray, values: np.ndarray, right: bool) -> np.ndarray:
    side = "right" if right else "left"
    sequence, values = _wide(sequence), _wide(values)
    if sequence.ndim == 1:
        return np.asarray(np.searchsorted(sequence, values, side), np.int64)
    out = np.empty(values.shape, np.int64)
    for row in np.ndindex(values.shape[:-1]):
        out[row] = np.searchsorted(sequence[row], values[row], side)
    return out


@search_sorted.cuda
def _(sequence: Any, values: Any, right: bool) -> Any:
    s, v = wrap(sequence), wrap(values).unsqueeze(-1)
    s = s if s.ndim == 1 else s.unsqueeze(-2)
    return ((s <= v) if right else (s < v)).sum(-1)._a


@composite(out=True, method=False)
def searchsorted(sorted_sequence, input, *, out_int32=False, right=False, side=None, sorter=None):
    """Positions at which ``input`` would be inserted to keep ``sorted_sequence`` in order: left of equal elements, or ``right`` of them."""
    if side is not None:
        if side not in ("left", "right"):
            raise RuntimeError(f"torch.searchsorted(): side can only be 'left' or 'right' but got {side}")
        if side == "left" and right:
            raise RuntimeError("torch.searchsorted(): side and right can't be set to opposites, got side of left while right was True")
        right = side == "right"
    scalar = not isinstance(input, Tensor)
    if scalar:
        input = fn.tensor(input, device=sorted_sequence.device)
    if sorter is not None:
        if sorter.shape != sorted_sequence.shape:
            raise RuntimeError("torch.searchsorted(): boundary and sorter must have the same size, but got boundary tensor "
                               f"{list(sorted_sequence.shape)} and got sorter tensor {list(sorter.shape)}")
        sorted_sequence = fn.gather_dim(sorted_sequence, sorter, sorter.ndim - 1)
    if sorted_sequence.ndim != 1 and (scalar or sorted_sequence.shape[:-1] != input.shape[:-1] or not input.ndim):
        raise RuntimeError("torch.searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries tensor and "
                           f"input value tensor must match, but we got boundaries tensor {list(sorted_sequence.shape)} and input value "
                           f"tensor {list(input.shape)}")
    if not scalar and sorted_sequence.dtype is not input.dtype:
        raise RuntimeError(f"torch.searchsorted(): boundary tensor and input value tensor should have same dtype, but got boundary tensor dtype "
                           f"{sorted_sequence.dtype} and input value tensor dtype {input.dtype}")
    r = fn.search_sorted(sorted_sequence, input, bool(right))
    return r.to(int32) if out_int32 else r


@composite(out=True)
def bucketize(input, boundaries, *, out_int32=False, right=False):
    """``searchsorted(boundaries, input)`` for one row of ``boundaries``."""
    if boundaries.ndim != 1:
        raise RuntimeError(f"bucketize(): boundaries tensor must be 1 dimension, but got dim({boundaries.ndim})")
    return searchsorted.body(boundaries, input, out_int32=out_int32, right=right)


@composite()
def bincount(input, weights=None, minlength=0):
    """How often each number 0, 1, ... occurs in an integer vector (or the sum of the weights of its occurrences)."""
    from .conversion import host_array
    if input.ndim != 1 or input.dtype.is_floating_point or input.dtype is bool_:
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if minlength < 0:
        raise RuntimeError("minlength should be >= 0")
    a = host_array(input.detach())
    if a.size and a.min() < 0:
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if weights is not None and weights.shape != input.shape:
        raise RuntimeError("weights should be 1-d and have the same length as input")
    w = None if weights is None else host_array(weights.detach())
    r = np.bincount(a, w, minlength)
    want = np.int64 if w is None else np.float32 if weights.dtype.name == "float32" else np.float64
    return place(r.astype(want), input.device)


@composite(out=True)
def histc(input, bins=100, min=0, max=0):
    """How many elements fall into each of ``bins`` equal intervals from ``min`` to ``max`` (the data's range if both are 0)."""
    from .conversion import host_array
    if bins <= 0:
        raise RuntimeError(f"bins must be > 0, but got {bins}")
    a = _wide(host_array(input.detach()))
    lo, hi = (float(a.min()), float(a.max())) if min == max == 0 and a.size else (float(min), float(max))
    if lo == hi:
        lo, hi = lo - 1, hi + 1
    if lo > hi:
        raise RuntimeError("max must be larger than min")
    counts, _ = np.histogram(a, bins, (lo, hi))
    return place(counts.astype(input.dtype.np), input.device)


@composite()
def unique(input, sorted=True, return_inverse=False, return_counts=False, dim=None):
    """The distinct elements (or slices of ``dim``) in order, and on request where each element went and how often each occurs."""
    from .conversion import host_array
    a = host_array(input.detach())
    values, inverse, counts = np.unique(_wide(a) if dim is None else a, return_inverse=True, return_counts=True, axis=dim)
    inverse = inverse.reshape(a.shape if dim is None else -1)
    return _unique_result(values.astype(a.dtype), inverse, counts, input, return_inverse, return_counts)


def _unique_result(values: np.ndarray, inverse: np.ndarray, counts: np.ndarray, input: Any, return_inverse: bool, return_counts: bool) -> Any:
    out = [place(np.ascontiguousarray(values), input.device)]
    if return_inverse:
        out.append(place(inverse.astype(np.int64), input.device))
    if return_counts:
        out.append(place(counts.astype(np.int64), input.device))
    return out[0] if len(out) == 1 else tuple(out)


@composite()
def unique_consecutive(input, return_inverse=False, return_counts=False, dim=None):
    """Runs of equal elements (or slices of ``dim``) reduced to one, and on request the run of each element and the runs' lengths."""
    from .conversion import host_array
    a = host_array(input.detach())
    rows = a.reshape(-1) if dim is None else np.moveaxis(a, wrap_dim(dim, a.ndim), 0)
    n = rows.shape[0]
    flat = rows.reshape(n, -1)
    new = np.ones(n, bool)
    if n > 1:
        new[1:] = (flat[1:] != flat[:-1]).any(1)
    values = rows[new] if dim is None else np.moveaxis(rows[new], 0, dim)
    inverse = np.cumsum(new) - 1
    counts = np.diff(np.append(np.flatnonzero(new), n))
    return _unique_result(values, inverse.reshape(a.shape) if dim is None else inverse, counts, input, return_inverse, return_counts)


@composite(out=True, method=False)
def isin(elements, test_elements, *, assume_unique=False, invert=False):
    """Whether each element is one of ``test_elements``."""
    if not isinstance(elements, Tensor):
        elements = fn.tensor(elements, device=test_elements.device)
    if not isinstance(test_elements, Tensor):
        test_elements = fn.tensor(test_elements, device=elements.device)
    hit = (elements.unsqueeze(-1) == test_elements.reshape(-1)).any(-1)
    return ~hit if invert else hit


# ---- running sums, products and extrema


@opaque(name="cumsum_dim", function=False, method=False)
def cumsum_dim(input, dim: int):
    """The sum of the elements up to each position."""
    return [(tuple(input.shape), input.dtype)]


@cumsum_dim.cpu
def _(a: np.ndarray, dim: int) -> np.ndarray:
    return a.copy() if a.ndim == 0 else np.cumsum(_wide(a), axis=dim, dtype=_wide(a).dtype).astype(a.dtype, copy=False)


@cumsum_dim.cuda
def _(a: Any, dim: int) -> Any:
    from ..triton_kernels.scan import cumulative
    return cumulative("sum", a, dim, a.dtype)


@cumsum_dim.vjp()
def _(ctx: Any, g: Any) -> Any:
    d = ctx.attrs["dim"]
    return g if not g.ndim else fn.flip(fn.cumsum_dim(fn.flip(g, d), d), d)


@opaque(name="linear_scan", function=False, method=False)
def linear_scan(decay, input, dim: int):
    """``y[k] = decay[k] * y[k - 1] + input[k]`` along ``dim``, from zero."""
    return [(tuple(input.shape), input.dtype)]


@linear_scan.cpu
def _(decay: np.ndarray, a: np.ndarray, dim: int) -> np.ndarray:
    f, x = np.moveaxis(_wide(decay), dim, 0), np.moveaxis(_wide(a), dim, 0)
    out = np.empty(a.shape, x.dtype)
    y = np.moveaxis(out, dim, 0)
    for k in range(x.shape[0]):
        y[k] = x[k] if k == 0 else f[k] * y[k - 1] + x[k]
    return out.astype(a.dtype, copy=False)


@linear_scan.cuda
def _(decay: Any, a: Any, dim: int) -> Any:
    # doubling (Hillis and Steele 1986): after step s each position covers 2 s inputs
    from ..autograd import no_grad
    with no_grad():
        f, y = wrap(decay), wrap(a)
        n, step = (y._a.shape[dim] if y.ndim else 1), 1
        if n < 2:
            return y.clone()._a
        while step < n:
            y, f = y + f * _moved(y, dim, step, 0), f * _moved(f, dim, step, 1)
            step *= 2
        return y.contiguous()._a


def _moved(x: Any, d: int, by: int, fill: Any) -> Any:
    """``x`` moved by ``by`` to later positions of ``d``, ``fill`` coming in."""
    n = x._a.shape[d]
    at = tuple((by, n, 1) if k == d else (0, m, 1) for k, m in enumerate(x._a.shape))
    return fn.slice_scatter_dims(x.narrow(d, 0, n - by), tuple(x._a.shape), at, fill)


def _shifted(x: Any, d: int, by: int) -> Any:
    """``x`` moved by one along ``d``, zeros coming in: ``by`` 1 to later positions, -1 to earlier ones."""
    n = x._a.shape[d]
    part = x.narrow(d, 0 if by == 1 else 1, n - 1)
    at = tuple(((1, n, 1) if by == 1 else (0, n - 1, 1)) if k == d else (0, m, 1) for k, m in enumerate(x._a.shape))
    return fn.slice_scatter_dims(part, tuple(x._a.shape), at, 0)


def _reverse_scan(decay: Any, g: Any, d: int) -> Any:
    """``s[k] = g[k] + decay[k + 1] * s[k + 1]``."""
    return fn.flip(fn.linear_scan(fn.flip(_shifted(decay, d, -1), d), fn.flip(g, d), d), d)


@linear_scan.vjp("decay", "out")
def _(ctx: Any, g: Any) -> Any:
    d = ctx.attrs["dim"]
    if not ctx.shape(0)[d]:
        return g, g
    s = _reverse_scan(ctx["decay"], g, d)
    return s * _shifted(ctx["out"], d, 1), s


@opaque(name="cumprod_dim", function=False, method=False)
def cumprod_dim(input, dim: int):
    """The product of the elements up to each position."""
    return [(tuple(input.shape), input.dtype)]


@cumprod_dim.cpu
def _(a: np.ndarray, dim: int) -> np.ndarray:
    return a.copy() if a.ndim == 0 else np.cumprod(_wide(a), axis=dim, dtype=_wide(a).dtype).astype(a.dtype, copy=False)


@cumprod_dim.cuda
def _(a: Any, dim: int) -> Any:
    from ..triton_kernels.scan import cumulative
    return cumulative("prod", a, dim, a.dtype)


@cumprod_dim.vjp("input", "out")
def _(ctx: Any, g: Any) -> Any:
    x, d = ctx["input"], ctx.attrs["dim"]
    if not x.ndim or not x._a.shape[d]:
        return g
    # prefix before k, times what the later positions owe to it: exact also where a factor is zero
    before = _shifted(ctx["out"], d, 1)
    first = fn.arange(x._a.shape[d], device=x.device).reshape([-1 if k == d else 1 for k in range(x.ndim)]) == 0
    return fn.where(first, fn.ones_like(before), before) * _reverse_scan(x, g, d)


@opaque(name="cum_extremum", function=False, method=False, n_outputs=2)
def cum_extremum(input, dim: int, largest: bool):
    """The largest (or smallest) element up to each position and where it (last) was."""
    return [(tuple(input.shape), input.dtype), (tuple(input.shape), int64)]


@cum_extremum.cpu
def _(a: np.ndarray, dim: int, largest: bool) -> tuple[np.ndarray, np.ndarray]:
    if a.ndim == 0:
        return a.copy(), np.zeros((), np.int64)
    x = np.moveaxis(_wide(a), dim, 0)
    index = np.empty(a.shape, np.int64)
    where = np.moveaxis(index, dim, 0)
    for k in range(x.shape[0]):
        if k == 0:
            where[0], best = 0, x[0].copy()
            continue
        better = ((x[k] >= best) if largest else (x[k] <= best)) | (x[k] != x[k]) | False
        better &= ~((best != best) & (x[k] == x[k]))
        best = np.where(better, x[k], best)
        where[k] = np.where(better, k, where[k - 1])
    return np.take_along_axis(a, index, dim), index


@cum_extremum.cuda
def _(a: Any, dim: int, largest: bool) -> tuple[Any, Any]:
    from ..autograd import no_grad
    with no_grad():
        x = wrap(a)
        if not x.ndim:
            return x.clone()._a, fn.zeros((), dtype=int64, device=x.device)._a
        n, step = x._a.shape[dim], 1
        place_of = fn.arange(n, device=x.device)
        index = place_of.reshape([-1 if k == dim else 1 for k in range(x.ndim)]).expand(x._a.shape).contiguous()
        best = x
        while step < n:
            before, where = _moved(best, dim, step, 0), _moved(index, dim, step, -1)
            beats = (before > best) if largest else (before < best)
            if x.dtype.is_floating_point:
                beats = (beats | (before != before)) & (best == best)
            beats = beats & (where >= 0)
            best, index = fn.where(beats, before, best), fn.where(beats, where, index)
            step *= 2
        return best.contiguous()._a, index._a


cum_extremum.vjp("out1")(_pick_vjp)


def _summable(x: Any, d: dtype | None) -> Any:
    if d is None and x.dtype.category < 2:
        d = int64
    return x if d is None else x.to(d)


@composite(out=True, inplace=True)
def cumsum(input, dim, *, dtype=None):
    """The sum of the elements up to each position of ``dim``; integers add up as int64."""
    d = wrap_dim(dim, input.ndim)
    return fn.cumsum_dim(_summable(input, dtype), d)


@composite(out=True, inplace=True)
def cumprod(input, dim, *, dtype=None):
    """The product of the elements up to each position of ``dim``; integers multiply as int64."""
    d = wrap_dim(dim, input.ndim)
    return fn.cumprod_dim(_summable(input, dtype), d)


@composite(out=True)
def cummax(input, dim):
    """``(values, indices)``: the largest element up to each position of ``dim``, and its last position."""
    return cummax_result(*fn.cum_extremum(input, wrap_dim(dim, input.ndim), True))


@composite(out=True)
def cummin(input, dim):
    """``(values, indices)``: the smallest element up to each position of ``dim``, and its last position."""
    return cummin_result(*fn.cum_extremum(input, wrap_dim(dim, input.ndim), False))


@opaque(name="logcumsumexp_dim", function=False, method=False)
def logcumsumexp_dim(input, dim: int):
    """The logarithm of the sum of the exponentials up to each position."""
    return [(tuple(input.shape), input.dtype)]


@logcumsumexp_dim.cpu
def _(a: np.ndarray, dim: int) -> np.ndarray:
    return a.copy() if a.ndim == 0 else np.logaddexp.accumulate(_wide(a), axis=dim).astype(a.dtype, copy=False)


@logcumsumexp_dim.cuda
def _(a: Any, dim: int) -> Any:
    from ..autograd import no_grad
    with no_grad():
        y = wrap(a)
        n, step = (y._a.shape[dim] if y.ndim else 1), 1
        while step < n:
            y = fn.logaddexp(y, _moved(y, dim, step, float("-inf")))
            step *= 2
        return y.clone()._a if y._a is a else y._a


@logcumsumexp_dim.vjp("input", "out")
def _(ctx: Any, g: Any) -> Any:
    x, y, d = ctx["input"], ctx["out"], ctx.attrs["dim"]
    if not x.ndim or not x.numel():
        return g

    def later(part: Any) -> Any:  # exp(x[k]) * sum over i >= k of part[i] / exp(y[i]), in logarithms
        return (fn.flip(fn.logcumsumexp_dim(fn.flip(part.log() - y, d), d), d) + x).exp()
    return later(g.clamp(min=0)) - later((-g).clamp(min=0))


@composite(out=True)
def logcumsumexp(input, dim):
    """``log(cumsum(exp(input)))`` without overflow."""
    return fn.logcumsumexp_dim(input, wrap_dim(dim, input.ndim))


@composite(out=True)
def diff(input, n=1, dim=-1, prepend=None, append=None):
    """The differences between neighbours along ``dim``, taken ``n`` times."""
    if input.ndim == 0:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    d = wrap_dim(dim, input.ndim)
    if n == 0:
        return input
    parts = [p for p in (prepend, input, append) if p is not None]
    x = fn.cat(parts, d) if len(parts) > 1 else input
    for _ in range(min(n, x._a.shape[d])):
        m = x._a.shape[d]
        a, b = x.narrow(d, 1, m - 1), x.narrow(d, 0, m - 1)
        x = a ^ b if x.dtype is bool_ else a - b
    return x
