"""Pooling: oracles that go from window to window."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from sample_makers import S, f, i


def each(value: Any, n: int) -> tuple:
    return tuple(value) * (n // len(value)) if isinstance(value, (list, tuple)) else (value,) * n


def regular(size: tuple, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool) -> list[list[list[int]]]:
    """Per dimension and window the coordinates it covers, also those outside."""
    n = len(size)
    kernel, padding, dilation = each(kernel, n), each(padding, n), each(dilation, n)
    stride = kernel if stride is None else each(stride, n)
    out = []
    for m, k, s, p, d in zip(size, kernel, stride, padding, dilation):
        count, span = 0, (k - 1) * d + 1
        while count * s + span <= m + 2 * p or (ceil and (count - 1) * s + span < m + 2 * p and count * s < m + p):
            count += 1
        out.append([[c * s - p + j * d for j in range(k)] for c in range(count)])
    return out


def parts(size: tuple, result: Any) -> list[list[list[int]]]:
    """Near-equal parts."""
    result = [m if r is None else r for m, r in zip(size, each(result, len(size)))]
    return [[list(range(math.floor(c * m / r), math.ceil((c + 1) * m / r))) for c in range(r)] for m, r in zip(size, result)]


def windows(a: np.ndarray, cover: list) -> Iterator[tuple[tuple, list[tuple]]]:
    """Each result's index, and the indices in ``a`` that it sees and that exist."""
    n = len(cover)
    for lead in np.ndindex(a.shape[:-n]):
        for at in itertools.product(*[range(len(c)) for c in cover]):
            seen = itertools.product(*[c[k] for c, k in zip(cover, at)])
            yield (*lead, *at), [(*lead, *p) for p in seen if all(0 <= v < m for v, m in zip(p, a.shape[-n:]))]


def largest(a: np.ndarray, cover: list) -> tuple[np.ndarray, np.ndarray]:
    n = len(cover)
    values = np.zeros((*a.shape[:-n], *map(len, cover)), a.dtype)
    at = np.zeros(values.shape, np.int64)
    for out, seen in windows(a, cover):
        best = max(seen, key=lambda p: (a[p], [-v for v in p]))
        values[out], at[out] = a[best], np.ravel_multi_index(best[-n:], a.shape[-n:])
    return values, at


def averaged(a: np.ndarray, cover: list, count: Any = None) -> np.ndarray:
    """``count(index in the result, how many elements were seen)`` is the divisor."""
    out = np.zeros((*a.shape[:-len(cover)], *map(len, cover)))
    for k, seen in windows(a, cover):
        out[k] = sum(a[p] for p in seen) / (len(seen) if count is None else count(k, len(seen)))
    return out


def max_pool(n: int) -> Any:
    def oracle(a, kernel, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):  # noqa: ANN001, ANN202
        both = largest(a, regular(a.shape[-n:], kernel, stride, padding, dilation, ceil_mode))
        return both if return_indices else both[0]
    return oracle


def max_pool_with_indices(n: int) -> Any:
    return lambda a, *args, **kwargs: max_pool(n)(a, *args, **{"return_indices": True, **kwargs})


def avg_pool(n: int) -> Any:
    def oracle(a, kernel, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):  # noqa: ANN001, ANN202
        size, pad = a.shape[-n:], each(padding, n)
        cover = regular(size, kernel, stride, padding, 1, ceil_mode)

        def count(k: tuple, seen: int) -> int:
            if divisor_override is not None:
                return divisor_override
            if not count_include_pad:
                return seen
            return math.prod(sum(v < m + p for v in c[j]) for c, j, m, p in zip(cover, k[-n:], size, pad))

        out = averaged(a, cover, count)
        return out if a.dtype.kind == "f" else np.trunc(out).astype(a.dtype)
    return oracle


def lp_pool(n: int) -> Any:
    def oracle(a, p, kernel, stride=None, ceil_mode=False):  # noqa: ANN001, ANN202
        whole = math.prod(each(kernel, n))
        mean = avg_pool(n)(a**p, kernel, stride, 0, ceil_mode)
        return (np.sign(mean) * np.maximum(np.abs(mean), 0) * whole) ** (1 / p)
    return oracle


def adaptive_max(n: int, always: bool = False) -> Any:
    def oracle(a, output_size, return_indices=always):  # noqa: ANN001, ANN202
        both = largest(a, parts(a.shape[-n:], output_size))
        return both if return_indices else both[0]
    return oracle


def fractional(n: int, always: bool = False) -> Any:
    def oracle(a, kernel, output_size=None, output_ratio=None, return_indices=always, _random_samples=None):  # noqa: ANN001, ANN202
        size, kernel = a.shape[-n:], each(kernel, n)
        result = each(output_size, n) if output_size is not None else [int(m * r) for m, r in zip(size, each(output_ratio, n))]
        values = np.zeros((*a.shape[:2], *result))
        at = np.zeros(values.shape, np.int64)
        for b, c in np.ndindex(a.shape[:2]):
            cover = []
            for d, (m, k, r) in enumerate(zip(size, kernel, result)):
                u = _random_samples[b, c, 1 - d if n == 2 else d]
                alpha = (m - k) / (r - 1) if r > 1 else 0
                starts = [int((j + u) * alpha) - int(u * alpha) for j in range(r - 1)] + [m - k]
                cover.append([list(range(s, s + k)) for s in starts])
            values[b, c], at[b, c] = largest(a[b, c], cover)
        return (values, at) if return_indices else values
    return oracle


def unpooled(n: int) -> Any:
    def oracle(a, indices, kernel, stride=None, padding=0, output_size=None):  # noqa: ANN001, ANN202
        kernel, padding = each(kernel, n), each(padding, n)
        stride = kernel if stride is None else each(stride, n)
        size = [(m - 1) * s + k - 2 * p for m, k, s, p in zip(a.shape[-n:], kernel, stride, padding)]
        size = size if output_size is None else list(output_size)[-n:]
        out = np.zeros((*a.shape[:-n], *size))
        for k in np.ndindex(a.shape):
            out[(*k[:-n], *np.unravel_index(indices[k], size))] = a[k]
        return out
    return oracle


def handed_back(g, indices, size, kernel, stride, padding, dilation):  # noqa: ANN001, ANN201
    """The gradient of max_windows."""
    n = len(size)
    out = np.zeros((*g.shape[:-n], *size))
    for k in np.ndindex(g.shape):
        out[(*k[:-n], *np.unravel_index(indices[k], size))] += g[k]
    return out


def chosen(lead: tuple, size: tuple, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple) -> tuple:
    """(gradient, positions) as max_windows would give."""
    cover = regular(size, kernel, stride, padding, dilation, False)
    _, at = largest(f(*lead, *size), cover)
    return f(*at.shape), at


def max_grad_samples() -> list:
    out = []
    for lead, *geometry in [((2,), (5, 6), (2, 3), (2, 2), (1, 1), (1, 1)), ((1, 2), (4, 6), (2, 2), (2, 2), (0, 0), (1, 1)),
                            ((2,), (9,), (2,), (4,), (0,), (2,)), ((1,), (6, 7), (5, 5), (1, 2), (2, 1), (1, 1))]:
        g, at = chosen(lead, *geometry)
        out.append(S(g, at, *geometry))
    return out


def places(*shape: int) -> np.ndarray:
    """Distinct positions in planes of 4 elements for each 2 of the last dimension."""
    return np.broadcast_to(np.array([2, 1]), shape).copy()


def fractions(*shape: int) -> np.ndarray:
    return f(*shape, lo=0.05, hi=0.95)


SAMPLES = {
    "max_windows": lambda: [
        S(f(2, 3, 6, 5), (2, 2), (2, 2), (0, 0), (1, 1), (3, 2)),
        S(f(2, 7, 6), (3, 2), (2, 1), (1, 1), (1, 2), (4, 6)),
        S(f(2, 9), (3,), (2,), (0,), (2,), (3,)),
        S(f(1, 6, 5, 4), (2, 3, 3), (2, 1, 2), (1, 1, 0), (1, 1, 1), (4, 5, 1)),
        S(f(1, 7, 7), (5, 5), (2, 1), (2, 2), (1, 1), (4, 7)),
        S(i(2, 6, 6, lo=-9, hi=9), (3, 3), (3, 3), (0, 0), (1, 1), (2, 2)),
    ],
    "max_windows_grad": max_grad_samples,
    "max_pool1d": lambda: [S(f(2, 3, 7), 2), S(f(3, 8), 3, 2, 1), S(f(2, 3, 9), 3, 2, 1, 2, True, return_indices=True)],
    "max_pool2d": lambda: [
        S(f(2, 3, 6, 7), 2),
        S(f(3, 7, 6), (3, 2), (2, 1), 1),
        S(f(1, 2, 7, 7), 3, 2, 1, return_indices=True),
        S(f(1, 2, 7, 6), 2, 2, 0, 2, True),
        S(i(1, 2, 6, 6, lo=-9, hi=9), 2, 2),
    ],
    "max_pool3d": lambda: [S(f(1, 2, 4, 5, 6), 2), S(f(2, 4, 5, 4), (2, 3, 2), 1, (1, 1, 0), return_indices=True)],
    "max_pool1d_with_indices": lambda: [S(f(2, 3, 7), 2)],
    "max_pool2d_with_indices": lambda: [S(f(1, 3, 6, 6), 3, 2, 1)],
    "max_pool3d_with_indices": lambda: [S(f(1, 2, 4, 4, 4), 2)],
    "adaptive_max_pool1d": lambda: [S(f(2, 3, 7), 3), S(f(3, 8), 4, True)],
    "adaptive_max_pool2d": lambda: [S(f(2, 2, 7, 6), (3, 4)), S(f(2, 6, 8), (3, None)), S(f(1, 2, 5, 5), 2, True)],
    "adaptive_max_pool3d": lambda: [S(f(1, 2, 4, 5, 6), (2, 3, 4)), S(f(1, 4, 4, 4), 2, True)],
    "adaptive_max_pool1d_with_indices": lambda: [S(f(2, 3, 7), 3)],
    "adaptive_max_pool2d_with_indices": lambda: [S(f(1, 2, 5, 7), (2, 3))],
    "adaptive_max_pool3d_with_indices": lambda: [S(f(1, 2, 3, 4, 5), 2)],
    "adaptive_avg_pool1d": lambda: [S(f(2, 3, 7), 3), S(f(3, 8), 4)],
    "adaptive_avg_pool2d": lambda: [S(f(2, 2, 7, 6), (3, 4)), S(f(2, 6, 8), (3, None)), S(f(2, 3, 5, 5), 1)],
    "adaptive_avg_pool3d": lambda: [S(f(1, 2, 4, 5, 6), (2, 3, 4)), S(f(1, 4, 4, 4), 2)],
    "avg_pool1d": lambda: [S(f(2, 3, 8), 2), S(f(3, 8), 3, 2, 1, True, False), S(i(2, 3, 7, lo=-20, hi=20), 3, 2, 1)],
    "avg_pool2d": lambda: [
        S(f(2, 3, 6, 8), 2),
        S(f(2, 7, 6), (3, 2), (2, 1), 1, True, False),
        S(f(1, 2, 7, 7), 3, 2, 1, True),
        S(f(1, 2, 5, 6), 2, divisor_override=3),
        S(i(1, 2, 6, 6, lo=-20, hi=20), 2),
    ],
    "avg_pool3d": lambda: [S(f(1, 2, 4, 5, 6), 2), S(f(2, 4, 5, 4), (2, 3, 2), 1, (1, 1, 0), False, False)],
    "lp_pool1d": lambda: [S(f(2, 3, 8, lo=0.2), 3.0, 2), S(f(3, 7, lo=0.2), 2.0, 3, 2, True)],
    "lp_pool2d": lambda: [S(f(1, 2, 6, 6, lo=0.2), 2.0, 2), S(f(1, 2, 7, 6, lo=0.2), 1.5, (3, 2), (2, 2))],
    "lp_pool3d": lambda: [S(f(1, 2, 4, 4, 4, lo=0.2), 2.0, 2)],
    "fractional_max_pool2d": lambda: [
        S(f(1, 2, 6, 7), 2, 3, _random_samples=fractions(1, 2, 2)),
        S(f(2, 1, 6, 7), (2, 3), output_ratio=(0.5, 0.5), return_indices=True, _random_samples=fractions(2, 1, 2)),
    ],
    "fractional_max_pool3d": lambda: [S(f(1, 2, 5, 4, 6), 2, (3, 2, 3), _random_samples=fractions(1, 2, 3))],
    "fractional_max_pool2d_with_indices": lambda: [S(f(1, 2, 5, 7), 2, (1, 3), _random_samples=fractions(1, 2, 2))],
    "fractional_max_pool3d_with_indices": lambda: [S(f(1, 1, 4, 4, 4), 2, 2, _random_samples=fractions(1, 1, 3))],
    "max_unpool1d": lambda: [S(f(2, 3, 2), places(2, 3, 2), 2), S(f(3, 2), places(3, 2), 2, output_size=(5,))],
    "max_unpool2d": lambda: [S(f(2, 3, 1, 2), places(2, 3, 1, 2), 2), S(f(1, 1, 2), places(1, 1, 2), (2, 3), (2, 2))],
    "max_unpool3d": lambda: [S(f(2, 3, 1, 1, 2), places(2, 3, 1, 1, 2), 2)],
}

ORACLES = {
    "max_windows": lambda a, k, s, p, d, result: largest(
        a, [[[c * t - q + j * e for j in range(n)] for c in range(r)] for n, t, q, e, r in zip(k, s, p, d, result)]
    ),
    "max_windows_grad": handed_back,
}
for _n in (1, 2, 3):
    ORACLES |= {
        f"max_pool{_n}d": max_pool(_n),
        f"max_pool{_n}d_with_indices": max_pool_with_indices(_n),
        f"adaptive_max_pool{_n}d": adaptive_max(_n),
        f"adaptive_max_pool{_n}d_with_indices": adaptive_max(_n, True),
        f"adaptive_avg_pool{_n}d": lambda a, out, _n=_n: averaged(a, parts(a.shape[-_n:], out)),
        f"avg_pool{_n}d": avg_pool(_n),
        f"lp_pool{_n}d": lp_pool(_n),
        f"max_unpool{_n}d": unpooled(_n),
    }
    if _n > 1:
        ORACLES |= {f"fractional_max_pool{_n}d": fractional(_n), f"fractional_max_pool{_n}d_with_indices": fractional(_n, True)}
