"""Batch, instance, group and local response normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np
from sample_makers import S, f


def _spread(t: Any, rank: int) -> Any:
    return None if t is None else t.reshape([-1 if d == 1 else 1 for d in range(rank)])


def _affine(y: np.ndarray, weight: Any, bias: Any) -> np.ndarray:
    return y * (1 if weight is None else weight) + (0 if bias is None else bias)


def _stats(x: Any, weight: Any, bias: Any, eps: float, dim: Any, keepdim: bool) -> Any:
    mean, var = x.mean(dim, keepdims=True), x.var(dim, keepdims=True)
    rstd = 1 / np.sqrt(var + eps)
    return _affine((x - mean) * rstd, weight, bias), mean, rstd, var


def _sums(g: Any, x: Any, mean: Any, rstd: Any, dim: Any, keepdim: bool) -> Any:
    return (g * (x - mean) * rstd).sum(dim, keepdims=True), g.sum(dim, keepdims=True)


def _grad(g: Any, x: Any, mean: Any, rstd: Any, weight: Any, sum_gx: Any, sum_g: Any, n: float) -> np.ndarray:
    return (g - sum_g / n - (x - mean) * rstd * sum_gx / n) * rstd * (1 if weight is None else weight)


def _over(x: np.ndarray, axes: tuple[int, ...], weight: Any, bias: Any, eps: float) -> np.ndarray:
    return _stats(x, _spread(weight, x.ndim), _spread(bias, x.ndim), eps, axes, True)[0]


def _given(x: Any, mean: Any, var: Any, weight: Any, bias: Any, eps: float) -> np.ndarray:
    mean, var, weight, bias = (_spread(t, x.ndim) for t in (mean, var, weight, bias))
    return _affine((x - mean) / np.sqrt(var + eps), weight, bias)


def _batch_norm(x: Any, rm: Any, rv: Any, weight: Any = None, bias: Any = None, training: bool = False, momentum: float = 0.1,
                eps: float = 1e-5) -> np.ndarray:
    if not training:
        return _given(x, rm, rv, weight, bias, eps)
    return _over(x, (0, *range(2, x.ndim)), weight, bias, eps)


def _native_batch_norm(x: Any, weight: Any, bias: Any, rm: Any, rv: Any, training: bool, momentum: float, eps: float) -> Any:
    y = _batch_norm(x, rm, rv, weight, bias, training, momentum, eps)
    axes = (0, *range(2, x.ndim))
    return (y, x.mean(axes), 1 / np.sqrt(x.var(axes) + eps)) if training else (y, np.zeros(0), np.zeros(0))


def _legit(x: Any, weight: Any, bias: Any, *rest: Any) -> Any:
    return _native_batch_norm(x, weight, bias, *((None, None, *rest) if len(rest) == 3 else rest))


def _instance_norm(x: Any, rm: Any = None, rv: Any = None, weight: Any = None, bias: Any = None, use_input_stats: bool = True,
                   momentum: float = 0.1, eps: float = 1e-5) -> np.ndarray:
    if not use_input_stats:
        return _given(x, rm, rv, weight, bias, eps)
    return _over(x, tuple(range(2, x.ndim)), weight, bias, eps)


def _group_norm(x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> np.ndarray:
    parts = np.split(x, groups, 1)
    y = np.concatenate([(p - p.reshape(len(p), -1).mean(1).reshape(-1, *[1] * (x.ndim - 1)))
                        / np.sqrt(p.reshape(len(p), -1).var(1).reshape(-1, *[1] * (x.ndim - 1)) + eps) for p in parts], 1)
    return _affine(y, _spread(weight, x.ndim), _spread(bias, x.ndim))


def _native_group_norm(x: Any, weight: Any, bias: Any, n: int, c: int, space: int, group: int, eps: float) -> Any:
    rows = x.reshape(n, group, -1)
    return _group_norm(x, group, weight, bias, eps), rows.mean(2), 1 / np.sqrt(rows.var(2) + eps)


def _native_layer_norm(x: Any, shape: Any, weight: Any, bias: Any, eps: float) -> Any:
    return _stats(x, weight, bias, eps, tuple(range(x.ndim - len(shape), x.ndim)), True)[:3]


def _local_response_norm(x: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> np.ndarray:
    out = np.empty_like(x)
    for c in range(x.shape[1]):
        near = x[:, max(0, c - size // 2):c + (size - 1) // 2 + 1]
        out[:, c] = x[:, c] / (k + alpha * (near * near).sum(1) / size) ** beta
    return out


SAMPLES = {
    "channel_norm_stats": lambda: [
        S(f(4, 3, 5), f(1, 3, 1), f(1, 3, 1), eps=1e-5, dim=(0, 2), keepdim=True),
        S(f(2, 3, 4), None, None, eps=1e-3, dim=2, keepdim=True),
        S(f(4, 3), f(1, 3), None, eps=1e-5, dim=0, keepdim=True),
        S(f(4, 3), None, f(1, 3), eps=1e-5, dim=0, keepdim=True),
    ],
    "channel_norm_sums": lambda: [S(f(4, 3, 2), f(4, 3, 2), f(1, 3, 1), f(1, 3, 1, lo=0.5, hi=2), (0, 2), True)],
    "channel_norm_grad": lambda: [
        S(f(4, 3), f(4, 3), f(1, 3), f(1, 3, lo=0.5, hi=2), f(1, 3), f(1, 3), f(1, 3), 4.0),
        S(f(4, 3), f(4, 3), f(1, 3), f(1, 3, lo=0.5, hi=2), None, f(1, 3), f(1, 3), 4.0),
    ],
    "channel_norm_affine": lambda: [
        S(f(4, 3), f(1, 3), f(1, 3, lo=0.5, hi=2), f(1, 3), f(1, 3)),
        S(f(4, 3), f(1, 3), f(1, 3, lo=0.5, hi=2), None, None),
    ],
    "_moving_average": lambda: [S(f(4), f(4), 0.1), S(f(4), f(4), f(lo=0, hi=1), 1.5)],
    "batch_norm": lambda: [
        S(f(4, 3, 2, 2), None, None, f(3), f(3), True),
        S(f(4, 3), None, None, training=True, eps=0.1),
        S(f(4, 3, 2), f(3), f(3, lo=0.5, hi=2), f(3), f(3), grad=False),
    ],
    "native_batch_norm": lambda: [
        S(f(4, 3, 2), f(3), f(3), None, None, True, 0.1, 1e-5),
        S(f(4, 3, 2), None, None, f(3), f(3, lo=0.5, hi=2), False, 0.1, 1e-5, grad=False),
    ],
    "_native_batch_norm_legit": lambda: [S(f(4, 3, 2), f(3), f(3), True, 0.1, 1e-5)],
    "instance_norm": lambda: [
        S(f(2, 3, 4), None, None, f(3), f(3)),
        S(f(2, 3, 2, 2), eps=0.1),
        S(f(2, 3, 4), f(3), f(3, lo=0.5, hi=2), use_input_stats=False, grad=False),
    ],
    "group_norm": lambda: [S(f(2, 6, 3), 3, f(6), f(6)), S(f(2, 4), 2, eps=0.1), S(f(2, 4, 2, 2), 1, f(4))],
    "native_group_norm": lambda: [S(f(2, 6, 3), f(6), f(6), 2, 6, 3, 3, 1e-5)],
    "native_layer_norm": lambda: [S(f(2, 3, 4), (3, 4), f(3, 4), f(3, 4), 1e-5), S(f(3, 4), (4,), None, None, 1e-3)],
    "local_response_norm": lambda: [S(f(2, 5, 3), 3, 0.5), S(f(2, 4, 2, 2), 2, 0.1, 0.5, 2.0)],
}

ORACLES = {
    "channel_norm_stats": _stats,
    "channel_norm_sums": _sums,
    "channel_norm_grad": _grad,
    "channel_norm_affine": lambda x, mean, rstd, weight, bias: _affine((x - mean) * rstd, weight, bias),
    "batch_norm": _batch_norm,
    "native_batch_norm": _native_batch_norm,
    "_native_batch_norm_legit": _legit,
    "instance_norm": _instance_norm,
    "group_norm": _group_norm,
    "native_group_norm": _native_group_norm,
    "native_layer_norm": _native_layer_norm,
    "local_response_norm": _local_response_norm,
}
