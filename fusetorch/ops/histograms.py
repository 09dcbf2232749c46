"""Histograms with bin edges."""
from __future__ import annotations

from builtins import range as indices  # an argument here is called range
from collections.abc import Sequence
from typing import Any

from ..return_types import result
from ..tensor import Tensor, tracing
from .opdef import composite, fn

histogram_result = result("histogram", "hist bin_edges")
histogramdd_result = result("histogramdd", "hist bin_edges")


def _edges(name: str, x: Any, bins: Any, low_high: Any) -> Any:
    """Ascending edges of bins over one coordinate."""
    if isinstance(bins, Tensor):
        if bins.ndim != 1 or not bins.numel():
            raise RuntimeError(f"{name}(): bins tensor should have one dimension and one element or more, but got shape {list(bins.shape)}")
        if bins.dtype is not x.dtype:
            raise RuntimeError(f"{name}(): expected bins and input of one dtype, but got {bins.dtype} and {x.dtype}")
        return bins.clone()
    if bins < 1:
        raise RuntimeError(f"{name}(): bins must be > 0, but got {bins}")
    if low_high is not None:
        low, high = (float(v) for v in low_high)
    elif x.numel() and tracing():
        low, high = x.min().double(), x.max().double()
        wider = (low == high) * 0.5
        return fn.linspace(low - wider, high + wider, bins + 1, dtype=x.dtype, device=x.device)
    elif x.numel():
        low, high = float(x.min().item()), float(x.max().item())
    else:
        low, high = 0.0, 1.0
    if not (abs(low) < float("inf") and abs(high) < float("inf")):
        raise RuntimeError(f"{name}(): range [{low}, {high}] is not finite")
    if low > high:
        raise RuntimeError(f"{name}(): min should not exceed max, but got min {low} max {high}")
    if low == high:
        low, high = low - 0.5, high + 0.5
    return fn.linspace(low, high, bins + 1, dtype=x.dtype, device=x.device)


def _count(name: str, points: Any, edges: Sequence[Any], weight: Any, density: bool) -> Any:
    """Adds the weights of ``points`` (n, d) up in the cells between the edges; the last edge belongs to the last bin."""
    if not points.dtype.is_floating_point:
        raise NotImplementedError(f"\"{name}_cpu\" not implemented for '{points.dtype}'")
    if weight is not None and weight.dtype is not points.dtype:
        raise RuntimeError(f"{name}(): if weight tensor is provided, input tensor and weight tensor should have the same dtype, but got "
                           f"input {points.dtype}, and weight {weight.dtype}")
    at = inside = None
    cells = 1
    for k, e in enumerate(edges):
        x, n = points[:, k].contiguous(), e.numel() - 1
        place = fn.searchsorted(e, x, right=True) - 1
        place = fn.where(x == e[-1], n - 1, place)
        here = (x >= e[0]) & (x <= e[-1])
        inside = here if inside is None else inside & here
        at = place if at is None else at * n + place
        cells *= n
    w = fn.ones_like(points[:, 0]) if weight is None else weight.reshape(-1)
    hist = fn.zeros(cells, dtype=points.dtype, device=points.device)
    hist = hist.scatter_add(0, fn.where(inside, at, 0), fn.where(inside, w, 0.0)).reshape([e.numel() - 1 for e in edges])
    if not density:
        return hist
    hist = hist / hist.sum()
    for k, e in enumerate(edges):
        hist = hist / e.diff().reshape([-1 if j == k else 1 for j in range(len(edges))])
    return hist


@composite()
def histogram(input, bins=100, *, range=None, weight=None, density=False, out=None):
    """``(hist, bin_edges)``: how many elements (or how much ``weight``) lie in each bin.

    ``bins`` is their number, equally wide over ``range`` (by default from the smallest to the largest element), or their edges.
    """
    x = input.detach().reshape(-1)
    if not x.dtype.is_floating_point:
        raise NotImplementedError(f"\"histogram_cpu\" not implemented for '{x.dtype}'")
    if weight is not None and tuple(weight.shape) != tuple(input.shape):
        raise RuntimeError(f"histogram(): if weight tensor is provided it should have the same shape as the input tensor, but got "
                           f"{list(weight.shape)} and {list(input.shape)}")
    e = _edges("histogram", x, bins, range)
    hist = _count("histogram", x.unsqueeze(-1), [e], None if weight is None else weight.detach(), density)
    r = histogram_result(hist, e)
    if out is None:
        return r
    from ..writing import write_out
    return histogram_result(*write_out("histogram", tuple(r), out))


@composite(method=False)
def histogramdd(input, bins, range=None, weight=None, density=False):
    """``(hist, bin_edges)`` of points, the rows of ``input``, over as many dimensions as it has columns."""
    if input.ndim < 2:
        raise RuntimeError(f"histogramdd(): input tensor should have at least 2 dimensions, but got {input.ndim}")
    d = input.shape[-1]
    x = input.detach().reshape(-1, d)
    if not x.dtype.is_floating_point:
        raise NotImplementedError(f"\"histogramdd_cpu\" not implemented for '{x.dtype}'")
    each = [bins] * d if isinstance(bins, int) else list(bins)
    if len(each) != d:
        raise RuntimeError(f"histogramdd(): expected {d} sequences of bin edges for a {d}-dimensional histogram but got {len(each)}")
    if range is not None and len(range) != 2 * d:
        raise RuntimeError(f"histogramdd(): for a {d}-dimensional histogram range should have {2 * d} elements, but got {len(range)}")
    edges = [_edges("histogramdd", x[:, k], each[k], None if range is None else range[2 * k:2 * k + 2]) for k in indices(d)]
    return histogramdd_result(_count("histogramdd", x, edges, None if weight is None else weight.detach(), density), tuple(edges))
