"""Rounding."""
from __future__ import annotations

import numpy as np

from . import primitives as P
from .opdef import elementwise, not_implemented


@elementwise(out="exact", refuses="bool", inplace=True, oracle=np.floor)
def floor(input):
    """Rounded down."""
    return P.floor(input)


@elementwise(out="exact", refuses="bool", inplace=True, oracle=np.ceil)
def ceil(input):
    """Rounded up."""
    return P.ceil(input)


@elementwise(out="exact", refuses="bool", inplace=True, aliases=("fix",), oracle=np.trunc)
def trunc(input):
    """Rounded towards zero."""
    return P.trunc(input)


@elementwise(refuses="bool", out="exact", inplace=True, oracle=lambda a, decimals=0: np.round(a, decimals), aliases=("special.round",))
def round(input, *, decimals: int = 0):
    """Rounded to the nearest, ties to even, at ``decimals`` digits after the point."""
    if decimals == 0:
        return P.round(input)
    if input.dtype.category < 2:
        raise not_implemented("round", input.dtype)
    s = 10.0**builtin_abs(decimals)
    return P.round(input * s) / s if decimals > 0 else P.round(input / s) * s


def builtin_abs(n: int) -> int:
    """The absolute value of a Python int (``abs`` is an operation here)."""
    return -n if n < 0 else n


@elementwise(out="exact", promote="floating", inplace=True, oracle=lambda a: a - np.trunc(a))
def frac(input):
    """The part after the point, with the sign of ``input``."""
    return input - P.trunc(input)
