"""Linear maps along one dimension in which each result reads a few neighbours: interpolation, averages over windows, padding.

Which positions a result reads, and with what weights, depends on the sizes alone. So the map is a *rule*, a tuple that describes it, and
:func:`taps` is its table. The gradient is the same operation with the transposed table.

Interpolation in several dimensions is one such map after the other. The rules:

==============================================  ===================================================================================
``("nearest", n_in, n_out, scale, shift)``      the element at ``floor((i + shift) * scale)``
``("linear", n_in, n_out, scale, align)``       two neighbours
``("cubic", n_in, n_out, scale, align)``        four neighbours, Keys' kernel with a = -0.75
``("smooth", n_in, n_out, scale, reach)``       a triangle (``reach`` 1), Keys' kernel with a = -0.5 (2) or Lanczos' (3), so wide that
                                                shrinking loses no element
``("adaptive", n_in, n_out)``                   the mean of the i-th of ``n_out`` near-equal parts
``("window", n_in, n_out, size, step, pad)``    the sum of ``size`` elements every ``step``, from ``-pad``; nothing beyond the ends
``("reflect", n_in, n_out, before)``            the elements with ``before`` in front: mirrored at the ends; or ``"replicate"``: the end
                                                elements repeated; or ``"circular"``: going on at the other end
==============================================  ===================================================================================

Keys, "Cubic convolution interpolation for digital image processing", 1981.
"""
from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ..dtypes import HALVES
from .opdef import fn, opaque

#: Positions and weights, (results, taps) each. Position -1: no tap. Weights ``None``: all are 1.
Table = tuple[np.ndarray, "np.ndarray | None"]


def _keys(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic kernel."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def _lanczos(x: np.ndarray) -> np.ndarray:
    """Lanczos' kernel of three lobes."""
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


def _interpolate(rule: tuple, real: type) -> Table:
    """The taps of the rules that have a scale, reckoned in the tensor's precision."""
    kind, n_in, n_out, scale, how = rule
    i, scale = np.arange(n_out, dtype=real), real(scale)
    if kind == "nearest":
        at = np.floor((i + real(how)) * scale).astype(np.int64)
        return np.minimum(at, n_in - 1)[:, None], None
    if kind == "smooth":
        reach = real(how) * max(scale, real(1))
        centre = scale * (i + real(0.5))
        first = np.maximum((centre - reach + real(0.5)).astype(np.int64), 0)
        size = np.minimum((centre + reach + real(0.5)).astype(np.int64), n_in) - first
        t = np.arange(max(int(size.max(initial=0)), 1))
        x = (t + first[:, None] - centre[:, None] + real(0.5)) / max(scale, real(1))
        w = np.maximum(1 - np.abs(x), 0) if how == 1 else _keys(x, -0.5) if how == 2 else _lanczos(x)
        w = np.where(t < size[:, None], w, 0)
        total = w.sum(1, keepdims=True)
        return np.where(t < size[:, None], first[:, None] + t, -1), w / np.where(total == 0, 1, total)
    at = scale * i if how else scale * (i + real(0.5)) - real(0.5)
    if kind == "linear":
        at = np.maximum(at, 0)
        low = np.minimum(at.astype(np.int64), n_in - 1)
        w = np.clip(at - low.astype(real), 0, 1)
        return np.stack([low, np.minimum(low + 1, n_in - 1)], 1), np.stack([1 - w, w], 1)
    low = np.floor(at).astype(np.int64)
    part = at - low.astype(real)
    steps = np.arange(-1, 3)
    return np.clip(low[:, None] + steps, 0, n_in - 1), _keys(part[:, None] - steps.astype(real), -0.75)


@functools.lru_cache(maxsize=512)
def taps(rule: tuple, back: bool, double: bool) -> Table:
    """The table of a rule, or of its transpose (``back``)."""
    if back:
        return _transposed(*taps(rule, False, double), rule[1])
    kind, n_in, n_out = rule[:3]
    if kind in ("reflect", "replicate", "circular"):
        at = np.arange(n_out) - rule[3]
        if kind == "reflect":
            at = np.abs(at)
            at = np.where(at >= n_in, 2 * (n_in - 1) - at, at)
        return (np.clip(at, 0, n_in - 1) if kind == "replicate" else at % n_in if kind == "circular" else at)[:, None], None
    if kind == "adaptive":
        i = np.arange(n_out)
        first, end = i * n_in // n_out, -((i + 1) * n_in // -n_out)
        t = np.arange(int((end - first).max(initial=1)))
        at = np.where(first[:, None] + t < end[:, None], first[:, None] + t, -1)
        return at, (at >= 0) / np.maximum(end - first, 1)[:, None]
    if kind == "window":
        size, step, pad = rule[3:]
        at = np.arange(n_out)[:, None] * step - pad + np.arange(size)
        return np.where((at >= 0) & (at < n_in), at, -1), None
    return _interpolate(rule, np.float64 if double else np.float32)


def _transposed(index: np.ndarray, weight: np.ndarray | None, n_in: int) -> Table:
    result, tap = np.nonzero(index >= 0)
    source = index[result, tap]
    order = np.argsort(source, kind="stable")
    source, result, tap = source[order], result[order], tap[order]
    counts = np.bincount(source, minlength=n_in)
    column = np.arange(source.size) - np.repeat(np.cumsum(counts) - counts, counts)
    at = np.full((n_in, max(int(counts.max(initial=0)), 1)), -1)
    at[source, column] = result
    if weight is None:
        return at, None
    w = np.zeros(at.shape)
    w[source, column] = weight[result, tap]
    return at, w


#: Products with a matrix of up to so many rows beat gathering; of larger maps, pieces for so many results are tried.
_DENSE, _PIECE = 256, 64


@functools.lru_cache(maxsize=64)
def _matrices(rule: tuple, back: bool, d: np.dtype) -> list[tuple[slice, slice, np.ndarray]]:
    """The map in pieces: results, elements that they read, matrix (elements, results). Empty if pieces would not pay."""
    index, weight = taps(rule, back, d == np.float64)
    n_in, n_out = rule[2] if back else rule[1], index.shape[0]
    step, pieces = n_out if n_in <= _DENSE else _PIECE, []
    for first in range(0, n_out, step):
        at = index[first:first + step]
        result, tap = np.nonzero(at >= 0)
        low, end = (0, n_in) if n_in <= _DENSE else (int(at[result, tap].min(initial=n_in)), int(at[result, tap].max(initial=0)) + 1)
        if end - low > _DENSE:
            return []
        m = np.zeros((max(end - low, 0), at.shape[0]), d)
        np.add.at(m, (at[result, tap] - low, result), 1 if weight is None else weight[first + result, tap].astype(d))
        pieces.append((slice(first, first + step), slice(low, end), m))
    return pieces


def _product(x: np.ndarray, pieces: list[tuple[slice, slice, np.ndarray]]) -> np.ndarray | None:
    """The map of ``x`` (outer, elements, inner) as matrix products; ``None`` where an infinity or NaN, times 0, would spread."""
    from .matmul import product
    inner = x.shape[2]
    parts = []
    with np.errstate(all="ignore"):
        for _, elements, m in pieces:
            seen = x[:, elements]
            parts.append(product(seen[:, :, 0], m)[:, :, None] if inner == 1 else product(np.ascontiguousarray(m.T), seen))
        if not all(np.isfinite(p.sum()) for p in parts):
            return None
    return parts[0] if len(parts) == 1 else np.concatenate(parts, 1)


@opaque(name="resample_dim", function=False, method=False)
def resample_dim(input, dim: int, rule: tuple, back: bool):
    """The map ``rule`` (see the module) along ``dim``; with ``back`` its transpose."""
    shape = list(input.shape)
    shape[dim] = rule[1] if back else rule[2]
    return [(tuple(shape), input.dtype)]


@resample_dim.cpu
def _(a: np.ndarray, dim: int, rule: tuple, back: bool) -> np.ndarray:
    if a.dtype in [d.np for d in HALVES]:
        return resample_dim.kernels["cpu"](a.astype(np.float32), dim, rule, back).astype(a.dtype)
    index, weight = taps(rule, back, a.dtype == np.float64)
    n_out, count = index.shape
    inner = math.prod(a.shape[dim + 1:])
    shape = (*a.shape[:dim], n_out, *a.shape[dim + 1:])
    if count == 1 and weight is None and (index >= 0).all():
        return np.take(a, index[:, 0], dim)
    x = np.ascontiguousarray(a).reshape(-1, a.shape[dim], inner)
    dense = a.dtype.kind == "f" and 2 * (index >= 0).sum() > 3 * n_out  # a permutation with few additions needs no products
    if a.size and n_out and dense and (pieces := _matrices(rule, back, a.dtype)):
        product = _product(x, pieces)
        if product is not None:
            return product.reshape(shape)
    return _gathered(x, index, weight).reshape(shape)


def _gathered(x: np.ndarray, index: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """The map of ``x`` (outer, elements, inner), one tap after the other."""
    out = np.zeros((x.shape[0], index.shape[0], x.shape[2]), x.dtype)
    extended = None
    for t in range(index.shape[1]):
        results = np.flatnonzero(index[:, t] >= 0)
        if not results.size:
            continue
        to, source = _progression(results), _progression(index[results, t])
        if to is None or source is None:
            if extended is None:  # a last element of 0, for results without this tap
                extended = np.concatenate([x, np.zeros((x.shape[0], 1, x.shape[2]), x.dtype)], 1)
            to, part = slice(None), np.take(extended, index[:, t] % extended.shape[1], 1)
        else:
            part = x[:, source]
        if weight is not None:
            part = part * weight[to, t].astype(x.dtype)[:, None]
        out[:, to] += part
    return out


def _progression(at: np.ndarray) -> slice | None:
    """Positions as a slice if they are evenly spaced."""
    step = int(at[1] - at[0]) if at.size > 1 else 1
    return slice(int(at[0]), int(at[-1]) + 1, step) if step > 0 and (np.diff(at) == step).all() else None


@functools.lru_cache(maxsize=256)
def _on_device(rule: tuple, back: bool, double: bool, device_index: int, simulated: bool) -> tuple[Any, Any]:
    from ..runtime.memory import from_numpy
    index, weight = taps(rule, back, double)
    real = np.float64 if double else np.float32
    return from_numpy(index.astype(np.int32), device_index), None if weight is None else from_numpy(weight.astype(real), device_index)


@resample_dim.cuda
def _(a: Any, dim: int, rule: tuple, back: bool) -> Any:
    from ..dtypes import float64
    from ..runtime.device import simulated
    from ..triton_kernels.resample import resample
    index, weight = _on_device(rule, back, a.dtype is float64, a.storage.device_index, simulated())
    return resample(a, dim, index, weight)


@resample_dim.vjp()
def _(ctx: Any, g: Any) -> Any:
    return fn.resample_dim(g, ctx.attrs["dim"], ctx.attrs["rule"], not ctx.attrs["back"])


# ---- bytes


@functools.lru_cache(maxsize=256)
def byte_taps(rule: tuple) -> tuple[np.ndarray, np.ndarray, int]:
    """``(positions, weights, shift)`` of a weighted rule in fixed point, as in Pillow: weights of 15 bits, times ``2 ** shift``."""
    index, weight = taps(rule, False, True)
    index, weight = index.copy(), weight.copy()
    for t in range(1, index.shape[1]):  # what an end element gets twice is one weight
        for before in range(t):
            again = (index[:, t] == index[:, before]) & (index[:, t] >= 0)
            weight[again, before] += weight[again, t]
            index[again, t] = -1
    weight = np.where(index >= 0, weight, 0)
    top, shift = float(weight.max(initial=0)), 0
    while shift < 22 and int(0.5 + top * 2 ** (shift + 1)) < 2**15:
        shift += 1
    return index, np.trunc(weight * 2**shift + np.where(weight < 0, -0.5, 0.5)).astype(np.int32), shift


@opaque(name="resample_bytes", function=False, method=False, differentiable=False)
def resample_bytes(input, dim: int, rule: tuple):
    """The map of a weighted ``rule`` along ``dim`` for uint8: in fixed point, rounded, and cut to what a byte holds."""
    return [((*input.shape[:dim], rule[2], *input.shape[dim + 1:]), input.dtype)]


@resample_bytes.cpu
def _(a: np.ndarray, dim: int, rule: tuple) -> np.ndarray:
    index, weight, shift = byte_taps(rule)
    inner = math.prod(a.shape[dim + 1:])
    x = np.ascontiguousarray(a).reshape(-1, a.shape[dim], inner)
    total = np.full((x.shape[0], rule[2], inner), 1 << (shift - 1), np.int32)
    for t in range(index.shape[1]):
        total += np.take(x, np.maximum(index[:, t], 0), 1) * weight[:, t, None]
    return np.clip(total >> shift, 0, 255).astype(np.uint8).reshape((*a.shape[:dim], rule[2], *a.shape[dim + 1:]))


@functools.lru_cache(maxsize=256)
def _bytes_on_device(rule: tuple, device_index: int, simulated: bool) -> tuple[Any, Any]:
    from ..runtime.memory import from_numpy
    index, weight, _ = byte_taps(rule)
    return from_numpy(index.astype(np.int32), device_index), from_numpy(weight, device_index)


@resample_bytes.cuda
def _(a: Any, dim: int, rule: tuple) -> Any:
    from ..runtime.device import simulated
    from ..triton_kernels.resample import resample_bytes
    return resample_bytes(a, dim, *_bytes_on_device(rule, a.storage.device_index, simulated()), byte_taps(rule)[2])
