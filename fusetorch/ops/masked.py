"""Reductions and normalisations over the elements that a mask keeps: what it leaves out counts as the operation's neutral element."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..dtypes import bool_, iinfo, int64
from ..shapes import broadcast_shapes, wrap_dim
from .opdef import composite, fn

_INTEGERS = (0, 1)


def _kept(x: Any, mask: Any) -> Any:
    """The mask in the shape of ``x``."""
    if mask is None:
        return None
    if mask.ndim > x.ndim:
        raise IndexError("_canonical_mask: expected mask and input to have the same number of dimensions, or mask to have fewer, but got "
                         f"{mask.ndim} and {x.ndim}")
    shape = tuple(x.shape)
    if tuple(broadcast_shapes(tuple(mask.shape), shape)) != shape:
        raise RuntimeError(f"expected mask of shape {list(mask.shape)} to broadcast to the input's shape {list(shape)}")
    return mask.to(bool_).expand(shape)


def _neutral(x: Any, mask: Any, value: Any) -> Any:
    mask = _kept(x, mask)
    return x if mask is None else fn.where(mask, x, fn.full((), value, dtype=x.dtype, device=x.device))


def _dims(dim: Any) -> Any:
    return None if dim is None or (isinstance(dim, (tuple, list)) and not dim) else dim


def _lowest(x: Any) -> Any:
    d = x.dtype
    return -math.inf if d.is_floating_point or d.is_complex else False if d is bool_ else iinfo(d).min


def _highest(x: Any) -> Any:
    d = x.dtype
    return math.inf if d.is_floating_point else True if d is bool_ else iinfo(d).max


def _masked(name: str, refuses: str = "") -> Callable[[Callable], Any]:
    return composite(name=f"masked_{name}_of", refuses=refuses, function=False, method=False, aliases=(f"masked.{name}",))


def _wide(x: Any, dtype: Any) -> Any:
    """Integers add up and multiply in int64."""
    return x.to(dtype) if dtype is not None else x.to(int64) if x.dtype.category in _INTEGERS else x


@_masked("sum")
def masked_sum(input, dim=None, *, keepdim=False, dtype=None, mask=None):
    """The sum of the elements that ``mask`` keeps."""
    x = _wide(input, dtype)
    return _neutral(x, mask, 0).sum(_dims(dim), keepdim=keepdim, dtype=x.dtype)


@_masked("prod")
def masked_prod(input, dim=None, *, keepdim=False, dtype=None, mask=None):
    """The product of the elements that ``mask`` keeps."""
    x = _neutral(_wide(input, dtype), mask, 1)
    dims = range(x.ndim) if _dims(dim) is None else [dim] if isinstance(dim, int) else dim
    for d in sorted((wrap_dim(d, x.ndim) for d in dims), reverse=True):
        x = x.prod(d, keepdim=keepdim, dtype=x.dtype) if x.ndim else x
    return x


@_masked("cumsum", "bool")
def masked_cumsum(input, dim, *, dtype=None, mask=None):
    """Running sums of the elements that ``mask`` keeps."""
    x = _typed(input, dtype)
    return _neutral(x, mask, 0).cumsum(dim, dtype=x.dtype)


@_masked("cumprod", "bool")
def masked_cumprod(input, dim, *, dtype=None, mask=None):
    """Running products of the elements that ``mask`` keeps."""
    x = _typed(input, dtype)
    return _neutral(x, mask, 1).cumprod(dim, dtype=x.dtype)


def _typed(input: Any, dtype: Any) -> Any:
    return input if dtype is None else input.to(dtype)


@_masked("amax")
def masked_amax(input, dim=None, *, keepdim=False, dtype=None, mask=None):
    """The largest of the elements that ``mask`` keeps."""
    x = _typed(input, dtype)
    return _neutral(x, mask, _lowest(x)).amax(() if _dims(dim) is None else dim, keepdim=keepdim)


@_masked("amin")
def masked_amin(input, dim=None, *, keepdim=False, dtype=None, mask=None):
    """The smallest of the elements that ``mask`` keeps."""
    x = _typed(input, dtype)
    return _neutral(x, mask, _highest(x)).amin(() if _dims(dim) is None else dim, keepdim=keepdim)


@_masked("argmax", "bool")
def masked_argmax(input, dim=None, *, keepdim=False, dtype=None, mask=None):
    """Where the largest of the elements is that ``mask`` keeps; in the dtype of the input, as in PyTorch."""
    x = _typed(input, dtype)
    return _neutral(x, mask, _lowest(x)).argmax(dim, keepdim=keepdim).to(x.dtype)


@_masked("argmin", "bool")
def masked_argmin(input, dim=None, *, keepdim=False, dtype=None, mask=None):
    """Where the smallest of the elements is that ``mask`` keeps; in the dtype of the input, as in PyTorch."""
    x = _typed(input, dtype)
    return _neutral(x, mask, _highest(x)).argmin(dim, keepdim=keepdim).to(x.dtype)


def _counted(x: Any, dim: Any, mask: Any) -> Any:
    """How many elements count, with reduced dimensions of size 1."""
    kept = _kept(x, mask)
    return (fn.ones(tuple(x.shape), dtype=int64, device=x.device) if kept is None else kept.long()).sum(_dims(dim), keepdim=True)


def _squeeze(x: Any, dim: Any, keepdim: bool) -> Any:
    if keepdim or not x.ndim:
        return x
    return x.squeeze(tuple(range(x.ndim)) if _dims(dim) is None else dim)


@_masked("mean")
def masked_mean(input, dim=None, *, keepdim=False, dtype=None, mask=None):
    """The mean of the elements that ``mask`` keeps; NaN of none."""
    x = _typed(input, dtype)
    if x.dtype.category in _INTEGERS:
        raise ValueError(f"mean(): could not infer output dtype from {x.dtype}; pass dtype=")
    total = _neutral(x, mask, 0).sum(_dims(dim), keepdim=True)
    return _squeeze(total / _counted(x, dim, mask).to(x.dtype), dim, keepdim)


@_masked("median")
def masked_median(input, dim=-1, *, keepdim=False, dtype=None, mask=None):
    """The lower median of the elements that ``mask`` keeps; NaN of none."""
    x = _typed(input, dtype)
    if not x.dtype.is_floating_point:
        raise ValueError(f"median expects a floating dtype, got {x.dtype}")
    one = x.ndim == 0
    x = x.reshape(1) if one else x
    r = _neutral(x, mask, math.nan).nanmedian(wrap_dim(dim, x.ndim), keepdim)[0]
    return r.reshape(()) if one else r


@_masked("norm")
def masked_norm(input, ord=2.0, dim=None, *, keepdim=False, dtype=None, mask=None):
    """The ``ord``-norm of the elements that ``mask`` keeps."""
    x = _typed(input, dtype)
    ord = float(ord)
    x = _neutral(x, mask, math.inf if ord == -math.inf else 0)
    return fn.linalg_vector_norm(x, ord, _dims(dim), keepdim)


def _spread(input: Any, dim: Any, unbiased: Any, correction: Any, keepdim: bool, dtype: Any, mask: Any, root: bool) -> Any:
    x = _typed(input, dtype)
    if x.dtype.category in _INTEGERS:
        x = x.float()
    if correction is None:
        correction = 1 if unbiased is None else int(unbiased)
    n = _counted(x, dim, mask).to(x.dtype.to_real())
    mean = _neutral(x, mask, 0).sum(_dims(dim), keepdim=True) / n
    d = _neutral(x - mean, mask, 0)
    squares = (d * d.conj()).real if d.dtype.is_complex else d * d
    r = squares.sum(_dims(dim), keepdim=True) / (n - correction).clamp(min=0)
    return _squeeze((r.sqrt() if root else r).to(x.dtype), dim, keepdim)


@_masked("var", "bool")
def masked_var(input, dim=None, unbiased=None, *, correction=None, keepdim=False, dtype=None, mask=None):
    """The variance of the elements that ``mask`` keeps."""
    return _spread(input, dim, unbiased, correction, keepdim, dtype, mask, False)


@_masked("std", "bool")
def masked_std(input, dim=None, unbiased=None, *, correction=None, keepdim=False, dtype=None, mask=None):
    """The standard deviation of the elements that ``mask`` keeps."""
    return _spread(input, dim, unbiased, correction, keepdim, dtype, mask, True)


@_masked("softmax")
def masked_softmax(input, dim, *, dtype=None, mask=None):
    """``softmax`` over the elements that ``mask`` keeps."""
    return fn.softmax(_neutral(_typed(input, dtype), mask, -math.inf), dim)


@_masked("log_softmax")
def masked_log_softmax(input, dim, *, dtype=None, mask=None):
    """``log_softmax`` over the elements that ``mask`` keeps."""
    return fn.log_softmax(_neutral(_typed(input, dtype), mask, -math.inf), dim)


@_masked("softmin")
def masked_softmin(input, dim, *, dtype=None, mask=None):
    """``softmin`` over the elements that ``mask`` keeps."""
    return fn.softmax(-_neutral(_typed(input, dtype), mask, math.inf), dim)


@_masked("normalize")
def masked_normalize(input, ord, dim, *, eps=1e-12, dtype=None, mask=None):
    """The elements that ``mask`` keeps, divided by their ``ord``-norm along ``dim``; 0 for the others."""
    x = _typed(input, dtype)
    size = masked_norm.body(x, ord, dim, keepdim=True, mask=mask)
    return _neutral(x, mask, 0) / size.clamp(min=eps)


@_masked("logsumexp")
def masked_logsumexp(input, dim=None, *, keepdim=False, dtype=None, mask=None):
    """``logsumexp`` of the elements that ``mask`` keeps; minus infinity of none."""
    x = _typed(input, dtype)
    return fn.logsumexp(_neutral(x, mask, _lowest(x)), _dims(dim), keepdim).to(x.dtype)


@_masked("logaddexp")
def masked_logaddexp(input, other, *, dtype=None, input_mask=None, other_mask=None):
    """``logaddexp`` where an operand that its mask leaves out counts as minus infinity."""
    a, b = _typed(input, dtype), _typed(other, dtype)
    return fn.logaddexp(_neutral(a, input_mask, -math.inf), _neutral(b, other_mask, -math.inf))
