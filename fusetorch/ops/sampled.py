"""Derivatives and integrals of functions that are known at some positions."""
from __future__ import annotations

from typing import Any

from ..dtypes import uint8
from ..shapes import wrap_dim
from ..tensor import Tensor
from .opdef import composite, fn


def _slope(f: Any, d: int, spacing: Any, edge_order: int) -> Any:
    """Second order differences along ``d``: central inside, one-sided of ``edge_order`` at both ends."""
    n = f.shape[d]

    def part(start: int, length: int) -> Any:
        return f.narrow(d, start, length)
    if isinstance(spacing, Tensor):
        gaps = spacing.diff().to(f.dtype if f.dtype.category >= 2 else spacing.dtype)
        shape = [-1 if k == d else 1 for k in range(f.ndim)]
        a, b = gaps[:-1].reshape(shape), gaps[1:].reshape(shape)
        middle = (-b / (a * (a + b))) * part(0, n - 2) + ((b - a) / (a * b)) * part(1, n - 2) + (a / (b * (a + b))) * part(2, n - 2)
        first, last, second, before = gaps[0], gaps[-1], gaps[1] if n > 2 else None, gaps[-2] if n > 2 else None
    else:
        middle = (part(2, n - 2) - part(0, n - 2)) / (2.0 * spacing)
        first = last = second = before = spacing
    if edge_order == 1:
        left, right = (part(1, 1) - part(0, 1)) / first, (part(n - 1, 1) - part(n - 2, 1)) / last
    else:
        left = (-(2.0 * first + second) / (first * (first + second))) * part(0, 1) + ((first + second) / (first * second)) * part(1, 1) - (
            first / (second * (first + second))) * part(2, 1)
        right = (last / (before * (before + last))) * part(n - 3, 1) - ((last + before) / (last * before)) * part(n - 2, 1) + (
            (2.0 * last + before) / (last * (last + before))) * part(n - 1, 1)
    return fn.cat([left, middle, right], d)


@composite(method=False)
def gradient(input, *, spacing=None, dim=None, edge_order=1):
    """The derivative of samples of a function along each dimension of ``dim`` (all by default), as a list.

    ``spacing`` is the distance of the samples (1 by default), one for each dimension, or their coordinates as tensors.
    """
    if input.dtype is uint8:
        raise RuntimeError("torch.gradient does not support uint8 input.")
    if edge_order not in (1, 2):
        raise RuntimeError(f"torch.gradient only supports edge_order=1 and edge_order=2, got {edge_order}")
    dims = list(range(input.ndim)) if dim is None else [wrap_dim(d, input.ndim) for d in ([dim] if isinstance(dim, int) else dim)]
    if len(set(dims)) != len(dims):
        raise RuntimeError(f"torch.gradient: dim {dims} appears multiple times in the list of dims")
    spacing = [spacing] if isinstance(spacing, Tensor) else 1 if spacing is None else spacing
    each = list(spacing) if isinstance(spacing, (list, tuple)) else [spacing] * len(dims)
    if len(each) != len(dims):
        raise RuntimeError(f"torch.gradient expected spacing to be unspecified, a scalar, or a list of length {len(dims)}, but got "
                           f"{len(each)}")
    for d, s in zip(dims, each):
        if input.shape[d] < edge_order + 1:
            raise RuntimeError(f"torch.gradient expected each dimension size to be at least edge_order+1, got {input.shape[d]}")
        if isinstance(s, Tensor) and (s.ndim != 1 or s.numel() != input.shape[d]):
            raise RuntimeError(f"torch.gradient expected each coordinate tensor to have one dimension and {input.shape[d]} elements, but "
                               f"got shape {list(s.shape)}")
    return [_slope(input, d, s, edge_order) for d, s in zip(dims, each)]


def _spacing(x: Any, dx: Any, y: Any, dim: int) -> Any:
    if x is None:
        return 1.0 if dx is None else dx
    gaps = fn.diff(x, dim=-1 if x.ndim == 1 else dim)
    return gaps.reshape([-1 if k == dim else 1 for k in range(y.ndim)]) if x.ndim == 1 else gaps


def _trapezoids(y: Any, x: Any, dx: Any, dim: int) -> tuple[Any, int]:
    if y.ndim == 0:
        raise IndexError("trapezoid(): y must have at least one dimension")
    d = wrap_dim(dim, y.ndim)
    n = y._a.shape[d]
    if n == 0:
        raise RuntimeError("trapezoid(): there is nothing to integrate over")
    return (y.narrow(d, 1, n - 1) + y.narrow(d, 0, n - 1)) * _spacing(x, dx, y, d) / 2, d


@composite(refuses="bool", method=False, aliases=("trapz",))
def trapezoid(y, x=None, *, dx=None, dim=-1):
    """The integral along ``dim`` by the trapezoidal rule, at positions ``x`` or with spacing ``dx``."""
    parts, d = _trapezoids(y, x, dx, dim)
    return parts.sum(d)


@composite(refuses="bool", method=False)
def cumulative_trapezoid(y, x=None, *, dx=None, dim=-1):
    """The integral up to each position but the first."""
    parts, d = _trapezoids(y, x, dx, dim)
    return parts.cumsum(d)
