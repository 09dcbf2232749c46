"""Eigenvalues and singular values of matrices, with their vectors.

Gradients: M. Giles, "An extended collection of matrix derivative results" (2008) for eigenvalues; J. Townsend, "Differentiating the
singular value decomposition" (2016).
"""
from __future__ import annotations

from typing import Any

from ..return_types import result
from ..runtime import solver
from .linalg_rules import H, batched, kernel, matrix, sizes, square
from .opdef import composite, fn, opaque

eig_result = result("linalg_eig", "eigenvalues eigenvectors")
eigh_result = result("linalg_eigh", "eigenvalues eigenvectors")
svd_result = result("linalg_svd", "U S Vh")
old_svd_result = result("svd", "U S V")


# ---------------------------------------------------------------------------------------------------- eigenvalues


def _apart(w: Any) -> Any:
    """``w[j] - w[i]``, with ones on the diagonal."""
    return w.unsqueeze(-2) - w.unsqueeze(-1) + fn.eye(sizes(w)[-1], dtype=w.dtype, device=w.device)


def _skew(x: Any) -> Any:
    return x - H(x)


@opaque(name="eigh_factors", function=False, method=False, n_outputs=2)
def eigh_factors(input, uplo: str):
    """Ascending eigenvalues and eigenvectors of symmetric matrices, of which one triangle is read."""
    return [(sizes(input)[:-1], input.dtype.to_real()), (sizes(input), input.dtype)]


@kernel(eigh_factors)
def _(xp: Any, a: Any, uplo: str) -> Any:
    return solver.eigh(xp, a, uplo)


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
