"""Approximations of large matrices by few singular values.

Source: N. Halko, P. Martinsson, J. Tropp, "Finding structure with randomness" (2011), algorithms 4.4 and 5.1.
"""
from __future__ import annotations

from typing import Any

from .opdef import composite, fn


def _range_of(a: Any, q: int, niter: int, shift: Any) -> Any:
    """An orthonormal basis of nearly the range of ``a - shift`` (N. Halko, P. Martinsson, J. Tropp, "Finding structure with randomness",
    2011, algorithm 4.4)."""
    def times(m: Any, x: Any, s: Any) -> Any:
        return m @ x if s is None else m @ x - s @ x
    other = None if shift is None else shift.mT
    x = fn.randn(*a.shape[:-2], a.shape[-1], q, dtype=a.dtype, device=a.device)
    basis = fn.linalg_qr(times(a, x, shift))[0]
    for _ in range(niter):
        basis = fn.linalg_qr(times(a.mT, basis, other))[0]
        basis = fn.linalg_qr(times(a, basis, shift))[0]
    return basis


@composite(method=False)
def svd_lowrank(A, q=6, niter=2, M=None):
    """``(U, S, V)`` of rank ``q`` with ``A`` (less ``M``) nearly ``U @ diag(S) @ V.mT``, by random projections."""
    if M is not None:
        M = M.expand(A.shape)
    wide = A.shape[-2] < A.shape[-1]
    a, m = (A.mT, None if M is None else M.mT) if wide else (A, M)
    basis = _range_of(a, q, niter, m)
    small = basis.mT @ a if m is None else basis.mT @ a - basis.mT @ m
    u, s, vh = fn.linalg_svd(small, full_matrices=False)
    u, v = basis @ u, vh.mT
    return (v, s, u) if wide else (u, s, v)


@composite(method=False)
def pca_lowrank(A, q=None, center=True, niter=2):
    """``svd_lowrank`` of ``A``, with the mean of its rows taken off if ``center``."""
    m, n = A.shape[-2:]
    if q is None:
        q = min(6, m, n)
    elif not 0 <= q <= min(m, n):
        raise ValueError(f"q(={q}) must be non-negative integer and not greater than min(m, n)={min(m, n)}")
    if niter < 0:
        raise ValueError(f"niter(={niter}) must be non-negative integer")
    return svd_lowrank.body(A - A.mean(-2, keepdim=True) if center else A, q, niter)
