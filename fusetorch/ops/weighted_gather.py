"""Weighted sums of elements of planes at given positions: the core of grid sampling.

Three operations that are each other's gradients, over planes (N, C, S), positions (N, K, P) into S (int64, -1: none), weights (N, K, P) and
results (N, C, P)::

    weighted_gather   result[n, c, p]  = sum over k of weight[n, k, p] * planes[n, c, position[n, k, p]]
    weighted_scatter  planes[n, c, s]  = sum over the (k, p) whose position is s of weight[n, k, p] * result[n, c, p]
    gathered_dot      weight[n, k, p]  = sum over c of result[n, c, p] * planes[n, c, position[n, k, p]]
"""
from __future__ import annotations

from typing import Any

import numpy as np

from .opdef import fn, opaque
from .sorting import wide


@opaque(name="weighted_gather", function=False, method=False)
def weighted_gather(planes, position, weight):
    """Per place the weighted sum of elements of each plane (see the module)."""
    return [((*planes.shape[:2], position.shape[2]), planes.dtype)]


@opaque(name="weighted_scatter", function=False, method=False)
def weighted_scatter(result, position, weight, size: int):
    """Planes of ``size`` elements to which the weighted results are added at their positions (see the module)."""
    return [((*result.shape[:2], size), result.dtype)]


@opaque(name="gathered_dot", function=False, method=False)
def gathered_dot(result, planes, position):
    """Per place and position the product of results and elements, summed over the channels (see the module)."""
    return [(tuple(position.shape), planes.dtype)]


def _seen(planes: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Elements (C, P) of one image's planes; 0 where there is no position."""
    if not planes.shape[1]:
        return np.zeros((planes.shape[0], position.size), planes.dtype)
    return np.where(position >= 0, np.take(planes, position, 1, mode="clip"), planes.dtype.type(0))


@weighted_gather.cpu
def _(planes: np.ndarray, position: np.ndarray, weight: np.ndarray) -> np.ndarray:
    x, w = wide(planes), wide(weight)
    out = np.zeros((*x.shape[:2], position.shape[2]), x.dtype)
    for n, k in np.ndindex(position.shape[:2]):
        out[n] += _seen(x[n], position[n, k]) * w[n, k]
    return out.astype(planes.dtype, copy=False)


@weighted_scatter.cpu
def _(result: np.ndarray, position: np.ndarray, weight: np.ndarray, size: int) -> np.ndarray:
    out = np.empty((*result.shape[:2], size), result.dtype)
    g, w = wide(result), wide(weight)
    for n in range(out.shape[0]):
        at = position[n].reshape(-1) + 1  # what has no position falls into a place before the first
        for c in range(out.shape[1]):
            out[n, c] = np.bincount(at, (g[n, c] * w[n]).reshape(-1), size + 1)[1:]
    return out


@gathered_dot.cpu
def _(result: np.ndarray, planes: np.ndarray, position: np.ndarray) -> np.ndarray:
    g, x = wide(result), wide(planes)
    out = np.empty(position.shape, x.dtype)
    for n, k in np.ndindex(position.shape[:2]):
        out[n, k] = (_seen(x[n], position[n, k]) * g[n]).sum(0)
    return out.astype(planes.dtype, copy=False)


@weighted_gather.cuda
def _(planes: Any, position: Any, weight: Any) -> Any:
    from ..triton_kernels import weighted_gather as kernels
    return kernels.weighted_gather(planes, position, weight)


@weighted_scatter.cuda
def _(result: Any, position: Any, weight: Any, size: int) -> Any:
    from ..triton_kernels import weighted_gather as kernels
    return kernels.weighted_scatter(result, position, weight, size)


@gathered_dot.cuda
def _(result: Any, planes: Any, position: Any) -> Any:
    from ..triton_kernels import weighted_gather as kernels
    return kernels.gathered_dot(result, planes, position)


@weighted_gather.vjp("planes", "position", "weight")
def _(ctx: Any, g: Any) -> Any:
    position, size = ctx["position"], ctx.shape(0)[2]
    return (fn.weighted_scatter(g, position, ctx["weight"], size) if ctx.needed[0] else None, None,
            fn.gathered_dot(g, ctx["planes"], position) if ctx.needed[2] else None)


@weighted_scatter.vjp("result", "position", "weight")
def _(ctx: Any, g: Any) -> Any:
    position = ctx["position"]
    return (fn.weighted_gather(g, position, ctx["weight"]) if ctx.needed[0] else None, None,
            fn.gathered_dot(ctx["result"], g, position) if ctx.needed[2] else None)


@gathered_dot.vjp("result", "planes", "position")
def _(ctx: Any, g: Any) -> Any:
    position, size = ctx["position"], ctx.shape(1)[2]
    return (fn.weighted_gather(ctx["planes"], position, g) if ctx.needed[0] else None,
            fn.weighted_scatter(ctx["result"], position, g, size) if ctx.needed[1] else None, None)
