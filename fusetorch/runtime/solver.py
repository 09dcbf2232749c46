"""Dense linear algebra on stacks of matrices: LAPACK through NumPy, cuSOLVER and cuBLAS through CuPy.

NumPy and CuPy share an interface, so each function here is written once over a module ``xp``, which is either. On the CPU an operation
calls it with NumPy; :func:`on_device` calls it for device arrays with CuPy on their memory, or with NumPy where the device is
simulated. What neither offers for stacks (LU factors, triangular solves, the order of a minor that is not positive) is built here from
matrix products, blocked.
"""
from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from fusetorch.errors import LinAlgError
from fusetorch.runtime import memory
from fusetorch.runtime.memory import DeviceArray

#: Rows that a blocked algorithm treats one by one before it turns to matrix products.
BLOCK = 32


def on_device(f: Callable[..., Any], *arrays: Any, **options: Any) -> Any:
    """``f(xp, *arrays, **options)`` for device arrays (or ``None``), with device arrays as results."""
    first = next(a for a in arrays if isinstance(a, DeviceArray))
    if first.storage.simulated:
        out = f(np, *[memory.as_numpy(a) if isinstance(a, DeviceArray) else a for a in arrays], **options)
        return _each(lambda a: memory.from_numpy(np.asarray(a), first.device_index), out)
    import cupy
    import cupyx
    with cupy.cuda.Device(first.device_index), cupyx.errstate(linalg="raise"):
        out = f(cupy, *[_as_cupy(cupy, a) if isinstance(a, DeviceArray) else a for a in arrays], **options)
        return _each(lambda a: _from_cupy(cupy, a, first.device_index), out)


def _each(f: Callable[[Any], Any], out: Any) -> Any:
    return tuple(f(a) for a in out) if isinstance(out, tuple) else f(out)


def _as_cupy(cupy: Any, a: DeviceArray) -> Any:
    raw = cupy.cuda.UnownedMemory(a.storage.ptr, max(a.storage.nbytes, 1), a.storage, a.device_index)
    at = cupy.cuda.MemoryPointer(raw, a.offset * a.itemsize)
    return cupy.ndarray(a.shape, a.dtype.np, at, tuple(s * a.itemsize for s in a.strides))


def _from_cupy(cupy: Any, a: Any, device_index: int) -> DeviceArray:
    a = cupy.asarray(a)
    out = memory.empty(tuple(a.shape), memory.dtypes.from_numpy(a.dtype), device_index)
    if a.size:
        _as_cupy(cupy, out)[...] = a
    return out


def _conj_t(a: Any) -> Any:
    return a.swapaxes(-1, -2).conj()


def _stack(a: Any) -> Any:
    """With one batch dimension."""
    return a.reshape(prod(a.shape[:-2]), *a.shape[-2:])


def _refuse(name: str, info: Any, what: str) -> None:
    """Raises for the first matrix that failed, if ``name`` says who asks."""
    if not name or not bool((info != 0).any()):
        return
    flat = info.reshape(-1)
    k = int((flat != 0).argmax())
    where = f"(Batch element {k}): " if info.ndim else ""
    raise LinAlgError(f"{name}: {where}{what.format(int(flat[k]))}")


_SINGULAR = "The diagonal element {0} is zero, the solve could not be completed because the input matrix is singular."


# ---------------------------------------------------------------------------------------------------- triangular systems


def triangular_solve(xp: Any, a: Any, b: Any, upper: bool, unit: bool) -> Any:
    """``x`` with ``a @ x = b`` for triangular ``a`` (the other triangle is not read); batches broadcast."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    b = xp.broadcast_to(b, (*batch, *b.shape[-2:]))
    return _triangular(xp, a, b, upper, unit)


def _triangular(xp: Any, a: Any, b: Any, upper: bool, unit: bool) -> Any:
    n = a.shape[-1]
    if n <= BLOCK:
        x = b.copy()
        for i in reversed(range(n)) if upper else range(n):
            known = slice(i + 1, n) if upper else slice(0, i)
            row = x[..., i, :] - (a[..., i:i + 1, known] @ x[..., known, :])[..., 0, :]
            x[..., i, :] = row if unit else row / a[..., i, i][..., None]
        return x
    h = n // 2
    one, two, top, bottom = a[..., :h, :h], a[..., h:, h:], b[..., :h, :], b[..., h:, :]
    if upper:
        bottom = _triangular(xp, two, bottom, upper, unit)
        top = _triangular(xp, one, top - a[..., :h, h:] @ bottom, upper, unit)
    else:
        top = _triangular(xp, one, top, upper, unit)
        bottom = _triangular(xp, two, bottom - a[..., h:, :h] @ top, upper, unit)
    return xp.concatenate([top, bottom], -2)


# ---------------------------------------------------------------------------------------------------- LU


def lu_factor(xp: Any, a: Any, pivot: bool, name: str = "") -> tuple[Any, Any, Any]:
    """LAPACK's packed ``(LU, pivots, info)``: the right-looking blocked algorithm with partial pivoting (Golub and Van Loan 3.4)."""
    shape = a.shape
    w = _stack(a).copy()
    count, m, n = w.shape
    k = min(m, n)
    pivots = xp.broadcast_to(xp.arange(1, k + 1, dtype=np.int32), (count, k)).copy()
    info = xp.zeros(count, np.int32)
    each = xp.arange(count)
    for start in range(0, k, BLOCK):
        stop = min(start + BLOCK, k)
        for j in range(start, stop):
            if pivot:
                p = _size(w[:, j:, j]).argmax(1) + j
                pivots[:, j] = p + 1
                row = w[each, p].copy()
                w[each, p] = w[:, j]
                w[:, j] = row
            d = w[:, j, j]
            info = xp.where((info == 0) & (d == 0), np.int32(j + 1), info)
            w[:, j + 1:, j] /= xp.where(d == 0, xp.ones_like(d), d)[:, None]
            w[:, j + 1:, j + 1:stop] -= w[:, j + 1:, j, None] * w[:, j, None, j + 1:stop]
        if stop < n:
            w[:, start:stop, stop:] = _triangular(xp, w[:, start:stop, start:stop], w[:, start:stop, stop:], False, True)
            w[:, stop:, stop:] -= w[:, stop:, start:stop] @ w[:, start:stop, stop:]
    batch = shape[:-2]
    info = info.reshape(batch)
    _refuse(name, info, "U[{0},{0}] is zero and using it on lu_solve would result in a division by zero. If you still want to perform the "
                        "factorization, consider calling linalg.lu(A, pivot) or linalg.lu_factor_ex(A, pivot)")
    return w.reshape(shape), pivots.reshape(*batch, k), info


def _size(a: Any) -> Any:
    """What LAPACK compares pivots by: of complex numbers the sum of both parts' sizes."""
    return abs(a.real) + abs(a.imag) if a.dtype.kind == "c" else abs(a)


def permutation(xp: Any, pivots: Any, m: int) -> Any:
    """The rows' order after LAPACK's sequence of swaps: row ``i`` of ``L @ U`` is row ``order[i]`` of the matrix."""
    batch, k = pivots.shape[:-1], pivots.shape[-1]
    count = prod(batch)
    p = pivots.reshape(count, k).astype(np.int64) - 1
    order = xp.broadcast_to(xp.arange(m, dtype=np.int64), (count, m)).copy()
    each = xp.arange(count)
    for j in range(k):
        other = order[each, p[:, j]].copy()
        order[each, p[:, j]] = order[:, j]
        order[:, j] = other
    return order.reshape(*batch, m)


# ---------------------------------------------------------------------------------------------------- general systems


def _each_matrix(xp: Any, f: Callable[[Any], Any], a: Any, info: Any) -> Any:
    """``f`` of the matrices whose ``info`` is 0, NaN for the others."""
    w, flat = _stack(a), info.reshape(-1)
    made = [f(w[k]) if not int(flat[k]) else xp.full_like(w[k], np.nan) for k in range(w.shape[0])]
    return xp.stack(made).reshape(a.shape)


def inverse(xp: Any, a: Any, name: str = "") -> tuple[Any, Any]:
    """``(inverse, info)``; NaN where a pivot is exactly zero."""
    try:
        return xp.linalg.inv(a), xp.zeros(a.shape[:-2], np.int32)
    except np.linalg.LinAlgError:
        info = lu_factor(xp, a, True)[2]
        _refuse(name, info, _SINGULAR.replace("solve", "inversion"))
        return _each_matrix(xp, xp.linalg.inv, a, info), info


def solve(xp: Any, a: Any, b: Any, name: str = "") -> tuple[Any, Any]:
    """``(x, info)`` with ``a @ x = b``; batches broadcast."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if not a.size or not b.size:
        return xp.zeros((*batch, *b.shape[-2:]), b.dtype), xp.zeros(a.shape[:-2], np.int32)
    try:
        full = xp.broadcast_to(a, (*batch, *a.shape[-2:])), xp.broadcast_to(b, (*batch, *b.shape[-2:]))
        return xp.linalg.solve(*full), xp.zeros(a.shape[:-2], np.int32)
    except np.linalg.LinAlgError:
        inv, info = inverse(xp, a)
        _refuse(name, info, _SINGULAR)
        return inv @ b, info


def det(xp: Any, a: Any) -> Any:
    """The determinant."""
    return xp.asarray(xp.linalg.det(a))


def slogdet(xp: Any, a: Any) -> tuple[Any, Any]:
    """Sign and logarithm of the absolute value of the determinant."""
    sign, logabs = xp.linalg.slogdet(a)
    return xp.asarray(sign), xp.asarray(logabs).astype(xp.asarray(sign).real.dtype)


def cofactors(xp: Any, a: Any) -> Any:
    """``det(a) * inv(a).T``, from singular values: it exists for singular matrices too."""
    n = a.shape[-1]
    if not n:
        return a.copy()
    u, s, vh = xp.linalg.svd(a)
    rest = xp.where(xp.eye(n, dtype=bool), xp.ones_like(s[..., None, :]), s[..., None, :]).prod(-1)
    turn = xp.linalg.det(u) * xp.linalg.det(vh)
    return ((u.conj() * (rest * xp.asarray(turn)[..., None])[..., None, :]) @ vh.conj()).astype(a.dtype)


# ---------------------------------------------------------------------------------------------------- factors


def cholesky(xp: Any, a: Any, name: str = "") -> tuple[Any, Any]:
    """``(lower factor, info)`` from the lower triangle; ``info`` is the order of the first leading minor that is not positive."""
    try:
        return xp.linalg.cholesky(a), xp.zeros(a.shape[:-2], np.int32)
    except np.linalg.LinAlgError:
        w = _stack(a)
        made = [_cholesky_rows(xp, w[k]) for k in range(w.shape[0])]
        info = xp.asarray([i for _, i in made], np.int32).reshape(a.shape[:-2])
        _refuse(name, info, "The factorization could not be completed because the input is not positive-definite (the leading minor of "
                            "order {0} is not positive-definite).")
        return xp.stack([f for f, _ in made]).reshape(a.shape), info


def _cholesky_rows(xp: Any, a: Any) -> tuple[Any, int]:
    r = xp.tril(a)
    for j in range(a.shape[0]):
        d = (r[j, j] - (r[j, :j] * r[j, :j].conj()).sum()).real
        if not float(d) > 0:
            return r, j + 1
        r[j, j] = d ** 0.5
        r[j + 1:, j] = (r[j + 1:, j] - r[j + 1:, :j] @ r[j, :j].conj()) / r[j, j]
    return r, 0


def qr(xp: Any, a: Any, mode: str) -> tuple[Any, Any]:
    """``(q, r)`` with ``mode`` ``reduced`` or ``complete``."""
    m, n = a.shape[-2:]
    if a.size:
        return tuple(xp.linalg.qr(a, mode))
    rows = m if mode == "complete" else min(m, n)
    eye = xp.broadcast_to(xp.eye(m, rows, dtype=a.dtype), (*a.shape[:-2], m, rows)).copy()
    return eye, xp.zeros((*a.shape[:-2], rows, n), a.dtype)


def geqrf(xp: Any, a: Any) -> tuple[Any, Any]:
    """LAPACK's packed Householder reflectors and their scales (Golub and Van Loan 5.2)."""
    w = _stack(a).copy()
    count, m, n = w.shape
    k = min(m, n)
    tau = xp.zeros((count, k), a.dtype)
    for j in range(k):
        x = w[:, j:, j]
        alpha, tail = x[:, 0], (abs(x[:, 1:]) ** 2).sum(1)
        beta = -xp.where(alpha.real < 0, -1.0, 1.0).astype(tail.dtype) * xp.sqrt(abs(alpha) ** 2 + tail)
        still = (tail == 0) & (alpha.imag == 0)
        beta = xp.where(still, alpha, beta)
        t = xp.where(still, xp.zeros_like(alpha), (beta - alpha) / xp.where(beta == 0, xp.ones_like(beta), beta))
        v = x / xp.where(still, xp.ones_like(alpha), alpha - beta)[:, None]
        v[:, 0] = 1
        if j + 1 < n:
            rest = w[:, j:, j + 1:]
            rest -= v[:, :, None] * (t.conj()[:, None, None] * (v.conj()[:, None, :] @ rest))
        w[:, j, j], w[:, j + 1:, j], tau[:, j] = beta, v[:, 1:], t
    return w.reshape(a.shape), tau.reshape(*a.shape[:-2], k)


def eigh(xp: Any, a: Any, uplo: str) -> tuple[Any, Any]:
    """Ascending eigenvalues and eigenvectors of symmetric matrices, from one triangle."""
    if not a.size:
        return xp.zeros(a.shape[:-1], a.real.dtype), xp.zeros(a.shape, a.dtype)
    return tuple(_converges("linalg.eigh", lambda: xp.linalg.eigh(a, uplo)))


def eig(xp: Any, a: Any) -> tuple[Any, Any]:
    """Complex eigenvalues and eigenvectors of square matrices."""
    if not hasattr(xp.linalg, "eig"):
        raise NotImplementedError(f"linalg.eig: {a.dtype}{list(a.shape)} on cuda needs a CuPy that has cupy.linalg.eig (14 or later); move "
                                  "the matrix with .cpu()")
    d = np.complex64 if a.dtype in (np.float32, np.complex64) else np.complex128
    if not a.size:
        return xp.zeros(a.shape[:-1], d), xp.zeros(a.shape, d)
    w, v = _converges("linalg.eig", lambda: xp.linalg.eig(a))
    return w.astype(d), v.astype(d)


def svd(xp: Any, a: Any, full: bool) -> tuple[Any, Any, Any]:
    """``(u, s, vh)``, singular values descending."""
    m, n = a.shape[-2:]
    if a.size:
        return tuple(_converges("linalg.svd", lambda: xp.linalg.svd(a, full)))
    k, batch = min(m, n), a.shape[:-2]
    u, vh = (xp.broadcast_to(xp.eye(*s, dtype=a.dtype), (*batch, *s)).copy() for s in ((m, m if full else k), (n if full else k, n)))
    return u, xp.zeros((*batch, k), a.real.dtype), vh


def svdvals(xp: Any, a: Any) -> Any:
    """Singular values alone."""
    if not a.size:
        return xp.zeros((*a.shape[:-2], min(a.shape[-2:])), a.real.dtype)
    return _converges("linalg.svd", lambda: xp.linalg.svd(a, compute_uv=False))


def _converges(name: str, f: Callable[[], Any]) -> Any:
    try:
        return f()
    except np.linalg.LinAlgError as error:
        raise LinAlgError(f"{name}: The algorithm failed to converge because the input matrix is ill-conditioned, has too many repeated "
                          "values, or is not finite.") from error


def pinv(xp: Any, a: Any, atol: Any, rtol: Any, hermitian: bool) -> Any:
    """The pseudoinverse: singular values up to ``max(atol, rtol * largest)`` (arrays, one number per matrix) count as zero."""
    if not a.size:
        return xp.zeros((*a.shape[:-2], a.shape[-1], a.shape[-2]), a.dtype)
    if hermitian:
        w, u = eigh(xp, a, "L")
        size, vh = abs(w), _conj_t(u)
    else:
        u, w, vh = svd(xp, a, False)
        size = w
    bound = xp.maximum(atol, rtol * size.max(-1))[..., None]
    keep = size > bound
    scale = xp.where(keep, 1 / xp.where(keep, w, xp.ones_like(w)), xp.zeros_like(w))
    return ((_conj_t(vh) * scale[..., None, :]) @ _conj_t(u)).astype(a.dtype)


# ---------------------------------------------------------------------------------------------------- matrix functions

#: Coefficients of the [13/13] Pade approximant of exp, and the 1-norm up to which it is accurate in float64 (Higham 2005).
PADE = (64764752532480000., 32382376266240000., 7771770303897600., 1187353796428800., 129060195264000., 10559470521600., 670442572800.,
        33522128640., 1323241920., 40840800., 960960., 16380., 182., 1.)
THETA = 5.371920351148152


def matrix_exp(xp: Any, a: Any) -> Any:
    """The matrix exponential by scaling and squaring (N. Higham, "The scaling and squaring method for the matrix exponential
    revisited", SIAM J. Matrix Anal. Appl. 26, 2005)."""
    if not a.size:
        return a.copy()
    w = _stack(a)
    wide = w.astype(np.complex128 if w.dtype.kind == "c" else np.float64)
    norm = abs(wide).sum(-2).max(-1)
    finite = xp.where(xp.isfinite(norm), norm, xp.ones_like(norm))
    steps = xp.maximum(xp.ceil(xp.log2(xp.maximum(finite, 1e-300) / THETA)), 0)
    x = wide / (2.0 ** steps)[:, None, None]
    eye = xp.eye(x.shape[-1], dtype=x.dtype)
    x2 = x @ x
    x4 = x2 @ x2
    x6 = x4 @ x2
    b = PADE
    u = x @ (x6 @ (b[13] * x6 + b[11] * x4 + b[9] * x2) + b[7] * x6 + b[5] * x4 + b[3] * x2 + b[1] * eye)
    v = x6 @ (b[12] * x6 + b[10] * x4 + b[8] * x2) + b[6] * x6 + b[4] * x4 + b[2] * x2 + b[0] * eye
    r = xp.linalg.solve(v - u, v + u)
    for k in range(int(steps.max())):
        r = xp.where((steps > k)[:, None, None], r @ r, r)
    return r.astype(a.dtype).reshape(a.shape)
