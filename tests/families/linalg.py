"""Samples and oracles of linear algebra."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from sample_makers import S, f, i, permutation


def square(*shape: int) -> np.ndarray:
    """Well conditioned matrices."""
    return f(*shape) + 3 * np.eye(shape[-1])


def positive(*shape: int) -> np.ndarray:
    """Positive-definite matrices."""
    a = f(*shape)
    return a @ np.swapaxes(a, -1, -2) + np.eye(shape[-1])


def lower(*shape: int) -> np.ndarray:
    """Lower triangles with a large diagonal."""
    return np.tril(f(*shape)) + 3 * np.eye(shape[-1])


def symmetric(*shape: int) -> np.ndarray:
    """Symmetric matrices with a zero on the diagonal, so that rows are swapped."""
    a = f(*shape)
    a = a + np.swapaxes(a, -1, -2)
    a[..., 0, 0] = 0
    return a


def ldl(a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """LAPACK's packed factors, pivots (from 1) and info."""
    if a.ndim > 2:
        return tuple(np.stack(x) for x in zip(*map(ldl, a)))
    if not a.size:
        return a, np.zeros(0, np.int32), np.int32(0)
    packed, pivots, info = scipy.linalg.lapack.dsytrf(np.asarray(a, np.float64), lower=1)
    return np.tril(packed), pivots.astype(np.int32), np.int32(info)


def ldl_solve(packed: np.ndarray, pivots: np.ndarray, b: np.ndarray) -> np.ndarray:
    """LAPACK's solution from packed factors; batches broadcast."""
    batch = np.broadcast_shapes(packed.shape[:-2], b.shape[:-2])
    packed, pivots = np.broadcast_to(packed, (*batch, *packed.shape[-2:])), np.broadcast_to(pivots, (*batch, pivots.shape[-1]))
    out = np.array(np.broadcast_to(b, (*batch, *b.shape[-2:])))
    for k in np.ndindex(batch):
        out[k] = scipy.linalg.lapack.dsytrs(packed[k], pivots[k], out[k], lower=1)[0]
    return out


def each(function: Any, *arrays: np.ndarray) -> Any:
    """A SciPy function of matrices over a batch."""
    batch = np.broadcast_shapes(*[a.shape[:-2] for a in arrays])
    wide = [np.broadcast_to(a, (*batch, *a.shape[-2:])) for a in arrays]
    if not batch:
        return function(*wide)
    rows = [function(*[a[k] for a in wide]) for k in np.ndindex(batch)]
    if isinstance(rows[0], tuple):
        return tuple(np.stack(r).reshape(*batch, *np.shape(r[0])) for r in zip(*rows))
    return np.stack(rows).reshape(*batch, *np.shape(rows[0]))


def zero(a: np.ndarray) -> np.ndarray:
    """``info`` of matrices without trouble."""
    return np.zeros(a.shape[:-2], np.int32)


def swaps(order: np.ndarray) -> np.ndarray:
    """LAPACK's swaps for a permutation (row i of LU is row order[i])."""
    now, out = list(range(len(order))), []
    for j, want in enumerate(order):
        p = now.index(want)
        out.append(p + 1)
        now[j], now[p] = now[p], now[j]
    return np.array(out, np.int32)


def packed(a: np.ndarray) -> tuple:
    p, low, up = scipy.linalg.lu(a)
    k = min(a.shape)
    both = np.zeros_like(a)
    both[:, :k] += np.tril(low, -1)
    both[:k] += np.triu(up)
    return both, swaps(np.argmax(p, 0)[:k] if a.shape[0] == k else np.argmax(p, 0))[:k], np.int32(0)


def order_of(pivots: np.ndarray, rows: int) -> np.ndarray:
    def one(p: np.ndarray) -> np.ndarray:
        order = np.arange(rows)
        for j, k in enumerate(p):
            order[[j, k - 1]] = order[[k - 1, j]]
        return order

    return np.apply_along_axis(one, -1, pivots)


def norm_of(a: Any, order: Any = None, dim: Any = None, keepdim: bool = False) -> Any:
    return np.linalg.norm(a, order, dim, keepdim)


def vector_norm(a: Any, order: Any = 2, dim: Any = None, keepdim: bool = False) -> Any:
    return np.linalg.vector_norm(a, ord=order, axis=dim, keepdims=keepdim)


def matrix_norm(a: Any, order: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False) -> Any:
    return np.linalg.norm(a, order, dim, keepdim)


def rank_one(q: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """The product of reflectors as a whole square matrix."""
    m = q.shape[-2]
    out = np.broadcast_to(np.eye(m), (*q.shape[:-2], m, m))
    for j in range(tau.shape[-1]):
        v = np.where(np.arange(m) < j, 0, np.where(np.arange(m) == j, 1, q[..., j]))
        out = out @ (np.eye(m) - tau[..., j, None, None] * v[..., :, None] * v[..., None, :])
    return out


def lapack_qr(a: np.ndarray) -> tuple:
    h, tau = np.linalg.qr(a, "raw")
    return np.swapaxes(h, -1, -2), tau


def solve_left(a: np.ndarray, b: np.ndarray, left: bool = True) -> np.ndarray:
    if not left:
        return np.swapaxes(solve_left(np.swapaxes(a, -1, -2), np.swapaxes(b, -1, -2)), -1, -2)
    return np.linalg.solve(a, b[..., None])[..., 0] if b.ndim == 1 else np.linalg.solve(a, b)


def triangle(a: np.ndarray, upper: bool, unit: bool) -> np.ndarray:
    a = np.triu(a) if upper else np.tril(a)
    return a - np.where(np.eye(a.shape[-1], dtype=bool), a - 1, 0) if unit else a


def tensorsolve(a: np.ndarray, b: np.ndarray, dims: Any = None) -> np.ndarray:
    return np.linalg.tensorsolve(a, b, dims)


def cholesky_ex(a: np.ndarray) -> list:
    return [np.linalg.cholesky(a), zero(a)]


SAMPLES = {
    "cholesky_lower": lambda: [S(positive(4, 4), "", grad=False), S(positive(2, 3, 3), "x", grad=False), S(f(0, 0), "")],
    "lu_packed": lambda: [
        S(f(3, 3), True, ""),
        S(f(2, 4, 2), True, ""),
        S(f(2, 2, 5), True, "lu"),
        S(f(40, 40) + 20 * np.eye(40)[permutation(40)], True, "", grad=False),
    ],
    "lu_order": lambda: [S(np.array([[2, 2, 3], [3, 3, 3]], np.int32), 4)],
    "rows_at": lambda: [S(f(2, 3, 2), np.array([[2, 0, 1], [1, 2, 0]]))],
    "qr_factors": lambda: [S(f(4, 3), "reduced"), S(f(2, 2, 4), "reduced"), S(f(3, 3), "complete"), S(f(4, 2), "complete", grad=False)],
    "geqrf_packed": lambda: [S(f(4, 3)), S(f(2, 3, 4))],
    "householder_product": lambda: [S(f(4, 3), f(2, lo=0.2, hi=1)), S(f(2, 3, 3), f(2, 3, lo=0.2, hi=1))],
    "eigh_factors": lambda: [S(positive(4, 4), "L", grad=False), S(positive(2, 3, 3), "U", grad=False)],
    "svd_factors": lambda: [S(f(4, 3), False), S(f(2, 2, 3), False), S(f(4, 2), True, grad=False)],
    "singular_values": lambda: [S(f(4, 3)), S(f(2, 2, 3)), S(f(0, 3))],
    "triangular_system": lambda: [
        S(lower(3, 3), f(3, 2), False, False),
        S(np.swapaxes(lower(2, 3, 3), 1, 2), f(3, 2), True, True),
        S(lower(70, 70) / 20 + np.eye(70), f(70, 3), False, False, grad=False),
        S(lower(70, 70).T / 40, f(70, 3), True, True, grad=False),
    ],
    "cholesky_system": lambda: [S(f(3, 2), lower(3, 3), grad=False), S(f(2, 3, 1), lower(3, 3), grad=False)],
    "general_system": lambda: [S(square(3, 3), f(3, 2), ""), S(square(2, 3, 3), f(3, 1), "x"), S(f(0, 0), f(0, 2), "")],
    "inverse_matrix": lambda: [S(square(3, 3), ""), S(square(2, 2, 2), "x")],
    "determinant": lambda: [S(f(3, 3)), S(f(2, 2, 2))],
    "cofactor_matrix": lambda: [S(square(3, 3)), S(square(2, 2, 2))],
    "sign_and_log_determinant": lambda: [S(f(3, 3)), S(f(2, 2, 2))],
    "pseudo_inverse": lambda: [
        S(f(4, 3), np.array(0.0), np.array(1e-9), False),
        S(f(2, 2, 3), np.array(0.0), np.array(1e-9), False),
        S(positive(3, 3), np.array(0.0), np.array(1e-9), True, grad=False),
    ],
    "exponential_matrix": lambda: [S(f(3, 3)), S(f(2, 2, 2)), S(20 * f(2, 2), grad=False)],
    "linalg_cholesky": lambda: [S(positive(3, 3), grad=False), S(positive(3, 3), upper=True, grad=False)],
    "cholesky": lambda: [S(positive(3, 3), grad=False), S(positive(3, 3), True, grad=False)],
    "linalg_cholesky_ex": lambda: [S(positive(3, 3), grad=False)],
    "linalg_lu_factor": lambda: [S(f(3, 3)), S(f(3, 2))],
    "linalg_lu_factor_ex": lambda: [S(f(3, 3)), S(f(3, 2))],
    "lu": lambda: [S(f(3, 3)), S(f(3, 2))],
    "linalg_lu": lambda: [S(f(3, 3)), S(f(2, 3))],
    "lu_unpack": lambda: [S(f(3, 3), np.array([2, 3, 3], np.int32)), S(f(3, 2), np.array([2, 3], np.int32))],
    "linalg_qr": lambda: [S(f(4, 3)), S(f(2, 4)), S(f(4, 2), "complete", grad=False)],
    "qr": lambda: [S(f(4, 3)), S(f(4, 2), False, grad=False)],
    "geqrf": lambda: [S(f(4, 3))],
    "orgqr": lambda: [S(f(4, 3), f(2, lo=0.2, hi=1))],
    "ormqr": lambda: [
        S(f(4, 2), f(2, lo=0.2, hi=1), f(4, 2)),
        S(f(4, 2), f(2, lo=0.2, hi=1), f(2, 4), False, True),
        S(f(4, 2), f(2, lo=0.2, hi=1), f(4, 2), True, True),
        S(f(4, 2), f(2, lo=0.2, hi=1), f(2, 4), False),
    ],
    "linalg_eigh": lambda: [S(positive(3, 3), grad=False), S(positive(3, 3), "U", grad=False)],
    "linalg_eigvalsh": lambda: [S(positive(3, 3), grad=False), S(positive(3, 3), "U", grad=False)],
    "linalg_svd": lambda: [S(f(4, 3), False), S(f(3, 3)), S(f(2, 4), grad=False)],
    "linalg_svdvals": lambda: [S(f(4, 3))],
    "svd": lambda: [S(f(4, 3)), S(f(3, 4), compute_uv=False)],
    "linalg_solve_triangular": lambda: [
        S(lower(3, 3), f(3, 2), upper=False),
        S(lower(3, 3), f(2, 3), upper=False, left=False),
        S(lower(3, 3).T, f(3, 2), upper=True, unitriangular=True),
    ],
    "triangular_solve": lambda: [S(f(3, 2), lower(3, 3).T), S(f(3, 2), lower(3, 3), False, True)],
    "cholesky_solve": lambda: [S(f(3, 2), lower(3, 3), grad=False), S(f(3, 2), lower(3, 3).T, True, grad=False)],
    "cholesky_inverse": lambda: [S(lower(3, 3), grad=False), S(lower(3, 3).T, True, grad=False)],
    "linalg_solve": lambda: [S(square(3, 3), f(3, 2)), S(square(3, 3), f(3)), S(square(3, 3), f(2, 3), left=False)],
    "linalg_solve_ex": lambda: [S(square(3, 3), f(3, 2))],
    "inverse": lambda: [S(square(3, 3))],
    "linalg_inv_ex": lambda: [S(square(3, 3))],
    "linalg_lu_solve": lambda: [
        S(square(3, 3), np.array([2, 3, 3], np.int32), f(3, 2)),
        S(square(3, 3), np.array([2, 3, 3], np.int32), f(2, 3), left=False),
        S(square(3, 3), np.array([2, 3, 3], np.int32), f(3, 2), adjoint=True),
    ],
    "ldl_packed": lambda: [S(symmetric(4, 4), False, ""), S(symmetric(2, 3, 3), True, "f"), S(f(0, 0), False, "f")],
    "ldl_solution": lambda: [S(*ldl(symmetric(4, 4))[:2], f(4, 2), False), S(*ldl(symmetric(2, 3, 3))[:2], f(2, 3, 1), False)],
    "linalg_ldl_factor": lambda: [S(symmetric(5, 5)), S(symmetric(2, 3, 3)), S(np.array([[0.0, 2.0], [2.0, 0.0]]))],
    "linalg_ldl_factor_ex": lambda: [S(symmetric(3, 3)), S(np.zeros((2, 2)))],
    "linalg_ldl_solve": lambda: [S(*ldl(symmetric(4, 4))[:2], f(2, 4, 2)), S(*ldl(symmetric(2, 3, 3))[:2], f(3, 1))],
    "lu_solve": lambda: [S(f(3, 2), square(3, 3), np.array([2, 3, 3], np.int32))],
    "det": lambda: [S(f(3, 3))],
    "slogdet": lambda: [S(f(3, 3))],
    "logdet": lambda: [S(positive(3, 3))],
    "linalg_pinv": lambda: [S(f(4, 3)), S(f(2, 3), rtol=0.9, grad=False), S(f(2, 3), 1e-6)],
    "pinverse": lambda: [S(f(4, 3))],
    "linalg_matrix_rank": lambda: [S(f(4, 3)), S(f(4, 1) @ f(1, 4), rtol=1e-4), S(f(2, 3, 3), atol=1.5)],
    "linalg_lstsq": lambda: [S(f(3, 3), f(3, 2), driver="gels")],
    "matrix_exp": lambda: [S(f(3, 3))],
    "matrix_power": lambda: [S(f(3, 3), 3), S(f(3, 3), 0), S(square(3, 3), -2)],
    "linalg_multi_dot": lambda: [S([f(2, 3), f(3, 4), f(4, 1)]), S([f(3), f(3, 4), f(4)])],
    "chain_matmul": lambda: [S(f(2, 3), f(3, 4), f(4, 1))],
    "linalg_vecdot": lambda: [S(f(2, 3), f(3)), S(f(2, 3), f(2, 3), dim=0)],
    "linalg_cross": lambda: [S(f(2, 3), f(2, 3)), S(f(3, 2), f(3, 1), dim=0)],
    "linalg_diagonal": lambda: [S(f(2, 3, 4)), S(f(3, 4), offset=1)],
    "linalg_matmul": lambda: [S(f(2, 3), f(3, 4))],
    "linalg_vander": lambda: [S(f(3)), S(f(2, 3), N=4), S(i(3), N=2)],
    "vander": lambda: [S(f(3), grad=False), S(f(3), 4, True, grad=False), S(i(4, lo=1))],
    "linalg_tensorinv": lambda: [S(square(6, 6).reshape(2, 3, 3, 2)), S(square(4, 4).reshape(4, 2, 2), 1)],
    "linalg_tensorsolve": lambda: [S(square(6, 6).reshape(2, 3, 6), f(2, 3)), S(square(6, 6).reshape(6, 2, 3), f(2, 3), (0,))],
    "linalg_vector_norm": lambda: [S(f(3, 4)), S(f(3, 4), 3, 1), S(f(3, 4), float("inf"), 0, True)],
    "linalg_matrix_norm": lambda: [S(f(3, 4)), S(f(3, 4), "nuc"), S(f(2, 3, 3), float("inf"), (0, 1), True), S(f(3, 4), 2), S(f(3, 4), -1)],
    "linalg_norm": lambda: [S(f(3, 4)), S(f(3, 4), 2), S(f(3, 4), 1, 1), S(f(3, 4), "nuc"), S(f(2, 3, 4), None, (0, 2))],
    "frobenius_norm": lambda: [S(f(3, 4), (0, 1)), S(f(3, 4), 1)],
    "nuclear_norm": lambda: [S(f(3, 4)), S(f(2, 3, 3), (1, 2), True)],
    "linalg_cond": lambda: [S(square(3, 3)), S(square(3, 3), 1), S(f(4, 2), -2), S(square(3, 3), "nuc")],
}

ORACLES = {
    "cholesky_lower": lambda a, name: cholesky_ex(a),
    "lu_packed": lambda a, pivot, name: each(packed, a),
    "lu_order": order_of,
    "rows_at": lambda a, order: np.take_along_axis(a, order[..., None], -2),
    "qr_factors": np.linalg.qr,
    "geqrf_packed": lapack_qr,
    "householder_product": lambda a, tau: rank_one(a, tau)[..., : a.shape[-1]],
    "eigh_factors": lambda a, uplo: np.linalg.eigh(a, uplo),
    "svd_factors": lambda a, full: np.linalg.svd(a, full),
    "singular_values": lambda a: np.linalg.svd(a, compute_uv=False),
    "triangular_system": lambda a, b, upper, unit: np.linalg.solve(triangle(a, upper, unit), b),
    "cholesky_system": lambda b, low: np.linalg.solve(low @ np.swapaxes(low, -1, -2), b),
    "general_system": lambda a, b, name: [np.linalg.solve(a, b) if b.size else b, zero(a)],
    "inverse_matrix": lambda a, name: [np.linalg.inv(a), zero(a)],
    "determinant": np.linalg.det,
    "cofactor_matrix": lambda a: np.linalg.det(a)[..., None, None] * np.swapaxes(np.linalg.inv(a), -1, -2),
    "sign_and_log_determinant": lambda a: list(np.linalg.slogdet(a)),
    "pseudo_inverse": lambda a, atol, rtol, hermitian: np.linalg.pinv(a),
    "exponential_matrix": scipy.linalg.expm,
    "linalg_cholesky": lambda a, upper=False: np.linalg.cholesky(a).T if upper else np.linalg.cholesky(a),
    "cholesky": lambda a, upper=False: np.linalg.cholesky(a).T if upper else np.linalg.cholesky(a),
    "linalg_cholesky_ex": cholesky_ex,
    "linalg_lu_factor": lambda a: packed(a)[:2],
    "linalg_lu_factor_ex": packed,
    "lu": lambda a: packed(a)[:2],
    "linalg_lu": scipy.linalg.lu,
    "lu_unpack": lambda a, p: [
        np.eye(a.shape[0])[order_of(p, a.shape[0])].T,
        np.tril(a[:, : min(a.shape)], -1) + np.eye(a.shape[0], min(a.shape)),
        np.triu(a[: min(a.shape)]),
    ],
    "linalg_qr": np.linalg.qr,
    "qr": lambda a, some=True: np.linalg.qr(a, "reduced" if some else "complete"),
    "geqrf": lapack_qr,
    "orgqr": lambda a, tau: rank_one(a, tau)[..., : a.shape[-1]],
    "ormqr": lambda a, tau, x, left=True, transpose=False: (
        (rank_one(a, tau).T if transpose else rank_one(a, tau)) @ x if left else x @ (rank_one(a, tau).T if transpose else rank_one(a, tau))
    ),
    "linalg_eigh": np.linalg.eigh,
    "linalg_eigvalsh": np.linalg.eigvalsh,
    "linalg_svd": np.linalg.svd,
    "linalg_svdvals": lambda a: np.linalg.svd(a, compute_uv=False),
    "svd": lambda a, some=True, compute_uv=True: (
        [np.linalg.svd(a, False)[0], np.linalg.svd(a, False)[1], np.linalg.svd(a, False)[2].T]
        if compute_uv
        else [np.zeros((a.shape[0],) * 2), np.linalg.svd(a, False)[1], np.zeros((a.shape[1],) * 2)]
    ),
    "linalg_solve_triangular": lambda a, b, upper, left=True, unitriangular=False: solve_left(triangle(a, upper, unitriangular), b, left),
    "triangular_solve": lambda b, a, upper=True, transpose=False: [
        np.linalg.solve(triangle(a, upper, False).T if transpose else triangle(a, upper, False), b),
        a,
    ],
    "cholesky_solve": lambda b, low, upper=False: np.linalg.solve(low.T @ low if upper else low @ low.T, b),
    "cholesky_inverse": lambda low, upper=False: np.linalg.inv(low.T @ low if upper else low @ low.T),
    "linalg_solve": solve_left,
    "linalg_solve_ex": lambda a, b: [np.linalg.solve(a, b), zero(a)],
    "inverse": np.linalg.inv,
    "linalg_inv_ex": lambda a: [np.linalg.inv(a), zero(a)],
    "linalg_lu_solve": lambda lu, p, b, left=True, adjoint=False: solve_left(
        whole(lu, p).T if adjoint else whole(lu, p), b, left
    ),
    "ldl_packed": lambda a, hermitian, name: list(ldl(a)),
    "ldl_solution": lambda packed, pivots, b, hermitian: ldl_solve(packed, pivots, b),
    "linalg_ldl_factor": lambda a: list(ldl(a)[:2]),
    "linalg_ldl_factor_ex": lambda a: list(ldl(a)),
    "linalg_ldl_solve": lambda packed, pivots, b: ldl_solve(packed, pivots, b),
    "lu_solve": lambda b, lu, p: np.linalg.solve(whole(lu, p), b),
    "det": np.linalg.det,
    "slogdet": lambda a: list(np.linalg.slogdet(a)),
    "logdet": lambda a: np.log(np.linalg.det(a)),
    "linalg_pinv": lambda a, rcond=None, rtol=None: np.linalg.pinv(a, rcond=rtol or rcond or 1e-12),
    "pinverse": np.linalg.pinv,
    "linalg_matrix_rank": lambda a, atol=0.0, rtol=0.0: np.sum(
        np.linalg.svd(a, compute_uv=False) > np.maximum(atol, rtol * np.linalg.norm(a, 2, (-2, -1)))[..., None], -1
    ),
    "linalg_lstsq": lambda a, b, driver: [np.linalg.lstsq(a, b, rcond=None)[0], np.zeros(0), np.zeros(0), np.zeros(0)],
    "matrix_exp": scipy.linalg.expm,
    "matrix_power": np.linalg.matrix_power,
    "linalg_multi_dot": np.linalg.multi_dot,
    "chain_matmul": lambda *a: np.linalg.multi_dot(a),
    "linalg_vecdot": lambda x, y, dim=-1: (x * y).sum(dim),
    "linalg_cross": lambda a, b, dim=-1: np.cross(a, b, axis=dim),
    "linalg_diagonal": lambda a, offset=0: np.diagonal(a, offset, -2, -1),
    "linalg_matmul": np.matmul,
    "linalg_vander": lambda x, N=None: x[..., None] ** np.arange(x.shape[-1] if N is None else N),
    "vander": np.vander,
    "linalg_tensorinv": np.linalg.tensorinv,
    "linalg_tensorsolve": tensorsolve,
    "linalg_vector_norm": vector_norm,
    "linalg_matrix_norm": matrix_norm,
    "linalg_norm": norm_of,
    "frobenius_norm": lambda a, dim=None: np.linalg.norm(a, None, dim),
    "nuclear_norm": lambda a, dim=None, keepdim=False: np.linalg.norm(a, "nuc", dim, keepdim),
    "linalg_cond": np.linalg.cond,
}


def whole(lu: np.ndarray, p: np.ndarray) -> np.ndarray:
    """The matrix whose packed factors these are."""
    a = (np.tril(lu, -1) + np.eye(len(lu))) @ np.triu(lu)
    out = np.empty_like(a)
    out[order_of(p, len(lu))] = a
    return out


#: complex results: tests/test_linalg.py
ELSEWHERE = {"eig_factors", "linalg_eig", "linalg_eigvals"}
NO_GRADIENT = {"geqrf", "linalg_matrix_rank", "linalg_ldl_factor", "linalg_ldl_factor_ex", "linalg_ldl_solve"}
#: no low precision, as in PyTorch
NO_HALVES = set(SAMPLES) - {
    "rows_at",
    "matrix_power",
    "linalg_multi_dot",
    "chain_matmul",
    "linalg_vecdot",
    "linalg_cross",
    "linalg_diagonal",
    "linalg_matmul",
    "linalg_vander",
    "linalg_vector_norm",
    "frobenius_norm",
    "lu_order",
    "exponential_matrix",
    "matrix_exp",
}
