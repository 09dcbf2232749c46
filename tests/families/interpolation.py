"""Interpolation and grid sampling: oracles that go from result to result."""

from __future__ import annotations

import itertools
import math

import numpy as np
from sample_makers import S, f, i

from families.pooling import averaged, parts


def keys(x: float, a: float) -> float:
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def lanczos(x: float) -> float:
    return float(np.sinc(x) * np.sinc(x / 3)) if abs(x) < 3 else 0.0


def matrix(rule: tuple) -> np.ndarray:
    """The rule as a matrix (results, elements)."""
    kind, n_in, n_out = rule[:3]
    out = np.zeros((n_out, n_in))
    for r in range(n_out):
        if kind == "adaptive":
            seen = parts((n_in,), (n_out,))[0][r]
            out[r, seen] = 1 / len(seen)
        elif kind == "window":
            for k in range(rule[3]):
                at = r * rule[4] - rule[5] + k
                if 0 <= at < n_in:
                    out[r, at] += 1
        elif kind in ("reflect", "replicate", "circular"):
            name = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[kind]
            out[r, np.pad(np.arange(n_in), (rule[3], n_out - n_in - rule[3]), name)[r]] = 1
        elif kind == "nearest":
            out[r, min(math.floor((r + rule[4]) * rule[3]), n_in - 1)] = 1
        elif kind == "smooth":
            width, centre = max(rule[3], 1), rule[3] * (r + 0.5)
            kernel = {1: lambda x: max(1 - abs(x), 0), 2: lambda x: keys(x, -0.5), 3: lanczos}[rule[4]]
            first, end = max(int(centre - rule[4] * width + 0.5), 0), min(int(centre + rule[4] * width + 0.5), n_in)
            w = np.array([kernel((k - centre + 0.5) / width) for k in range(first, end)])
            out[r, first:end] = w / w.sum()
        else:
            at = rule[3] * r if rule[4] else rule[3] * (r + 0.5) - 0.5
            at = max(at, 0) if kind == "linear" else at
            low = math.floor(at)
            for k in range(low - 1, low + 3):
                w = keys(at - k, -0.75) if kind == "cubic" else max(1 - abs(at - k), 0)
                out[r, min(max(k, 0), n_in - 1)] += w
    return out


def resampled(a: np.ndarray, dim: int, rule: tuple, back: bool) -> np.ndarray:
    m = matrix(rule)
    out = np.moveaxis(np.tensordot(m.T if back else m, a, (1, dim)), 0, dim)
    return out if a.dtype.kind == "f" else out.astype(a.dtype)


def interpolated(a, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None, antialias=False):  # noqa: ANN001, ANN201
    n = a.ndim - 2
    scale = None
    if size is None:
        scale = scale_factor if isinstance(scale_factor, (list, tuple)) else (scale_factor,) * n
        size = [math.floor(m * s) for m, s in zip(a.shape[2:], scale)]
        scale = None if recompute_scale_factor else scale
    size = size if isinstance(size, (list, tuple)) else (size,) * n
    if mode == "area":
        return averaged(a, parts(a.shape[2:], size))
    for d, (m, k) in enumerate(zip(a.shape[2:], size)):
        step = m / k if scale is None else 1 / scale[d]
        if align_corners:
            step = (m - 1) / (k - 1) if k > 1 else 0
        if mode.startswith("nearest"):
            rule = ("nearest", m, k, step, 0.5 if "exact" in mode else 0)
        elif antialias:
            rule = ("smooth", m, k, step, {"bilinear": 1, "bicubic": 2, "lanczos": 3}[mode])
        else:
            rule = ("cubic" if mode == "bicubic" else "linear", m, k, step, bool(align_corners))
        a = resampled(a, 2 + d, rule, False)
    return a


def folded(x: float, low: float, high: float) -> float:
    while high > low and not low <= x <= high:
        x = 2 * low - x if x < low else 2 * high - x
    return low if high <= low else x


def sampled(a, grid, mode="bilinear", padding_mode="zeros", align_corners=None):  # noqa: ANN001, ANN201
    size = a.shape[2:]
    out = np.zeros((*a.shape[:2], *grid.shape[1:-1]))

    def settle(x: float, m: int) -> float:
        if padding_mode == "reflection":
            x = folded(x, 0, m - 1) if align_corners else folded(x, -0.5, m - 0.5)
        return min(max(x, 0), m - 1) if padding_mode != "zeros" else x

    for at in np.ndindex(grid.shape[:-1]):
        weights = []
        for x, m in zip(grid[at][::-1], size):
            x = (x + 1) / 2 * (m - 1) if align_corners else ((x + 1) * m - 1) / 2
            if mode == "bicubic":
                low = math.floor(x)
                weights.append([(round(settle(k, m)), keys(x - k, -0.75)) for k in range(low - 1, low + 3)])
                continue
            x = settle(x, m)
            near = [(round(x), 1.0)]
            weights.append(near if mode == "nearest" else [(math.floor(x) + k, 1 - abs(x - math.floor(x) - k)) for k in (0, 1)])
        for corner in itertools.product(*weights):
            place = tuple(c[0] for c in corner)
            if all(0 <= p < m for p, m in zip(place, size)):
                out[(at[0], slice(None), *at[1:])] += a[(at[0], slice(None), *place)] * math.prod(c[1] for c in corner)
    return out


MODES = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")


def sampler(a, grid, mode, padding, align):  # noqa: ANN001, ANN201
    return sampled(a, grid, MODES[0][mode], MODES[1][padding], align)


def chosen(position: np.ndarray, size: int) -> np.ndarray:
    """1 where a position is an element's, for each element (last)."""
    return (position[..., None] == np.arange(size)).astype(float)


def affine(theta, size, align_corners=None):  # noqa: ANN001, ANN201
    out = np.zeros((size[0], *size[2:], len(size) - 2))
    for at in np.ndindex(out.shape[:-1]):
        x = [(2 * k / (m - 1) - 1 if m > 1 else 0) if align_corners else (2 * k + 1) / m - 1 for k, m in zip(at[1:], size[2:])]
        out[at] = theta[at[0]] @ np.array([*reversed(x), 1])
    return out


def dealt(a, groups):  # noqa: ANN001, ANN201
    order = np.arange(a.shape[1]).reshape(groups, -1).T.reshape(-1)
    return a[:, order]


SAMPLES = {
    "resample_dim": lambda: [
        S(f(2, 5), 1, ("linear", 5, 8, 5 / 8, False), False),
        S(f(2, 8, 3), 1, ("linear", 5, 8, 5 / 8, False), True),
        S(f(6, 3), 0, ("cubic", 6, 4, 5 / 3, True), False),
        S(f(2, 9), 1, ("smooth", 9, 4, 9 / 4, 2), False),
        S(f(2, 7, 3), 1, ("adaptive", 7, 3), False),
        S(f(2, 110), 1, ("window", 110, 56, 3, 2, 1), False),
        S(f(2, 4), 1, ("nearest", 3, 4, 0.75, 0.5), True),
        S(i(2, 7), 1, ("window", 7, 4, 3, 2, 1), False),
        S(f(2, 4, 2), 1, ("reflect", 4, 9, 2), False),
        S(f(2, 9, 2), 1, ("circular", 4, 9, 2), True),
        S(f(4), 0, ("replicate", 4, 9, 2), False),
    ],
    "resample_bytes": lambda: [
        S(i(2, 5, hi=256).astype(np.uint8), 1, ("linear", 5, 9, 5 / 9, False)),
        S(i(6, 3, hi=256).astype(np.uint8), 0, ("cubic", 6, 10, 0.6, False)),
        S(i(2, 9, 2, hi=256).astype(np.uint8), 1, ("smooth", 9, 4, 9 / 4, 2)),
    ],
    "interpolate": lambda: [
        S(f(2, 3, 5), 7, mode="linear"),
        S(f(1, 2, 4, 5), scale_factor=2.0),
        S(f(1, 2, 4, 5), (7, 3), mode="nearest-exact"),
        S(f(1, 2, 4, 5), scale_factor=(1.7, 0.6), mode="bilinear"),
        S(f(1, 2, 4, 5), (7, 3), mode="bilinear", align_corners=True),
        S(f(1, 2, 4, 5), (7, 3), mode="bicubic"),
        S(f(1, 2, 8, 9), (3, 4), mode="bicubic", antialias=True),
        S(f(1, 2, 8, 9), (3, 12), mode="bilinear", antialias=True),
        S(f(1, 1, 9, 9), (4, 5), mode="lanczos", antialias=True),
        S(f(1, 2, 3, 4, 3), (4, 2, 5), mode="trilinear"),
        S(f(1, 2, 5, 6), (3, 4), mode="area"),
        S(f(1, 2, 5), scale_factor=1.5, mode="nearest", recompute_scale_factor=True),
    ],
    "upsample": lambda: [S(f(1, 2, 3, 4), (5, 6), mode="bilinear", align_corners=True)],
    "upsample_nearest": lambda: [S(f(1, 2, 3, 4), scale_factor=3)],
    "upsample_bilinear": lambda: [S(f(1, 2, 3, 4), (5, 6))],
    "_upsample_bilinear2d_aa": lambda: [S(f(1, 2, 7, 6), (3, 4), False), S(f(1, 2, 7, 6), (3, 4), True)],
    "channel_shuffle": lambda: [S(f(2, 6, 3, 2), 3), S(f(1, 4, 5), 2)],
    "grid_sample": lambda: [
        S(f(2, 3, 4, 5), f(2, 3, 2, 2, lo=-1.4, hi=1.4), align_corners=False),
        S(f(1, 2, 4, 5), f(1, 3, 2, 2, lo=-1.4, hi=1.4), "bicubic", "reflection", True),
        S(f(1, 2, 4, 5), f(1, 3, 2, 2, lo=-1.4, hi=1.4), "bilinear", "border", True),
        S(f(1, 2, 3, 4, 5), f(1, 2, 2, 2, 3, lo=-1.4, hi=1.4), "bilinear", "reflection", False),
        S(f(1, 2, 4, 5), f(1, 3, 2, 2, lo=-1.4, hi=1.4), "nearest", "zeros", False),
        S(f(1, 2, 4, 5), f(1, 3, 2, 2, lo=-1.4, hi=1.4), "bicubic", "zeros", False),
    ],
    "weighted_gather": lambda: [S(f(2, 3, 5), i(2, 4, 6, lo=-1), f(2, 4, 6)), S(f(1, 2, 5), i(1, 1, 3), f(1, 1, 3))],
    "weighted_scatter": lambda: [S(f(2, 3, 6), i(2, 4, 6, lo=-1), f(2, 4, 6), 5), S(f(1, 2, 3), i(1, 1, 3), f(1, 1, 3), 7)],
    "gathered_dot": lambda: [S(f(2, 3, 6), f(2, 3, 5), i(2, 4, 6, lo=-1)), S(f(1, 2, 3), f(1, 2, 6), i(1, 1, 3))],
    "grid_sampler": lambda: [S(f(1, 2, 4, 5), f(1, 3, 2, 2), 0, 0, True)],
    "grid_sampler_2d": lambda: [S(f(1, 2, 4, 5), f(1, 3, 2, 2), 2, 1, False)],
    "grid_sampler_3d": lambda: [S(f(1, 2, 3, 3, 3), f(1, 2, 2, 1, 3), 0, 1, False)],
    "affine_grid": lambda: [S(f(2, 2, 3), (2, 3, 3, 4), False), S(f(1, 3, 4), (1, 2, 2, 1, 3), True)],
    "affine_grid_generator": lambda: [S(f(2, 2, 3), (2, 3, 3, 4), True)],
    "constant_pad_nd": lambda: [S(f(2, 3), (1, 2), 0.5), S(f(2, 3), (-1, 1, 1, 0))],
}

ORACLES = {
    "resample_dim": resampled,
    "resample_bytes": lambda a, dim, rule: np.clip(np.floor(resampled(a.astype(float), dim, rule, False) + 0.5), 0, 255),
    "interpolate": interpolated,
    "upsample": interpolated,
    "upsample_nearest": interpolated,
    "upsample_bilinear": lambda a, size: interpolated(a, size, mode="bilinear", align_corners=True),
    "_upsample_bilinear2d_aa": lambda a, size, align: interpolated(a, size, mode="bilinear", align_corners=align, antialias=True),
    "channel_shuffle": dealt,
    "grid_sample": sampled,
    "weighted_gather": lambda x, at, w: np.einsum("nkps,ncs,nkp->ncp", chosen(at, x.shape[2]), x, w),
    "weighted_scatter": lambda g, at, w, size: np.einsum("nkps,ncp,nkp->ncs", chosen(at, size), g, w),
    "gathered_dot": lambda g, x, at: np.einsum("nkps,ncp,ncs->nkp", chosen(at, x.shape[2]), g, x),
    "grid_sampler": sampler,
    "grid_sampler_2d": sampler,
    "grid_sampler_3d": sampler,
    "affine_grid": affine,
    "affine_grid_generator": affine,
    "constant_pad_nd": lambda a, pad, value=0.0: np.pad(a, [(1, 0), (0, 1)])[:, 1:] if pad[0] < 0 else np.pad(
        a, [(0, 0), pad], constant_values=value
    ),
}
