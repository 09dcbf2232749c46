"""Choosing elements: by a condition, or by limits that they are held to."""
from __future__ import annotations

import math
import warnings

import numpy as np

from ..dtypes import SCALAR_TYPES, bool_, finfo, uint8
from ..tensor import Tensor
from . import primitives as P
from .comparisons import _is_tensor
from .expr import Expr, cast
from .opdef import composite, elementwise, fn


@elementwise(numbers="any", name="where_elementwise", function=False, method=False, keep=("condition",), oracle=np.where)
def where_elementwise(condition, input, other):
    """``input`` where ``condition``, else ``other``."""
    return P.where(P.truth(condition), input, other)


@composite(out="exact")
def where(condition, input=None, other=None):
    """``input`` where ``condition``, else ``other``; with the condition alone, ``nonzero`` as a tuple."""
    if input is None:
        return fn.nonzero(condition, as_tuple=True)
    if not isinstance(condition, Tensor):
        raise TypeError(f"where(): argument 'condition' (position 1) must be Tensor, not {type(condition).__name__}")
    if condition.dtype is not bool_:
        if condition.dtype is not uint8:
            raise RuntimeError("where expected condition to be a boolean tensor, but got a tensor with dtype "
                               f"{SCALAR_TYPES[condition.dtype]}")
        warnings.warn("where received a uint8 condition tensor. This behavior is deprecated and will be removed in a future version of "
                      "PyTorch. Use a boolean condition instead.", stacklevel=2)
    if not isinstance(input, Tensor) and not isinstance(other, Tensor):
        d = fn.result_type_of_numbers(input, other)
        input = fn.full((), input, dtype=d, device=condition.device)
    return fn.where_elementwise(condition, input, other)


@elementwise(inplace=True, keep=("mask", "value"), oracle=lambda a, m, v: np.where(m, v, a))
def masked_fill(input, mask, value):
    """``value`` (a number or 0-d tensor) where ``mask``, else ``input`` (whose dtype is kept)."""
    return P.where(P.truth(mask), cast(value, input.dtype), input)


@masked_fill.check
def _(input, mask, value):
    if mask.dtype is not bool_:
        raise RuntimeError(f"masked_fill_ only supports boolean masks, but got mask with dtype {SCALAR_TYPES[mask.dtype]}")
    if _is_tensor(value) and value.ndim:
        raise RuntimeError("masked_fill_ only supports a 0-dimensional value tensor, but got tensor with "
                           f"{value.ndim} dimension(s).")
    d = getattr(input, "dtype", None)
    imaginary = value.dtype.is_complex if _is_tensor(value) else isinstance(value, complex)
    if d is not None and imaginary and not d.is_complex:
        raise RuntimeError(f"masked_fill: value cannot be converted to type {d} without overflow")


@elementwise(inplace=True, aliases=("clip",), oracle=lambda a, min=None, max=None: np.clip(a, min, max))
def clamp(input, min=None, max=None):
    """``input`` limited to [min, max]; NaN stays NaN."""
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    x = input
    if min is not None:
        x = P.where(x < min, min, x)
    if max is not None:
        x = P.where(x > max, max, x)
    return x


@composite(inplace=True, out=True)
def clamp_min(input, min):
    """``input``, but at least ``min``."""
    return fn.clamp(input, min=min)


@composite(inplace=True, out=True)
def clamp_max(input, max):
    """``input``, but at most ``max``."""
    return fn.clamp(input, max=max)


@elementwise(out="exact", inplace=True, oracle=lambda a, nan=0.0, posinf=None, neginf=None: np.nan_to_num(
    a, nan=nan or 0.0, posinf=posinf, neginf=neginf))
def nan_to_num(input, nan: float = None, posinf: float = None, neginf: float = None):
    """Replaces NaN and infinities by finite numbers (the dtype's limits unless given)."""
    if input.dtype.category < 2:
        return input
    f = finfo(input.dtype)
    nan, top, bottom = (d if v is None else P.real(v) for v, d in ((nan, 0.0), (posinf, f.max), (neginf, f.min)))

    def finite(x: Expr) -> Expr:
        x = P.where(P.isnan(x), nan, x)
        return P.where(P.eq(x, math.inf), top, P.where(P.eq(x, -math.inf), bottom, x))

    return P.complex(finite(P.real(input)), finite(P.imag(input))) if input.dtype.is_complex else finite(input)
