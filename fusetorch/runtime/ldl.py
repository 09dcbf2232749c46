"""Factors of symmetric matrices that need not be positive: ``P A P' = L D L'`` with blocks of one or two rows in ``D``.

Packed as LAPACK's ``sytrf`` does: ``D``'s diagonal and the entries below it in the lower triangle, and for each row the row it was swapped
with (from 1), negative where a block has two. Written over NumPy or CuPy, one matrix of a stack after the other.

Source: Bunch and Kaufman, "Some Stable Methods for Calculating Inertia and Solving Symmetric Linear Systems" (1977).
"""
from __future__ import annotations

import math
from typing import Any

from .solver import _refuse, _stack

#: Bounds the growth of the entries.
_ALPHA = (1 + math.sqrt(17)) / 8


def factor(xp: Any, a: Any, hermitian: bool, name: str) -> tuple[Any, Any, Any]:
    """``(LD, pivots, info)`` of a stack of matrices, of which the lower triangles are read; ``info`` is the place (from 1) of the first
    zero in ``D``. ``name``: who raises where there is one (empty: nobody)."""
    packed = xp.tril(a).copy()
    n = a.shape[-1]
    pivots = xp.zeros(a.shape[:-1], xp.int32)
    info = xp.zeros(a.shape[:-2], xp.int32)
    if packed.size:
        flat_pivots, flat_info = pivots.reshape(-1, n), info.reshape(-1)
        for k, m in enumerate(_stack(packed)):
            rows, flat_info[k] = _factor_one(xp, m, bool(hermitian) and m.dtype.kind == "c")
            flat_pivots[k] = xp.asarray(rows, xp.int32)
    _refuse(name, info, "The diagonal element {0} of D is zero, the factorization cannot be used to solve a system.")
    return packed, pivots, info


def _size(xp: Any, x: Any) -> Any:
    """The magnitude by which pivots are chosen."""
    return abs(x.real) + abs(x.imag) if x.dtype.kind == "c" else abs(x)


def _factor_one(xp: Any, a: Any, hermitian: bool) -> tuple[list[int], int]:
    n = len(a)
    pivots, info, k = [0] * n, 0, 0
    while k < n:
        step, swap = 1, k
        here = float(_size(xp, a[k, k].real if hermitian else a[k, k]))
        below = _size(xp, a[k + 1:, k])
        best = k + 1 + int(below.argmax()) if k + 1 < n else k
        most = float(below.max()) if k + 1 < n else 0.0
        if max(here, most) == 0 or here != here:
            info = info or k + 1
            if hermitian:
                a[k, k] = a[k, k].real
        else:
            if here < _ALPHA * most:
                row = _size(xp, xp.concatenate([a[best, k:best], a[best + 1:, best]])).max()
                if here >= _ALPHA * most * (most / float(row)):
                    pass
                elif float(_size(xp, a[best, best].real if hermitian else a[best, best])) >= _ALPHA * float(row):
                    swap = best
                else:
                    swap, step = best, 2
            at = k + step - 1
            if swap != at:
                _swap(a, k, at, swap, step, hermitian)
            (_one if step == 1 else _two)(xp, a, k, hermitian)
        if step == 1:
            pivots[k] = swap + 1
        else:
            pivots[k] = pivots[k + 1] = -(swap + 1)
        k += step
    return pivots, info


def _conj(x: Any, hermitian: bool) -> Any:
    return x.conj() if hermitian else x


def _swap(a: Any, k: int, i: int, j: int, step: int, hermitian: bool) -> None:
    """Exchanges rows and columns ``i < j`` of the part that is left."""
    a[j + 1:, [i, j]] = a[j + 1:, [j, i]]
    column = a[i + 1:j, i].copy()
    a[i + 1:j, i] = _conj(a[j, i + 1:j], hermitian)
    a[j, i + 1:j] = _conj(column, hermitian)
    if hermitian:
        a[j, i] = a[j, i].conj()
    first = a[i, i].copy()
    a[i, i], a[j, j] = a[j, j].copy(), first
    if step == 2:
        first = a[k + 1, k].copy()
        a[k + 1, k], a[j, k] = a[j, k].copy(), first


def _one(xp: Any, a: Any, k: int, hermitian: bool) -> None:
    """Takes one row out."""
    d = a[k, k].real if hermitian else a[k, k]
    if hermitian:
        a[k, k] = d
    column = a[k + 1:, k] / d
    a[k + 1:, k + 1:] -= xp.tril(column[:, None] * _conj(a[k + 1:, k], hermitian)[None, :])
    a[k + 1:, k] = column
    _real_diagonal(a, k + 1, hermitian)


def _two(xp: Any, a: Any, k: int, hermitian: bool) -> None:
    """Takes two rows out."""
    if hermitian:
        a[k, k], a[k + 1, k + 1] = a[k, k].real, a[k + 1, k + 1].real
    low = a[k + 1, k].copy()
    old = a[k + 2:, k:k + 2].copy()
    d1, d2, up = a[k, k], a[k + 1, k + 1], _conj(low, hermitian)
    # old @ inverse(D), scaled by the entry below D's diagonal, which is the largest
    t = (d1 / up) * (d2 / low) - 1
    first = (d2 / low * old[:, 0] - old[:, 1]) / (t * up)
    second = (d1 / up * old[:, 1] - old[:, 0]) / (t * low)
    a[k + 2:, k + 2:] -= xp.tril(old[:, 0:1] * _conj(first, hermitian)[None, :] + old[:, 1:2] * _conj(second, hermitian)[None, :])
    a[k + 2:, k], a[k + 2:, k + 1] = first, second
    _real_diagonal(a, k + 2, hermitian)


def _real_diagonal(a: Any, k: int, hermitian: bool) -> None:
    if hermitian:
        for i in range(k, len(a)):
            a[i, i] = a[i, i].real


def solve(xp: Any, packed: Any, pivots: Any, b: Any, hermitian: bool) -> Any:
    """``X`` with ``A X = b``, from the packed factors of ``A``; all of one batch shape."""
    out = xp.ascontiguousarray(b).copy()
    n = packed.shape[-1]
    if out.size:
        for m, rows, x in zip(_stack(packed), pivots.reshape(-1, n), _stack(out)):
            _solve_one(m, [int(p) for p in rows], x, bool(hermitian) and m.dtype.kind == "c")
    return out


def _solve_one(a: Any, pivots: list[int], x: Any, hermitian: bool) -> None:
    n, k = len(a), 0
    while k < n:  # L, its swaps, and D
        step = 1 if pivots[k] > 0 else 2
        i, j = k + step - 1, abs(pivots[k]) - 1
        if i != j:
            x[[i, j]] = x[[j, i]]
        x[k + step:] -= a[k + step:, k:k + step] @ x[k:k + step]
        if step == 1:
            x[k] /= a[k, k]
        else:
            low, d1, d2 = a[k + 1, k], a[k, k], a[k + 1, k + 1]
            up = _conj(low, hermitian)
            determinant = d1 * d2 - low * up
            first = (d2 * x[k] - up * x[k + 1]) / determinant
            x[k + 1] = (d1 * x[k + 1] - low * x[k]) / determinant
            x[k] = first
        k += step
    k = n - 1
    while k >= 0:  # the transpose of L
        step = 1 if pivots[k] > 0 else 2
        first = k - step + 1
        x[first:k + 1] -= _conj(a[k + 1:, first:k + 1].T, hermitian) @ x[k + 1:]
        j = abs(pivots[k]) - 1
        if j != k:
            x[[k, j]] = x[[j, k]]
        k -= step
