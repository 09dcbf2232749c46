"""Expressions as NumPy source: how small CPU tensors run, and the reference for the other generators."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..dtypes import HALVES, dtype
from ..ops.expr import Expr, walk
from ..ops.primitives import PRIMITIVES

_UFUNC_REDUCE = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}


def numpy_function(values: Sequence[Expr], out_dtypes: Sequence[dtype], n_inputs: int, n_scalars: int,
                   reduces: bool) -> Callable[..., list[np.ndarray]]:
    """Compiles expressions to ``f(shape, axes, x0, x1, ..., s0, s1, ...) -> [array per output]``.

    ``shape`` is the broadcast index space; ``axes`` are the reduced axes. Reduced outputs keep them with size 1. Scalars are
    Python numbers, made to have the kernel's scalar dtype.
    """
    names: dict[Expr, str] = {}
    env: dict[str, Any] = {"__name__": "fusetorch.kernel", "np": np, "ndarray": np.ndarray, "asarray": np.asarray}
    lines: list[str] = []

    def bind(value: Any, hint: str) -> str:
        name = f"{hint}{len(env)}"
        env[name] = value
        return name

    for e in walk(values):
        args = [names[a] for a in e.args]
        if e.op == "load":
            names[e] = f"x{e.attr}"
            continue
        if e.op == "const":
            names[e] = bind(e.dtype.np.type(e.attr), "c")
            continue
        t = names[e] = f"t{len(names)}"
        if e.op == "scalar":
            make = e.dtype.np.type if e.dtype.category >= 2 else _integer(e.dtype.np)
            text = f"{bind(make, 'k')}(s{e.attr})"
        elif e.op == "count":
            text = f"np.int64({bind(_count, 'f')}(shape, axes))"
        elif e.op == "iota":
            text = f"{bind(_iota, 'f')}(shape, axes, {bind(e.attr, 'a')})"
        elif e.op == "reduce" and e.attr.startswith("arg"):
            text = f"{bind(_arg_reduce, 'f')}({e.attr!r}, {_full(args[0], bind)}, axes)"
        elif e.op == "reduce":
            reduce = _EXTREMUM.get(e.attr, _UFUNC_REDUCE[e.attr].reduce)
            text = (f"{bind(reduce, 'f')}({_full(args[0], bind)}, axis=axes, "
                    f"dtype={bind(e.dtype.np, 'd')}, keepdims=True)")
        elif e.op == "cast":
            text = f"{bind(_cast, 'f')}({args[0]}, {bind(e.dtype.np, 'd')})"
        else:
            text = f"{bind(PRIMITIVES[e.op].numpy, 'f')}({', '.join(args)})"
        lines.append(f"    {t} = {text}")
    results = []
    for v, d in zip(values, out_dtypes):
        r = names[v]
        # a result must be a fresh ndarray of the stored dtype: ufuncs give NumPy scalars for 0-d operands
        finish = _finish_half if d in HALVES else _finish
        aliased = v.op in ("load", "const", "scalar", "iota", "count")
        results.append(f"{bind(finish, 'f')}({r}, {bind(d.np, 'd')}, {aliased})")
    params = [f"x{i}" for i in range(n_inputs)] + [f"s{i}" for i in range(n_scalars)]
    src = f"def f(shape, axes, {', '.join(params)}):\n" + "\n".join(lines) + f"\n    return [{', '.join(results)}]\n"
    exec(compile(src, "<numpy kernel>", "exec"), env)  # noqa: S102 - our own generated source
    f = env["f"]
    f.source = src
    return f


def _integer(d: np.dtype) -> Callable[[Any], Any]:
    """Makes a Python number a NumPy integer; what does not fit wraps, as it does in a tensor."""
    kind = d.type

    def make(value: Any) -> Any:
        try:
            return kind(value)
        except OverflowError:
            return np.asarray(int(value) & (1 << 64) - 1, np.uint64).astype(d)[()]
    return make


def _extremum(ufunc: np.ufunc, sign: int) -> Callable[..., np.ndarray]:
    """max and min, which NumPy refuses to take of no elements: they are the dtype's limit then."""
    def reduce(a: np.ndarray, axis: tuple[int, ...], dtype: np.dtype, keepdims: bool) -> np.ndarray:
        if a.size:
            return ufunc.reduce(a, axis=axis, dtype=dtype, keepdims=keepdims)
        limit: Any = -sign * np.inf
        if dtype.kind in "iu":
            limit = np.iinfo(dtype).min if sign > 0 else np.iinfo(dtype).max
        return np.full([1 if d in axis else n for d, n in enumerate(a.shape)], sign < 0 if dtype.kind == "b" else limit, dtype)
    return reduce


_EXTREMUM = {"max": _extremum(np.maximum, 1), "min": _extremum(np.minimum, -1)}


def _full(name: str, bind: Callable[[Any, str], str]) -> str:
    # what does not vary along the reduced axes must still count once per position
    return f"{bind(_broadcast, 'f')}({name}, shape)"


def _broadcast(a: Any, shape: tuple[int, ...]) -> np.ndarray:
    a = np.asarray(a)
    return a if a.shape == shape else np.broadcast_to(a, _merge(a.shape, shape))


def _merge(a: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape if len(a) <= len(shape) else a


def _cast(a: Any, d: np.dtype) -> np.ndarray:
    a = np.asarray(a)
    if a.dtype.kind == "c" and d.kind not in "cb":
        a = a.real
    if a.dtype.kind == "f" and d.kind in "iu" and d.itemsize < 8:
        return a.astype(np.int64).astype(d)  # wraps as the machine conversion of the native loop does
    return a.astype(d)


def _finish(a: Any, d: np.dtype, aliased: bool) -> np.ndarray:
    if type(a) is np.ndarray and a.dtype is d and not aliased:
        return a
    return np.array(a, dtype=d)


def _finish_half(a: Any, d: np.dtype, aliased: bool) -> np.ndarray:
    return np.array(a, dtype=d)


def _count(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    n = 1
    for d in axes:
        n *= shape[d]
    return n


def _iota(shape: tuple[int, ...], axes: tuple[int, ...], which: Any) -> np.ndarray:
    if isinstance(which, tuple) and which[0] == "dim":
        return np.arange(shape[which[1]], dtype=np.int64).reshape([-1 if d == which[1] else 1 for d in range(len(shape))])
    if isinstance(which, tuple):
        out = np.zeros((1,) * len(shape), np.int64)
        for d, step in enumerate(which[1]):
            out = out + (np.arange(shape[d], dtype=np.int64) * step).reshape([-1 if k == d else 1 for k in range(len(shape))])
        return out
    dims = range(len(shape)) if which == "linear" else axes
    sizes = [shape[d] if d in set(dims) else 1 for d in range(len(shape))]
    return np.arange(np.prod(sizes, dtype=np.int64), dtype=np.int64).reshape(sizes)


def _arg_reduce(kind: str, a: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    keep = [d for d in range(a.ndim) if d not in axes]
    rows = a.transpose(keep + list(axes)).reshape([a.shape[d] for d in keep] + [math.prod(a.shape[d] for d in axes)])
    index = getattr(np, kind)(rows, axis=-1)
    return np.asarray(index).reshape([1 if d in axes else a.shape[d] for d in range(a.ndim)])
