"""Dropout in its forms.

Sources: Srivastava et al. 2014 (dropout); Tompson et al. 2015 (feature dropout); Klambauer et al. 2017 (alpha dropout).
"""
from __future__ import annotations

import math
from typing import Any

from ..errors import warn
from .opdef import composite, fn, not_implemented
from .random import draw_on


def _check_p(p: float) -> None:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def _check_dtype(input: Any) -> None:
    if not input.dtype.is_floating_point:
        raise not_implemented("bernoulli_scalar", input.dtype)


def _drop(input: Any, p: float, scale: float) -> Any:
    if p == 1.0:
        return input * 0.0
    return draw_on("dropout_draw", [input], (p, scale))


@composite(nn=True)
def dropout(input, p=0.5, training=True, inplace=False):
    """While ``training``, zeroes each element with probability ``p`` and divides the others by 1 - ``p``."""
    _check_p(p)
    if not training or p == 0.0 or not input.numel():
        return input
    if input.dtype.category < 2:
        raise RuntimeError(f"dropout: result type Float can't be cast to the desired output type {input.dtype}")
    _check_dtype(input)
    r = _drop(input, p, 1.0 / (1.0 - p) if p < 1.0 else 1.0)
    return _written(input, r, inplace)


def _written(input: Any, r: Any, inplace: bool) -> Any:
    if not inplace:
        return r
    from ..writing import inplace as write_inplace
    return write_inplace("dropout_", input, lambda before: r)


def _feature_mask(input: Any, p: float) -> Any:
    _check_dtype(input)
    shape = input._a.shape[:2] + (1,) * (input.ndim - 2)
    return fn.empty(shape, dtype=input.dtype, device=input.device).bernoulli_(1.0 - p)


def _check_rank(name: str, rank: int, n: int) -> None:
    """PyTorch's opinion of inputs that have other than ``rank`` dimensions behind the channels."""
    if rank == 1 and n not in (2, 3):
        raise RuntimeError(f"{name}: Expected 2D or 3D input, but received a {n}D input. Channels come first, or after the batch, and one "
                           "dimension follows them")
    if rank == 2 and n == 3:
        warn(f"{name}: Received a 3D input to dropout2d and assuming that channel-wise 1D dropout behavior is desired - input is "
             "interpreted as shape (N, C, L), where C is the channel dim. Use dropout1d for that")
    elif rank > 1 and n not in (rank + 1, rank + 2):
        warn(f"{name}: Received a {n}-D input to {name}, which is deprecated and will result in an error in a future release. Use "
             "feature_dropout to drop channels of other shapes")


def _feature_dropout(name: str, rank: int, doc: str) -> None:
    def f(input, p=0.5, training=True, inplace=False):  # noqa: ANN001, ANN202
        _check_p(p)
        _check_rank(name, rank, input.ndim)
        if not training or p == 0.0:
            return input
        single = rank in (1, 3) and input.ndim != rank + 2
        x = input.unsqueeze(0) if single else input
        if x.ndim < 2:
            raise RuntimeError(f"Feature dropout requires at least 2 dimensions in the input, got {x.ndim}")
        r = x * 0.0 if p == 1.0 else x * (_feature_mask(x, p) / (1.0 - p))
        return _written(input, r.squeeze(0) if single else r, inplace)
    f.__doc__ = doc
    composite(name=name, nn=True, function=name == "feature_dropout", method=False, layout="like")(f)


_feature_dropout("dropout1d", 1, "Zeroes whole channels of (N, C, L) or (C, L) with probability ``p``.")
_feature_dropout("dropout2d", 2, "Zeroes whole channels of (N, C, H, W) with probability ``p``.")
_feature_dropout("dropout3d", 3, "Zeroes whole channels of (N, C, D, H, W) or (C, D, H, W) with probability ``p``.")
_feature_dropout("feature_dropout", 0, "Zeroes whole channels of (N, C, ...) with probability ``p``.")

_ALPHA = 1.7580993408473766


def _alpha(input: Any, p: float, kept: Any) -> Any:
    a = 1.0 / math.sqrt((_ALPHA * _ALPHA * p + 1) * (1 - p))
    return (input * kept + (kept - 1.0) * _ALPHA) * a + (_ALPHA * p * a)


@composite(nn=True, method=False, layout="like")
def alpha_dropout(input, p=0.5, training=False, inplace=False):
    """Dropout that keeps mean and variance of self-normalising networks: dropped elements become SELU's negative limit."""
    _check_p(p)
    if not training or p == 0.0 or not input.numel():
        return input
    if p == 1.0:
        return _written(input, input * 0.0, inplace)
    _check_dtype(input)
    kept = fn.empty(input._a.shape, dtype=input.dtype, device=input.device).bernoulli_(1.0 - p)
    return _written(input, _alpha(input, p, kept), inplace)


@composite(nn=True, method=False, layout="like")
def feature_alpha_dropout(input, p=0.5, training=False, inplace=False):
    """``alpha_dropout`` of whole channels."""
    _check_p(p)
    if not training or p == 0.0 or not input.numel():
        return input
    return _written(input, input * 0.0 if p == 1.0 else _alpha(input, p, _feature_mask(input, p)), inplace)
