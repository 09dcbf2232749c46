"""Losses over several classes or labels, CTC, distances between rows, bags of embeddings."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from sample_makers import S, f, i


def _reduced(x: np.ndarray, reduction: str) -> Any:
    return x if reduction == "none" else x.mean() if reduction == "mean" else x.sum()


def _multi_margin(x: Any, t: Any, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: str = "mean") -> Any:
    rows = [sum(max(0.0, margin - r[k] + v) ** p * (1 if weight is None else weight[k]) for j, v in enumerate(r) if j != k) / len(r)
            for r, k in zip(x, t)]
    return _reduced(np.array(rows), reduction)


def _labels(t: Any) -> list[int]:
    return [int(k) for k in itertools.takewhile(lambda k: k >= 0, t)]


def _multilabel_margin(x: Any, t: Any, reduction: str = "mean") -> Any:
    rows = [sum(max(0.0, 1 - (r[k] - v)) for k in _labels(s) for j, v in enumerate(r) if j not in _labels(s)) / len(r)
            for r, s in zip(x, t)]
    return _reduced(np.array(rows), reduction)


def _soft_margin(x: Any, t: Any, weight: Any = None, reduction: str = "mean") -> Any:
    p = 1 / (1 + np.exp(-x))
    loss = -(t * np.log(p) + (1 - t) * np.log(1 - p)) * (1 if weight is None else weight)
    return _reduced(loss.mean(-1), reduction)


def _triplet(a: Any, p: Any, n: Any, margin: float = 1.0, swap: bool = False, reduction: str = "mean") -> Any:
    def d(u: Any, v: Any) -> np.ndarray:
        return np.linalg.norm(u - v + 1e-6, axis=-1)
    far = np.minimum(d(a, n), d(p, n)) if swap else d(a, n)
    return _reduced(np.maximum(0, d(a, p) - far + margin), reduction)


def _pdist(x: Any, p: float = 2.0) -> np.ndarray:
    return np.array([np.linalg.norm(x[a] - x[b], p) for a, b in itertools.combinations(range(len(x)), 2)])


def _bilinear(x: Any, y: Any, w: Any, b: Any = None) -> np.ndarray:
    return np.einsum("...i,kij,...j->...k", x, w, y) + (0 if b is None else b)


def _bags(index: Any, table: Any, offsets: Any = None, mode: str = "mean", per_sample_weights: Any = None,
          include_last_offset: bool = False, padding_idx: int | None = None) -> np.ndarray:
    if index.ndim == 2:
        bags = [(row, slice(k * len(row), (k + 1) * len(row))) for k, row in enumerate(index)]
    else:
        ends = [*offsets[1:]] if include_last_offset else [*offsets[1:], len(index)]
        bags = [(index[a:b], slice(a, b)) for a, b in zip(offsets, ends)]
    factors = None if per_sample_weights is None else per_sample_weights.reshape(-1)
    out = np.zeros((len(bags), table.shape[1]))
    for k, (rows, at) in enumerate(bags):
        kept = rows != (-1 if padding_idx is None else padding_idx)
        picked = table[rows[kept]] if factors is None else table[rows[kept]] * factors[at][kept][:, None]
        if len(picked):
            out[k] = getattr(picked, mode)(0)
    return out


SAMPLES = {
    "multi_margin_loss": lambda: [
        S(f(4, 3), i(4, hi=3)),
        S(f(4, 3), i(4, hi=3), 2, 0.5, f(3, lo=0.5, hi=2), reduction="none", grad=False),
        S(f(4, 3), i(4, hi=3), p=2, reduction="sum"),
    ],
    "multilabel_margin_loss": lambda: [
        S(f(2, 4), np.array([[3, 0, -1, 1], [-1, 0, 1, 2]])),
        S(f(2, 3), np.array([[1, 1, -1], [0, 1, 2]]), reduction="none"),
    ],
    "multilabel_soft_margin_loss": lambda: [
        S(f(3, 4), f(3, 4, lo=0, hi=1)),
        S(f(3, 4), f(3, 4, lo=0, hi=1), f(4, lo=0.5, hi=2), reduction="sum"),
    ],
    "triplet_margin_with_distance_loss": lambda: [S(f(3, 4), f(3, 4), f(3, 4)), S(f(3, 4), f(3, 4), f(3, 4), margin=2.0, swap=True)],
    "pdist": lambda: [S(f(4, 3)), S(f(4, 3), 1.0), S(f(3, 2), 3.0)],
    "bilinear": lambda: [S(f(4, 2), f(4, 3), f(5, 2, 3), f(5)), S(f(2, 2, 2), f(2, 2, 3), f(4, 2, 3))],
    "gumbel_softmax": lambda: [S(f(3, 4)), S(f(3, 4), 0.5, True, grad=False)],
    "rrelu": lambda: [S(f(3, 4), 0.1, 0.3, True)],
    "embedding_bag": lambda: [
        S(i(3, 2), f(5, 3)),
        S(i(6), f(5, 3), np.array([0, 2, 2]), mode="sum", per_sample_weights=f(6)),
        S(i(6), f(5, 3), np.array([0, 4, 6]), mode="max", include_last_offset=True),
        S(np.array([0, 1, 1, 3]), f(5, 3), np.array([0, 1]), mode="mean", padding_idx=1),
    ],
    "scale_gradient": lambda: [S(f(3, 4), f(3, 1), grad=False)],
    "linear_cross_entropy": lambda: [],
    "rrelu_": lambda: [],
    "ctc_loss": lambda: [],
    "ctc_rows": lambda: [],
    "ctc_grad": lambda: [],
}

ORACLES = {
    "multi_margin_loss": _multi_margin,
    "multilabel_margin_loss": _multilabel_margin,
    "multilabel_soft_margin_loss": _soft_margin,
    "triplet_margin_with_distance_loss": _triplet,
    "pdist": _pdist,
    "bilinear": _bilinear,
    "embedding_bag": _bags,
    "scale_gradient": lambda x, factor: x,
}

RANDOM = {"gumbel_softmax", "rrelu"}
#: see test_losses.py
ELSEWHERE = {"linear_cross_entropy", "rrelu_", "ctc_loss", "ctc_rows", "ctc_grad"}
