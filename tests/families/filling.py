"""Samples and oracles of integer arithmetic, filling, copies of views and histograms."""

from __future__ import annotations

import numpy as np
from sample_makers import S, b, f, i


def reduce_rows(a: np.ndarray, dim: int, index: np.ndarray, source: np.ndarray, how: str, include_self: bool = True) -> np.ndarray:
    out, src = np.moveaxis(a.copy(), dim, 0), np.moveaxis(source, dim, 0)
    for k in range(len(out)):
        rows = [src[j] for j in np.flatnonzero(index == k)]
        if rows:
            whole = np.stack([out[k], *rows] if include_self else rows)
            out[k] = {"prod": np.prod, "mean": np.mean, "amax": np.max, "amin": np.min}[how](whole, 0)
    return np.moveaxis(out, 0, dim)


def strided(a: np.ndarray, size: tuple, stride: tuple, start: int = 0) -> np.ndarray:
    flat = a.reshape(-1)
    return np.lib.stride_tricks.as_strided(flat[start:], size, [s * a.itemsize for s in stride])


def put_strided(a: np.ndarray, src: np.ndarray, size: tuple, stride: tuple, start: int = 0) -> np.ndarray:
    out = a.copy()
    strided(out, size, stride, start)[...] = src
    return out


def padded(a: np.ndarray, size: int, fill_value: int = -1) -> np.ndarray:
    rows = np.argwhere(a)
    return np.concatenate([rows, np.full((max(size - len(rows), 0), a.ndim), fill_value)])[:size]


def segments(a: np.ndarray, how: str, lengths: object = None, offsets: object = None, axis: int = 0, initial: object = None) -> np.ndarray:
    """Of rows along the first dimension, or along the second with a row of lengths for each of the first."""
    if axis:
        return np.stack([segments(x, how, lengths=n, initial=initial) for x, n in zip(a, lengths)])
    cuts = np.concatenate([[0], np.cumsum(lengths)]) if offsets is None else offsets
    f = {"sum": np.sum, "prod": np.prod, "max": np.max, "min": np.min, "mean": np.mean}[how]
    empty = {"sum": 0, "prod": 1, "max": -np.inf, "min": np.inf, "mean": np.nan}[how]
    parts = [a[lo:hi] for lo, hi in zip(cuts[:-1], cuts[1:])]
    if initial is not None:
        return np.stack([f(np.concatenate([np.full_like(a[:1], initial), p]), 0) for p in parts])
    return np.stack([f(p, 0) if len(p) else np.full(a.shape[1:], empty) for p in parts])


def gradient(a: np.ndarray, spacing: object = 1, dim: object = None, edge_order: int = 1) -> list:
    dims = tuple(range(a.ndim)) if dim is None else (dim,) if isinstance(dim, int) else dim
    each = spacing if isinstance(spacing, (list, tuple)) else [spacing] * len(dims)
    return [np.gradient(a, s, axis=d, edge_order=edge_order) for s, d in zip(each, dims)]


SAMPLES = {
    "gcd": lambda: [S(i(3, 4, lo=-50, hi=50), i(4, lo=-9, hi=9)), S(i(5, hi=120).astype(np.int8), i(5, hi=120).astype(np.int8))],
    "lcm": lambda: [S(i(3, 4, lo=-50, hi=50), i(4, lo=-9, hi=9)), S(i(5, hi=10).astype(np.int16), i(5, hi=9).astype(np.int16))],
    "nextafter": lambda: [S(f(3, 4).astype(np.float32), f(4).astype(np.float32), grad=False)],
    "frexp_parts": lambda: [S(f(3, 4, lo=0.3, hi=99)), S(np.array([0.0, 1.0, -2.0, 0.5, 1e30, -3e-30]), grad=False)],
    "frexp": lambda: [S(f(3, 4, lo=0.3, hi=99))],
    "fill": lambda: [S(f(3, 4), 2.5), S(f(3, 4), f()), S(i(4), 3)],
    "nonzero_static": lambda: [S(b(3, 4), size=4), S(b(4), size=7, fill_value=9)],
    "as_strided_scatter": lambda: [S(f(6), f(2, 2), (2, 2), (3, 1)), S(f(3, 4), f(3), (3,), (4,), 1)],
    "index_reduce": lambda: [
        S(f(4, 3, lo=0.5), 0, i(5, hi=4), f(5, 3, lo=0.5), how, include_self=me)
        for how in ("prod", "mean", "amax", "amin")
        for me in (True, False)
    ],
    "narrow_copy": lambda: [S(f(5, 3), 0, 1, 3)],
    "slice_copy": lambda: [S(f(5, 3), 0, 1, 4, 2), S(f(5, 3), 1)],
    "alias_copy": lambda: [S(f(3, 4))],
    "as_strided_copy": lambda: [S(f(6), (2, 2), (3, 1))],
    "detach_copy": lambda: [S(f(3, 4), grad=False)],
    "diagonal_copy": lambda: [S(f(3, 4), 1)],
    "permute_copy": lambda: [S(f(2, 3, 4), (2, 0, 1))],
    "select_copy": lambda: [S(f(5, 3), 1, 2)],
    "split_copy": lambda: [S(f(5, 3), 2)],
    "split_with_sizes_copy": lambda: [S(f(5, 3), [1, 4])],
    "squeeze_copy": lambda: [S(f(1, 3, 1), 0)],
    "t_copy": lambda: [S(f(2, 3))],
    "transpose_copy": lambda: [S(f(2, 3, 4), 0, 2)],
    "unbind_copy": lambda: [S(f(2, 3), 1)],
    "unsqueeze_copy": lambda: [S(f(2, 3), 1)],
    "expand_copy": lambda: [S(f(3, 1), (2, 3, 4))],
    "unfold_copy": lambda: [S(f(7), 0, 3, 2)],
    "view_copy": lambda: [S(f(3, 4), (2, 6))],
    "unsafe_split_with_sizes": lambda: [S(f(5, 3), [1, 4])],
    "norm_except_dim": lambda: [S(f(3, 4)), S(f(2, 3, 4), 1, 1), S(f(3, 4), 2, -1)],
    "histogram": lambda: [
        S(f(20), 5),
        S(f(20), np.array([-1.5, 0.0, 0.25, 1.0]), density=True),
        S(f(3, 4), 4, range=(-1.0, 1.5), weight=f(3, 4)),
    ],
    "histogramdd": lambda: [S(f(20, 2), [3, 4]), S(f(9, 2), 3, range=(-1.0, 1.0, -2.0, 2.0), density=True)],
    "segment_reduce": lambda: [
        *[S(f(6, 2), how, lengths=np.array([2, 0, 3, 1]), grad=how == "sum") for how in ("sum", "prod", "max", "min", "mean")],
        *[S(f(6, 2), how, offsets=np.array([0, 2, 6])) for how in ("mean", "max", "min", "prod")],
        S(f(2, 3, 2), "sum", lengths=np.array([[1, 2], [3, 0]]), axis=1, initial=0.5),
        S(f(5), "max", lengths=np.array([2, 3]), initial=0.25),
    ],
    "gradient": lambda: [
        S(f(5)),
        S(f(4, 5), spacing=0.5, edge_order=2),
        S(f(4, 5), spacing=[np.array([0.0, 1.0, 3.0, 3.5])], dim=[0], grad=False),
        S(f(3, 5), spacing=[2.0], dim=1),
    ],
}

ORACLES = {
    "frexp": np.frexp,
    "fill": np.full_like,
    "nonzero_static": padded,
    "as_strided_scatter": put_strided,
    "index_reduce": reduce_rows,
    "narrow_copy": lambda a, d, start, n: np.take(a, range(start, start + n), d),
    "slice_copy": lambda a, d=0, start=None, end=None, step=1: a[(slice(None),) * d + (slice(start, end, step),)],
    "alias_copy": lambda a: a,
    "as_strided_copy": strided,
    "detach_copy": lambda a: a,
    "diagonal_copy": np.diagonal,
    "permute_copy": np.transpose,
    "select_copy": lambda a, d, k: np.take(a, k, d),
    "split_copy": lambda a, n: np.split(a, range(n, len(a), n)),
    "split_with_sizes_copy": lambda a, sizes: np.split(a, np.cumsum(sizes)[:-1]),
    "squeeze_copy": np.squeeze,
    "t_copy": np.transpose,
    "transpose_copy": np.swapaxes,
    "unbind_copy": lambda a, d: list(np.moveaxis(a, d, 0)),
    "unsqueeze_copy": np.expand_dims,
    "expand_copy": np.broadcast_to,
    "unfold_copy": lambda a, d, n, step: np.lib.stride_tricks.sliding_window_view(a, n, d)[::step],
    "view_copy": np.reshape,
    "unsafe_split_with_sizes": lambda a, sizes: np.split(a, np.cumsum(sizes)[:-1]),
    "norm_except_dim": lambda a, pow=2, dim=0: (
        (np.abs(a) ** pow).sum(None if dim == -1 else tuple(k for k in range(a.ndim) if k != dim), keepdims=dim != -1) ** (1 / pow)
    ),
    "histogram": lambda a, bins, range=None, weight=None, density=False: np.histogram(a, bins, range, density, weight),
    "histogramdd": lambda a, bins, range=None, density=False: [
        np.histogramdd(a, bins, None if range is None else [range[:2], range[2:]], density)[0],
        *np.histogramdd(a, bins, None if range is None else [range[:2], range[2:]], density)[1],
    ],
    "segment_reduce": segments,
    "gradient": gradient,
}

#: made or written in place: tests/test_filling.py
ELSEWHERE = {"fill_diagonal_", "empty_strided", "new_empty_strided", "empty_permuted", "svd_lowrank", "pca_lowrank"}
#: read their operands' values
NOT_TRACED = {"segment_reduce", "nonzero_static", "histogram", "histogramdd"}
NO_GRADIENT = {"nonzero_static", "histogram", "histogramdd", "detach_copy"}
NO_HALVES = {"nextafter", "histogram", "histogramdd"}
