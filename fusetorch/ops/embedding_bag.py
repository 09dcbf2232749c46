"""Sums, means and maxima over bags of embedding rows."""
from __future__ import annotations

import math
from typing import Any

from ..dtypes import float32
from .embedding import by_frequency, renormalise
from .opdef import composite, fn


def _bags(input: Any, offsets: Any, include_last_offset: bool) -> tuple[Any, int]:
    """The bag of each index, and how many bags there are."""
    n = input.numel()
    bags = offsets._a.shape[0] - (1 if include_last_offset else 0)
    starts = offsets[:bags] if include_last_offset else offsets
    position = fn.arange(n, device=input.device, dtype=offsets.dtype)
    return fn.searchsorted(starts, position, right=True) - 1, bags


def _check(input: Any, weight: Any, offsets: Any, mode: str, per_sample_weights: Any, include_last_offset: bool) -> None:
    for name, t in (("indices", input), ("offsets", offsets)):
        if t is not None and t.dtype.name not in ("int64", "int32"):
            raise RuntimeError(f"embedding_bag: expected {name} of dtype int64 or int32, got {t.dtype}")
    if weight.ndim != 2:
        raise RuntimeError(f"embedding_bag: expected a weight of 2 dimensions, got shape {list(weight.shape)}")
    if per_sample_weights is not None and input.shape != per_sample_weights.shape:
        raise ValueError(f"embedding_bag: If per_sample_weights ({per_sample_weights.shape}) is not None, then it must have the same shape "
                         f"as the input ({input.shape})")
    if input.ndim == 2:
        if offsets is not None:
            raise ValueError("if input is 2D, then offsets has to be None, as input is treated is a mini-batch of fixed length sequences. "
                             f"However, found offsets of type {type(offsets)}")
    elif input.ndim == 1:
        if offsets is None:
            raise ValueError("offsets has to be a 1D Tensor but got None")
        if offsets.ndim != 1:
            raise ValueError("offsets has to be a 1D Tensor")
    else:
        raise ValueError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {input.ndim}")
    if mode not in ("sum", "mean", "max"):
        raise ValueError("mode has to be one of sum, mean or max")
    if mode != "sum" and per_sample_weights is not None:
        raise NotImplementedError(f"embedding_bag: per_sample_weights is only supported for mode='sum' (got mode={mode!r})")
    if per_sample_weights is not None and per_sample_weights.dtype is not weight.dtype:
        raise RuntimeError(f"expected scalar type {weight.dtype} but found {per_sample_weights.dtype}")
    if include_last_offset and offsets is not None and not offsets._a.shape[0]:
        raise RuntimeError("include_last_offset: number of offsets should be at least 1")


@composite(nn=True, function=False, method=False)
def embedding_bag(input, weight, offsets=None, max_norm=None, norm_type=2, scale_grad_by_freq=False, mode="mean", sparse=False,
                  per_sample_weights=None, include_last_offset=False, padding_idx=None):
    """The sum, mean or maximum of the rows of ``weight`` (rows, d) in each bag of indices: shape (bags, d).

    Args:
        input: indices (bags, n), or (n,) cut into bags at ``offsets`` (the first is 0; with ``include_last_offset`` the last is the end).
        per_sample_weights: a factor for each index; only with ``mode="sum"``.
        padding_idx: an index that counts for nothing.
        max_norm: rows that are read are scaled down to this ``norm_type``-norm, in place.

    An empty bag gives zeros. Gradients are dense, also with ``sparse=True``.

    Example:
        >>> import fusetorch as torch
        >>> table = torch.tensor([[1.0], [2.0], [4.0]])
        >>> torch.nn.functional.embedding_bag(torch.tensor([0, 1, 2]), table, torch.tensor([0, 2]), mode="sum")
        tensor([[3.],
                [4.]])
    """
    _check(input, weight, offsets, mode, per_sample_weights, include_last_offset)
    rows, width = weight._a.shape
    if not weight.dtype.is_floating_point:
        raise RuntimeError("Expected tensor for argument #1 'weight' to have one of the following scalar types: Half, BFloat16, Float, "
                           f"Double; but got {weight.dtype}")
    pad = -1
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise AssertionError("padding_idx must be within the number of embeddings")
        pad = padding_idx % rows
    if max_norm is not None:
        renormalise(weight, input, max_norm, norm_type)
    flat = input.reshape(-1)
    if input.ndim == 2:
        bags, n = input._a.shape
        bag = fn.arange(bags, device=input.device).unsqueeze(1).expand(bags, n).reshape(-1)
    else:
        bag, bags = _bags(flat, offsets, include_last_offset)
    picked = fn.embedding_rows(weight, flat, pad)
    if scale_grad_by_freq:
        picked = by_frequency(picked, flat, rows)
    counted = None if pad < 0 else (flat != pad).unsqueeze(1)
    if mode == "max":
        low = fn.full((bags, width), -math.inf, dtype=weight.dtype, device=weight.device)
        values = picked if counted is None else picked.masked_fill(~counted, -math.inf)
        most = low.scatter_reduce(0, bag.unsqueeze(1).expand(flat._a.shape[0], width), values, "amax", include_self=True)
        return most.masked_fill(most == -math.inf, 0.0)
    picked = picked.to(float32) if picked.dtype.itemsize == 2 else picked  # rounded once, at the end
    if per_sample_weights is not None:
        picked = picked * per_sample_weights.reshape(-1, 1)
    if counted is not None:
        picked = picked.masked_fill(~counted, 0.0)
    total = fn.zeros((bags, width), dtype=picked.dtype, device=weight.device).index_add(0, bag, picked)
    if mode == "sum":
        return total.to(weight.dtype)
    ones = fn.ones((flat._a.shape[0], 1), dtype=picked.dtype, device=weight.device)
    ones = ones if counted is None else ones * counted
    number = fn.zeros((bags, 1), dtype=picked.dtype, device=weight.device).index_add(0, bag, ones)
    return (total / number.clamp(min=1.0)).to(weight.dtype)
