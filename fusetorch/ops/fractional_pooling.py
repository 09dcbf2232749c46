"""Pooling over windows at random places (Graham, "Fractional max-pooling", 2014), and the inverse of max pooling."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..dtypes import int64
from .opdef import composite, fn
from .pooling import _check_input, _largest_at, _spread


def _starts(u: Any, size: int, kernel: int, out: int) -> Any:
    """Where the windows of one dimension start, (..., out), from random numbers ``u`` (...) in [0, 1)."""
    if out == 1:
        return fn.full((*u._a.shape, 1), size - kernel, dtype=int64, device=u.device)
    alpha = (size - kernel) / (out - 1)
    u = u.unsqueeze(-1)
    i = fn.arange(out - 1, dtype=u.dtype, device=u.device)
    begin = ((i + u) * alpha).to(int64) - (u * alpha).to(int64)
    return fn.cat([begin, fn.full_like(begin[..., :1], size - kernel)], -1)


def _fractional(n: int, input: Any, kernel_size: Any, output_size: Any, output_ratio: Any, samples: Any) -> tuple[Any, Any]:
    name = f"fractional_max_pool{n}d"
    if output_size is None and output_ratio is None:
        raise ValueError(f"{name} requires specifying either an output_size or an output_ratio")
    _check_input(name, input, n)
    size = input._a.shape[-n:]
    if output_size is None:
        ratio = output_ratio if isinstance(output_ratio, (list, tuple)) else (output_ratio,) * n
        if len(ratio) != n:
            raise ValueError(f"{name} requires output_ratio to either be a single Int or tuple of Ints.")
        output_size = [int(m * r) for m, r in zip(size, ratio)]
    out, kernel = _spread(name, "output_size", output_size, n), _spread(name, "kernel_size", kernel_size, n)
    for m, k, c in zip(size, kernel, out):
        if k <= 0 or c <= 0:
            raise RuntimeError(f"{name}: kernel_size and output_size must be greater than zero, got {list(kernel)} and {list(out)}")
        if c + k - 1 > m:
            raise RuntimeError(f"{name}(): pool size {list(kernel)} too large relative to input size {list(size)} for output {list(out)}")
    x = input if input.ndim == n + 2 else input.unsqueeze(0)
    batch, channels = x._a.shape[:2]
    if samples is None:
        samples = fn.rand((batch, channels, n), dtype=input.dtype, device=input.device)
    if samples.dtype is not input.dtype:
        raise RuntimeError(f"Expect _random_samples to have the same dtype as input, got {samples.dtype} and {input.dtype}")
    if samples.ndim != 3 or samples._a.shape[0] < batch or samples._a.shape[1] < channels or samples._a.shape[2] != n:
        raise RuntimeError(f"Expect _random_samples of shape {[batch, channels, n]}, got {list(samples.shape)}")
    at = fn.zeros((1,) * (2 + 2 * n), dtype=int64, device=input.device)
    for d, (m, k, c) in enumerate(zip(size, kernel, out)):
        # in two dimensions the first number is for the columns
        u = samples[:batch, :channels, 1 - d if n == 2 else d]
        begin = _starts(u, m, k, c)
        inside = (begin.unsqueeze(-1) + fn.arange(k, device=input.device)) * math.prod(size[d + 1:])
        at = at + inside.reshape((batch, channels, *[c if j == d else k if j == n + d else 1 for j in range(2 * n)]))
    values, indices = _largest_at(x, at.reshape((batch, channels, *out, math.prod(kernel))), n)
    return (values, indices) if input.ndim == n + 2 else (values.squeeze(0), indices.squeeze(0))


def _define_fractional(n: int) -> None:
    def pool(input, kernel_size, output_size=None, output_ratio=None, return_indices=False, _random_samples=None):  # noqa: ANN001, ANN202
        values, indices = _fractional(n, input, kernel_size, output_size, output_ratio, _random_samples)
        return (values, indices) if return_indices else values

    def with_indices(input, kernel_size, output_size=None, output_ratio=None, return_indices=True, _random_samples=None):  # noqa: ANN001, ANN202
        return _fractional(n, input, kernel_size, output_size, output_ratio, _random_samples)

    pool.__doc__ = (f"The largest element of windows of ``kernel_size`` that start at random places of the last {n} dimensions, "
                    "``output_size`` of them (or ``output_ratio`` times the input's size).")
    with_indices.__doc__ = f"``(values, positions)`` of ``fractional_max_pool{n}d``."
    composite(name=f"fractional_max_pool{n}d", nn=True, function=False, method=False)(pool)
    composite(name=f"fractional_max_pool{n}d_with_indices", nn=True, function=False, method=False)(with_indices)


for _n in (2, 3):
    _define_fractional(_n)


# ---- the inverse of max pooling


def _unpooled_size(input: Any, n: int, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int],
                   output_size: Any) -> tuple[int, ...]:
    default = tuple((m - 1) * s + k - 2 * p for m, k, s, p in zip(input._a.shape[-n:], kernel, stride, padding))
    if output_size is None:
        return default
    given = tuple(output_size)
    if len(given) == n + 2:
        given = given[2:]
    if len(given) != n:
        raise ValueError(f"output_size should be a sequence containing {n} or {n + 2} elements, but it has a length of '{len(given)}'")
    for m, d, s in zip(given, default, stride):
        if not d - s < m < d + s:
            raise ValueError(f"invalid output_size {list(given)}: each dimension must be within a stride of {list(default)}")
    return given


def _define_unpool(n: int) -> None:
    name = f"max_unpool{n}d"

    def unpool(input, indices, kernel_size, stride=None, padding=0, output_size=None):  # noqa: ANN001, ANN202
        kernel = _spread(name, "kernel_size", kernel_size, n)
        steps = kernel if stride is None else _spread(name, "stride", stride, n)
        out = _unpooled_size(input, n, kernel, steps, _spread(name, "padding", padding, n), output_size)
        if indices.dtype is not int64:
            raise RuntimeError(f"elements in indices should be type int64 but got: {indices.dtype}")
        _check_input(name, input, n)
        if tuple(indices.shape) != tuple(input.shape):
            raise RuntimeError(f"Expected shape of indices to be same as that of the input tensor ({list(input.shape)}) but got indices "
                               f"tensor with shape: {list(indices.shape)}")
        if n == 3 and (min(steps) <= 0):
            raise RuntimeError(f"strides should be greater than zero, but got stride: {list(steps)}")
        lead = tuple(input._a.shape[:-n])
        empty = input.new_zeros((*lead, math.prod(out)))
        return fn.scatter_dim(empty, input.flatten(-n), indices.flatten(-n), len(lead), "none", True).reshape((*lead, *out))

    unpool.__doc__ = (f"The inverse of ``max_pool{n}d``: each element at its position in the plane given by ``indices``, zeros elsewhere. "
                      "``output_size`` says which of the possible sizes is meant.")
    composite(name=name, refuses="bool integer complex", nn=True, function=False, method=False,
              layout="row-major" if n == 3 else "images")(unpool)


for _n in (1, 2, 3):
    _define_unpool(_n)
