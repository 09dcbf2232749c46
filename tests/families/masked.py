"""Samples and oracles of masked reductions: NumPy's masked arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.special
from sample_makers import S, f

MASK = np.array([[True, False, True, True], [False, True, True, False], [True, True, False, True]])


def reduced(function: Any) -> Any:
    """``function`` of each row's kept elements."""

    def call(a: np.ndarray, dim: Any = None, *, keepdim: bool = False, mask: Any = None, **options: Any) -> np.ndarray:
        mask = np.ones(a.shape, bool) if mask is None else mask
        if dim is None:
            return np.reshape(function(a[mask], **options), (1,) * a.ndim if keepdim else ())
        a, mask = np.moveaxis(a, dim, -1), np.moveaxis(mask, dim, -1)
        r = np.array([function(x[m], **options) for x, m in zip(a.reshape(-1, a.shape[-1]), mask.reshape(-1, a.shape[-1]))])
        r = r.reshape(a.shape[:-1])
        return np.expand_dims(r, dim) if keepdim else r

    return call


def kept(neutral: float, function: Any) -> Any:
    """``function`` of the whole array with ``neutral`` where the mask is not."""
    return lambda a, *args, mask=None, **options: function(a if mask is None else np.where(mask, a, neutral), *args, **options)


def samples(*args: Any, **options: Any) -> Any:
    return lambda: [S(f(3, 4), *args, mask=MASK, **options), S(f(3, 4), *args, **options)]


_DIMS = {
    "sum": np.sum,
    "prod": np.prod,
    "amax": np.max,
    "amin": np.min,
    "mean": np.mean,
    "var": lambda x: np.var(x, ddof=1),
    "std": lambda x: np.std(x, ddof=1),
    "norm": np.linalg.norm,
    "logsumexp": scipy.special.logsumexp,
}
SAMPLES = {f"masked_{name}_of": lambda: [S(f(3, 4), 1, mask=MASK), S(f(3, 4), 0, keepdim=True, mask=MASK), S(f(3, 4))] for name in _DIMS}
ORACLES = {f"masked_{name}_of": reduced(function) for name, function in _DIMS.items()}
SAMPLES["masked_norm_of"] = lambda: [S(f(3, 4), 2.0, 1, mask=MASK), S(f(3, 4), 1.0)]
ORACLES["masked_norm_of"] = lambda a, ord, dim=None, mask=None: reduced(lambda x: np.linalg.norm(x, ord))(a, dim, mask=mask)
_OTHERS = {
    "cumsum": (samples(1), kept(0, np.cumsum)),
    "cumprod": (samples(0), kept(1, np.cumprod)),
    "argmax": (samples(1), kept(-np.inf, np.argmax)),
    "argmin": (samples(1), kept(np.inf, np.argmin)),
    "median": (samples(1), reduced(lambda x: np.sort(x)[(len(x) - 1) // 2])),
    "softmax": (samples(1), kept(-np.inf, scipy.special.softmax)),
    "log_softmax": (lambda: [S(f(3, 4), 1, mask=MASK, grad=False), S(f(3, 4), 1)], kept(-np.inf, scipy.special.log_softmax)),
    "softmin": (samples(1), kept(np.inf, lambda a, d: scipy.special.softmax(-a, d))),
    "normalize": (samples(2.0, 1), kept(0, lambda a, ord, d: a / np.linalg.norm(a, ord, d, keepdims=True))),
    "logaddexp": (
        lambda: [S(f(3, 4), f(3, 4), input_mask=MASK | (np.arange(4) > 1), other_mask=MASK | (np.arange(4) < 2)), S(f(4), f(4))],
        lambda a, b, input_mask=True, other_mask=True: np.logaddexp(np.where(input_mask, a, -np.inf), np.where(other_mask, b, -np.inf)),
    ),
}
for _name, (_samples, _oracle) in _OTHERS.items():
    SAMPLES[f"masked_{_name}_of"], ORACLES[f"masked_{_name}_of"] = _samples, _oracle

NO_GRADIENT = {"masked_argmax_of", "masked_argmin_of"}
NO_HALVES = {"masked_argmax_of", "masked_argmin_of", "masked_prod_of", "masked_cumprod_of", "masked_var_of", "masked_std_of"}
