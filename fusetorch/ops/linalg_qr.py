"""QR factors of matrices, and products of reflections.

Gradient: S. Walter and L. Lehmann, "Algorithmic differentiation of linear algebra functions" (2010).
"""
from __future__ import annotations

from typing import Any

from ..dtypes import bool_
from ..return_types import result
from ..runtime import solver
from .linalg_rules import H, batched, kernel, matrix, sizes
from .opdef import composite, fn, opaque

qr_result = result("linalg_qr", "Q R")
geqrf_result = result("geqrf", "a tau")
old_qr_result = result("qr", "Q R")


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


@composite(out=True, also={"tau": "input2"})
def orgqr(input, input2):
    """``linalg.householder_product``."""
    return householder_product.body(input, input2)


@composite(out="exact", also={"input2": "tau", "input3": "other"})
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
