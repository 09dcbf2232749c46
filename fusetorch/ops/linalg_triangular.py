"""Cholesky and LU factors of matrices.

Gradients: I. Murray, "Differentiation of the Cholesky decomposition" (2016); S. Walter and L. Lehmann, "Algorithmic differentiation of
linear algebra functions" (2010).
"""
from __future__ import annotations

from typing import Any

from ..dtypes import int32, int64
from ..return_types import result
from ..runtime import solver
from ..shapes import broadcast_shapes
from .linalg_rules import H, batched, kernel, matrix, sizes, square
from .opdef import composite, fn, opaque

cholesky_ex_result = result("linalg_cholesky_ex", "L info")
lu_result = result("linalg_lu", "P L U")
lu_factor_result = result("linalg_lu_factor", "LU pivots")
lu_factor_ex_result = result("linalg_lu_factor_ex", "LU pivots info")
lu_unpack_result = result("lu_unpack", "P L U")


# ---------------------------------------------------------------------------------------------------- Cholesky


@opaque(name="cholesky_lower", function=False, method=False, n_outputs=2)
def cholesky_lower(input, name: str):
    """The lower Cholesky factor, read from the lower triangle, and ``info``; ``name`` is who raises if there is none (empty: nobody)."""
    return [(sizes(input), input.dtype), (batched(sizes(input)), int32)]


@kernel(cholesky_lower)
def _(xp: Any, a: Any, name: str) -> Any:
    return solver.cholesky(xp, a, name)


@cholesky_lower.vjp("out")
def _(ctx: Any, g: Any, _: Any) -> Any:
    low = ctx["out"]
    inner = H(low) @ g
    inner = (inner.tril() + H(inner.tril(-1))) * 0.5
    x = fn.triangular_system(H(low), inner, True, False)
    return H(fn.triangular_system(H(low), H(x), True, False))


def _cholesky(name: str, a: Any, upper: bool, check: bool) -> tuple[Any, Any]:
    square(name, a)
    low, info = fn.cholesky_lower(H(a) if upper else a, name if check else "")
    return (H(low) if upper else low), info


@composite(name="linalg_cholesky", function=False, method=False, aliases=("linalg.cholesky",), out="exact", autocast="float32:cpu")
def linalg_cholesky(A, *, upper=False):
    """The lower factor ``L`` of positive-definite matrices, ``A = L @ L.mH`` (or the upper one).

    Raises ``LinAlgError`` for a matrix that is not positive-definite.
    """
    return _cholesky("linalg.cholesky", A, upper, True)[0]


@composite(out=True, autocast="float32:cpu")
def cholesky(input, upper=False):
    """``linalg.cholesky``."""
    return _cholesky("cholesky", input, upper, True)[0]


@composite(name="linalg_cholesky_ex", function=False, method=False, aliases=("linalg.cholesky_ex",), out="exact", also={"A": "input"})
def linalg_cholesky_ex(input, *, upper=False, check_errors=False):
    """``(L, info)``: ``info`` is 0, or the order of the first leading minor that is not positive."""
    return cholesky_ex_result(*_cholesky("linalg.cholesky_ex", input, upper, check_errors))


# ---------------------------------------------------------------------------------------------------- LU


@opaque(name="lu_packed", function=False, method=False, n_outputs=3)
def lu_packed(input, pivot: bool, name: str):
    """``L`` below the diagonal and ``U`` above in one matrix, the rows that LAPACK swapped (from 1), and ``info``."""
    shape = sizes(input)
    return [(shape, input.dtype), ((*shape[:-2], min(shape[-2:])), int32), (batched(shape), int32)]


@kernel(lu_packed)
def _(xp: Any, a: Any, pivot: bool, name: str) -> Any:
    return solver.lu_factor(xp, a, pivot, name)


@lu_packed.vjp("out", "out1")
def _(ctx: Any, g: Any, _p: Any, _i: Any) -> Any:
    lu, pivots = ctx["out"], ctx["out1"]
    m, n = sizes(lu)[-2:]
    k = min(m, n)
    low, up = _unpacked(lu)
    gl, gu = g.narrow(-1, 0, k).tril(-1), g.narrow(-2, 0, k).triu()
    l1, u1 = low.narrow(-2, 0, k), up.narrow(-1, 0, k)
    left, right = H(l1) @ gl.narrow(-2, 0, k), gu.narrow(-1, 0, k) @ H(u1)
    if n > k:
        left = left - gu.narrow(-1, k, n - k) @ H(up.narrow(-1, k, n - k))
    if m > k:
        right = right - H(low.narrow(-2, k, m - k)) @ gl.narrow(-2, k, m - k)
    inner = left.tril(-1) + right.triu()
    # L1^-H inner U1^-H
    x = fn.triangular_system(H(l1), inner, True, True)
    x = H(fn.triangular_system(u1, H(x), True, False))
    if n > k:
        x = fn.cat([x, fn.triangular_system(H(l1), gu.narrow(-1, k, n - k), True, True)], -1)
    if m > k:
        x = fn.cat([x, H(fn.triangular_system(u1, H(gl.narrow(-2, k, m - k)), True, False))], -2)
    return fn.rows_at(x, fn.lu_order(pivots, m).argsort(-1))


def _unpacked(lu: Any) -> tuple[Any, Any]:
    """``(L, U)`` of a packed factorisation."""
    m, n = sizes(lu)[-2:]
    k = min(m, n)
    low = lu.narrow(-1, 0, k).tril(-1) + fn.eye(m, k, dtype=lu.dtype, device=lu.device)
    return low, lu.narrow(-2, 0, k).triu()


@opaque(name="lu_order", function=False, method=False, differentiable=False)
def lu_order(pivots, rows: int):
    """The order of the rows after the swaps ``pivots``: row ``i`` of ``L @ U`` is row ``order[i]`` of the matrix."""
    return [((*sizes(pivots)[:-1], rows), int64)]


@kernel(lu_order)
def _(xp: Any, pivots: Any, rows: int) -> Any:
    return solver.permutation(xp, pivots, rows)


@composite(name="rows_at", function=False, method=False)
def rows_at(input, order):
    """The rows of each matrix in another order; batches broadcast."""
    shape = sizes(input)
    batch = broadcast_shapes(shape[:-2], sizes(order)[:-1])
    rows = order.unsqueeze(-1).expand(*batch, sizes(order)[-1], shape[-1])
    return fn.gather_dim(input.expand(*batch, *shape[-2:]), rows.contiguous(), len(batch))


def _lu_factor(name: str, a: Any, pivot: bool, check: bool) -> tuple[Any, Any, Any]:
    matrix(name, a)
    if not pivot and a.device.type == "cpu":
        raise RuntimeError(f"{name}: LU without pivoting is not implemented on the CPU")
    return fn.lu_packed(a, bool(pivot), name if check else "")


@composite(name="linalg_lu_factor", function=False, method=False, aliases=("linalg.lu_factor",), out="exact")
def linalg_lu_factor(A, *, pivot=True):
    """``(LU, pivots)``: the packed factors of ``A`` and the rows swapped; for ``linalg.lu_solve``."""
    return lu_factor_result(*_lu_factor("linalg.lu_factor", A, pivot, True)[:2])


@composite(name="linalg_lu_factor_ex", function=False, method=False, aliases=("linalg.lu_factor_ex",), out="exact")
def linalg_lu_factor_ex(A, *, pivot=True, check_errors=False):
    """``lu_factor`` with ``info``: the place of the first pivot that is exactly zero."""
    return lu_factor_ex_result(*_lu_factor("linalg.lu_factor_ex", A, pivot, check_errors))


@composite(out=True)
def lu(input, pivot=True, get_infos=False):
    """``(LU, pivots)`` or ``(LU, pivots, infos)``: what ``torch.lu`` returns."""
    packed, pivots, info = _lu_factor("lu", input, pivot, not get_infos)
    return (packed, pivots, info) if get_infos else (packed, pivots)


def _permutation_matrix(pivots: Any, m: int, dtype: Any) -> Any:
    order = fn.lu_order(pivots, m)
    return (fn.arange(m, device=pivots.device).unsqueeze(-1) == order.unsqueeze(-2)).to(dtype)


@composite(name="linalg_lu", function=False, method=False, aliases=("linalg.lu",), out="exact")
def linalg_lu(A, *, pivot=True):
    """``(P, L, U)`` with ``A = P @ L @ U``, ``L`` unit lower and ``U`` upper triangular; ``P`` is empty without pivoting."""
    packed, pivots, _ = _lu_factor("linalg.lu", A, pivot, False)
    low, up = _unpacked(packed)
    if pivot:
        return lu_result(_permutation_matrix(pivots, sizes(A)[-2], A.dtype), low, up)
    return lu_result(fn.empty(0, dtype=A.dtype, device=A.device), low, up)


@composite(method=False, out="exact")
def lu_unpack(LU_data, LU_pivots, unpack_data=True, unpack_pivots=True):
    """``(P, L, U)`` from what ``linalg.lu_factor`` returns; parts that are not asked for are empty."""
    if unpack_pivots and LU_pivots.dtype is not int32:
        raise RuntimeError("torch.lu_unpack: LU_pivots is expected to be a contiguous tensor of torch.int32 dtype.")
    none = fn.empty(0, dtype=LU_data.dtype, device=LU_data.device)
    low, up = _unpacked(LU_data) if unpack_data else (none, none)
    p = _permutation_matrix(LU_pivots, sizes(LU_data)[-2], LU_data.dtype) if unpack_pivots else none
    return lu_unpack_result(p, low, up)
