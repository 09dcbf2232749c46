"""Searching sorted rows, and counting and finding distinct values."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import bool_, float32, float64, int32, int64
from ..shapes import numel, wrap_dim
from ..tensor import Tensor, tracing, wrap
from .creation import place
from .opdef import composite, fn, not_implemented, opaque
from .sorting import wide


@opaque(refuses="complex", name="search_sorted", function=False, method=False, differentiable=False)
def search_sorted(sequence, values, right: bool):
    """Where each value would be inserted into its (sorted) row of ``sequence``; one row serves all values if it is 1-D."""
    return [(tuple(values.shape), int64)]


@search_sorted.cpu
def _(sequence: np.ndarray, values: np.ndarray, right: bool) -> np.ndarray:
    side = "right" if right else "left"
    sequence, values = wide(sequence), wide(values)
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


@composite(out="exact", method=False)
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
        raise RuntimeError("torch.searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries tensor "
                           f"and input value tensor must match, but we got boundaries tensor {list(sorted_sequence.shape)} and input value "
                           f"tensor {list(input.shape)}")
    if not scalar and sorted_sequence.dtype is not input.dtype:
        raise RuntimeError("torch.searchsorted(): boundary tensor and input value tensor should have same dtype, but got boundary tensor "
                           f"dtype {sorted_sequence.dtype} and input value tensor dtype {input.dtype}")
    r = fn.search_sorted(sorted_sequence, input, bool(right))
    return r.to(int32) if out_int32 else r


@composite(refuses="bool", out="exact")
def bucketize(input, boundaries, *, out_int32=False, right=False):
    """``searchsorted(boundaries, input)`` for one row of ``boundaries``."""
    if boundaries.ndim != 1:
        raise RuntimeError(f"bucketize(): boundaries tensor must be 1 dimension, but got dim({boundaries.ndim})")
    return searchsorted.body(boundaries, input, out_int32=out_int32, right=right)


@composite()
def bincount(input, weights=None, minlength=0):
    """How often each number 0, 1, ... occurs in an integer vector (or the sum of the weights of its occurrences)."""
    if input.ndim == 1 and (input.dtype.is_floating_point or input.dtype is bool_):
        raise not_implemented("bincount", input.dtype)
    if input.ndim != 1 or input.dtype.is_complex:
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if minlength < 0:
        raise RuntimeError("minlength should be >= 0")
    if input.numel() and int(input.min()) < 0:
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if weights is not None and weights.shape != input.shape:
        raise RuntimeError("weights should be 1-d and have the same length as input")
    size = max(int(input.max()) + 1 if input.numel() else 0, minlength)
    d = int64 if weights is None else float32 if weights.dtype is float32 else float64
    w = fn.ones_like(input, dtype=d) if weights is None else weights.detach().to(d)
    return fn.zeros(size, dtype=d, device=input.device).scatter_add(0, input.long(), w)


@composite(refuses="bool integer complex", out="exact")
def histc(input, bins=100, min=0, max=0):
    """How many elements fall into each of ``bins`` equal intervals from ``min`` to ``max`` (the data's range if both are 0)."""
    if bins <= 0:
        raise RuntimeError(f"bins must be > 0, but got {bins}")
    if min > max:
        raise RuntimeError("max must be larger than min")
    x = input.detach().reshape(-1)
    x = x if x.dtype.itemsize > 2 and x.dtype.category == 2 else x.float()
    if min == max == 0 and x.numel():
        lo, hi = fn.aminmax(x)
        if not tracing() and not bool(lo.isfinite() & hi.isfinite()):
            raise RuntimeError(f"histc: range of [{lo.item()}, {hi.item()}] is not finite")
        one = (lo == hi).to(x.dtype)
        lo, hi = lo - one, hi + one
    else:
        lo, hi = (min - 1.0, max + 1.0) if min == max else (float(min), float(max))
    at = ((x - lo) * bins / (hi - lo)).long().clamp(0, bins - 1)
    inside = (x >= lo) & (x <= hi)
    counts = fn.zeros(bins, dtype=int64, device=input.device)
    return counts.scatter_add(0, fn.where(inside, at, 0), inside.long()).to(input.dtype)


@composite(refuses="complex")
def unique(input, sorted=True, return_inverse=False, return_counts=False, dim=None):
    """The distinct elements (or slices of ``dim``) in order, and on request where each element went and how often each occurs."""
    from .conversion import host_array
    _check_empty(input, dim)
    a = host_array(input.detach())
    values, inverse, counts = np.unique(wide(a) if dim is None else a, return_inverse=True, return_counts=True, axis=dim)
    inverse = inverse.reshape(a.shape if dim is None else -1)
    return _unique_result(values.astype(a.dtype), inverse, counts, input, return_inverse, return_counts)


def _check_empty(input: Any, dim: int | None) -> None:
    """Slices without elements cannot be told apart."""
    empty = [d for d, n in enumerate(input._a.shape) if n == 0]
    if dim is None or not empty or empty == [wrap_dim(dim, input.ndim)]:
        return
    raise RuntimeError("There are 0 sized dimensions, and they aren't selected, so unique cannot be applied"
                       if wrap_dim(dim, input.ndim) not in empty else
                       "Number of zero sized dimensions is more than one, so unique cannot be applied")


def _unique_result(values: np.ndarray, inverse: np.ndarray, counts: np.ndarray, input: Any, return_inverse: bool,
                   return_counts: bool) -> Any:
    out = [place(np.ascontiguousarray(values), input.device)]
    if return_inverse:
        out.append(place(inverse.astype(np.int64), input.device))
    if return_counts:
        out.append(place(counts.astype(np.int64), input.device))
    return out[0] if len(out) == 1 else tuple(out)


@composite(refuses="complex")
def unique_consecutive(input, return_inverse=False, return_counts=False, dim=None):
    """Runs of equal elements (or slices of ``dim``) reduced to one, and on request the run of each element and the runs' lengths."""
    from .conversion import host_array
    _check_empty(input, dim)
    a = host_array(input.detach())
    rows = a.reshape(-1) if dim is None else np.moveaxis(a, wrap_dim(dim, a.ndim), 0)
    n = rows.shape[0]
    flat = rows.reshape(n, numel(rows.shape[1:]))
    new = np.ones(n, bool)
    if n > 1:
        new[1:] = (flat[1:] != flat[:-1]).any(1)
    values = rows[new] if dim is None else np.moveaxis(rows[new], 0, dim)
    inverse = np.cumsum(new) - 1
    counts = np.diff(np.append(np.flatnonzero(new), n))
    return _unique_result(values, inverse.reshape(a.shape) if dim is None else inverse, counts, input, return_inverse, return_counts)


@composite(refuses="bool complex", out="exact", method=False, also={"element": "elements", "test_element": "test_elements"})
def isin(elements, test_elements, *, assume_unique=False, invert=False):
    """Whether each element is one of ``test_elements``."""
    if not isinstance(elements, Tensor):
        elements = fn.tensor(elements, device=test_elements.device)
    if not isinstance(test_elements, Tensor):
        test_elements = fn.tensor(test_elements, device=elements.device)
    hit = (elements.unsqueeze(-1) == test_elements.reshape(-1)).any(-1)
    return ~hit if invert else hit


@composite(method=False)
def unravel_index(indices, shape):
    """Positions in a flattened tensor of ``shape`` as one coordinate tensor per dimension."""
    if indices.dtype.category != 1:
        raise TypeError(f"expected 'indices' to be integer dtype, but got {indices.dtype}")
    sizes = [shape] if isinstance(shape, int) else list(shape)
    out, rest = [], indices.to(int64)
    for k in range(len(sizes)):
        step = numel(sizes[k + 1:])
        out.append(fn.floor_divide(rest, step))
        rest = fn.remainder(rest, step)
    return tuple(out)
