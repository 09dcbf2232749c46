"""Pooling: the maximum, mean or norm of windows.

Means are sums over windows in one dimension after the other (:mod:`resampling`), or plain reductions where windows tile the input, which
fuse with what is around them. Maxima are :mod:`max_windows`.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import bool_, int64
from .creation import place
from .max_windows import pick
from .opdef import composite, fn, not_implemented


def _spread(name: str, what: str, value: Any, n: int) -> tuple[int, ...]:
    """One int, or ``n`` of them, as ``n``."""
    if isinstance(value, (list, tuple)):
        if len(value) not in (1, n):
            expected = "int" if n == 1 else f"a single int, or a tuple of {n} ints"
            raise RuntimeError(f"{name}: {what} must either be {expected}, got {tuple(value)}")
        values = tuple(value) if len(value) == n else tuple(value) * n
    else:
        values = (value,) * n
    for v in values:
        if isinstance(v, bool) or not hasattr(v, "__index__"):
            raise TypeError(f"{name}(): argument '{what}' must be tuple of ints, but found element of type {type(v).__name__}")
    return tuple(int(v) for v in values)


def _check_input(name: str, input: Any, n: int, whole: bool = False) -> None:
    """``n`` spatial dimensions, one of channels and perhaps one of the batch; only the batch may be empty."""
    shape = list(input.shape)
    if input.ndim not in (n + 1, n + 2):
        raise RuntimeError(f"{name}: Expected {n + 1}D or {n + 2}D (batch mode) tensor for input, but got: {shape}")
    if 0 in shape[-n - (0 if whole else 1):]:
        raise RuntimeError(f"{name}: Expected {n + 1}D or {n + 2}D (batch mode) tensor with optional 0 dim batch size for input, "
                           f"but got: {shape}")


def _windows(name: str, size: Sequence[int], kernel: Any, stride: Any, padding: Any, dilation: Any,
             ceil_mode: bool) -> tuple[tuple[int, ...], ...]:
    """Checked ``(kernel, stride, padding, dilation, result)``, as many each as there are sizes."""
    n = len(size)
    kernel = _spread(name, "kernel_size", kernel, n)
    stride = kernel if stride is None or (isinstance(stride, (list, tuple)) and not stride) else _spread(name, "stride", stride, n)
    padding, dilation = _spread(name, "padding", padding, n), _spread(name, "dilation", dilation, n)
    if min(kernel) <= 0:
        raise RuntimeError(f"{name}: kernel size should be greater than zero, but got {list(kernel)}")
    if min(stride) <= 0:
        raise RuntimeError(f"{name}: stride should be greater than zero, but got {list(stride)}")
    if min(dilation) <= 0:
        raise RuntimeError(f"{name}: dilation should be greater than zero, but got {list(dilation)}")
    if min(padding) < 0:
        raise RuntimeError(f"{name}: pad must be non-negative, but got pad: {list(padding)}")
    for k, p, d in zip(kernel, padding, dilation):
        if p > ((k - 1) * d + 1) // 2:
            raise RuntimeError(f"{name}: pad should be at most half of effective kernel size, but got pad={p}, kernel_size={k} and "
                               f"dilation={d}")
    result = []
    for m, k, s, p, d in zip(size, kernel, stride, padding, dilation):
        room = m + 2 * p - d * (k - 1) - 1
        count = (room + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode and (count - 1) * s >= m + p:  # a window must start in the input or the padding before it
            count -= 1
        if count < 1:
            raise RuntimeError(f"{name}: Given input size {list(size)}. Calculated output size is too small: kernel {list(kernel)}, "
                               f"stride {list(stride)}, padding {list(padding)}, dilation {list(dilation)}")
        result.append(count)
    return kernel, stride, padding, dilation, tuple(result)


# ---- maxima


def _max_pool(name: str, n: int, input: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Any:
    _check_input(name, input, n)
    if input.dtype is bool_ or input.dtype.is_complex:
        raise not_implemented(name, input.dtype)
    return fn.max_windows(input, *_windows(name, input._a.shape[-n:], kernel, stride, padding, dilation, ceil_mode))


_MAX_DOC = """The largest element of each window over the last {n} dimension{s}, with its position in the plane if ``return_indices``.

    ``input``: (N, C, *spatial) or (C, *spatial). Windows go beyond the ends by ``padding`` (which never counts), and with ``ceil_mode``
    a last window that does not fit is kept."""


def _define_max_pool(n: int) -> None:
    name = f"max_pool{n}d"

    def pool(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):  # noqa: ANN001, ANN202
        if n == 1 and not return_indices and input.dtype.category < 2:
            raise not_implemented(name, input.dtype)
        values, indices = _max_pool(name, n, input, kernel_size, stride, padding, dilation, ceil_mode)
        return (values, indices) if return_indices else values

    def with_indices(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=True):  # noqa: ANN001, ANN202
        return _max_pool(name, n, input, kernel_size, stride, padding, dilation, ceil_mode)

    pool.__doc__ = _MAX_DOC.format(n=n, s="s" if n > 1 else "")
    with_indices.__doc__ = f"``(values, positions)`` of ``{name}``."
    layout = "signals" if n == 1 else "images"
    composite(name=name, nn=True, method=False, layout=layout)(pool)
    composite(name=f"{name}_with_indices", nn=True, function=n == 1, method=False, layout=layout)(with_indices)


for _n in (1, 2, 3):
    _define_max_pool(_n)


def _result_sizes(name: str, input: Any, output_size: Any, n: int) -> tuple[int, ...]:
    """An adaptive pool's ``output_size``, ``None`` meaning the input's."""
    given = output_size if isinstance(output_size, (list, tuple)) else (output_size,) * n
    if n > 1 and given is output_size and input.ndim <= len(given):
        raise ValueError(f"{name}: Input dimension should be at least {len(given) + 1}, got {list(input.shape)}")
    if len(given) == 1:
        given = tuple(given) * n
    if len(given) != n or input.ndim < n:
        raise RuntimeError(f"{name}: internal error: output_size.size() must be {n}, got {output_size}")
    sizes = tuple(int(m) if m is not None else k for m, k in zip(given, input._a.shape[-n:]))
    if min(sizes) < 0:
        raise RuntimeError(f"{name}: elements of output_size must be greater than or equal to 0 but received {list(sizes)}")
    return sizes


def _adaptive_max(name: str, n: int, input: Any, output_size: Any) -> tuple[Any, Any]:
    out = _result_sizes(name, input, output_size, n)
    _check_input(name, input, n, whole=True)
    if not input.dtype.is_floating_point:
        raise NotImplementedError(f"\"{name}\" not implemented for {input.dtype}; convert it with .float()")
    size = tuple(input._a.shape[-n:])
    if 0 in out or 0 in input._a.shape:
        empty = input.new_zeros((*input._a.shape[:-n], *out))
        return empty, empty.to(int64)
    if all(m % k == 0 for m, k in zip(size, out)):
        kernel = tuple(m // k for m, k in zip(size, out))
        return fn.max_windows(input, kernel, kernel, (0,) * n, (1,) * n, out)
    at = np.zeros((1,) * (2 * n), np.int64)  # (windows of each dimension, elements of each dimension)
    for d, (m, k) in enumerate(zip(size, out)):
        i = np.arange(k)
        first, end = i * m // k, -((i + 1) * m // -k)
        # a shorter window repeats its last element, which changes nothing
        inside = np.minimum(first[:, None] + np.arange(int((end - first).max())), end[:, None] - 1) * math.prod(size[d + 1:])
        at = at + inside.reshape([inside.shape[0] if j == d else inside.shape[1] if j == n + d else 1 for j in range(2 * n)])
    return _largest_at(input, place(at.reshape(*out, -1), input.device), n)


def _largest_at(input: Any, at: Any, n: int) -> tuple[Any, Any]:
    """The largest among the elements at positions ``at`` (..., *windows, elements) of each plane, and its position."""
    lead = tuple(input._a.shape[:-n])
    shape = (*lead, *at._a.shape[-n - 1:])
    at = at.expand(shape)
    planes = input.detach().reshape((*lead, math.prod(input._a.shape[-n:])))
    seen = fn.gather_dim(planes, at.reshape((*lead, math.prod(shape[-n - 1:]))), len(lead)).reshape(shape)
    indices = fn.gather_dim(at, seen.argmax(-1, keepdim=True), len(shape) - 1).squeeze(-1)
    return pick(input, indices, n), indices


def _define_adaptive(n: int) -> None:
    max_name, avg_name = f"adaptive_max_pool{n}d", f"adaptive_avg_pool{n}d"
    dims = "dimension" if n == 1 else f"{n} dimensions"

    def largest(input, output_size, return_indices=False):  # noqa: ANN001, ANN202
        values, indices = _adaptive_max(max_name, n, input, output_size)
        return (values, indices) if return_indices else values

    def largest_with_indices(input, output_size, return_indices=True):  # noqa: ANN001, ANN202
        return _adaptive_max(max_name, n, input, output_size)

    def average(input, output_size):  # noqa: ANN001, ANN202
        return _adaptive_average(avg_name, n, input, output_size)

    largest.__doc__ = (f"The largest element of each of ``output_size`` near-equal parts of the last {dims}; with ``return_indices`` also "
                       "its position in the plane.")
    largest_with_indices.__doc__ = f"``(values, positions)`` of ``{max_name}``."
    average.__doc__ = f"The mean of each of ``output_size`` near-equal parts of the last {dims}; ``None`` keeps a dimension."
    layout = ("signals", "images", "row-major")[n - 1]
    composite(name=max_name, nn=True, function=False, method=False, layout=layout)(largest)
    composite(name=f"{max_name}_with_indices", nn=True, function=False, method=False, layout=layout)(largest_with_indices)
    composite(name=avg_name, nn=True, function=n == 1, method=False, layout=layout)(average)


# ---- means

#: Elements of a window.
_FEW = 16


def _tiled(input: Any, kernel: Sequence[int]) -> tuple[Any, tuple[int, ...]]:
    """``input`` with each of its last dimensions split into windows, and which dimensions hold their elements."""
    lead = input.ndim - len(kernel)
    shape = list(input._a.shape[:lead])
    for m, k in zip(input._a.shape[lead:], kernel):
        shape += [m // k, k]
    return input.reshape(shape), tuple(lead + 1 + 2 * d for d in range(len(kernel)))


def resample(input: Any, rules: Sequence[tuple]) -> Any:
    """Maps along the last dimensions, one rule each; those that shrink come first, and those that change nothing are left out."""
    first = input.ndim - len(rules)
    for d in sorted(reversed(range(len(rules))), key=lambda d: rules[d][2] / max(rules[d][1], 1)):
        input = fn.resample_dim(input, first + d, rules[d], False)
    return input


def _adaptive_average(name: str, n: int, input: Any, output_size: Any) -> Any:
    out = _result_sizes(name, input, output_size, n)
    _check_input(name, input, n, whole=True)
    if not input.dtype.is_floating_point:
        raise NotImplementedError(f"\"{name}\" not implemented for {input.dtype}; convert it with .float()")
    size = input._a.shape[-n:]
    if 0 in out:
        return input.new_zeros((*input._a.shape[:-n], *out))
    if all(m % k == 0 for m, k in zip(size, out)):
        x, dims = _tiled(input, [m // k for m, k in zip(size, out)])
        return x.mean(dims)
    x = input.float() if input.dtype.itemsize == 2 else input
    return resample(x, [("adaptive", m, k) for m, k in zip(size, out)]).to(input.dtype)


for _n in (1, 2, 3):
    _define_adaptive(_n)


@functools.lru_cache(maxsize=256)
def _divisors(size: tuple[int, ...], windows: tuple, include_pad: bool) -> int | np.ndarray:
    """How many elements each window counts; one number if all are equal."""
    total = np.ones((), np.int64)
    for m, k, s, p, _, count in zip(size, *windows):
        start = np.arange(count) * s - p
        end = np.minimum(start + k, m + p)
        if not include_pad:
            start, end = np.maximum(start, 0), np.minimum(end, m)
        total = total[..., None] * (end - start)
    return int(total.flat[0]) if (total == total.flat[0]).all() else total


def _avg_pool(name: str, n: int, input: Any, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, include_pad: bool,
              divisor: int | None) -> Any:
    if divisor == 0:
        raise RuntimeError(f"{name}: divisor must be not zero")
    _check_input(name, input, n)
    size = tuple(input._a.shape[-n:])
    windows = _windows(name, size, kernel, stride, padding, 1, ceil_mode)
    kernel, stride, padding, _, out = windows
    if input.dtype.category == 0 or (input.dtype.category == 1 and input.dtype is not int64):
        raise NotImplementedError(f"\"{name}\" not implemented for {input.dtype}; convert it with .float()")
    count = _divisors(size, windows, include_pad) if divisor is None else divisor
    tiles = kernel == stride and not any(padding) and all(m == k * c for m, k, c in zip(size, kernel, out))
    if input.device.type == "cpu" and math.prod(kernel) <= _FEW:
        tiles = False  # reductions of so few elements do not vectorise
    floating = input.dtype.is_floating_point
    if tiles and floating and divisor is None:
        x, dims = _tiled(input, kernel)
        return x.mean(dims)
    x = input.float() if input.dtype.itemsize == 2 else input
    if tiles:
        x, dims = _tiled(x, kernel)
        total = x.sum(dims)
    else:
        total = resample(x, [("window", m, c, k, s, p) for m, k, s, p, _, c in zip(size, *windows)])
    by = count if isinstance(count, int) else place(count, input.device)
    if not floating:
        return fn.div(total, by, rounding_mode="trunc")
    return (total / (by if isinstance(by, int) else by.to(total.dtype))).to(input.dtype)


@composite(nn=True, method=False, layout="signals")
def avg_pool1d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    """The mean of each window over the last dimension; the zeros of the padding count unless ``count_include_pad`` is false."""
    return _avg_pool("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


@composite(nn=True, out="exact", function=False, method=False, layout="images")
def avg_pool2d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
    """The mean of each window over the last two dimensions; ``divisor_override``: divide the sum by this instead."""
    return _avg_pool("avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


@composite(nn=True, out="exact", function=False, method=False, autocast="float32:cpu", layout="row-major")
def avg_pool3d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
    """The mean of each window over the last three dimensions; ``divisor_override``: divide the sum by this instead."""
    return _avg_pool("avg_pool3d", 3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


# ---- norms


def _lp_pool(n: int, input: Any, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool) -> Any:
    if math.isinf(norm_type):
        x = input.abs() * math.copysign(1, norm_type)
        return getattr(fn, f"max_pool{n}d")(x, kernel_size, stride, 0, 1, ceil_mode) * math.copysign(1, norm_type)
    kernel = _spread(f"lp_pool{n}d", "kernel_size", kernel_size, n)
    mean = _avg_pool(f"lp_pool{n}d", n, input.pow(norm_type), kernel, stride, 0, ceil_mode, True, None)
    return (mean.sign() * fn.relu(mean.abs()) * math.prod(kernel)).pow(1.0 / norm_type)


def _define_lp_pool(n: int) -> None:
    def pool(input, norm_type, kernel_size, stride=None, ceil_mode=False):  # noqa: ANN001, ANN202
        return _lp_pool(n, input, norm_type, kernel_size, stride, ceil_mode)
    pool.__doc__ = f"``sum(x ** norm_type) ** (1 / norm_type)`` of each window over the last {n} dimensions."
    composite(name=f"lp_pool{n}d", nn=True, function=False, method=False, layout=("signals", "images", "row-major")[n - 1])(pool)


for _n in (1, 2, 3):
    _define_lp_pool(_n)
