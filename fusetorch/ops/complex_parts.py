"""Complex expressions as real ones: how native loops and GPU kernels run them.

:func:`split` rewrites expressions over complex numbers as expressions over their real and imaginary parts. A complex buffer is two real
ones of twice the strides, one element apart, so code generators, schedules and kernels know nothing of complex numbers.

Sources: Smith, "Algorithm 116: complex division", 1962 (as NumPy divides); Kahan, "Branch cuts for complex elementary functions", 1987.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..dtypes import bool_
from . import primitives as P
from .expr import Expr, cast, const, rebuild, reduce, walk

#: The real and the imaginary part, both of one real dtype.
Pair = tuple[Expr, Expr]


@dataclass(frozen=True)
class Parts:
    """Real expressions for complex ones. ``loads`` says what each new ``load`` reads: (old number, 0 or 1: which part; ``None``: the
    element was real); ``scalars`` the same for run-time scalars, ``stores`` for each value which old value and part it is."""

    values: list[Expr]
    loads: list[tuple[int, int | None]]
    scalars: list[tuple[int, int | None]]
    stores: list[tuple[int, int | None]]


def split(values: Sequence[Expr]) -> Parts:
    """The same computation without complex numbers."""
    done: dict[Expr, Any] = {}
    loads: list[tuple[int, int | None]] = []
    scalars: list[tuple[int, int | None]] = []

    def leaf(e: Expr, numbers: list[tuple[int, int | None]]) -> Any:
        which = (0, 1) if e.dtype.is_complex else (None,)
        made = []
        for part in which:
            made.append(Expr(e.op, (), len(numbers), e.dtype.to_real()))
            numbers.append((e.attr, part))
        return tuple(made) if e.dtype.is_complex else made[0]

    for e in walk(values):
        args = [done[a] for a in e.args]
        if e.op in ("load", "scalar"):
            done[e] = leaf(e, loads if e.op == "load" else scalars)
        elif e.op == "const" and e.dtype.is_complex:
            done[e] = (const(e.attr.real, e.dtype.to_real()), const(e.attr.imag, e.dtype.to_real()))
        elif e.dtype.is_complex or any(isinstance(a, tuple) for a in args):
            done[e] = _RULES[e.op](e, *args)
        else:
            done[e] = rebuild(e, tuple(args)) if args else e
    out: list[Expr] = []
    stores: list[tuple[int, int | None]] = []
    for j, v in enumerate(values):
        r = done[v]
        for part, x in zip((0, 1), r) if isinstance(r, tuple) else ((None, r),):
            out.append(x)
            stores.append((j, part))
    return Parts(out, loads, scalars, stores)


# ---- arithmetic


def _zero(x: Expr) -> bool:
    return x.op == "const" and x.attr == 0


def _plus(x: Expr, y: Expr) -> Expr:
    return x if _zero(y) else y if _zero(x) else x + y


def _times(x: Expr, y: Expr) -> Expr:
    return x if _zero(x) else y if _zero(y) else x * y


def _add(x: Pair, y: Pair) -> Pair:
    return _plus(x[0], y[0]), _plus(x[1], y[1])


def _sub(x: Pair, y: Pair) -> Pair:
    return tuple(a if _zero(b) else a - b for a, b in zip(x, y))


def _mul(x: Pair, y: Pair) -> Pair:
    (a, b), (c, d) = x, y
    left, right = _times(a, c), _times(b, d)
    return left if _zero(right) else left - right, _plus(_times(a, d), _times(b, c))


def _div(x: Pair, y: Pair) -> Pair:
    (a, b), (c, d) = x, y
    wide = P.abs(c) >= P.abs(d)  # the larger part divides the smaller
    ratio = P.where(wide, d, c) / P.where(wide, c, d)
    scale = 1.0 / (P.where(wide, c, d) + P.where(wide, d, c) * ratio)
    return P.where(wide, a + b * ratio, a * ratio + b) * scale, P.where(wide, b - a * ratio, b * ratio - a) * scale


def _size(x: Pair) -> Expr:
    a, b = P.abs(x[0]), P.abs(x[1])
    hi, lo = P.maximum(a, b), P.minimum(a, b)
    r = lo / P.where(P.eq(hi, 0), 1.0, hi)
    return P.where(P.isinf(a) | P.isinf(b), math.inf, hi * P.sqrt(r * r + 1.0))


def _sign(x: Pair) -> Pair:
    size = _size(x)
    size = P.where(P.eq(size, 0), 1.0, size)
    return x[0] / size, x[1] / size


def _scaled(x: Pair, factor: float) -> Pair:
    return x[0] * factor, x[1] * factor


def _neg(x: Pair) -> Pair:
    return -x[0], -x[1]


def _i_times(x: Pair) -> Pair:
    return -x[1], x[0]


def _minus_i_times(x: Pair) -> Pair:
    return x[1], -x[0]


# ---- functions


def _one(x: Pair) -> Pair:
    return const(1, x[0].dtype), const(0, x[0].dtype)


def _exp(x: Pair) -> Pair:
    e = P.exp(x[0])
    return e * P.cos(x[1]), P.where(P.eq(x[1], 0), x[1], e * P.sin(x[1]))


def _expm1(x: Pair) -> Pair:
    half = P.sin(x[1] * 0.5)
    return P.expm1(x[0]) * P.cos(x[1]) - half * half * 2.0, P.exp(x[0]) * P.sin(x[1])


def _log(x: Pair) -> Pair:
    return P.log(_size(x)), P.atan2(x[1], x[0])


def _log1p(x: Pair) -> Pair:
    a, b = x
    near = P.abs(a) < 0.5
    return P.where(near, P.log1p(a * (a + 2.0) + b * b) * 0.5, P.log(_size((a + 1.0, b)))), P.atan2(b, a + 1.0)


def _sqrt(x: Pair) -> Pair:
    a, b = x
    t = P.sqrt((P.abs(a) + _size(x)) * 0.5)
    other = P.where(P.eq(t, 0), b, b / (P.where(P.eq(t, 0), 1.0, t) * 2.0))
    right = a >= 0
    return P.where(right, t, P.abs(other)), P.where(right, other, P.copysign(t, b))


def _tanh(x: Pair) -> Pair:
    a = P.clip(x[0], -20.0, 20.0)  # beyond, the result is 1 in magnitude to the last bit
    t, s = P.tan(x[1]), P.sinh(a)
    beta = t * t + 1.0
    below = beta * s * s + 1.0
    return beta * P.sqrt(s * s + 1.0) * s / below, t / below


def _asinh(x: Pair) -> Pair:
    return _log(_add(x, _sqrt(_add(_mul(x, x), _one(x)))))


def _acosh(x: Pair) -> Pair:
    return _log(_add(x, _mul(_sqrt(_add(x, _one(x))), _sqrt(_sub(x, _one(x))))))


def _atanh(x: Pair) -> Pair:
    return _scaled(_sub(_log1p(x), _log1p(_neg(x))), 0.5)


def _acos(x: Pair) -> Pair:
    a, b = _minus_i_times(_asinh(_i_times(x)))
    return math.pi / 2 - a, -b


def _pow(x: Pair, y: Pair) -> Pair:
    a, b = _exp(_mul(y, _log(x)))
    nothing = P.eq(x[0], 0) & P.eq(x[1], 0)
    whole = P.eq(y[0], 0) & P.eq(y[1], 0)
    return P.where(whole, 1.0, P.where(nothing, 0.0, a)), P.where(whole | nothing, 0.0, b)


def _cast(e: Expr, x: Any) -> Any:
    if not isinstance(x, tuple):
        return cast(x, e.dtype.to_real()), const(0, e.dtype.to_real())
    if e.dtype.is_complex:
        return cast(x[0], e.dtype.to_real()), cast(x[1], e.dtype.to_real())
    return P.ne(x[0], 0) | P.ne(x[1], 0) if e.dtype is bool_ else cast(x[0], e.dtype)


def _pairwise(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda e, *args: f(*args)


#: How each primitive is done with parts: ``f(expression, *its operands)``.
_RULES: dict[str, Callable[..., Any]] = {
    "cast": _cast,
    "reduce": lambda e, x: (reduce(e.attr, x[0]), reduce(e.attr, x[1])),
    "where": lambda e, c, x, y: (P.where(c, x[0], y[0]), P.where(c, x[1], y[1])),
    "complex": lambda e, a, b: (a, b),
    "real": lambda e, x: x[0],
    "imag": lambda e, x: x[1],
    "conj": lambda e, x: (x[0], -x[1]),
    "eq": lambda e, x, y: P.eq(x[0], y[0]) & P.eq(x[1], y[1]),
    "ne": lambda e, x, y: P.ne(x[0], y[0]) | P.ne(x[1], y[1]),
    "isnan": lambda e, x: P.isnan(x[0]) | P.isnan(x[1]),
    "exp2": lambda e, x: _exp(_scaled(x, math.log(2.0))),
    "log2": lambda e, x: _scaled(_log(x), 1 / math.log(2.0)),
    "log10": lambda e, x: _scaled(_log(x), 1 / math.log(10.0)),
    "rsqrt": lambda e, x: _div(_one(x), _sqrt(x)),
    "sin": lambda e, x: (P.sin(x[0]) * P.cosh(x[1]), P.cos(x[0]) * P.sinh(x[1])),
    "cos": lambda e, x: (P.cos(x[0]) * P.cosh(x[1]), -P.sin(x[0]) * P.sinh(x[1])),
    "sinh": lambda e, x: (P.sinh(x[0]) * P.cos(x[1]), P.cosh(x[0]) * P.sin(x[1])),
    "cosh": lambda e, x: (P.cosh(x[0]) * P.cos(x[1]), P.sinh(x[0]) * P.sin(x[1])),
    "tan": lambda e, x: _minus_i_times(_tanh(_i_times(x))),
    "asin": lambda e, x: _minus_i_times(_asinh(_i_times(x))),
    "atan": lambda e, x: _minus_i_times(_atanh(_i_times(x))),
    **{name: _pairwise(f) for name, f in {
        "add": _add, "sub": _sub, "mul": _mul, "div": _div, "neg": _neg, "abs": _size, "sign": _sign, "exp": _exp, "expm1": _expm1,
        "log": _log, "log1p": _log1p, "sqrt": _sqrt, "tanh": _tanh, "asinh": _asinh, "acosh": _acosh, "atanh": _atanh, "acos": _acos,
        "pow": _pow}.items()},
}
