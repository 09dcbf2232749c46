"""Makers of sample arrays for the definition tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusetorch.ops.opdef import Sample

_count = [0]


def f(*shape: int, lo: float = -2.0, hi: float = 2.0) -> np.ndarray:
    """Floating numbers between ``lo`` and ``hi``, none twice."""
    _count[0] += 1
    rng = np.random.default_rng(_count[0])
    n = int(np.prod(shape))
    return (lo + (hi - lo) * (rng.permutation(n) + rng.uniform(0.2, 0.8, n)) / max(n, 1)).reshape(shape)


def c(*shape: int, lo: float = -2.0, hi: float = 2.0) -> np.ndarray:
    """Complex numbers with parts between ``lo`` and ``hi``."""
    return np.asarray(f(*shape, lo=lo, hi=hi) + 1j * f(*shape, lo=lo, hi=hi))


def i(*shape: int, lo: int = 0, hi: int = 5) -> np.ndarray:
    """int64 in [lo, hi)."""
    _count[0] += 1
    return np.random.default_rng(_count[0]).integers(lo, hi, shape)


def b(*shape: int) -> np.ndarray:
    """bool."""
    return i(*shape, hi=2).astype(bool)


def S(*args: Any, grad: bool = True, **kwargs: Any) -> Sample:
    """A sample."""
    return Sample(args, kwargs, grad)


def permutation(n: int) -> np.ndarray:
    """0 .. n-1 in some order."""
    return np.random.default_rng(n).permutation(n)


def restart(seed: int) -> None:
    """Makes what follows depend on ``seed`` alone."""
    _count[0] = seed
