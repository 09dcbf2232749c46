"""Reductions over consecutive parts of a dimension."""
from __future__ import annotations

import math
from typing import Any

from ..dtypes import int64
from ..shapes import wrap_dim
from ..tensor import tracing
from .opdef import composite, fn

#: By name: the scatter that does it, and the value of an empty segment.
_KINDS = {"sum": ("sum", 0.0), "mean": ("sum", math.nan), "prod": ("prod", 1.0), "max": ("amax", -math.inf), "min": ("amin", math.inf)}


def _offsets(data: Any, lengths: Any, offsets: Any, axis: int, unsafe: bool) -> Any:
    """Where segments begin and end along ``axis``."""
    if offsets is not None:
        if offsets.ndim != axis + 1:
            raise RuntimeError(f"segment_reduce(): Expected offsets to have axis + 1 = {axis + 1} dimensions, but got {offsets.ndim}")
        return offsets.to(int64)
    if lengths is None:
        raise RuntimeError("segment_reduce(): Either lengths or offsets must be defined")
    if lengths.ndim != axis + 1:
        raise RuntimeError(f"segment_reduce(): Expected lengths to have axis + 1 = {axis + 1} dimensions, but got {lengths.ndim}")
    if not (unsafe or tracing()):
        if lengths.numel() and int(lengths.min().item()) < 0:
            raise RuntimeError("segment_reduce(): lengths contains negative value!")
        if bool((lengths.sum(-1) != data.shape[axis]).any()):
            raise RuntimeError(f"segment_reduce(): Expected all rows of lengths along axis to sum to data.size({axis}) = "
                               f"{data.shape[axis]}")
    ends = lengths.to(int64).cumsum(-1)
    return fn.cat([fn.zeros_like(ends.narrow(-1, 0, 1)) if ends.shape[-1] else ends.new_zeros((*ends.shape[:-1], 1)), ends], -1)


@composite(method=False, out=True)
def segment_reduce(data, reduce, *, lengths=None, indices=None, offsets=None, axis=0, unsafe=False, initial=None):
    """Each segment of ``data`` along ``axis`` reduced by ``sum``, ``mean``, ``prod``, ``max`` or ``min``.

    ``lengths`` are the segments' sizes, or ``offsets`` their borders, for each of the dimensions before ``axis``. A segment starts from
    ``initial``; without it an empty one gives the operation's neutral element (NaN for ``mean``).

    Example:
        >>> import fusetorch as torch
        >>> torch.segment_reduce(torch.tensor([1.0, 2.0, 4.0]), "sum", lengths=torch.tensor([2, 1]))
        tensor([3., 4.])
    """
    if reduce not in _KINDS:
        raise RuntimeError(f"segment_reduce(): reduce must be one of {', '.join(_KINDS)}, got {reduce!r}")
    if indices is not None:
        raise RuntimeError("segment_reduce(): indices based reduction is not supported yet.")
    if not data.numel():
        raise RuntimeError("segment_reduce(): data must not be empty")
    if not data.dtype.is_floating_point:
        raise NotImplementedError(f"\"_segment_reduce_cpu\" not implemented for '{data.dtype}'")
    axis = wrap_dim(axis, data.ndim)
    borders = _offsets(data, lengths, offsets, axis, unsafe)
    how, neutral = _KINDS[reduce]
    size, n = tuple(data.shape), borders.shape[-1] - 1
    place = fn.arange(size[axis], device=data.device).expand(*size[:axis + 1]).contiguous()
    segment = fn.searchsorted(borders, place, right=True) - 1
    inside = (segment >= 0) & (segment < n)
    tail = (1,) * (data.ndim - axis - 1)
    # what lies in no segment goes to one more, which is then dropped
    where = fn.where(inside, segment, n).reshape(*segment.shape, *tail).expand(size).contiguous()
    start = neutral if initial is None else initial
    base = 0.0 if how == "sum" and initial is None else start
    out = fn.full((*size[:axis], n + 1, *size[axis + 1:]), base, dtype=data.dtype, device=data.device)
    out = fn.scatter_reduce(out, axis, where, data, how, include_self=initial is not None or how in ("sum", "prod")).narrow(axis, 0, n)
    counts = borders.diff().reshape(*borders.shape[:-1], n, *tail)
    if reduce == "mean":
        out = out / counts.clamp(min=1).to(out.dtype)
    return fn.where(counts == 0, fn.full((), start, dtype=out.dtype, device=out.device), out)
