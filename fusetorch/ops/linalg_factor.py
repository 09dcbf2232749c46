"""Factorisations of matrices: Cholesky, LU, QR, eigenvalues, singular values.

Gradients: I. Murray, "Differentiation of the Cholesky decomposition" (2016); S. Walter and L. Lehmann, "Algorithmic differentiation of
linear algebra functions" (2010) for QR and LU; M. Giles, "An extended collection of matrix derivative results" (2008) for eigenvalues;
J. Townsend, "Differentiating the singular value decomposition" (2016).
"""
from __future__ import annotations

from typing import Any

from ..dtypes import bool_, int32, int64
from ..return_types import result
from ..runtime import solver
from .linalg_rules import H, batched, kernel, matrix, sizes, square
from .opdef import composite, fn, opaque

cholesky_ex_result = result("linalg_cholesky_ex", "L info")
lu_result = result("linalg_lu", "P L U")
lu_factor_result = result("linalg_lu_factor", "LU pivots")
lu_factor_ex_result = result("linalg_lu_factor_ex", "LU pivots info")
lu_unpack_result = result("lu_unpack", "P L U")
qr_result = result("linalg_qr", "Q R")
geqrf_result = result("geqrf", "a tau")
eig_result = result("linalg_eig", "eigenvalues eigenvectors")
eigh_result = result("linalg_eigh", "eigenvalues eigenvectors")
svd_result = result("linalg_svd", "U S Vh")
old_qr_result = result("qr", "Q R")
old_svd_result = result("svd", "U S V")


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


@composite(name="linalg_cholesky_ex", function=False, method=False, aliases=("linalg.cholesky_ex",), out="exact")
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


def _unpacked(lu: Any) -> tuple[Any, Any]:
    """``(L, U)`` of a packed factorisation."""
    m, n = sizes(lu)[-2:]
    k = min(m, n)
    low = lu.narrow(-1, 0, k).tril(-1) + fn.eye(m, k, dtype=lu.dtype, device=lu.device)
    return low, lu.narrow(-2, 0, k).triu()


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
    from ..shapes import broadcast_shapes
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


# ---------------------------------------------------------------------------------------------------- QR


@opaque(name="qr_factors", function=False, method=False, n_outputs=2)
def qr_factors(input, mode: str):
    """``(Q, R)`` by Householder reflections; ``mode`` is ``reduced``, ``complete``, or ``r``: ``reduced`` without a gradient."""
    m, n = sizes(input)[-2:]
    k = m if mode == "complete" else min(m, n)
    return [(batched(sizes(input), m, k), input.dtype), (batched(sizes(input), k, n), input.dtype)]


@kernel(qr_factors)
def _(xp: Any, a: Any, mode: str) -> Any:
    return solver.qr(xp, a, "complete" if mode == "complete" else "reduced")


@qr_factors.vjp("out", "out1")
def _(ctx: Any, gq: Any, gr: Any) -> Any:
    q, r = ctx["out"], ctx["out1"]
    m, n = ctx.shape(0)[-2:]
    if ctx.attrs["mode"] == "r":
        raise RuntimeError("The derivative of linalg.qr depends on Q, which is not computed when mode='r'. Use mode='reduced'.")
    if ctx.attrs["mode"] == "complete" and m > n:
        raise RuntimeError("The QR decomposition is not differentiable when mode='complete' and nrows > ncols.")
    k = min(m, n)
    r1 = r.narrow(-1, 0, k)
    inner = None
    if gr is not None:
        inner = gr.narrow(-1, 0, k) @ H(r1)
        if n > k:
            inner = inner - r.narrow(-1, k, n - k) @ H(gr.narrow(-1, k, n - k))
    if gq is not None:
        inner = -(H(q) @ gq) if inner is None else inner - H(q) @ gq
    inner = inner.triu()
    inner = inner + H(inner)
    inner = inner - fn.diag_embed(inner.diagonal(0, -2, -1)) * 0.5
    if n > k and gr is not None:
        inner = inner + r.narrow(-1, k, n - k) @ H(gr.narrow(-1, k, n - k))
    x = q @ inner
    x = x if gq is None else x + gq
    x = H(fn.triangular_system(r1, H(x), True, False))
    if n > k:
        rest = q @ gr.narrow(-1, k, n - k) if gr is not None else fn.zeros(batched(sizes(x), m, n - k), dtype=x.dtype, device=x.device)
        x = fn.cat([x, rest], -1)
    return x


def _qr(name: str, a: Any, mode: str) -> tuple[Any, Any]:
    matrix(name, a)
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), 'r', or 'complete'")
    q, r = fn.qr_factors(a, mode)
    return (fn.empty(0, dtype=a.dtype, device=a.device) if mode == "r" else q), r


@composite(name="linalg_qr", function=False, method=False, aliases=("linalg.qr",), out="exact", autocast="float32:cpu")
def linalg_qr(A, mode="reduced"):
    """``(Q, R)`` with ``A = Q @ R``: orthonormal columns and an upper triangle; ``mode`` ``reduced``, ``complete`` or ``r``."""
    return qr_result(*_qr("linalg.qr", A, mode))


@composite(out="exact")
def qr(input, some=True):
    """``linalg.qr`` in mode ``reduced``, or ``complete`` with ``some=False``."""
    return old_qr_result(*_qr("qr", input, "reduced" if some else "complete"))


@opaque(name="geqrf_packed", function=False, method=False, differentiable=False, n_outputs=2)
def geqrf_packed(input):
    """LAPACK's packed Householder reflectors: ``R`` above, the vectors below the diagonal, and their scales."""
    shape = sizes(input)
    return [(shape, input.dtype), ((*shape[:-2], min(shape[-2:])), input.dtype)]


@kernel(geqrf_packed)
def _(xp: Any, a: Any) -> Any:
    return solver.geqrf(xp, a)


@composite(out=True)
def geqrf(input):
    """``(a, tau)``: the reflectors of a QR factorisation, for ``linalg.householder_product`` and ``ormqr``."""
    matrix("torch.geqrf", input, "input")
    return geqrf_result(*fn.geqrf_packed(input))


def _reflector(a: Any, j: int) -> Any:
    """Column ``j`` of packed reflectors as a matrix of one column: zeros, a one, the rest."""
    m = sizes(a)[-2]
    v = a.narrow(-1, j, 1).tril(-1 - j) if j < m else a.narrow(-1, j, 1) * 0
    return v + fn.eye(m, sizes(a)[-1], dtype=a.dtype, device=a.device).narrow(-1, j, 1)


@composite(name="householder_product", function=False, method=False, aliases=("linalg.householder_product",), out=True)
def householder_product(A, tau):
    """The first columns of the product of the reflectors ``I - tau[i] v v.mH``, as ``geqrf`` packs them."""
    matrix("torch.linalg.householder_product", A)
    m, n = sizes(A)[-2:]
    k = _reflections("torch.linalg.householder_product", A, tau)
    if m < n:
        raise RuntimeError("torch.linalg.householder_product: input.shape[-2] must be greater than or equal to input.shape[-1]")
    if n < k:
        raise RuntimeError("torch.linalg.householder_product: input.shape[-1] must be greater than or equal to tau.shape[-1]")
    q = fn.eye(m, n, dtype=A.dtype, device=A.device).expand(sizes(A))
    for j in reversed(range(k)):
        q = _reflect(q, A, tau, j, False)
    return q.contiguous() if k else q + A.masked_fill(fn.ones((), dtype=bool_, device=A.device), 0.0)


def _reflect(x: Any, a: Any, tau: Any, j: int, adjoint: bool) -> Any:
    v, t = _reflector(a, j), tau.narrow(-1, j, 1).unsqueeze(-1)
    return x - v @ ((t.conj() if adjoint else t) * (H(v) @ x))


def _reflections(name: str, a: Any, tau: Any) -> int:
    if tau.ndim != a.ndim - 1 or sizes(tau)[:-1] != sizes(a)[:-2]:
        raise RuntimeError(f"{name}: Expected tau to have one dimension less than input and the same batch, but got tau of shape "
                           f"{list(tau.shape)} and input of shape {list(a.shape)}")
    if tau.dtype is not a.dtype:
        raise RuntimeError(f"{name}: tau dtype {tau.dtype} does not match input dtype {a.dtype}")
    return sizes(tau)[-1]


@composite(out=True)
def orgqr(input, input2):
    """``linalg.householder_product``."""
    return householder_product.body(input, input2)


@composite(out="exact")
def ormqr(input, tau, other, left=True, transpose=False):
    """``Q @ other`` (or ``other @ Q``, and with ``transpose`` ``Q.mH``) for the ``Q`` that ``geqrf`` packs, without forming it."""
    if input.ndim < 2 or other.ndim < 2:
        raise RuntimeError(f"torch.ormqr: {'input' if input.ndim < 2 else 'other'} must have at least 2 dimensions.")
    matrix("torch.ormqr", input)
    k = _reflections("torch.ormqr", input, tau)
    m = sizes(input)[-2]
    if sizes(other)[-2 if left else -1] != m:
        raise RuntimeError(f"torch.ormqr: other.shape[{-2 if left else -1}] must be equal to input.shape[-2], got shapes "
                           f"{list(other.shape)} and {list(input.shape)}")
    if k != min(m, sizes(input)[-1]):
        raise RuntimeError(f"torch.ormqr: tau.shape[-1] must be equal to min(other.shape[{-2 if left else -1}], input.shape[-1])")
    if other.dtype is not input.dtype:
        raise RuntimeError(f"torch.ormqr: Expected input and other to have the same dtype, but got {input.dtype} and {other.dtype}")
    # other @ Q = (Q.mH @ other.mH).mH
    x = other if left else H(other)
    adjoint = bool(transpose) == bool(left)
    for j in range(k) if adjoint else reversed(range(k)):
        x = _reflect(x, input, tau, j, adjoint)
    return x if left else H(x)


# ---------------------------------------------------------------------------------------------------- eigenvalues


@opaque(name="eigh_factors", function=False, method=False, n_outputs=2)
def eigh_factors(input, uplo: str):
    """Ascending eigenvalues and eigenvectors of symmetric matrices, of which one triangle is read."""
    return [(sizes(input)[:-1], input.dtype.to_real()), (sizes(input), input.dtype)]


@kernel(eigh_factors)
def _(xp: Any, a: Any, uplo: str) -> Any:
    return solver.eigh(xp, a, uplo)


def _apart(w: Any) -> Any:
    """``w[j] - w[i]``, with ones on the diagonal."""
    return w.unsqueeze(-2) - w.unsqueeze(-1) + fn.eye(sizes(w)[-1], dtype=w.dtype, device=w.device)


@eigh_factors.vjp("out", "out1")
def _(ctx: Any, gw: Any, gv: Any) -> Any:
    w, v = ctx["out"], ctx["out1"]
    if gv is None:
        return (v * gw.unsqueeze(-2)) @ H(v)
    # only turns of the eigenvectors count, not their lengths
    x = _skew(H(v) @ gv) * 0.5 / _apart(w)
    x = x if gw is None else x + fn.diag_embed(gw)
    return v @ x @ H(v)


def _eigh(name: str, a: Any, uplo: str) -> tuple[Any, Any]:
    square(name, a)
    if uplo.upper() not in ("L", "U"):
        raise RuntimeError(f"Expected UPLO argument to be 'L' or 'U', but got {uplo}")
    return fn.eigh_factors(a, uplo.upper())


@composite(name="linalg_eigh", function=False, method=False, aliases=("linalg.eigh",), out="exact", autocast="float32:cpu")
def linalg_eigh(A, UPLO="L"):
    """``(eigenvalues, eigenvectors)`` of symmetric matrices, ascending; one triangle is read.

    The gradient of eigenvectors is finite only where the eigenvalues differ.
    """
    return eigh_result(*_eigh("linalg.eigh", A, UPLO))


@composite(name="linalg_eigvalsh", function=False, method=False, aliases=("linalg.eigvalsh",), out="exact")
def linalg_eigvalsh(A, UPLO="L"):
    """The eigenvalues of symmetric matrices, ascending."""
    return _eigh("linalg.eigvalsh", A, UPLO)[0]


@opaque(name="eig_factors", function=False, method=False, n_outputs=2)
def eig_factors(input):
    """Complex eigenvalues, and eigenvectors of norm 1, of square matrices."""
    d = input.dtype.to_complex()
    return [(sizes(input)[:-1], d), (sizes(input), d)]


@kernel(eig_factors)
def _(xp: Any, a: Any) -> Any:
    return solver.eig(xp, a)


@eig_factors.vjp("out", "out1")
def _(ctx: Any, gw: Any, gv: Any) -> Any:
    # C. Boeddeker et al., "On the computation of complex-valued gradients with application to statistically optimum beamforming" (2017),
    # 4.77, with the part taken off that would change the eigenvectors' norms
    w, v = ctx["out"], ctx["out1"]
    x = None if gw is None else fn.diag_embed(gw)
    if gv is not None:
        turn = H(v) @ gv
        turn = turn - (H(v) @ v) * turn.diagonal(0, -2, -1).real.unsqueeze(-2)
        turn = (turn - fn.diag_embed(turn.diagonal(0, -2, -1))) / _apart(w).conj()
        x = turn if x is None else turn + x
    g = fn.general_system(H(v), x @ H(v), "")[0]
    return g if ctx.dtype(0).is_complex else g.real


def _eig(name: str, a: Any) -> tuple[Any, Any]:
    square(name, a)
    return fn.eig_factors(a)


@composite(name="linalg_eig", function=False, method=False, aliases=("linalg.eig",), out=True)
def linalg_eig(A):
    """``(eigenvalues, eigenvectors)`` of square matrices: complex, in no order.

    The gradient of eigenvectors is finite only where the eigenvalues differ.
    """
    return eig_result(*_eig("linalg.eig", A))


@composite(name="linalg_eigvals", function=False, method=False, aliases=("linalg.eigvals",), out=True)
def linalg_eigvals(A):
    """The eigenvalues of square matrices: complex, in no order."""
    return _eig("linalg.eigvals", A)[0]


# ---------------------------------------------------------------------------------------------------- singular values


@opaque(name="svd_factors", function=False, method=False, n_outputs=3)
def svd_factors(input, full: bool):
    """``(U, S, Vh)`` with descending singular values."""
    m, n = sizes(input)[-2:]
    k, shape = min(m, n), sizes(input)
    return [(batched(shape, m, m if full else k), input.dtype), ((*shape[:-2], k), input.dtype.to_real()),
            (batched(shape, n if full else k, n), input.dtype)]


@kernel(svd_factors)
def _(xp: Any, a: Any, full: bool) -> Any:
    return solver.svd(xp, a, full)


def _skew(x: Any) -> Any:
    return x - H(x)


@svd_factors.vjp("out", "out1", "out2")
def _(ctx: Any, gu: Any, gs: Any, gvh: Any) -> Any:
    m, n = ctx.shape(0)[-2:]
    k = min(m, n)
    u, s, vh = ctx["out"].narrow(-1, 0, k), ctx["out1"], ctx["out2"].narrow(-2, 0, k)
    if gu is None and gvh is None:
        return (u * gs.unsqueeze(-2)) @ vh
    gu = None if gu is None else gu.narrow(-1, 0, k)
    gvh = None if gvh is None else gvh.narrow(-2, 0, k)
    square_gaps = _apart(s * s)
    x = None if gs is None else fn.diag_embed(gs)
    if gu is not None:
        turn = _skew(H(u) @ gu)
        part = turn / square_gaps * s.unsqueeze(-2)
        if turn.dtype.is_complex:
            part = part + fn.diag_embed(turn.diagonal(0, -2, -1) / (s * 2.0))
        x = part if x is None else x + part
    if gvh is not None:
        part = s.unsqueeze(-1) * (_skew(vh @ H(gvh)) / square_gaps)
        x = part if x is None else x + part
    if m > k and gu is not None:
        outer = gu / s.unsqueeze(-2)
        return (u @ x + outer - u @ (H(u) @ outer)) @ vh
    if n > k and gvh is not None:
        outer = gvh / s.unsqueeze(-1)
        return u @ (x @ vh + outer - (outer @ H(vh)) @ vh)
    return u @ x @ vh


@opaque(name="singular_values", function=False, method=False)
def singular_values(input):
    """The singular values, descending."""
    shape = sizes(input)
    return [((*shape[:-2], min(shape[-2:])), input.dtype.to_real())]


@kernel(singular_values)
def _(xp: Any, a: Any) -> Any:
    return solver.svdvals(xp, a)


@singular_values.vjp("input")
def _(ctx: Any, g: Any) -> Any:
    u, _, vh = fn.svd_factors(ctx["input"], False)
    return (u * g.unsqueeze(-2)) @ vh


@composite(name="linalg_svd", function=False, method=False, aliases=("linalg.svd",), out="exact", autocast="float32:cpu")
def linalg_svd(A, full_matrices=True, *, driver=None):
    """``(U, S, Vh)`` with ``A = U @ diag(S) @ Vh``; thin factors with ``full_matrices=False``.

    Gradients of singular vectors are finite only where the singular values differ (and, for matrices that are not square, are not zero).
    """
    matrix("linalg.svd", A)
    if driver is not None and A.device.type == "cpu":
        raise RuntimeError("torch.linalg.svd: keyword argument `driver=` is only supported on CUDA inputs with cuSOLVER backend.")
    return svd_result(*fn.svd_factors(A, bool(full_matrices)))


@composite(name="linalg_svdvals", function=False, method=False, aliases=("linalg.svdvals",), out="exact", autocast="float32:cpu")
def linalg_svdvals(A, *, driver=None):
    """The singular values, descending."""
    matrix("linalg.svdvals", A)
    if driver is not None and A.device.type == "cpu":
        raise RuntimeError("torch.linalg.svdvals: keyword argument `driver=` is only supported on CUDA inputs with cuSOLVER backend.")
    return fn.singular_values(A)


@composite(out="exact")
def svd(input, some=True, compute_uv=True):
    """``(U, S, V)``: ``linalg.svd`` with ``V`` for ``Vh``; without ``compute_uv`` the vectors are zeros."""
    matrix("linalg.svd", input)
    if compute_uv:
        u, s, vh = fn.svd_factors(input, not some)
        return old_svd_result(u, s, H(vh))
    m, n = sizes(input)[-2:]
    zeros = [fn.zeros(batched(sizes(input), k, k), dtype=input.dtype, device=input.device) for k in (m, n)]
    return old_svd_result(zeros[0], fn.singular_values(input), zeros[1])
